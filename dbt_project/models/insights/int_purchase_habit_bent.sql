{#
  Where the curve of returning flattens. Each number of orders is tried as the bend of a line
  that rises up to it and is level from there (a broken stick), fitted to the shares by least
  squares, weighted by how well each share is known. The bend that fits best is the threshold;
  those that fit hardly worse, by less than the 95% point of chi-squared with one degree of
  freedom, are its interval. Where even the best stick misses the points by more than chance,
  the interval is widened by as much (as a quasi-likelihood does).
#}

with

---------- one more of each outcome keeps shares of nobody and of everybody from weighing without bound
points as (

    select
        cast(order_number as double) as x,
        (returned_customers + 1) / cast(customers + 2 as double) as y,
        (customers + 2) / (
            (returned_customers + 1) / cast(customers + 2 as double)
            * (1 - (returned_customers + 1) / cast(customers + 2 as double))
        ) as weight
    from {{ ref('int_purchase_habit_counted') }}
    where customers >= {{ var('repurchase_min_customers') }}

),

bends as (

    select x as bend from points

),

sticks as (

    select
        bends.bend,
        points.weight,
        points.y,
        least(points.x, bends.bend) as u
    from points
    cross join bends

),

sums as (

    select
        bend,
        count(*) as point_count,
        sum(weight) as w,
        sum(weight * u) as wu,
        sum(weight * y) as wy,
        sum(weight * u * u) as wuu,
        sum(weight * u * y) as wuy,
        sum(weight * y * y) as wyy
    from sticks
    group by bend

),

centred as (

    select
        bend,
        point_count,
        wuu - wu * wu / w as spread,
        wuy - wu * wy / w as together,
        wyy - wy * wy / w as total
    from sums

),

fitted as (

    select
        bend,
        point_count,
        case when bend > 1 and spread > 0 then together / spread else 0 end as slope,
        greatest(case when bend > 1 and spread > 0 then total - together * together / spread else total end, 0) as misfit
    from centred

),

ranked as (

    select
        *,
        min(misfit) over () as least_misfit,
        max(bend) over () as last_bend,
        row_number() over (order by misfit, bend) as misfit_rank
    from fitted

),

judged as (

    select
        *,
        misfit - least_misfit <= 3.841458820694124e0 * greatest(1.0, least_misfit / greatest(point_count - 2, 1)) as is_possible
    from ranked

),

bent as (

    select
        max(point_count) as point_count,
        max(case when misfit_rank = 1 then bend end) as best_bend,
        max(case when misfit_rank = 1 then slope end) as slope,
        min(case when is_possible then bend end) as low_bend,
        max(case when is_possible then bend end) as high_bend,
        max(last_bend) as last_bend
    from judged

),

told as (

    select
        *,
        case
            when coalesce(point_count, 0) < 3 then 'too_few'
            when low_bend = 1 then 'flat'
            when slope < 0 then 'falls'
            when best_bend = last_bend then 'still_rises'
            else 'flattens'
        end as threshold_outcome
    from bent

),

threshold as (

    select
        threshold_outcome,
        cast(case when threshold_outcome = 'flattens' then best_bend end as integer) as threshold_orders,
        cast(case when threshold_outcome = 'flattens' then low_bend end as integer) as threshold_low,
        cast(case when threshold_outcome = 'flattens' then high_bend end as integer) as threshold_high
    from told

)

select * from threshold
