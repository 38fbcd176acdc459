{{ config(materialized='view') }}

select
    ---------- ids
    product_id,

    ---------- times
    received_date,

    ---------- attributes
    product_name,
    category,
    brand,
    unit_price,

    ---------- lineage
    source,
    source_line

from {{ read_lake('products') }}
where received_date <= {{ known_at() }}
