-- The stretches that a day ends. Relation: judged. Parameter: $day.
create or replace table stable_closed as
select customer_id, attribute, stable_value as value, previous_value, valid_from, cast($day as date) as valid_to
from judged
where stable_value is not null and new_value is distinct from stable_value
