with

known as (

    select * from {{ ref('int_customers_known') }}

),

orders as (

    select * from {{ ref('int_customer_orders_summed') }}

),

interactions as (

    select * from {{ ref('int_customer_interactions_summed') }}

),

gathered as (

    select
        known.customer_id,
        coalesce(orders.lifetime_orders, 0) as lifetime_orders,
        coalesce(interactions.interactions, 0) as interactions,
        coalesce(interactions.actions, 0) as actions,
        coalesce(interactions.intent_signals, 0) as intent_signals,
        least(
            known.first_seen_date,
            coalesce(orders.first_order_date, known.first_seen_date),
            coalesce(interactions.first_action_date, known.first_seen_date)
        ) as first_activity_date,
        greatest(
            coalesce(orders.last_order_date, known.first_seen_date),
            coalesce(interactions.last_action_date, known.first_seen_date)
        ) as last_activity_date
    from known
    left join orders on known.customer_id = orders.customer_id
    left join interactions on known.customer_id = interactions.customer_id

),

staged as (

    select
        ---------- ids
        customer_id,

        ---------- dates
        first_activity_date,
        last_activity_date,

        ---------- ladders
        case
            when lifetime_orders >= {{ var('super_min_orders') }} then 'super'
            when lifetime_orders >= 2 then 'repeat'
            when lifetime_orders = 1 then 'first_purchase'
            else 'new'
        end as ecommerce_stage,
        case
            when lifetime_orders >= {{ var('super_min_orders') }} then 'super'
            when lifetime_orders >= 2 then 'repeat'
            when lifetime_orders = 1 then 'first_order'
            when intent_signals > 0 or actions >= {{ var('intent_min_interactions') }} then 'intent'
            when interactions >= {{ var('prospect_min_interactions') }} then 'prospect'
            else 'stranger'
        end as high_ticket_stage,
        case
            when {{ days_between('first_activity_date', as_of()) }} < {{ var('activity_new_days') }} then 'new'
            when {{ days_between('last_activity_date', as_of()) }} < {{ var('activity_active_days') }} then 'active'
            when {{ days_between('last_activity_date', as_of()) }} < {{ var('activity_silent_days') }} then 'silent'
            else 'churned'
        end as activity_stage
    from gathered

)

select * from staged
