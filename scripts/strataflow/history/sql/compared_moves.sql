-- From what was said to what is known: customers who stand elsewhere, with their revenue then and now.
-- Relations: moves, kinds; before, today (customer_segments as said and as known).
select
    moves.attribute,
    moves.from_value,
    moves.to_value,
    kinds.kind,
    count(*) as customers,
    cast(coalesce(sum(before.monetary), 0) as decimal(18, 2)) as revenue_said,
    cast(coalesce(sum(today.monetary), 0) as decimal(18, 2)) as revenue_known
from moves
left join kinds
    on moves.attribute = kinds.attribute
        and moves.from_value is not distinct from kinds.from_value
        and moves.to_value is not distinct from kinds.to_value
left join before on moves.customer_id = before.customer_id
left join today on moves.customer_id = today.customer_id
group by all
order by moves.attribute, customers desc, moves.from_value, moves.to_value
