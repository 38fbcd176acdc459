with

segments as (

    select * from {{ ref('customer_segments') }}

),

orders as (

    select * from {{ ref('int_customer_orders_summed') }}

),

order_status as (

    select
        customer_id,
        case when lifetime_orders > 0 then 'has_ordered' else 'never_ordered' end as tag_id,
        cast(null as {{ dbt.type_string() }}) as tag_value,
        lifetime_orders || ' valid orders' as evidence
    from segments

),

coupon_sensitivity as (

    select
        customer_id,
        case
            when coupon_orders >= {{ var('coupon_lover_share') }} * frequency then 'coupon_lover'
            when coupon_orders >= {{ var('coupon_user_share') }} * frequency then 'coupon_user'
            else 'coupon_indifferent'
        end as tag_id,
        cast(null as {{ dbt.type_string() }}) as tag_value,
        coupon_orders || ' of ' || frequency || ' orders in the window with a coupon' as evidence
    from orders
    where frequency >= {{ var('habit_min_orders') }}

),

united as (

    select * from order_status
    union all
    select * from coupon_sensitivity

)

select * from united
