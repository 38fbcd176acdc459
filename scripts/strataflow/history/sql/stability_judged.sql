-- Who may stand elsewhere than where they are published: the day's movers, and those held back until now.
-- `target_value` is where their measures would have them, each measure moved by its margin towards where they stand.
-- Relations: held, moves, stable; today (customer_segments), cutoffs (rfm_cutoffs), rfm_classes.
-- Parameters: $day; $attributes, those that are followed; the margins $recency_days, $frequency_orders,
-- $monetary_share, $mean_score, $value_tier_share, $activity_days; the day's rules $high_score_at_least, $activity_active_days, $activity_silent_days;
-- the waits $wait_rfm_class, $wait_value_tier, $wait_ecommerce_stage, $wait_high_ticket_stage, $wait_activity_stage.
create or replace table judged as
with candidates as (
    select customer_id, attribute from held
    union
    select customer_id, attribute from moves
    where list_contains($attributes, attribute)
),

stood as (
    select
        candidates.customer_id,
        candidates.attribute,
        stable.value as stable_value,
        stable.previous_value,
        stable.valid_from,
        case candidates.attribute
            when 'rfm_class' then today.rfm_class
            when 'value_tier' then today.value_tier
            when 'ecommerce_stage' then today.ecommerce_stage
            when 'high_ticket_stage' then today.high_ticket_stage
            when 'activity_stage' then today.activity_stage
        end as published_value,
        today.recency_days,
        today.frequency,
        today.monetary,
        date_diff('day', today.last_activity_date, cast($day as date)) as silent_days
    from candidates
    left join stable
        on candidates.customer_id = stable.customer_id
            and candidates.attribute = stable.attribute
    left join today on candidates.customer_id = today.customer_id
),

-- ---------------------------------------------------------------- rfm_class: one boundary per flag
shifted as (
    select
        stood.*,
        classes.recency_high as was_recent,
        classes.frequency_high as was_frequent,
        classes.monetary_high as was_spending,
        recency_days + case when classes.recency_high then -1 else 1 end * $recency_days as recency_shifted,
        frequency + case when classes.frequency_high then 1 else -1 end * $frequency_orders as frequency_shifted,
        monetary * (1 + case when classes.monetary_high then 1 else -1 end * $monetary_share) as monetary_shifted
    from stood
    inner join rfm_classes as classes on stood.stable_value = classes.rfm_class
    where stood.attribute = 'rfm_class' and classes.recency_high is not null and stood.recency_days is not null
),

long as (
    select customer_id, 'recency' as measure, recency_shifted as shifted, was_recent as was_high from shifted
    union all
    select customer_id, 'frequency', frequency_shifted, was_frequent from shifted
    union all
    select customer_id, 'monetary', monetary_shifted, was_spending from shifted
),

scored as (
    select
        long.*,
        cutoffs.high_rule,
        cutoffs.mean_value,
        cutoffs.mean_score + case when long.was_high then -1 else 1 end * $mean_score as mean_score_shifted,
        coalesce(cast(cutoffs.cutoff_1 < long.shifted as integer), 0)
        + coalesce(cast(cutoffs.cutoff_2 < long.shifted as integer), 0)
        + coalesce(cast(cutoffs.cutoff_3 < long.shifted as integer), 0)
        + coalesce(cast(cutoffs.cutoff_4 < long.shifted as integer), 0) as below,
        cast(cutoffs.cutoff_1 is not null as integer) + cast(cutoffs.cutoff_2 is not null as integer)
        + cast(cutoffs.cutoff_3 is not null as integer) + cast(cutoffs.cutoff_4 is not null as integer) as given
    from long
    inner join cutoffs on long.measure = cutoffs.measure
),

flagged as (
    select
        customer_id,
        measure,
        case high_rule
            when 'mean_score' then 1 + case when measure = 'recency' then given - below else below end > mean_score_shifted
            when 'score_at_least'
                then 1 + case when measure = 'recency' then given - below else below end >= $high_score_at_least
            else case when measure = 'recency' then shifted < mean_value else shifted > mean_value end
        end as is_high
    from scored
),

classed as (
    select
        customer_id,
        bool_or(is_high) filter (measure = 'recency') as recency_high,
        bool_or(is_high) filter (measure = 'frequency') as frequency_high,
        bool_or(is_high) filter (measure = 'monetary') as monetary_high
    from flagged
    group by customer_id
),

-- ---------------------------------------------------------------- value_tier: the poorest of a tier bounds it
bounds as (
    select
        min(monetary) filter (value_tier = 'high') as high_from,
        min(monetary) filter (value_tier in ('high', 'mid')) as mid_from
    from today
    where monetary > 0
),

tiered as (
    select
        stood.customer_id,
        coalesce(
            monetary * (1 + case when stable_value = 'high' then 1 else -1 end * $value_tier_share) >= bounds.high_from,
            false
        ) as is_high,
        coalesce(
            monetary * (1 + case when stable_value in ('high', 'mid') then 1 else -1 end * $value_tier_share)
            >= bounds.mid_from,
            false
        ) as is_mid
    from stood
    cross join bounds
    where stood.attribute = 'value_tier'
),

-- ---------------------------------------------------------------- all
targeted as (
    select
        stood.customer_id,
        stood.attribute,
        stood.stable_value,
        stood.previous_value,
        stood.valid_from,
        stood.published_value,
        case
            when stood.stable_value is null or stood.published_value is null then stood.published_value
            when stood.attribute = 'rfm_class' then coalesce(reached.rfm_class, stood.published_value)
            when stood.attribute = 'value_tier'
                then case when tiered.is_high then 'high' when tiered.is_mid then 'mid' else 'low' end
            when stood.attribute <> 'activity_stage'
                or stood.stable_value not in ('active', 'silent', 'churned')
                or stood.published_value not in ('active', 'silent', 'churned') then stood.published_value
            when stood.silent_days + case when stood.stable_value = 'active' then -1 else 1 end * $activity_days
                < $activity_active_days then 'active'
            when stood.silent_days + case when stood.stable_value = 'churned' then 1 else -1 end * $activity_days
                < $activity_silent_days then 'silent'
            else 'churned'
        end as target_value,
        -- coming, going, and the first and the last valid order are facts: no boundary to flap at
        stood.stable_value is null
        or stood.published_value is null
        or (stood.attribute = 'rfm_class' and reached.rfm_class is null) as moves_at_once
    from stood
    left join classed on stood.attribute = 'rfm_class' and stood.customer_id = classed.customer_id
    left join rfm_classes as reached
        on classed.recency_high = reached.recency_high
            and classed.frequency_high = reached.frequency_high
            and classed.monetary_high = reached.monetary_high
    left join tiered on stood.attribute = 'value_tier' and stood.customer_id = tiered.customer_id
),

timed as (
    select
        *,
        not moves_at_once
        and previous_value is not null
        and date_diff('day', valid_from, cast($day as date)) < case attribute
            when 'rfm_class' then $wait_rfm_class
            when 'value_tier' then $wait_value_tier
            when 'ecommerce_stage' then $wait_ecommerce_stage
            when 'high_ticket_stage' then $wait_high_ticket_stage
            else $wait_activity_stage
        end as waits
    from targeted
),

decided as (
    select
        *,
        case when moves_at_once then published_value when waits then stable_value else target_value end as new_value
    from timed
)

select
    *,
    case
        when new_value is not distinct from published_value then null
        when waits then 'dwell'
        else 'margin'
    end as held_by
from decided
