-- The scorecard of the months between the month ends in `month_ends`, from the customers' states at
-- those ends. Definitions: docs/scorecard.md. One row per month, metric and segment.
--
-- `kind` says how a row is read: a rate has an interval, a growth is numerator / denominator - 1, a
-- count has no denominator, everything else is numerator / denominator.
create temp table spans as
select
    month_ends.month_end,
    before.customer_id,
    before.rfm_class,
    before.ecommerce_stage,
    before.high_ticket_stage,
    before.lifetime_orders,
    before.lifetime_value,
    coalesce(after.lifetime_value, 0) as lifetime_value_after,
    after.ecommerce_stage as ecommerce_stage_after,
    after.high_ticket_stage as high_ticket_stage_after,
    coalesce(after.last_order_date > month_ends.previous_end, false) as has_ordered
from month_ends
inner join states as before on before.month_end = month_ends.previous_end
left join states as after on after.month_end = month_ends.month_end and after.customer_id = before.customer_id
where month_ends.previous_end is not null;

create temp table facts as
with

---------- the ladders, and the way to their top

climbs as (
    select
        'ecommerce' as ladder, month_end, ecommerce_stage as stage, ecommerce_stage_after as stage_after
    from spans
    where ecommerce_stage_after is not null
    union all
    select
        'high_ticket' as ladder, month_end, high_ticket_stage as stage, high_ticket_stage_after as stage_after
    from spans
    where high_ticket_stage_after is not null
),

placed as (
    select
        climbs.ladder, climbs.month_end, climbs.stage,
        sign(after.position - before.position) as direction,
        before.is_top as was_top,
        after.is_top
    from climbs
    inner join stages as before on before.ladder = climbs.ladder and before.stage = climbs.stage
    inner join stages as after on after.ladder = climbs.ladder and after.stage = climbs.stage_after
),

climbed as (
    select
        month_end, ladder, coalesce(stage, 'all') as segment,
        count(*) as customers,
        count(*) filter (where direction > 0) as up,
        count(*) filter (where direction < 0) as down,
        count(*) filter (where not was_top) as below_top,
        count(*) filter (where not was_top and is_top) as reached_top
    from placed
    group by grouping sets ((month_end, ladder, stage), (month_end, ladder))
),

ladder_facts as (
    select month_end, ladder || '_moved_up' as metric, segment, 'rate' as kind, up as numerator, customers as denominator
    from climbed
    union all
    select month_end, ladder || '_moved_down', segment, 'rate', down, customers from climbed
    union all
    select month_end, ladder || '_reached_top', segment, 'rate', reached_top, below_top from climbed where below_top > 0
),

at_end as (
    select states.* from states
    inner join month_ends on states.month_end = month_ends.month_end
    where month_ends.previous_end is not null
),

top_stage as (
    select
        at_end.month_end, stages.ladder,
        count(*) filter (where stages.is_top) as at_top,
        count(*) as customers
    from at_end
    inner join stages
        on stages.stage
            = case stages.ladder when 'ecommerce' then at_end.ecommerce_stage else at_end.high_ticket_stage end
    group by all
),

top_stage_facts as (
    select month_end, ladder || '_top_share', 'all', 'rate', at_top, customers from top_stage
),

---------- the customer base

base as (
    select
        month_end, coalesce(rfm_class, 'all') as segment,
        count(*) as customers,
        count(*) filter (where frequency > 0) as buyers,
        count(*) filter (where lifetime_orders > 0) as ever_bought,
        count(*) filter (where lifetime_orders > 1) as repeat_buyers,
        sum(lifetime_value) as lifetime_value
    from at_end
    group by grouping sets ((month_end, rfm_class), (month_end))
),

newcomers as (
    select at_end.month_end, count(*) as customers
    from at_end
    left join spans on spans.month_end = at_end.month_end and spans.customer_id = at_end.customer_id
    where spans.customer_id is null
    group by all
),

known_before as (
    select month_end, count(*) as customers from spans group by all
),

base_facts as (
    select month_end, 'customers', segment, 'count', customers, null from base
    union all
    select month_end, 'buyers', segment, 'count', buyers, null from base
    union all
    select known_before.month_end, 'customers_new', 'all', 'count', coalesce(newcomers.customers, 0), null
    from known_before left join newcomers using (month_end)
    union all
    select base.month_end, 'customer_base_growth', 'all', 'growth', base.customers, known_before.customers
    from base inner join known_before using (month_end)
    where base.segment = 'all'
    union all
    select month_end, 'repeat_rate', segment, 'rate', repeat_buyers, ever_bought from base where ever_bought > 0
    union all
    select month_end, 'lifetime_value_mean', segment, 'amount', lifetime_value, ever_bought from base where ever_bought > 0
),

---------- what became of the customers of each class at the month's start

classes as (
    select
        month_end, coalesce(rfm_class, 'all') as segment,
        count(*) as customers,
        count(*) filter (where lifetime_orders > 0) as buyers,
        count(*) filter (where lifetime_orders > 0 and has_ordered) as returned,
        sum(lifetime_value) as lifetime_value,
        sum(lifetime_value_after) as lifetime_value_after
    from spans
    group by grouping sets ((month_end, rfm_class), (month_end))
),

class_facts as (
    select month_end, 'retention', segment, 'rate', returned, buyers from classes where buyers > 0
    union all
    select month_end, 'lifetime_value_growth', segment, 'growth', lifetime_value_after, lifetime_value from classes
),

---------- does the class predict? What was earned after it had been assigned, one and three months on

earned as (
    select
        month_end, '1m' as ahead, rfm_class, lifetime_value_after - lifetime_value as revenue
    from spans
    union all
    select
        month_ends.month_end, '3m', before.rfm_class,
        coalesce(after.lifetime_value, 0) - before.lifetime_value
    from month_ends
    inner join states as before on before.month_end = month_ends.third_end
    left join states as after on after.month_end = month_ends.month_end and after.customer_id = before.customer_id
),

earned_by_class as (
    select
        month_end, ahead, coalesce(rfm_class, 'all') as segment,
        count(*) as customers,
        sum(revenue) as revenue
    from earned
    group by grouping sets ((month_end, ahead, rfm_class), (month_end, ahead))
),

earned_compared as (
    select
        own.*,
        everyone.customers as all_customers,
        everyone.revenue as all_revenue
    from earned_by_class as own
    inner join earned_by_class as everyone
        on everyone.month_end = own.month_end and everyone.ahead = own.ahead and everyone.segment = 'all'
),

earned_facts as (
    select month_end, 'later_revenue_mean_' || ahead, segment, 'amount', revenue, customers from earned_compared
    union all
    select month_end, 'later_revenue_share_' || ahead, segment, 'share', revenue, all_revenue from earned_compared
    union all
    select
        month_end, 'later_revenue_lift_' || ahead, segment, 'share',
        cast(revenue * all_customers as decimal(38, 2)), cast(all_revenue * customers as decimal(38, 2))
    from earned_compared
),

---------- the top 20%: the first ceil(n / 5) of the n customers with an order in the window, by revenue

ranked as (
    select
        month_end, customer_id, monetary,
        row_number() over (partition by month_end order by monetary desc, customer_id) as place,
        count(*) over (partition by month_end) as buyers
    from states
    where frequency > 0
),

best as (
    select * from ranked where place <= (buyers + 4) // 5
),

top as (
    select
        ranked.month_end,
        count(best.customer_id) as customers,
        coalesce(sum(best.monetary), 0) as revenue,
        sum(ranked.monetary) as all_revenue
    from ranked
    left join best on best.month_end = ranked.month_end and best.customer_id = ranked.customer_id
    group by all
),

stayed as (
    select
        month_ends.month_end,
        count(*) as before,
        count(after.customer_id) as still
    from month_ends
    inner join best as before on before.month_end = month_ends.previous_end
    left join best as after on after.month_end = month_ends.month_end and after.customer_id = before.customer_id
    group by all
),

top_facts as (
    select top.month_end, 'top20_customers', 'all', 'count', top.customers, null
    from top inner join month_ends using (month_end) where month_ends.previous_end is not null
    union all
    select top.month_end, 'top20_revenue_share', 'all', 'share', top.revenue, top.all_revenue
    from top inner join month_ends using (month_end) where month_ends.previous_end is not null
    union all
    select month_ends.month_end, 'top20_revenue_growth', 'all', 'growth', after.revenue, before.revenue
    from month_ends
    inner join top as before on before.month_end = month_ends.previous_end
    inner join top as after on after.month_end = month_ends.month_end
    union all
    select month_end, 'top20_stayed', 'all', 'rate', still, before from stayed
)

select * from ladder_facts
union all
select * from top_stage_facts
union all
select * from base_facts
union all
select * from class_facts
union all
select * from earned_facts
union all
select * from top_facts;

create temp table segmentation_scorecard as
select
    (select max(month_end) from month_ends) as as_of_date,
    cast(date_trunc('month', month_end) as date) as month,
    metric,
    segment,
    round(
        case kind
            when 'count' then numerator::double
            when 'growth' then numerator::double / nullif(denominator, 0)::double - 1
            else numerator::double / nullif(denominator, 0)::double
        end, 9
    ) as value,
    round(case when kind = 'rate' then wilson_lower(numerator, denominator) end, 9) as lower,
    round(case when kind = 'rate' then wilson_upper(numerator, denominator) end, 9) as upper,
    cast(numerator as decimal(38, 2)) as numerator,
    cast(denominator as decimal(38, 2)) as denominator
from facts;
