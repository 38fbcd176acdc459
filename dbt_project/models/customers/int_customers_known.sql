with

orders as (

    select * from {{ ref('int_customer_orders_summed') }}

),

interactions as (

    select * from {{ ref('int_customer_interactions_summed') }}

),

attributes as (

    select * from {{ ref('int_customer_attributes') }}

),

sightings as (

    select customer_id, first_placed_date as seen_date from orders
    union all
    select customer_id, first_interaction_date as seen_date from interactions
    union all
    select customer_id, coalesce(registered_date, first_received_date) as seen_date from attributes

),

known as (

    select
        customer_id,
        min(seen_date) as first_seen_date
    from sightings
    where seen_date is not null
    group by customer_id

)

select * from known
