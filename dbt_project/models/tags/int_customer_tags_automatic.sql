{#
  All that the data says, whatever staff said. Tags are by far the most rows of a build and are written once:
  here, and customer_tags is a view that takes what is in force from it.
#}
{{ config(materialized='table') }}

{% set tag_models = [
    'int_customer_tags_from_segments',
    'int_customer_tags_from_orders',
    'int_customer_tags_from_hours',
    'int_customer_tags_from_channels',
    'int_customer_tags_from_categories',
    'int_customer_tags_from_attributes',
    'int_customer_tags_from_holdings',
    'int_customer_tags_from_types',
    'int_customer_tags_from_interactions',
    'int_customer_tags_from_needs',
] %}

with

{% for tag_model in tag_models %}
{{ tag_model | replace('int_customer_tags_', '') }} as (

    select * from {{ ref(tag_model) }}

),

{% endfor %}
collected as (

    {% for tag_model in tag_models %}
    select customer_id, tag_id, tag_value, evidence from {{ tag_model | replace('int_customer_tags_', '') }}
    {{ 'union all' if not loop.last }}
    {% endfor %}

),

dictionary as (

    select * from {{ ref('int_tags_known') }}

),

tags as (

    select
        collected.customer_id,
        collected.tag_id,
        dictionary.tag_group,
        cast(collected.tag_value as {{ dbt.type_string() }}) as tag_value,
        cast(collected.evidence as {{ dbt.type_string() }}) as evidence
    from collected
    left join dictionary on collected.tag_id = dictionary.tag_id
    -- a word that the dictionary lacks stays, so that the gate can name it
    where coalesce(dictionary.is_in_use, true)

)

select * from tags
