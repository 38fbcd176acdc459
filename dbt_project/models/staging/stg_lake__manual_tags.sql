{{ config(materialized='view') }}

select
    ---------- ids
    customer_id,

    ---------- times
    tagged_at,
    tagged_date,
    expires_at,
    received_date,

    ---------- what was said
    tag as tag_text,
    action,
    tagged_by,
    reason,

    ---------- lineage
    source as source_name,
    source_file,
    source_line

from {{ read_lake('manual_tags') }}
where received_date <= {{ known_at() }}
