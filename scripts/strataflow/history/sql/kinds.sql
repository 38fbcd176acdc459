-- What a move from one value to another is called.
-- A class is above another if none of its three flags is lower and one is higher; no_orders is below all classes.
-- Stages and tiers have one figure. Relations: the seeds rfm_classes, lifecycle_stages, value_tiers.
create or replace table kinds as
with levels as (
    select
        'rfm_class' as attribute,
        rfm_class as value,
        coalesce(cast(recency_high as integer), -1) as level_1,
        coalesce(cast(frequency_high as integer), -1) as level_2,
        coalesce(cast(monetary_high as integer), -1) as level_3
    from rfm_classes
    union all
    select ladder || '_stage', stage, level, 0, 0 from lifecycle_stages
    union all
    select 'value_tier', value_tier, -position, 0, 0 from value_tiers
),

compared as (
    select
        before.attribute,
        before.value as from_value,
        after.value as to_value,
        after.level_1 > before.level_1 or after.level_2 > before.level_2 or after.level_3 > before.level_3 as rises,
        after.level_1 < before.level_1 or after.level_2 < before.level_2 or after.level_3 < before.level_3 as falls
    from levels as before
    inner join levels as after on before.attribute = after.attribute
)

select
    attribute,
    from_value,
    to_value,
    case
        when from_value = to_value then 'stay'
        when rises and not falls then 'upgrade'
        when falls and not rises then 'downgrade'
        else 'lateral'
    end as kind
from compared
union all
select attribute, null, value, 'entry' from levels
union all
select attribute, value, null, 'exit' from levels
