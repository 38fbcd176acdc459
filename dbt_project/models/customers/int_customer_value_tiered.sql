with

orders as (

    select customer_id, monetary from {{ ref('int_customer_orders_summed') }}
    where monetary > 0

),

bounds as (

    select * from {{ ref('int_value_tiers_bounded') }}

),

tiered as (

    select
        orders.customer_id,
        case
            when orders.monetary >= bounds.high_from then 'high'
            when orders.monetary >= bounds.mid_from then 'mid'
            else 'low'
        end as value_tier
    from orders
    cross join bounds

)

select * from tiered
