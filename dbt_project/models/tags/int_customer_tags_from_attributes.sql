{#
  What the shop says of its customers. Which attribute, or which value of it, makes which tag is
  the seed attribute_tags; attributes that are no column are keys of the JSON in `attributes`.
#}
{% set columns = ['registered_month', 'region', 'source_channel', 'industry'] %}

with

customers as {{ not_copied() }} (

    select * from {{ ref('int_customer_attributes') }}

),

rules as (

    select * from {{ ref('attribute_tags') }}

),

attributes as (

    select distinct
        attribute,
        attribute in ('{{ columns | join("', '") }}') as is_column
    from rules

),

in_columns as (

    select
        customers.customer_id,
        attributes.attribute,
        case attributes.attribute
            {% for column in columns %}
            when '{{ column }}' then customers.{{ column }}
            {% endfor %}
        end as attribute_value
    from customers
    cross join attributes
    where attributes.is_column

),

in_json as (

    select
        customers.customer_id,
        attributes.attribute,
        {{ json_text('customers.attributes', 'attributes.attribute') }} as attribute_value
    from customers
    cross join attributes
    where customers.attributes is not null
        and not attributes.is_column

),

said as (

    select * from in_columns where attribute_value is not null
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
