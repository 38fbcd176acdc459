-- Who stood elsewhere than where they were published on the day before. Relations: stable, before. Parameter: $day.
create or replace table held as
select
    stable.customer_id,
    cast($day as date) as as_of_date,
    stable.attribute,
    published.value as published_value,
    stable.value as stable_value,
    stable.valid_from as stable_since,
    cast(null as varchar) as held_by
from stable
inner join (
    unpivot (
        select customer_id, rfm_class, ecommerce_stage, high_ticket_stage, activity_stage, value_tier from before
    )
    on rfm_class, ecommerce_stage, high_ticket_stage, activity_stage, value_tier
    into name attribute value value
) as published
    on stable.customer_id = published.customer_id
        and stable.attribute = published.attribute
where stable.value <> published.value
