{{ config(materialized='table') }}

with

orders as (

    select * from {{ ref('int_customer_orders_summed') }}
    where frequency >= {{ var('habit_min_orders') }}

),

summed as (

    select
        sum(frequency) as orders,
        sum(coupon_orders) as coupon_orders,
        sum(monetary) as revenue,
        sum(greatest(discount_amount + coupon_amount, 0)) as saved_amount
    from orders

),

measured as (

    select
        {{ percent_of('coupon_orders', 'orders') }} as coupon_percent,
        {{ basis_points_of('saved_amount', 'revenue + saved_amount') }} as saved_basis_points,
        cast({{ whole_division('cast(100 * revenue as bigint)', 'nullif(cast(orders as bigint), 0)') }} * 0.01 as decimal(18, 2)) as order_value
    from summed

)

select * from measured
