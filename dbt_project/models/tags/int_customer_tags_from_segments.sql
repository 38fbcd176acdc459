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

kinds as (

    select distinct agrees_with from dictionary

),

---------- column by column of the same customers: their ids, next to each other, are stored in half the time
said as (

    select
        segments.customer_id,
        kinds.agrees_with,
        case kinds.agrees_with
            {% for column in columns %}
            when '{{ column }}' then segments.{{ column }}
            {% endfor %}
        end as agrees_value
    from segments
    cross join kinds

),

tags as (

    select
        said.customer_id,
        dictionary.tag_id,
        cast(null as {{ dbt.type_string() }}) as tag_value,
        dictionary.evidence
    from said
    inner join dictionary
        on said.agrees_with = dictionary.agrees_with
            and said.agrees_value = dictionary.agrees_value

)

select * from tags
