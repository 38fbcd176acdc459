-- Who stands elsewhere than where they are published, and what holds them. Relation: judged. Parameter: $day.
create or replace table held as
select
    customer_id,
    cast($day as date) as as_of_date,
    attribute,
    published_value,
    new_value as stable_value,
    case when new_value = stable_value then valid_from else cast($day as date) end as stable_since,
    held_by
from judged
where held_by is not null
