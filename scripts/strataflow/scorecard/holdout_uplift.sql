-- What treating customers changed, against the customers the lot kept out of every list. Definitions:
-- docs/scorecard.md. One row per month of treatment, comparison, outcome and class.
create temp table treatments as
select
    month_ends.previous_end as treated_end,
    before.customer_id,
    before.rfm_class,
    treated.is_holdout,
    treated.is_treated,
    coalesce(after.last_order_date > month_ends.previous_end, false) as has_ordered,
    coalesce(after.lifetime_value, 0) - treated.lifetime_value as revenue
from month_ends
inner join month_ends as earlier on earlier.month_end = month_ends.previous_end
inner join states as before on before.month_end = earlier.previous_end and before.lifetime_orders > 0
inner join states as treated on treated.month_end = earlier.month_end and treated.customer_id = before.customer_id
left join states as after on after.month_end = month_ends.month_end and after.customer_id = before.customer_id;

create temp table holdout_uplift as
with

sides as (
    select treated_end, rfm_class, 'holdout' as side, has_ordered, revenue from treatments where is_holdout
    union all
    select treated_end, rfm_class, 'offered', has_ordered, revenue from treatments where not is_holdout
    union all
    select treated_end, rfm_class, 'treated', has_ordered, revenue from treatments where not is_holdout and is_treated
),

summed as (
    select
        treated_end, side, coalesce(rfm_class, 'all') as segment,
        count(*) as customers,
        count(*) filter (where has_ordered) as ordered,
        sum(revenue) as revenue,
        sum(cast(revenue as decimal(18, 2)) * cast(revenue as decimal(18, 2))) as squares
    from sides
    group by grouping sets ((treated_end, side, rfm_class), (treated_end, side))
),

pairs as (
    select
        other.treated_end, other.side as comparison, other.segment,
        other.customers as n_1, other.ordered as hits_1, other.revenue as sum_1, other.squares as squares_1,
        held.customers as n_2, held.ordered as hits_2, held.revenue as sum_2, held.squares as squares_2
    from summed as other
    inner join summed as held
        on held.treated_end = other.treated_end and held.segment = other.segment and held.side = 'holdout'
    -- All who were treated differ from the holdout by how they were chosen; within a class less so.
    where other.side = 'offered' or (other.side = 'treated' and other.segment <> 'all')
),

compared as (
    select
        *, 'retention' as outcome,
        hits_1::double / n_1 as value_1,
        hits_2::double / n_2 as value_2,
        newcombe_lower(hits_1, n_1, hits_2, n_2) as lower,
        newcombe_upper(hits_1, n_1, hits_2, n_2) as upper
    from pairs
    union all
    select
        *, 'revenue' as outcome,
        sum_1::double / n_1 as value_1,
        sum_2::double / n_2 as value_2,
        sum_1::double / n_1 - sum_2::double / n_2
        - z() * sqrt(squared_error(sum_1, squares_1, n_1) + squared_error(sum_2, squares_2, n_2)) as lower,
        sum_1::double / n_1 - sum_2::double / n_2
        + z() * sqrt(squared_error(sum_1, squares_1, n_1) + squared_error(sum_2, squares_2, n_2)) as upper
    from pairs
)

select
    (select max(month_end) from month_ends) as as_of_date,
    cast(date_trunc('month', treated_end) as date) as month,
    comparison,
    outcome,
    segment,
    n_1 as customers,
    round(value_1, 9) as value,
    n_2 as holdout_customers,
    round(value_2, 9) as holdout_value,
    round(value_1 - value_2, 9) as difference,
    round(lower, 9) as lower,
    round(upper, 9) as upper
from compared;
