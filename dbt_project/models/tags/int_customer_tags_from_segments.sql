{#
  Tags that restate a class, stage or tier. Which tag stands for which value is
  a pair of columns in the seed tag_dictionary (agrees_with, agrees_value), so a
  renamed or added tag needs a row and no SQL.
#}
{% set columns = ['rfm_class', 'ecommerce_stage', 'high_ticket_stage', 'activity_stage', 'value_tier'] %}

with

segments as (

    select * from {{ ref('customer_segments') }}

),

dictionary as (

    select * from {{ ref('tag_dictionary') }}
    where agrees_with is not null

),

unfolded as (

    {% for column in columns %}
    select customer_id, '{{ column }}' as agrees_with, {{ column }} as agrees_value from segments
    {{ 'union all' if not loop.last }}
    {% endfor %}

),

tags as (

    select
        unfolded.customer_id,
        dictionary.tag_id,
        cast(null as {{ dbt.type_string() }}) as tag_value,
        unfolded.agrees_with || ' is ' || unfolded.agrees_value as evidence
    from unfolded
    inner join dictionary
        on unfolded.agrees_with = dictionary.agrees_with
            and unfolded.agrees_value = dictionary.agrees_value

)

select * from tags
