{{ config(materialized='view') }}

select
    ---------- ids
    order_id,
    customer_id,

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
    amount,
    refunded_amount,
    discount_amount,
    coupon_amount,

    ---------- lineage
    source,
    source_line

from {{ read_lake('orders') }}
where received_date <= {{ known_at() }}
