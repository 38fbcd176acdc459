with

segments as (

    select * from {{ ref('customer_segments') }}
    where churn_probability is not null
        and not is_holdout

),

rhythms as (

    select * from {{ ref('int_customer_churn_estimated') }}

),

scores as (

    select * from {{ ref('int_customer_churn_scored') }}

),

features as (

    select customer_id, days_last_horizon, coupon_share, discount_share from {{ ref('int_customer_features_computed') }}
    {{ 'where 1 = 0' if not var('churn_scoring_sql') }}

),

orders as (

    select customer_id, refunded_orders from {{ ref('int_customer_orders_summed') }}

),

interactions as (

    select customer_id, last_action_date from {{ ref('int_customer_interactions_summed') }}

),

playbook as (

    select * from {{ ref('playbook') }}

),

plays as (

    select * from {{ ref('int_contact_plays_chosen') }}

),

explained as (

    select
        segments.*,
        playbook.action_en,
        playbook.action_zh,
        case
            when rhythms.gaps > 0 and rhythms.silence_days > 2 * rhythms.rhythm_days
                then 'silence_exceeds_rhythm: ' || rhythms.silence_days || ' days without an order, usually one every '
                    || rhythms.rhythm_days || ' days'
        end as silence_reason,
        case
            when segments.lifetime_orders = 1
                then 'single_order: ordered once, ' || rhythms.silence_days || ' days ago'
        end as single_order_reason,
        case
            when orders.refunded_orders > 0
                then 'refunds: ' || orders.refunded_orders || case when orders.refunded_orders = 1 then ' order' else ' orders' end || ' with a refund in the window'
        end as refund_reason,
        case
            when {{ days_between('interactions.last_action_date', as_of()) }} >= {{ var('activity_silent_days') }}
                then 'interactions_stopped: ' || {{ days_between('interactions.last_action_date', as_of()) }}
                    || ' days since the last interaction of their own'
        end as interaction_reason,
        case
            when scores.because_activity >= {{ var('churn_reason_log_odds') }}
                then 'orders_less: ' || features.days_last_horizon || ' order days in the last {{ var("churn_horizon_days") }} days'
        end as activity_reason,
        case
            when scores.because_discounts >= {{ var('churn_reason_log_odds') }}
                and greatest(features.coupon_share, features.discount_share) >= {{ var('coupon_user_share') }}
                then 'buys_on_discount: a coupon in ' || cast(round(100 * features.coupon_share) as integer)
                    || '% of the orders, ' || cast(round(100 * features.discount_share) as integer) || '% of the price discounted'
        end as discount_reason,
        'within_rhythm: ' || rhythms.silence_days || ' days since the last order, expected every '
        || rhythms.rhythm_days || ' days' as no_reason
    from segments
    inner join scores on segments.customer_id = scores.customer_id
    left join features on segments.customer_id = features.customer_id
    inner join rhythms on segments.customer_id = rhythms.customer_id
    inner join orders on segments.customer_id = orders.customer_id
    left join interactions on segments.customer_id = interactions.customer_id
    left join plays on segments.customer_id = plays.customer_id
    left join playbook on plays.playbook_id = playbook.playbook_id

),

ranked as (

    select
        ---------- ids
        customer_id,
        as_of_date,

        ---------- risk
        cast(
            row_number() over (order by churn_probability desc, monetary desc, customer_id asc) as integer
        ) as rank,
        churn_probability,

        ---------- who it is
        rfm_class,
        value_tier,
        monetary,

        ---------- why, and what to do
        coalesce(
            nullif(concat_ws('; ', silence_reason, single_order_reason, activity_reason, discount_reason, refund_reason, interaction_reason), ''), no_reason
        ) as reasons,
        action_en as suggested_action,
        action_zh as suggested_action_zh
    from explained

)

select * from ranked
