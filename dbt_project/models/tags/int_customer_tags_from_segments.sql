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

---------- the words are put together once per value, not once per customer
dictionary as (

    select
        tag_id,
        agrees_with,
        agrees_value,
        agrees_with || ' is ' || agrees_value as evidence
    from {{ ref('tag_dictionary') }}
    where agrees_with is not null

),

tags as (

    {% for column in columns %}
    select
        segments.customer_id,
        dictionary.tag_id,
        cast(null as {{ dbt.type_string() }}) as tag_value,
        dictionary.evidence
    from segments
    inner join dictionary
        on segments.{{ column }} = dictionary.agrees_value
            and dictionary.agrees_with = '{{ column }}'
    {{ 'union all' if not loop.last }}
    {% endfor %}

)

select * from tags
