with

segments as (

    select * from {{ ref('customer_segments') }}

),

steps as (

    select * from {{ ref('int_customer_next_steps_found') }}

),

deadlines as (

    select * from {{ ref('int_customer_next_steps_dated') }}

),

limits as (

    select * from {{ ref('int_class_limits_computed') }}

),

interactions as (

    select customer_id, interactions, actions from {{ ref('int_customer_interactions_summed') }}

),

joined as (

    select
        segments.*,
        steps.recency_is_high,
        steps.frequency_is_high,
        steps.monetary_is_high,
        steps.frequency_orders_missing,
        steps.monetary_amount_missing,
        steps.next_rfm_class,
        steps.next_rfm_class_orders,
        steps.next_rfm_class_amount,
        steps.next_value_tier,
        steps.next_value_tier_amount,
        deadlines.next_rfm_class_by_date,
        deadlines.next_value_tier_by_date,
        coalesce(interactions.interactions, 0) as interactions,
        coalesce(interactions.actions, 0) as actions,
        case
            when steps.recency_is_high then {{ days_after('segments.last_order_date', 'limits.recency_high_through + 1') }}
        end as recency_lost_date,
        case
            when segments.activity_stage = 'new'
                then {{ days_after('segments.first_seen_date', var('activity_new_days')) }}
            when segments.activity_stage = 'active'
                then {{ days_after('segments.last_activity_date', var('activity_active_days')) }}
            when segments.activity_stage = 'silent'
                then {{ days_after('segments.last_activity_date', var('activity_silent_days')) }}
        end as next_activity_stage_date
    from segments
    inner join steps on segments.customer_id = steps.customer_id
    left join deadlines on segments.customer_id = deadlines.customer_id
    left join interactions on segments.customer_id = interactions.customer_id
    cross join limits

),

---------- the next stage up, by orders; before the first one by interactions
stepped as (

    select
        *,
        case
            when lifetime_orders >= {{ var('super_min_orders') }} then null
            when lifetime_orders >= 2 or lifetime_orders + 1 >= {{ var('super_min_orders') }} then 'super'
            when lifetime_orders = 1 then 'repeat'
            else 'first_order'
        end as next_order_stage,
        case
            when lifetime_orders >= {{ var('super_min_orders') }} then null
            when lifetime_orders >= 2 then {{ var('super_min_orders') }} - lifetime_orders
            else 1
        end as next_order_stage_orders,
        case
            when high_ticket_stage = 'stranger' then {{ var('prospect_min_interactions') }} - interactions
            when high_ticket_stage = 'prospect' then {{ var('intent_min_interactions') }} - actions
        end as interactions_missing
    from joined

),

explained as (

    select
        ---------- ids
        customer_id,
        as_of_date,

        ---------- class: what is high today, and what the low ones lack
        rfm_class,
        recency_is_high,
        frequency_is_high,
        monetary_is_high,
        frequency_orders_missing,
        monetary_amount_missing,

        ---------- the next class, and when recency is lost
        next_rfm_class,
        next_rfm_class_orders,
        next_rfm_class_amount,
        cast(next_rfm_class_by_date as date) as next_rfm_class_by_date,
        cast(recency_lost_date as date) as recency_lost_date,
        cast({{ days_between('as_of_date', 'recency_lost_date') }} as integer) as recency_lost_in_days,

        ---------- the next tier
        next_value_tier,
        next_value_tier_amount,
        cast(next_value_tier_by_date as date) as next_value_tier_by_date,

        ---------- the next stages
        case when next_order_stage = 'first_order' then 'first_purchase' else next_order_stage end as next_ecommerce_stage,
        cast(next_order_stage_orders as bigint) as next_ecommerce_stage_orders,
        case
            when high_ticket_stage = 'stranger' then 'prospect'
            when high_ticket_stage = 'prospect' then 'intent'
            else next_order_stage
        end as next_high_ticket_stage,
        case
            when high_ticket_stage not in ('stranger', 'prospect') then cast(next_order_stage_orders as bigint)
        end as next_high_ticket_stage_orders,
        cast(interactions_missing as bigint) as next_high_ticket_stage_interactions,
        case
            when {{ days_between('last_activity_date', 'next_activity_stage_date') }} < {{ var('activity_active_days') }} then 'active'
            when {{ days_between('last_activity_date', 'next_activity_stage_date') }} < {{ var('activity_silent_days') }} then 'silent'
            when next_activity_stage_date is not null then 'churned'
        end as next_activity_stage,
        cast(next_activity_stage_date as date) as next_activity_stage_date
    from stepped

)

select * from explained
