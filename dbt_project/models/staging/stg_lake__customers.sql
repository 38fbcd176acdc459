{{ config(materialized='view') }}

select
    ---------- ids
    customer_id,

    ---------- times
    registered_at,
    registered_date,
    received_date,

    ---------- attributes
    region,
    source_channel,
    industry,
    customer_type,
    attributes,

    ---------- lineage
    source,
    source_line

from {{ read_lake('customers') }}
where received_date <= {{ known_at() }}
