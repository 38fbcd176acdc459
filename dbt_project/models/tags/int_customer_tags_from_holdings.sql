{#
  Memberships, packages and whatever else a customer holds until a day, which the shop gives as an
  attribute. Which attribute makes which tags, and when its end is near, is the seed holding_tags.
#}

with

customers as (

    select customer_id, attributes from {{ ref('int_customer_attributes') }}
    where attributes is not null

),

rules as (

    select * from {{ ref('holding_tags') }}

),

read as (

    select
        customers.customer_id,
        rules.*,
        try_cast(substring({{ json_text('customers.attributes', 'rules.attribute') }}, 1, 10) as date) as last_day
    from customers
    cross join rules

),

held as (

    select
        *,
        {{ days_between(as_of(), 'last_day') }} as days_left
    from read
    where last_day is not null

),

tags as (

    select
        customer_id,
        case when days_left >= 0 then holder_tag_id else lapsed_tag_id end as tag_id,
        cast(null as {{ dbt.type_string() }}) as tag_value,
        'until ' || last_day as evidence
    from held

    union all

    select
        customer_id,
        ending_tag_id as tag_id,
        cast(null as {{ dbt.type_string() }}) as tag_value,
        'until ' || last_day || ': ' || days_left || ' days left' as evidence
    from held
    where days_left >= 0
        and days_left <= ending_days

)

select * from tags
