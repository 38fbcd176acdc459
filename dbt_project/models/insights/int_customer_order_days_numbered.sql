{{ config(materialized='table') }}

with

ledger as (

    select * from {{ ref('int_order_ledger') }}
    where {{ insights_are_due() }}
        and received_date <= {{ insight_day() }}
        and order_date <= {{ insight_day() }}

),

order_days as (

    select
        customer_id,
        order_date
    from ledger
    group by customer_id, order_date
    having sum(valid_orders) > 0

),

numbered as (

    select
        customer_id,
        order_date,
        row_number() over (partition by customer_id order by order_date) as order_number,
        lead(order_date) over (partition by customer_id order by order_date) as next_order_date
    from order_days

),

followed as (

    select
        ---------- ids
        customer_id,
        cast(order_number as integer) as order_number,

        ---------- times
        order_date,
        {{ days_between('order_date', insight_day()) }} as days_since,
        {{ days_between('order_date', 'next_order_date') }} as days_to_next
    from numbered
    where order_number <= {{ var('repurchase_max_orders') }}

)

select * from followed
