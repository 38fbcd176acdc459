{{ config(materialized='view') }}

select
    ---------- ids
    order_id,
    customer_id,
    product_id,

    ---------- times
    ordered_at,
    order_date,
    order_hour,
    updated_at,
    received_date,

    ---------- state
    status,
    is_adjustment,
    channel,
    currency,

    ---------- amounts
    quantity,
    amount,
    refunded_amount,
    discount_amount,
    coupon_amount

from {{ read_lake('order_lines') }}
where received_date <= {{ known_at() }}
