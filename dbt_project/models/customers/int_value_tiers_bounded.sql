with

orders as (

    select monetary from {{ ref('int_customer_orders_summed') }}
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

bounded as (

    select
        min(
            case when ranked.revenue_above < {{ var('value_tier_high_share') }} * total.revenue then ranked.monetary end
        ) as high_from,
        min(
            case when ranked.revenue_above < {{ var('value_tier_mid_share') }} * total.revenue then ranked.monetary end
        ) as mid_from
    from ranked
    cross join total

)

select * from bounded
