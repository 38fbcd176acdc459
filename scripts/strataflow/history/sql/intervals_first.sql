-- On the first published day every value begins. Relation: today. Parameter: $day.
create or replace table open_intervals as
select customer_id, attribute, value, cast($day as date) as valid_from
from (
    unpivot (
        select customer_id, rfm_class, ecommerce_stage, high_ticket_stage, activity_stage, value_tier from today
    )
    on rfm_class, ecommerce_stage, high_ticket_stage, activity_stage, value_tier
    into name attribute value value
)
