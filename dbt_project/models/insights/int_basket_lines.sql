{#
  What was in the baskets of the last basket_window_days, as known on the insight day: the lines
  of an order's last whole delivery and the adjustments since, taken together by product.
#}
{{ config(materialized='table') }}

with

lines as (

    select * from {{ ref('stg_lake__order_lines') }}
    where {{ insights_are_due() }}
        and received_date <= {{ insight_day() }}
        and received_date > {{ days_after(insight_day(), -var('basket_window_days')) }}

),

statuses as (

    select status from {{ ref('order_statuses') }}
    where counts_as_valid

),

rates as (

    select * from {{ ref('int_currency_rates') }}

),

products as (

    select * from {{ ref('int_product_versions') }}
    where valid_from <= {{ insight_day() }}
        and (valid_until is null or valid_until > {{ insight_day() }})

),

---------- most orders arrive once: only the others are compared with their last delivery
redelivered_orders as (

    select
        order_id,
        max(case when not is_adjustment then received_date end) as last_whole_date
    from lines
    group by order_id
    having min(received_date) < max(received_date)

),

in_force as (

    select lines.* from lines
    left join redelivered_orders on lines.order_id = redelivered_orders.order_id
    where redelivered_orders.last_whole_date is null
        or lines.received_date >= redelivered_orders.last_whole_date

),

valued as (

    select
        in_force.order_id,
        in_force.customer_id,
        in_force.order_date,
        in_force.product_id,
        coalesce(in_force.quantity, 1) as quantity,
        {{ in_reporting_currency('(in_force.amount - in_force.refunded_amount)') }} as net_amount
    from in_force
    inner join statuses on in_force.status = statuses.status
    left join rates
        on in_force.currency = rates.currency
            and in_force.order_date >= rates.valid_from
            and (rates.valid_until is null or in_force.order_date < rates.valid_until)
    where in_force.product_id is not null
        and in_force.order_date <= {{ insight_day() }}
        and in_force.order_date > {{ days_after(insight_day(), -var('basket_window_days')) }}

),

summed as (

    select
        order_id,
        product_id,
        min(customer_id) as customer_id,
        min(order_date) as order_date,
        sum(quantity) as quantity,
        sum(net_amount) as net_amount
    from valued
    group by order_id, product_id
    having sum(net_amount) > 0

),

named as (

    select
        ---------- ids
        summed.order_id,
        summed.customer_id,
        summed.product_id,

        ---------- what it is
        coalesce(products.product_name, summed.product_id) as product_name,
        products.category,

        ---------- times and amounts
        summed.order_date,
        cast(summed.quantity as decimal(18, 3)) as quantity,
        cast(summed.net_amount as decimal(18, 2)) as net_amount
    from summed
    left join products on summed.product_id = products.product_id

)

select * from named
