{{ config(materialized='table') }}

{# What the data says of the customers of whom staff said something, too. #}

with

automatic as (

    select * from {{ ref('int_customer_tags_automatic') }}
    where {{ '1 = 1' if has_manual_tags() else '1 = 0' }}

),

spoken_of as (

    select distinct customer_id from {{ ref('int_manual_tags_standing') }}
    where fault is null

),

beside as (

    select automatic.*
    from automatic
    inner join spoken_of on automatic.customer_id = spoken_of.customer_id

)

select * from beside
