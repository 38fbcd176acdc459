with

statements as (

    select * from {{ ref('int_manual_tags_weighed') }}
    where outcome <> 'in_force'

),

automatic as (

    select * from {{ ref('int_customer_tags_outranked') }}

),

united as (

    select
        customer_id,
        tag_id,
        tag_group,
        tag_value,
        'manual' as source,
        outcome as conflict,
        against_tag_id,
        cast(null as {{ dbt.type_string() }}) as evidence,
        tag_text,
        tagged_by,
        tagged_at,
        reason,
        expires_at
    from statements

    union all

    select
        customer_id,
        tag_id,
        tag_group,
        tag_value,
        'automatic' as source,
        'outranked' as conflict,
        against_tag_id,
        evidence,
        cast(null as {{ dbt.type_string() }}) as tag_text,
        cast(null as {{ dbt.type_string() }}) as tagged_by,
        {{ dbt.cast('null', 'timestamp') }} as tagged_at,
        cast(null as {{ dbt.type_string() }}) as reason,
        cast(null as date) as expires_at
    from automatic

),

conflicts as (

    select
        ---------- ids
        customer_id,
        {{ as_of() }} as as_of_date,
        tag_id,
        source,

        ---------- what lost
        tag_group,
        tag_value,
        evidence,

        ---------- why
        conflict,
        against_tag_id,

        ---------- who said so, of manual tags
        tag_text,
        tagged_by,
        tagged_at,
        reason,
        expires_at
    from united

)

select * from conflicts
