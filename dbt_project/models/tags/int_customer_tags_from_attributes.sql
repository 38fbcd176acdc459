{#
  What the shop says of its customers. Which attribute, or which value of it, makes which tag is
  the seed attribute_tags; attributes that are no column are keys of the JSON in `attributes`.
#}
{% set columns = ['region', 'source_channel', 'industry'] %}

with

customers as (

    select * from {{ ref('int_customer_attributes') }}

),

rules as (

    select * from {{ ref('attribute_tags') }}

),

keys as (

    select distinct attribute from rules
    where attribute not in ('{{ columns | join("', '") }}')

),

in_columns as (

    {% for column in columns %}
    select customer_id, '{{ column }}' as attribute, {{ column }} as attribute_value from customers
    where {{ column }} is not null
    {{ 'union all' if not loop.last }}
    {% endfor %}

),

in_json as (

    select
        customers.customer_id,
        keys.attribute,
        {{ json_text('customers.attributes', 'keys.attribute') }} as attribute_value
    from customers
    cross join keys
    where customers.attributes is not null

),

said as (

    select * from in_columns
    union all
    select * from in_json where nullif(trim(attribute_value), '') is not null

),

tags as (

    select
        said.customer_id,
        rules.tag_id,
        case when rules.attribute_value is null then said.attribute_value end as tag_value,
        case
            when rules.attribute_value is null then 'given by the shop'
            else said.attribute || ' is ' || said.attribute_value || ', given by the shop'
        end as evidence
    from said
    inner join rules
        on said.attribute = rules.attribute
            and (rules.attribute_value is null or lower(trim(said.attribute_value)) = lower(trim(rules.attribute_value)))

)

select * from tags
