-- The eight classes cover every combination of the three flags exactly once. An edit of the seed
-- rfm_classes that drops or doubles a combination would lose or multiply customers in a join.
with

scored as (

    select customer_id from {{ ref('int_customer_rfm_scored') }}

),

classified as (

    select
        customer_id,
        count(*) as classes
    from {{ ref('int_customer_rfm_classified') }}
    group by customer_id

),

wrong as (

    select
        scored.customer_id,
        coalesce(classified.classes, 0) as classes
    from scored
    left join classified on scored.customer_id = classified.customer_id
    where coalesce(classified.classes, 0) <> 1

)

select * from wrong
