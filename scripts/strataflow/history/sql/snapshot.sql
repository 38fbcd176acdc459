-- What a day's version says of each customer, without the measures. Relation: today.
select
    customer_id,
    as_of_date,
    rfm_class,
    ecommerce_stage,
    high_ticket_stage,
    activity_stage,
    value_tier,
    cast(recency_score as tinyint) as recency_score,
    cast(frequency_score as tinyint) as frequency_score,
    cast(monetary_score as tinyint) as monetary_score
from today
order by customer_id
