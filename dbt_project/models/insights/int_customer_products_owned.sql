{{ config(materialized='table') }}

with

lines as (

    select * from {{ ref('int_basket_lines') }}

),

owned as (

    select
        customer_id,
        product_id,
        cast(count(distinct order_date) as integer) as order_days,
        max(order_date) as last_order_date
    from lines
    group by customer_id, product_id

)

select * from owned
