-- The intervals that a day ends: open ones of the day's movers.
-- Relations: open_intervals, moves. Parameter: $day.
create or replace table closed_intervals as
select
    open_intervals.customer_id,
    open_intervals.attribute,
    open_intervals.value,
    open_intervals.valid_from,
    cast($day as date) as valid_to
from open_intervals
inner join moves
    on open_intervals.customer_id = moves.customer_id
        and open_intervals.attribute = moves.attribute
