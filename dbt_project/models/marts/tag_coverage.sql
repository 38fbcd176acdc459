{#
  Groups and everybody are counted in customer_profile, which has a customer once: a group's customers are
  those with something in one of its columns, whatever number of its tags they have.
#}
{% set columns = profile_columns() %}
{% set groups = columns | map(attribute='tag_group') | unique | list %}

with

profile as (

    select * from {{ ref('customer_profile') }}

),

tags as (

    select
        tag_id,
        count(*) as customers
    from {{ ref('customer_tags') }}
    group by tag_id

),

dictionary as (

    select * from {{ ref('tag_dictionary') }}
    where coalesce(valid_from, {{ as_of() }}) <= {{ as_of() }}
        and coalesce(valid_to, {{ as_of() }}) >= {{ as_of() }}

),

dictionary_groups as (

    select distinct tag_group from dictionary

),

counted as (

    select
        count(*) as all_customers,
        {% for group in groups %}
        sum(case when {{ profile_has(columns | selectattr('tag_group', 'equalto', group)) }} then 1 else 0 end) as in_{{ group }},
        {% endfor %}
        sum(case when {{ profile_has(columns | rejectattr('is_mandatory')) }} then 1 else 0 end) as in_optional
    from profile

),

by_group as (

    {% for group in groups %}
    select '{{ group }}' as tag_group, in_{{ group }} as customers from counted
    {{ 'union all' if not loop.last }}
    {% endfor %}

),

united as (

    select
        'tag' as level,
        dictionary.tag_id as subject,
        dictionary.tag_group,
        dictionary.name_en,
        dictionary.name_zh,
        coalesce(tags.customers, 0) as customers
    from dictionary
    left join tags on dictionary.tag_id = tags.tag_id

    union all

    select
        'group' as level,
        dictionary_groups.tag_group as subject,
        dictionary_groups.tag_group,
        cast(null as {{ dbt.type_string() }}) as name_en,
        cast(null as {{ dbt.type_string() }}) as name_zh,
        coalesce(by_group.customers, 0) as customers
    from dictionary_groups
    left join by_group on dictionary_groups.tag_group = by_group.tag_group

    union all

    select
        'optional' as level,
        'any' as subject,
        cast(null as {{ dbt.type_string() }}) as tag_group,
        cast(null as {{ dbt.type_string() }}) as name_en,
        cast(null as {{ dbt.type_string() }}) as name_zh,
        coalesce(in_optional, 0) as customers
    from counted

),

coverage as (

    select
        ---------- what is counted
        {{ as_of() }} as as_of_date,
        united.level,
        united.subject,
        united.tag_group,
        united.name_en,
        united.name_zh,

        ---------- whom it reaches, and whom not
        cast(united.customers as bigint) as customers,
        {{ share_of('united.customers', 'counted.all_customers') }} as share,
        cast(counted.all_customers - united.customers as bigint) as untagged_customers,
        {{ share_of('counted.all_customers - united.customers', 'counted.all_customers') }} as untagged_share
    from united
    cross join counted

)

select * from coverage
