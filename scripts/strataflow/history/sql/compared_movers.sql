-- The customers whose revenue in the window differs most between what was said and what is known.
-- Relations: before, today (customer_segments). Parameter: $most.
select
    coalesce(before.customer_id, today.customer_id) as customer_id,
    before.rfm_class as class_said,
    today.rfm_class as class_known,
    before.value_tier as tier_said,
    today.value_tier as tier_known,
    before.monetary as revenue_said,
    today.monetary as revenue_known,
    coalesce(today.monetary, 0) - coalesce(before.monetary, 0) as difference
from before
full join today on before.customer_id = today.customer_id
where coalesce(today.monetary, 0) <> coalesce(before.monetary, 0)
order by abs(difference) desc, coalesce(before.customer_id, today.customer_id)
limit $most
