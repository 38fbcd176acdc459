{# A view: see int_customer_tags_automatic. #}
{{ config(materialized='view') }}

with

automatic as (

    select * from {{ ref('int_customer_tags_automatic') }}

),

manual as (

    select * from {{ ref('int_customer_tags_manual') }}

),

outranked as (

    select * from {{ ref('int_customer_tags_outranked') }}

),

displaced as (

    select customer_id, tag_id from outranked
    union all
    select manual.customer_id, manual.tag_id
    from manual
    left join outranked
        on manual.customer_id = outranked.customer_id
            and manual.tag_id = outranked.tag_id
    where outranked.customer_id is null

),

left_standing as (

    select automatic.*
    from automatic
    left join displaced
        on automatic.customer_id = displaced.customer_id
            and automatic.tag_id = displaced.tag_id
    where displaced.customer_id is null

),

united as (

    select
        customer_id,
        tag_id,
        tag_group,
        tag_value,
        'automatic' as source,
        evidence,
        cast(null as date) as since_date,
        cast(null as {{ dbt.type_string() }}) as tagged_by,
        cast(null as {{ dbt.type_string() }}) as reason,
        cast(null as date) as expires_at
    from left_standing

    union all

    select
        customer_id,
        tag_id,
        tag_group,
        tag_value,
        source,
        evidence,
        since_date,
        tagged_by,
        reason,
        expires_at
    from manual

),

tags as (

    select
        ---------- ids
        customer_id,
        {{ as_of() }} as as_of_date,
        tag_id,

        ---------- what the tag says
        tag_group,
        tag_value,

        ---------- where it comes from
        source,
        evidence,
        since_date,

        ---------- who said so, of manual tags
        tagged_by,
        reason,
        expires_at
    from united

)

select * from tags
