{#
  What the next class and the next tier would take, counted for an order of the day
  after as_of: what leaves the window by then no longer counts. Which class is next is
  defined in docs/metrics.md#next-steps.
#}

with

segments as (

    select
        customer_id,
        value_tier,
        frequency,
        monetary
    from {{ ref('customer_segments') }}

),

leaving as (

    select
        customer_id,
        sum(valid_orders) as frequency,
        sum(net_amount) as monetary
    from {{ ref('int_order_ledger') }}
    where order_date = {{ window_start() }}
    group by customer_id

),

classified as (

    select
        customer_id,
        recency_high,
        frequency_high,
        monetary_high
    from {{ ref('int_customer_rfm_classified') }}

),

limits as (

    select * from {{ ref('int_class_limits_computed') }}

),

tiers as (

    select * from {{ ref('int_value_tiers_bounded') }}

),

classes as (

    select
        rfm_class,
        recency_high,
        frequency_high,
        monetary_high
    from {{ ref('rfm_classes') }}

),

standing as (

    select
        segments.customer_id,
        segments.value_tier,
        classified.customer_id is not null as has_ordered,
        coalesce(classified.recency_high, false) as recency_high,
        coalesce(classified.frequency_high, false) as frequency_high,
        coalesce(classified.monetary_high, false) as monetary_high,
        segments.frequency,
        segments.monetary,
        cast(segments.frequency - coalesce(leaving.frequency, 0) as bigint) as frequency_tomorrow,
        cast(segments.monetary - coalesce(leaving.monetary, 0) as decimal(18, 2)) as monetary_tomorrow
    from segments
    left join leaving on segments.customer_id = leaving.customer_id
    left join classified on segments.customer_id = classified.customer_id

),

measured as (

    select
        standing.*,
        limits.frequency_high_from,
        limits.monetary_high_from,
        coalesce(limits.recency_high_through >= 0, true) as recency_is_in_reach,
        case
            when not standing.frequency_high then limits.frequency_high_from - standing.frequency_tomorrow
        end as frequency_orders_missing,
        case
            when not standing.monetary_high
                then cast(limits.monetary_high_from - standing.monetary_tomorrow as decimal(18, 2))
        end as monetary_amount_missing,
        case
            when standing.value_tier = 'mid' and tiers.high_from is not null then 'high'
            when standing.value_tier = 'low' and tiers.mid_from = tiers.high_from then 'high'
            when standing.value_tier = 'low' and tiers.mid_from is not null then 'mid'
        end as next_value_tier,
        case when standing.value_tier = 'mid' then tiers.high_from else tiers.mid_from end as next_value_tier_from
    from standing
    cross join limits
    cross join tiers

),

---------- an order makes recent again; else whichever of the two takes fewer orders of the customer's usual amount
chosen as (

    select
        *,
        case
            when not has_ordered or (not recency_high and recency_is_in_reach) then 'recency'
            when frequency_orders_missing is null and monetary_amount_missing is not null then 'monetary'
            when frequency > 0 and monetary_amount_missing * frequency <= (frequency_orders_missing - 1) * monetary then 'monetary'
            when frequency_orders_missing is not null then 'frequency'
        end as way
    from measured

),

---------- what is high has to stay high
ordered as (

    select
        *,
        case
            when way = 'frequency' then frequency_orders_missing
            when way is not null and frequency_high then greatest(1, frequency_high_from - frequency_tomorrow)
            when way is not null then 1
        end as next_orders
    from chosen

),

priced as (

    select
        *,
        case
            when way is not null then greatest(
                cast(next_orders * 0.01 as decimal(18, 2)),
                case
                    when way = 'monetary' then monetary_amount_missing
                    when monetary_high then monetary_high_from - monetary_tomorrow
                    else 0
                end
            )
        end as next_amount
    from ordered

),

reached as (

    select
        *,
        recency_is_in_reach as next_recency_high,
        coalesce(frequency_tomorrow + next_orders >= frequency_high_from, false) as next_frequency_high,
        coalesce(monetary_tomorrow + next_amount >= monetary_high_from, false) as next_monetary_high
    from priced

),

found as (

    select
        ---------- ids
        reached.customer_id,

        ---------- flags today, and what the low ones lack
        case when reached.has_ordered then reached.recency_high end as recency_is_high,
        case when reached.has_ordered then reached.frequency_high end as frequency_is_high,
        case when reached.has_ordered then reached.monetary_high end as monetary_is_high,
        cast(reached.frequency_orders_missing as bigint) as frequency_orders_missing,
        reached.monetary_amount_missing,

        ---------- next class
        classes.rfm_class as next_rfm_class,
        cast(reached.next_orders as bigint) as next_rfm_class_orders,
        cast(reached.next_amount as decimal(18, 2)) as next_rfm_class_amount,

        ---------- next tier
        reached.next_value_tier,
        case
            when reached.next_value_tier is not null
                then cast(reached.next_value_tier_from - reached.monetary_tomorrow as decimal(18, 2))
        end as next_value_tier_amount,

        ---------- what the orders of today have to come to for as long as this holds
        case
            when reached.next_frequency_high then cast(reached.frequency_high_from - reached.next_orders as bigint)
        end as frequency_to_hold,
        case
            when reached.next_monetary_high then cast(reached.monetary_high_from - reached.next_amount as decimal(18, 2))
        end as monetary_to_hold,
        case
            when reached.next_value_tier is not null then cast(reached.monetary_tomorrow as decimal(18, 2))
        end as tier_monetary_to_hold
    from reached
    left join classes
        on reached.way is not null
            and reached.next_recency_high = classes.recency_high
            and reached.next_frequency_high = classes.frequency_high
            and reached.next_monetary_high = classes.monetary_high

)

select * from found
