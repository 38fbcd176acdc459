-- Each move with its kind and its cause.
-- The chain leads from the value published before to the value published today, one thing changed at a time; the
-- customer's cause is the step after the last link at which they still stood where they had been published.
-- Relations: moves, kinds, links (step, customer_id, attribute, value).
-- Parameters: $as_of, $previous.
create or replace table transitions as
with chained as (
    select
        moves.customer_id,
        moves.attribute,
        moves.from_value,
        max(links.value) filter (links.step = 'todays_rules') as under_todays_rules,
        max(links.value) filter (links.step = 'known_today') as as_known_today,
        max(links.value) filter (links.step = 'time_passed') as after_time_passed,
        max(links.value) filter (links.step = 'registered') as after_registering,
        max(links.value) filter (links.step = 'interacted') as after_interacting,
        max(links.value) filter (links.step = 'ordered') as after_ordering,
        moves.to_value
    from moves
    left join links on moves.customer_id = links.customer_id and moves.attribute = links.attribute
    group by all
),

-- an exit is about being there at all, any other move about the value
compared as (
    select
        *,
        case when to_value is null then under_todays_rules is not null
            else under_todays_rules is not distinct from from_value end as stood_under_todays_rules,
        case when to_value is null then as_known_today is not null
            else as_known_today is not distinct from from_value end as stood_as_known_today,
        case when to_value is null then after_ordering is not null
            else after_ordering is not distinct from from_value end as stood_by_own_record
    from chained
),

-- of what was their own, the least that suffices
explained as (
    select
        *,
        case
            when stood_by_own_record then 'cutoffs_moved'
            when stood_as_known_today and after_time_passed is not distinct from after_ordering then 'passage_of_time'
            when stood_as_known_today and after_registering is not distinct from after_ordering then 'registered'
            when stood_as_known_today and after_interacting is not distinct from after_ordering then 'interacted'
            when stood_as_known_today then 'ordered'
            when stood_under_todays_rules then 'late_or_corrected_data'
            else 'rules_edited'
        end as cause
    from compared
)

select
    explained.customer_id,
    cast($as_of as date) as as_of_date,
    cast($previous as date) as previous_as_of_date,
    explained.attribute,
    explained.from_value,
    explained.to_value,
    kinds.kind,
    explained.cause,
    explained.under_todays_rules,
    explained.as_known_today,
    explained.after_time_passed,
    explained.after_registering,
    explained.after_interacting,
    explained.after_ordering
from explained
left join kinds
    on explained.attribute = kinds.attribute
        and explained.from_value is not distinct from kinds.from_value
        and explained.to_value is not distinct from kinds.to_value
