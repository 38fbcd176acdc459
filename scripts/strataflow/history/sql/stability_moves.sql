-- How many moves a day has as published and as steadied, comings and goings left out.
-- Relations: moves, judged. Parameters: $attributes, $day, $previous.
create or replace table stability_moves as
with counted as (
    select attribute, 1 as raw_moves, 0 as stable_moves, 0 as held_by_dwell, 0 as held_by_margin
    from moves
    where from_value is not null and to_value is not null
    union all
    select
        attribute,
        0,
        cast(stable_value is not null and new_value is not null and new_value <> stable_value as integer),
        cast(held_by is not distinct from 'dwell' as integer),
        cast(held_by is not distinct from 'margin' as integer)
    from judged
    union all
    select unnest($attributes), 0, 0, 0, 0
)

select
    cast($day as date) as as_of_date,
    cast($previous as date) as previous_as_of_date,
    attribute,
    cast(sum(raw_moves) as bigint) as raw_moves,
    cast(coalesce(sum(stable_moves), 0) as bigint) as stable_moves,
    cast(sum(raw_moves) - coalesce(sum(stable_moves), 0) as bigint) as spared,
    cast(sum(held_by_dwell) as bigint) as held_by_dwell,
    cast(sum(held_by_margin) as bigint) as held_by_margin
from counted
where list_contains($attributes, attribute)
group by attribute
