-- The intervals that are open after a day: those it does not end, and those it begins.
-- Relations: open_intervals, moves. Parameter: $day.
create or replace table open_intervals as
select * from open_intervals
anti join moves
    on open_intervals.customer_id = moves.customer_id
        and open_intervals.attribute = moves.attribute
union all
select customer_id, attribute, to_value as value, cast($day as date) as valid_from
from moves
where to_value is not null
