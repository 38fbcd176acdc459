-- Attributes that are followed from a day on: everyone stands where they are published.
-- Relations: stable, today. Parameters: $attributes, $day.
insert into stable
select customer_id, attribute, value, cast(null as varchar) as previous_value, cast($day as date) as valid_from
from (
    unpivot (
        select customer_id, rfm_class, ecommerce_stage, high_ticket_stage, activity_stage, value_tier from today
    )
    on rfm_class, ecommerce_stage, high_ticket_stage, activity_stage, value_tier
    into name attribute value value
)
where list_contains($attributes, attribute)
