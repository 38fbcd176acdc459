with

segments as (

    select * from {{ ref('customer_segments') }}

),

orders as (

    select * from {{ ref('int_customer_orders_summed') }}
    where frequency >= {{ var('habit_min_orders') }}

),

peers as (

    select * from {{ ref('int_peers_measured') }}

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
        orders.customer_id,
        case
            when orders.coupon_orders >= {{ var('coupon_lover_share') }} * orders.frequency then 'coupon_lover'
            when orders.coupon_orders >= {{ var('coupon_user_share') }} * orders.frequency then 'coupon_user'
            else 'coupon_indifferent'
        end as tag_id,
        cast(null as {{ dbt.type_string() }}) as tag_value,
        orders.coupon_orders || ' of ' || orders.frequency || ' orders in the window with a coupon; peers '
        || peers.coupon_percent || '%' as evidence
    from orders
    cross join peers

),

listed as (

    select
        customer_id,
        monetary + greatest(discount_amount + coupon_amount, 0) as list_amount,
        greatest(discount_amount + coupon_amount, 0) as saved_amount
    from orders
    where monetary + greatest(discount_amount + coupon_amount, 0) > 0

),

saved as (

    select
        listed.customer_id,
        peers.saved_basis_points as peers_points,
        {{ basis_points_of('listed.saved_amount', 'listed.list_amount') }} as saved_points
    from listed
    cross join peers
    where peers.saved_basis_points > 0

),

price_sensitivity as (

    select
        customer_id,
        case
            when saved_points >= {{ var('price_sensitive_ratio') }} * peers_points then 'price_sensitive'
            when saved_points <= {{ var('price_insensitive_ratio') }} * peers_points then 'price_insensitive'
            else 'price_average'
        end as tag_id,
        cast(null as {{ dbt.type_string() }}) as tag_value,
        'saved ' || {{ percent_of_basis_points('saved_points') }} || '% of the list price by discounts and coupons; peers '
        || {{ percent_of_basis_points('peers_points') }} || '%' as evidence
    from saved

),

weekly_habit as (

    select
        customer_id,
        case
            when weekend_orders >= {{ var('habit_share') }} * frequency then 'weekend_shopper'
            when frequency - weekend_orders >= {{ var('weekday_share') }} * frequency then 'weekday_shopper'
            else 'days_mixed'
        end as tag_id,
        cast(null as {{ dbt.type_string() }}) as tag_value,
        weekend_orders || ' of ' || frequency || ' orders in the window on a weekend' as evidence
    from orders

),

united as (

    select * from order_status
    union all
    select * from coupon_sensitivity
    union all
    select * from price_sensitivity
    union all
    select * from weekly_habit

)

select * from united
