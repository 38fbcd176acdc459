{{ config(materialized='table') }}

with

owned as (

    select * from {{ ref('int_customer_products_owned') }}

),

rules as (

    {{ next_best_rules(ref('int_product_affinities_measured')) }}

),

ranked as (

    {{ next_best_of('owned', 'rules') }}

)

select * from ranked
