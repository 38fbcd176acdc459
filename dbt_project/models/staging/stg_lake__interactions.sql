{{ config(materialized='view') }}

select
    ---------- ids
    interaction_id,
    customer_id,
    campaign_id,
    product_id,
    referred_customer_id,

    ---------- times
    occurred_at,
    interaction_date,
    interaction_hour,
    received_date,

    ---------- what happened
    kind,
    channel,
    amount

from {{ read_lake('interactions') }}
where received_date <= {{ known_at() }}
