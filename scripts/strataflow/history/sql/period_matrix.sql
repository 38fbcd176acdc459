-- From where to where between two published days, stayers included.
-- Relations: kinds; before, today (customer_segments of the two versions).
-- Parameters: $period, $period_start, $from_date, $to_date.
create or replace table matrix as
with both_days as (
    select
        before.rfm_class as rfm_class_before,
        today.rfm_class as rfm_class_today,
        before.ecommerce_stage as ecommerce_stage_before,
        today.ecommerce_stage as ecommerce_stage_today,
        before.high_ticket_stage as high_ticket_stage_before,
        today.high_ticket_stage as high_ticket_stage_today,
        before.activity_stage as activity_stage_before,
        today.activity_stage as activity_stage_today,
        before.value_tier as value_tier_before,
        today.value_tier as value_tier_today,
        today.monetary
    from before
    full join today on before.customer_id = today.customer_id
),

counted as (
    select 'rfm_class' as attribute, rfm_class_before as from_value, rfm_class_today as to_value,
        count(*) as customers, sum(monetary) as revenue
    from both_days group by all
    union all
    select 'ecommerce_stage', ecommerce_stage_before, ecommerce_stage_today, count(*), sum(monetary)
    from both_days group by all
    union all
    select 'high_ticket_stage', high_ticket_stage_before, high_ticket_stage_today, count(*), sum(monetary)
    from both_days group by all
    union all
    select 'activity_stage', activity_stage_before, activity_stage_today, count(*), sum(monetary)
    from both_days group by all
    union all
    select 'value_tier', value_tier_before, value_tier_today, count(*), sum(monetary)
    from both_days group by all
)

select
    cast($period as varchar) as period,
    cast($period_start as date) as period_start,
    cast($from_date as date) as from_date,
    cast($to_date as date) as to_date,
    counted.attribute,
    counted.from_value,
    counted.to_value,
    kinds.kind,
    cast(null as varchar) as cause,
    cast(counted.customers as bigint) as customers,
    cast(coalesce(counted.revenue, 0) as decimal(18, 2)) as revenue
from counted
left join kinds
    on counted.attribute = kinds.attribute
        and counted.from_value is not distinct from kinds.from_value
        and counted.to_value is not distinct from kinds.to_value
