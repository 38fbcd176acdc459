-- The stretches that are open after a day: those it does not end, and those it begins.
-- Relations: stable, stable_closed, judged. Parameter: $day.
create or replace table stable as
select * from stable
anti join stable_closed
    on stable.customer_id = stable_closed.customer_id
        and stable.attribute = stable_closed.attribute
union all
select customer_id, attribute, new_value as value, stable_value as previous_value, cast($day as date) as valid_from
from judged
where new_value is not null and new_value is distinct from stable_value
