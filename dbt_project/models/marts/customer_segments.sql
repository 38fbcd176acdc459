with

known as (

    select * from {{ ref('int_customers_known') }}

),

orders as (

    select * from {{ ref('int_customer_orders_summed') }}

),

rfm as (

    select * from {{ ref('int_customer_rfm_classified') }}

),

classes as (

    select * from {{ ref('rfm_classes') }}

),

tiers as (

    select * from {{ ref('int_customer_value_tiered') }}

),

stages as (

    select * from {{ ref('int_customer_lifecycle_staged') }}

),

interactions as (

    select * from {{ ref('int_customer_interactions_summed') }}

),

churn as (

    select * from {{ ref('int_customer_churn_scored') }}

),

joined as (

    select
        known.customer_id,
        known.first_seen_date,
        orders.first_order_date,
        orders.last_order_date,
        rfm.recency_days,
        coalesce(orders.frequency, 0) as frequency,
        coalesce(orders.monetary, 0) as monetary,
        coalesce(orders.lifetime_orders, 0) as lifetime_orders,
        coalesce(orders.lifetime_value, 0) as lifetime_value,
        rfm.recency_score,
        rfm.frequency_score,
        rfm.monetary_score,
        coalesce(rfm.rfm_class, 'no_orders') as rfm_class,
        coalesce(tiers.value_tier, 'low') as value_tier,
        stages.ecommerce_stage,
        stages.high_ticket_stage,
        stages.activity_stage,
        stages.last_activity_date,
        coalesce(interactions.engagement_score, 0) as engagement_score,
        churn.churn_probability
    from known
    left join orders on known.customer_id = orders.customer_id
    left join rfm on known.customer_id = rfm.customer_id
    left join tiers on known.customer_id = tiers.customer_id
    left join stages on known.customer_id = stages.customer_id
    left join interactions on known.customer_id = interactions.customer_id
    left join churn on known.customer_id = churn.customer_id

),

segments as (

    select
        ---------- ids
        joined.customer_id,
        {{ as_of() }} as as_of_date,

        ---------- dates
        joined.first_seen_date,
        joined.first_order_date,
        joined.last_order_date,
        joined.last_activity_date,

        ---------- measures
        cast(joined.recency_days as integer) as recency_days,
        cast(joined.frequency as bigint) as frequency,
        cast(joined.monetary as decimal(18, 2)) as monetary,
        cast(joined.lifetime_orders as bigint) as lifetime_orders,
        cast(joined.lifetime_value as decimal(18, 2)) as lifetime_value,

        ---------- scores
        cast(joined.recency_score as integer) as recency_score,
        cast(joined.frequency_score as integer) as frequency_score,
        cast(joined.monetary_score as integer) as monetary_score,
        cast(joined.engagement_score as decimal(18, 6)) as engagement_score,
        cast(joined.churn_probability as double) as churn_probability,

        ---------- class, tier, stages
        joined.rfm_class,
        classes.name_en as rfm_class_name_en,
        classes.name_zh as rfm_class_name_zh,
        joined.value_tier,
        joined.ecommerce_stage,
        joined.high_ticket_stage,
        joined.activity_stage,
        joined.{{ leading_ladder() }}_stage as lifecycle_stage,

        ---------- by lot
        {{ is_holdout('joined.customer_id') }} as is_holdout
    from joined
    left join classes on joined.rfm_class = classes.rfm_class

)

select * from segments
