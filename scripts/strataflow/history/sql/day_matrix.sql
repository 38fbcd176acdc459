-- A day's moves by cause in place of the day's moves without; stayers as they are.
-- Relations: matrix (of the day, as period_matrix.sql leaves it), transitions_kept, today.
create or replace table day_matrix as
select * from matrix
where kind = 'stay'
union all
select
    period,
    period_start,
    from_date,
    to_date,
    transitions.attribute,
    transitions.from_value,
    transitions.to_value,
    transitions.kind,
    transitions.cause,
    cast(count(*) as bigint) as customers,
    cast(coalesce(sum(today.monetary), 0) as decimal(18, 2)) as revenue
from transitions_kept as transitions
cross join (select distinct period, period_start, from_date, to_date from matrix) as day_of
left join today on transitions.customer_id = today.customer_id
group by all
