{#
  What customers did besides ordering. Which kinds count for which tag, over how many days
  and from how many on, is the seed interaction_tags: a further tag of this sort needs no SQL.
#}

with

counted as (

    select * from {{ ref('int_customer_interactions_counted') }}
    where rule_seed = 'interaction_tags'

),

rules as (

    select
        tag_id,
        max(window_days) as window_days,
        max(min_count) as min_count
    from {{ ref('interaction_tags') }}
    group by tag_id

),

tags as (

    select
        counted.customer_id,
        counted.tag_id,
        cast(null as {{ dbt.type_string() }}) as tag_value,
        counted.interactions || ' times in ' || rules.window_days || ' days (from ' || rules.min_count || ' on), the last on '
        || counted.last_date as evidence
    from counted
    inner join rules
        on counted.tag_id = rules.tag_id
            and counted.interactions >= rules.min_count

)

select * from tags
