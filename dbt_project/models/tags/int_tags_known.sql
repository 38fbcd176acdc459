with

dictionary as (

    select * from {{ ref('tag_dictionary') }}

),

tags as (

    select
        tag_id,
        tag_group,
        value_kind = 'value' as has_value,
        is_mandatory,
        agrees_with is not null as restates_segments,
        coalesce(valid_from, {{ as_of() }}) <= {{ as_of() }} and coalesce(valid_to, {{ as_of() }}) >= {{ as_of() }} as is_in_use
    from dictionary

)

select * from tags
