{% set attributes = ['region', 'source_channel'] %}

with

customers as (

    select * from {{ ref('int_customer_attributes') }}

),

tags as (

    {% for attribute in attributes %}
    select
        customer_id,
        '{{ attribute }}' as tag_id,
        {{ attribute }} as tag_value,
        'given by the shop' as evidence
    from customers
    where {{ attribute }} is not null
    {{ 'union all' if not loop.last }}
    {% endfor %}

)

select * from tags
