-- Who stands elsewhere than on the published day before: one row per customer and attribute that differs.
-- Relations: before, today (customer_segments of the two versions).
create or replace table moves as
with changed as (
    select
        coalesce(before.customer_id, today.customer_id) as customer_id,
        before.rfm_class as rfm_class_before,
        today.rfm_class as rfm_class_today,
        before.ecommerce_stage as ecommerce_stage_before,
        today.ecommerce_stage as ecommerce_stage_today,
        before.high_ticket_stage as high_ticket_stage_before,
        today.high_ticket_stage as high_ticket_stage_today,
        before.activity_stage as activity_stage_before,
        today.activity_stage as activity_stage_today,
        before.value_tier as value_tier_before,
        today.value_tier as value_tier_today
    from before
    full join today on before.customer_id = today.customer_id
    where before.rfm_class is distinct from today.rfm_class
        or before.ecommerce_stage is distinct from today.ecommerce_stage
        or before.high_ticket_stage is distinct from today.high_ticket_stage
        or before.activity_stage is distinct from today.activity_stage
        or before.value_tier is distinct from today.value_tier
),

by_attribute as (
    select customer_id, 'rfm_class' as attribute, rfm_class_before as from_value, rfm_class_today as to_value
    from changed
    union all
    select customer_id, 'ecommerce_stage', ecommerce_stage_before, ecommerce_stage_today from changed
    union all
    select customer_id, 'high_ticket_stage', high_ticket_stage_before, high_ticket_stage_today from changed
    union all
    select customer_id, 'activity_stage', activity_stage_before, activity_stage_today from changed
    union all
    select customer_id, 'value_tier', value_tier_before, value_tier_today from changed
)

select * from by_attribute
where from_value is distinct from to_value
