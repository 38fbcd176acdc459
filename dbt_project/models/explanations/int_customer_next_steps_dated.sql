{#
  Until when a next step stays as it is: the last day on which the orders of today that
  it counts on are all in the window. Counted from the newest order back, since the
  oldest leave first. Customers whose step counts on no order of today have no such day.
#}

with

ledger as (

    select * from {{ ref('int_order_ledger') }}
    where order_date > {{ window_start() }}
        and order_date <= {{ as_of() }}

),

steps as (

    select
        customer_id,
        frequency_to_hold,
        monetary_to_hold,
        tier_monetary_to_hold
    from {{ ref('int_customer_next_steps_found') }}
    where frequency_to_hold > 0
        or monetary_to_hold > 0
        or tier_monetary_to_hold > 0

),

order_days as (

    select
        ledger.customer_id,
        ledger.order_date,
        sum(ledger.valid_orders) as valid_orders,
        sum(ledger.net_amount) as net_amount
    from ledger
    inner join steps on ledger.customer_id = steps.customer_id
    group by ledger.customer_id, ledger.order_date

),

counted_back as (

    select
        customer_id,
        order_date,
        sum(valid_orders) over (
            partition by customer_id order by order_date desc rows between unbounded preceding and current row
        ) as frequency_since,
        sum(net_amount) over (
            partition by customer_id order by order_date desc rows between unbounded preceding and current row
        ) as monetary_since
    from order_days

),

---------- the newest day from which on the orders suffice, null where none are needed
held as (

    select
        counted_back.customer_id,
        max(
            case
                when steps.frequency_to_hold > 0 and counted_back.frequency_since >= steps.frequency_to_hold
                    then counted_back.order_date
            end
        ) as frequency_held_by,
        max(
            case
                when steps.monetary_to_hold > 0 and counted_back.monetary_since >= steps.monetary_to_hold
                    then counted_back.order_date
            end
        ) as monetary_held_by,
        max(
            case
                when steps.tier_monetary_to_hold > 0 and counted_back.monetary_since >= steps.tier_monetary_to_hold
                    then counted_back.order_date
            end
        ) as tier_held_by
    from counted_back
    inner join steps on counted_back.customer_id = steps.customer_id
    group by counted_back.customer_id

),

dated as (

    select
        customer_id,
        {{ days_after('least(frequency_held_by, monetary_held_by)', var('rfm_window_days') - 1) }} as next_rfm_class_by_date,
        {{ days_after('tier_held_by', var('rfm_window_days') - 1) }} as next_value_tier_by_date
    from held

)

select * from dated
