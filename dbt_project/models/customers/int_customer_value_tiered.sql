with

orders as (

    select customer_id, monetary from {{ ref('int_customer_orders_summed') }}
    where monetary > 0

),

total as (

    select sum(monetary) as revenue from orders

),

---------- one row per amount: customers of equal value get the same tier
amounts as (

    select
        monetary,
        sum(monetary) as revenue
    from orders
    group by monetary

),

ranked as (

    select
        monetary,
        coalesce(
            sum(revenue) over (order by monetary desc rows between unbounded preceding and 1 preceding), 0
        ) as revenue_above
    from amounts

),

tiered as (

    select
        ranked.monetary,
        case
            when ranked.revenue_above < {{ var('value_tier_high_share') }} * total.revenue then 'high'
            when ranked.revenue_above < {{ var('value_tier_mid_share') }} * total.revenue then 'mid'
            else 'low'
        end as value_tier
    from ranked
    cross join total

),

customers as (

    select
        orders.customer_id,
        tiered.value_tier
    from orders
    inner join tiered on orders.monetary = tiered.monetary

)

select * from customers
