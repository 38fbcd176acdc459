-- The floor of a build: every published table straight from the lake's Parquet, by hand, for the default rules.
-- Nothing is kept between days, no gate looks, nothing is trained: churn and lifetime value come from formulas.
-- Shops that deliver whole orders in their own currency; what is defined alike equals what is published.
set timezone = 'UTC';
set preserve_insertion_order = false;
set temp_directory = $spill;

create temp view lake_orders as
select * from read_parquet($lake || '/orders/*/*.parquet', hive_partitioning = true, hive_types = {'received_date': date})
where received_date <= date $day;

create temp view lake_interactions as
select * from read_parquet(
    $lake || '/interactions/*/*.parquet', hive_partitioning = true, hive_types = {'received_date': date}
)
where received_date <= date $day;

create temp view lake_customers as
select * from read_parquet(
    $lake || '/customers/*/*.parquet', hive_partitioning = true, hive_types = {'received_date': date}
)
where received_date <= date $day;

-- ---- newest version of each order, first arrival of each interaction

create temp table replaced_orders as
select order_id, received_date
from lake_orders
semi join (select order_id from lake_orders group by order_id having count(*) > 1) using (order_id)
qualify row_number() over (partition by order_id order by received_date desc) > 1;

create temp view orders as
select
    customer_id,
    order_date,
    order_hour,
    channel,
    amount - refunded_amount as net,
    status in ('completed', 'paid', 'shipped', 'delivered', 'refunded') and amount > refunded_amount as is_valid,
    coupon_amount > 0 as has_coupon,
    refunded_amount > 0 as has_refund,
    discount_amount + coupon_amount as saved
from lake_orders
anti join replaced_orders using (order_id, received_date)
where order_date <= date $day;

create temp table repeated_interactions as
select interaction_id, received_date
from lake_interactions
semi join (
    select interaction_id from lake_interactions group by interaction_id having count(*) > 1
) using (interaction_id)
qualify received_date - lag(received_date) over (partition by interaction_id order by received_date) <= 30;

create temp table kinds as
select kind, points::decimal(9, 3) as points, half_life_days, is_customer_action, signals_intent
from read_csv($seeds || '/interaction_kinds.csv', header = true);

-- ---- one row per customer

create temp table customer_orders as
with
order_days as (
    select
        customer_id,
        order_date,
        count(*) filter (is_valid) as orders,
        coalesce(sum(net) filter (is_valid), 0) as net,
        count(*) filter (is_valid and has_coupon) as coupon_orders,
        count(*) filter (is_valid and has_refund) as refunded_orders,
        count(*) filter (is_valid and order_hour between 9 and 17) as office_hour_orders,
        coalesce(sum(saved) filter (is_valid), 0) as saved
    from orders
    group by all
)

select
    customer_id,
    min(order_date) as first_placed_date,
    min(order_date) filter (orders > 0) as first_order_date,
    max(order_date) filter (orders > 0) as last_order_date,
    sum(orders)::bigint as lifetime_orders,
    sum(net)::decimal(18, 2) as lifetime_value,
    count(*) filter (orders > 0) as order_days,
    coalesce(sum(orders) filter (order_date > date $day - 365), 0)::bigint as frequency,
    coalesce(sum(net) filter (order_date > date $day - 365), 0)::decimal(18, 2) as monetary,
    coalesce(sum(coupon_orders) filter (order_date > date $day - 365), 0)::bigint as coupon_orders,
    coalesce(sum(refunded_orders) filter (order_date > date $day - 365), 0)::bigint as refunded_orders,
    coalesce(sum(orders) filter (order_date > date $day - 365 and isodow(order_date) > 5), 0)::bigint as weekend_orders,
    coalesce(sum(office_hour_orders) filter (order_date > date $day - 365 and isodow(order_date) < 6), 0)::bigint
        as office_orders,
    greatest(coalesce(sum(saved) filter (order_date > date $day - 365), 0), 0)::decimal(18, 2) as saved
from order_days
group by customer_id;

create temp table customer_interactions as
with
decays as (
    select
        kind,
        is_customer_action,
        signals_intent,
        age::integer as age,
        case when age < 365 then (points * power(0.5, age / half_life_days::double))::decimal(18, 9) end as points
    from kinds cross join range(0, 10000) as ages (age)
)

select
    customer_id,
    min(interaction_date) as first_interaction_date,
    min(interaction_date) filter (is_customer_action) as first_action_date,
    max(interaction_date) filter (is_customer_action) as last_action_date,
    count(*) as interactions,
    count(*) filter (is_customer_action) as actions,
    count(*) filter (signals_intent) as intent_signals,
    coalesce(sum(points), 0)::decimal(18, 6) as engagement_score
from lake_interactions as received
anti join repeated_interactions using (interaction_id, received_date)
left join decays on received.kind = decays.kind and date $day - received.interaction_date = decays.age
where interaction_date <= date $day
group by customer_id;

create temp table attributes as
select
    customer_id,
    min(received_date) as first_received_date,
    arg_max(
        {
            'date': registered_date, 'region': region, 'channel': source_channel, 'industry': industry,
            'type': upper(trim(customer_type))
        },
        received_date
    ) as newest
from lake_customers
where coalesce(registered_date, received_date) <= date $day
group by customer_id;

create temp table known as
select customer_id, min(seen) as first_seen_date
from (
    select customer_id, first_placed_date as seen from customer_orders
    union all
    select customer_id, first_interaction_date from customer_interactions
    union all
    select customer_id, coalesce(newest.date, first_received_date) from attributes
)
group by customer_id;

-- ---- RFM

create temp table measured as
select *, date $day - last_order_date as recency_days
from customer_orders
where lifetime_orders > 0;

create temp table cutoffs as
select
    quantile_disc(recency_days, [0.2, 0.4, 0.6, 0.8]) as recency,
    quantile_disc(frequency, [0.2, 0.4, 0.6, 0.8]) as frequency,
    quantile_disc(monetary, [0.2, 0.4, 0.6, 0.8]) as monetary,
    avg(recency_days)::decimal(18, 6) as recency_mean,
    avg(frequency)::decimal(18, 6) as frequency_mean,
    avg(monetary)::decimal(18, 6) as monetary_mean,
    count(*) as customers
from measured
where frequency > 0;

create temp table scored as
select
    measured.*,
    5 - (cutoffs.recency[1] < recency_days)::int - (cutoffs.recency[2] < recency_days)::int
    - (cutoffs.recency[3] < recency_days)::int - (cutoffs.recency[4] < recency_days)::int as recency_score,
    1 + (cutoffs.frequency[1] < measured.frequency)::int + (cutoffs.frequency[2] < measured.frequency)::int
    + (cutoffs.frequency[3] < measured.frequency)::int + (cutoffs.frequency[4] < measured.frequency)::int
        as frequency_score,
    1 + (cutoffs.monetary[1] < measured.monetary)::int + (cutoffs.monetary[2] < measured.monetary)::int
    + (cutoffs.monetary[3] < measured.monetary)::int + (cutoffs.monetary[4] < measured.monetary)::int as monetary_score
from measured cross join cutoffs;

create temp table means as
select
    (sum(recency_score)::decimal(18, 6) / count(*))::decimal(9, 6) as recency,
    (sum(frequency_score)::decimal(18, 6) / count(*))::decimal(9, 6) as frequency,
    (sum(monetary_score)::decimal(18, 6) / count(*))::decimal(9, 6) as monetary,
    count(*) as customers
from scored;

create temp table tiers as
with
amounts as (
    select monetary, sum(monetary) as revenue from measured where monetary > 0 group by monetary
)

select
    monetary,
    case
        when above < 0.80 * total then 'high'
        when above < 0.95 * total then 'mid'
        else 'low'
    end as value_tier
from (
    select
        monetary,
        coalesce(sum(revenue) over (order by monetary desc rows between unbounded preceding and 1 preceding), 0)
            as above,
        sum(revenue) over () as total
    from amounts
);

-- ---- churn by formula

create temp table churn as
with
shop as (
    select
        case
            when sum(order_days - 1) > 0 then sum(last_order_date - first_order_date)::double / sum(order_days - 1)
            else 90
        end as gap_days
    from measured
),

rhythms as (
    select
        customer_id,
        order_days - 1 as gaps,
        recency_days as silence_days,
        greatest(1.0, (last_order_date - first_order_date + 2 * gap_days) / (order_days - 1 + 2)) as rhythm
    from measured cross join shop
),

gone as (
    select *, 0.02 / (0.02 + (1 - 0.02) * exp(-silence_days / rhythm)) as gone from rhythms
)

select
    customer_id,
    gaps,
    silence_days,
    rhythm::decimal(18, 1)::decimal(9, 1) as rhythm_days,
    1 - gone as alive,
    round(gone + (1 - gone) * exp(-90 / rhythm), 6) as churn_probability
from gone;

-- ---- the published tables

create temp table classes as from read_csv($seeds || '/rfm_classes.csv', header = true);
create temp table dictionary as from read_csv($seeds || '/tag_dictionary.csv', header = true);
create temp table playbook as
select
    *,
    (rfm_class is not null)::integer + (activity_stage is not null)::integer + (lifecycle_stage is not null)::integer
    + (value_tier is not null)::integer + (tag_id is not null)::integer + (tag_value is not null)::integer as filled
from read_csv($seeds || '/playbook.csv', header = true, all_varchar = true);
create temp table bands as from read_csv($seeds || '/hour_bands.csv', header = true);
create temp table channels as from read_csv($seeds || '/contact_channels.csv', header = true);

create temp table customer_segments as
with
joined as (
    select
        known.customer_id,
        known.first_seen_date,
        orders.first_order_date,
        orders.last_order_date,
        greatest(
            coalesce(orders.last_order_date, known.first_seen_date), coalesce(last_action_date, known.first_seen_date)
        ) as last_activity_date,
        scored.recency_days,
        coalesce(orders.frequency, 0) as frequency,
        coalesce(orders.monetary, 0)::decimal(18, 2) as monetary,
        coalesce(orders.lifetime_orders, 0) as lifetime_orders,
        coalesce(orders.lifetime_value, 0)::decimal(18, 2) as lifetime_value,
        scored.recency_score,
        scored.frequency_score,
        scored.monetary_score,
        coalesce(engagement_score, 0)::decimal(18, 6) as engagement_score,
        churn.churn_probability,
        scored.recency_score > means.recency as recency_high,
        scored.frequency_score > means.frequency as frequency_high,
        scored.monetary_score > means.monetary as monetary_high,
        coalesce(tiers.value_tier, 'low') as value_tier,
        coalesce(interactions.interactions, 0) as interactions,
        coalesce(interactions.actions, 0) as actions,
        coalesce(interactions.intent_signals, 0) as intent_signals
    from known
    cross join means
    left join customer_orders as orders using (customer_id)
    left join scored using (customer_id)
    left join tiers on orders.monetary = tiers.monetary
    left join customer_interactions as interactions using (customer_id)
    left join churn using (customer_id)
),

staged as (
    select
        *,
        case
            when lifetime_orders >= 5 then 'super'
            when lifetime_orders >= 2 then 'repeat'
            when lifetime_orders = 1 then 'first_purchase'
            else 'new'
        end as ecommerce_stage,
        case
            when lifetime_orders >= 5 then 'super'
            when lifetime_orders >= 2 then 'repeat'
            when lifetime_orders = 1 then 'first_order'
            when intent_signals > 0 or actions >= 5 then 'intent'
            when interactions >= 1 then 'prospect'
            else 'stranger'
        end as high_ticket_stage,
        case
            when date $day - first_seen_date < 30 then 'new'
            when date $day - last_activity_date < 30 then 'active'
            when date $day - last_activity_date < 90 then 'silent'
            else 'churned'
        end as activity_stage
    from joined
)

select
    staged.customer_id,
    date $day as as_of_date,
    first_seen_date,
    first_order_date,
    last_order_date,
    last_activity_date,
    recency_days::integer as recency_days,
    frequency,
    monetary,
    lifetime_orders,
    lifetime_value,
    recency_score::integer as recency_score,
    frequency_score::integer as frequency_score,
    monetary_score::integer as monetary_score,
    engagement_score,
    churn_probability,
    coalesce(classes.rfm_class, 'no_orders') as rfm_class,
    coalesce(classes.name_en, 'No orders yet') as rfm_class_name_en,
    coalesce(classes.name_zh, '未下单') as rfm_class_name_zh,
    value_tier,
    ecommerce_stage,
    high_ticket_stage,
    activity_stage,
    ecommerce_stage as lifecycle_stage,
    false as is_holdout
from staged
left join classes using (recency_high, frequency_high, monetary_high);

copy (from customer_segments order by customer_id)
to $segments_file (format parquet, compression zstd);

-- ---- how far it is to the next class, tier and stage

create temp table limits as
with
passing as (
    select
        cutoffs.recency[5 - floor(means.recency)::int] as recency,
        cutoffs.frequency[floor(means.frequency)::int] as frequency,
        cutoffs.monetary[floor(means.monetary)::int] as monetary,
        floor(means.frequency)::int as frequency_number,
        floor(means.monetary)::int as monetary_number,
        cutoffs.customers
    from cutoffs cross join means
)

select
    case when any_value(recency) is null then -1 else any_value(recency) end as recency_through,
    case
        when 5 * (count(*) filter (measured.frequency <= passing.frequency) - 1) >= any_value(frequency_number * customers)
            then any_value(passing.frequency)
        else coalesce(min(measured.frequency) filter (measured.frequency > passing.frequency), any_value(passing.frequency))
    end + 1 as frequency_from,
    case
        when 5 * (count(*) filter (measured.monetary <= passing.monetary) - 1) >= any_value(monetary_number * customers)
            then any_value(passing.monetary)
        else coalesce(min(measured.monetary) filter (measured.monetary > passing.monetary), any_value(passing.monetary))
    end + 0.01 as monetary_from
from measured cross join passing
where measured.frequency > 0;

create temp table tier_bounds as
select
    min(monetary) filter (value_tier = 'high') as high_from,
    min(monetary) filter (value_tier <> 'low') as mid_from
from tiers;

create temp table steps as
with
leaving as (
    select customer_id, count(*) as orders, sum(net) as net
    from orders
    where is_valid and order_date = date $day - 364
    group by customer_id
),

standing as (
    select
        segments.*,
        classes.recency_high as r,
        classes.frequency_high as f,
        classes.monetary_high as m,
        segments.frequency - coalesce(leaving.orders, 0) as orders_kept,
        (segments.monetary - coalesce(leaving.net, 0))::decimal(18, 2) as net_kept,
        limits.*,
        case when not coalesce(f, false) then frequency_from - orders_kept end as orders_missing,
        case when not coalesce(m, false) then (monetary_from - net_kept)::decimal(18, 2) end as net_missing,
        case
            when lifetime_orders = 0 or (not r and recency_through >= 0) then 'r'
            when orders_missing is null and net_missing is not null then 'm'
            when frequency > 0 and net_missing * frequency <= (orders_missing - 1) * monetary then 'm'
            when orders_missing is not null then 'f'
        end as way,
        case when way = 'f' then orders_missing when f then greatest(1, frequency_from - orders_kept) else 1 end as more_orders,
        greatest(
            more_orders * 0.01, case when way = 'm' then net_missing when m then monetary_from - net_kept else 0 end
        )::decimal(18, 2) as more_net,
        orders_kept + more_orders >= frequency_from as then_f,
        net_kept + more_net >= monetary_from as then_m
    from customer_segments as segments
    join classes using (rfm_class)
    left join leaving using (customer_id)
    cross join limits
)

select
    standing.*,
    reached.rfm_class as next_class,
    case
        when value_tier = 'mid' or (value_tier = 'low' and mid_from = high_from) then 'high'
        when value_tier = 'low' and mid_from is not null then 'mid'
    end as next_tier,
    case when value_tier = 'mid' then high_from else mid_from end - net_kept as tier_net,
    case activity_stage
        when 'new' then first_seen_date + 30
        when 'active' then last_activity_date + 30
        when 'silent' then last_activity_date + 90
    end as next_activity_stage_date
from standing
cross join tier_bounds
left join classes as reached
    on way is not null
        and reached.recency_high = (recency_through >= 0)
        and reached.frequency_high = coalesce(then_f, false)
        and reached.monetary_high = coalesce(then_m, false);

create temp table deadlines as
with
needed as (
    select
        customer_id,
        case when next_class is not null and then_f then frequency_from - more_orders end as orders,
        case when next_class is not null and then_m then monetary_from - more_net end as net,
        case when next_tier is not null then net_kept end as tier_net
    from steps
),

running as (
    select
        customer_id,
        order_date,
        needed.orders,
        needed.net,
        needed.tier_net,
        sum(count(*)) over back as orders_since,
        sum(sum(orders.net)) over back as net_since
    from orders
    join needed using (customer_id)
    where is_valid and order_date > date $day - 364 and (needed.orders > 0 or needed.net > 0 or needed.tier_net > 0)
    group by customer_id, order_date, needed.orders, needed.net, needed.tier_net
    window back as (partition by customer_id order by order_date desc)
)

select
    customer_id,
    least(
        max(order_date) filter (orders > 0 and orders_since >= orders),
        max(order_date) filter (net > 0 and net_since >= net)
    ) + 364 as class_by,
    max(order_date) filter (tier_net > 0 and net_since >= tier_net) + 364 as tier_by
from running
group by customer_id;

copy (
    select
        customer_id,
        as_of_date,
        rfm_class,
        r as recency_is_high,
        f as frequency_is_high,
        m as monetary_is_high,
        orders_missing as frequency_orders_missing,
        net_missing as monetary_amount_missing,
        next_class as next_rfm_class,
        case when way is not null then more_orders end as next_rfm_class_orders,
        case when way is not null then more_net end as next_rfm_class_amount,
        class_by as next_rfm_class_by_date,
        case when r then last_order_date + recency_through::int + 1 end as recency_lost_date,
        (recency_lost_date - as_of_date)::integer as recency_lost_in_days,
        next_tier as next_value_tier,
        case when next_tier is not null then tier_net::decimal(18, 2) end as next_value_tier_amount,
        tier_by as next_value_tier_by_date,
        case
            when lifetime_orders = 0 then 'first_purchase'
            when lifetime_orders = 1 then 'repeat'
            when lifetime_orders < 5 then 'super'
        end as next_ecommerce_stage,
        case when lifetime_orders < 2 then 1 when lifetime_orders < 5 then 5 - lifetime_orders end
            as next_ecommerce_stage_orders,
        case
            when high_ticket_stage = 'stranger' then 'prospect'
            when high_ticket_stage = 'prospect' then 'intent'
            when lifetime_orders = 0 then 'first_order'
            else next_ecommerce_stage
        end as next_high_ticket_stage,
        case when high_ticket_stage not in ('stranger', 'prospect') then next_ecommerce_stage_orders end
            as next_high_ticket_stage_orders,
        case
            when high_ticket_stage = 'stranger' then 1 - coalesce(interactions, 0)
            when high_ticket_stage = 'prospect' then 5 - coalesce(actions, 0)
        end as next_high_ticket_stage_interactions,
        case
            when next_activity_stage_date - last_activity_date < 30 then 'active'
            when next_activity_stage_date - last_activity_date < 90 then 'silent'
            when next_activity_stage_date is not null then 'churned'
        end as next_activity_stage,
        next_activity_stage_date
    from steps
    left join deadlines using (customer_id)
    left join customer_interactions using (customer_id)
    order by customer_id
) to $explanations_file (format parquet, compression zstd);

create temp table habits as
select
    customer_id,
    order_hour,
    channel,
    count(*) as orders
from orders
where is_valid and order_date > date $day - 365
group by all;

create temp table peers as
select
    ((200 * sum(coupon_orders) + sum(frequency)) // (2 * sum(frequency)))::bigint as coupon_percent,
    ((1000000 * sum(saved))::bigint // nullif((100 * sum(monetary + saved))::bigint, 0))::bigint as saved_points,
    (((100 * sum(monetary))::bigint // nullif(sum(frequency)::bigint, 0)) * 0.01)::decimal(18, 2) as order_value
from customer_orders
where frequency >= 3;

create temp table channel_habits as
select
    customer_id,
    channel,
    sum(orders) as orders,
    sum(sum(orders)) over (partition by customer_id) as in_window,
    row_number() over (partition by customer_id order by sum(orders) desc, channel) as channel_rank
from habits
where channel is not null
group by customer_id, channel;

create temp table interaction_rules as
select 'tag' as purpose, tag_id, kind, names_referred_customer, window_days, min_count, 1 as weight
from read_csv($seeds || '/interaction_tags.csv', header = true)
union all
select 'need', tag_id, subject, false, 365, 5, weight
from read_csv($seeds || '/need_types.csv', header = true)
where subject_type = 'interaction';

create temp table counted_interactions as
select
    customer_id,
    purpose,
    tag_id,
    sum(weight)::bigint as times,
    max(interaction_date) as last_date,
    any_value(window_days) as window_days,
    any_value(min_count) as min_count
from (
    select customer_id, kind, interaction_date, referred_customer_id
    from lake_interactions
    anti join repeated_interactions using (interaction_id, received_date)
    where interaction_date > date $day - 365 and interaction_date <= date $day
)
join interaction_rules using (kind)
where interaction_date > date $day - window_days::integer
    and (referred_customer_id is not null or not names_referred_customer)
group by customer_id, purpose, tag_id;

create temp table tags as
with
said as (
    select customer_id, tag_id, null::varchar as tag_value, agrees_with || ' is ' || agrees_value as evidence
    from (
        unpivot customer_segments
        on rfm_class, ecommerce_stage, high_ticket_stage, activity_stage, value_tier
        into name agrees_with value agrees_value
    )
    join dictionary using (agrees_with, agrees_value)

    union all

    select
        customer_id,
        case when lifetime_orders > 0 then 'has_ordered' else 'never_ordered' end,
        null,
        lifetime_orders || ' valid orders'
    from customer_segments

    union all

    select
        customer_id,
        case
            when coupon_orders >= 0.50 * frequency then 'coupon_lover'
            when coupon_orders >= 0.10 * frequency then 'coupon_user'
            else 'coupon_indifferent'
        end,
        null,
        coupon_orders || ' of ' || frequency || ' orders in the window with a coupon; peers ' || coupon_percent || '%'
    from customer_orders cross join peers
    where frequency >= 3

    union all

    select
        customer_id,
        case
            when points >= 1.5 * saved_points then 'price_sensitive'
            when points <= 0.5 * saved_points then 'price_insensitive'
            else 'price_average'
        end,
        null,
        'saved ' || (points + 50) // 100 || '% of the list price by discounts and coupons; peers '
        || (saved_points + 50) // 100 || '%'
    from (
        select *, (1000000 * saved)::bigint // (100 * (monetary + saved))::bigint as points
        from customer_orders
        where frequency >= 3 and monetary + saved > 0
    )
    cross join peers
    where saved_points > 0

    union all

    select
        customer_id,
        case
            when weekend_orders >= 0.50 * frequency then 'weekend_shopper'
            when frequency - weekend_orders >= 0.90 * frequency then 'weekday_shopper'
            else 'days_mixed'
        end,
        null,
        weekend_orders || ' of ' || frequency || ' orders in the window on a weekend'
    from customer_orders
    where frequency >= 3

    union all

    select
        customer_id,
        case when in_band >= 0.50 * in_window then 'hours_' || hour_band else 'hours_mixed' end,
        null,
        in_band || ' of ' || in_window || ' orders in the window in the ' || hour_band
    from (
        select
            customer_id,
            hour_band,
            in_band,
            sum(in_band) over (partition by customer_id) as in_window,
            row_number() over (partition by customer_id order by in_band desc, hour_band) as band_rank
        from (
            select customer_id, hour_band, sum(orders) as in_band
            from habits join bands on order_hour = bands.hour
            semi join (select customer_id from customer_orders where frequency >= 3) using (customer_id)
            group by all
        )
    )
    where band_rank = 1

    union all

    select customer_id, 'main_channel', channel, orders || ' of ' || in_window || ' orders in the window'
    from channel_habits
    where channel_rank = 1

    union all

    select
        customer_id,
        case when orders >= 0.80 * in_window then 'single_channel' else 'multi_channel' end,
        null,
        orders || ' of ' || in_window || ' orders in the window through ' || channel
    from channel_habits
    where channel_rank = 1 and in_window >= 3 and (select count(distinct channel) from channel_habits) > 1

    union all

    select
        customer_id,
        tag_id,
        null,
        times || ' times in ' || window_days || ' days (from ' || min_count || ' on), the last on ' || last_date
    from counted_interactions
    where purpose = 'tag' and times >= min_count

    union all

    select
        customer_id,
        tag_id,
        null,
        times || ' of ' || all_times || ' weighted lines and interactions in the window; peers '
        || (peers_points + 50)::bigint // 100 || '%'
    from (
        select
            *,
            row_number() over (
                partition by customer_id
                order by
                    is_apart desc, case when is_apart then (10000 * points) // peers_points end desc, times desc, tag_id
            ) as need_rank
        from (
            select
                *,
                ((20000 * times + all_times) // (2 * all_times))::bigint as points,
                points >= 1.5 * peers_points as is_apart
            from (
                select *, sum(times) over (partition by customer_id) as all_times
                from counted_interactions
                where purpose = 'need'
            )
            join (
                select
                    tag_id,
                    ((20000 * sum(times) + sum(sum(times)) over ()) // (2 * sum(sum(times)) over ()))::bigint as peers_points
                from counted_interactions
                where purpose = 'need'
                group by tag_id
            ) as needs using (tag_id)
            where times >= 5
        )
        where is_apart or times >= 0.50 * all_times
    )
    where need_rank = 1

    union all

    select customer_id, 'customer_' || lower(newest.type), null, 'given by the shop'
    from attributes
    where newest.type in ('2B', '2C')

    union all

    select
        customer_id,
        case when is_large and is_office then 'customer_2b' else 'customer_2c' end,
        null,
        'inferred, confidence 100%: mean order '
        || (((100 * monetary)::bigint // frequency) * 0.01)::decimal(18, 2) || ', peers ' || order_value
        || '; ' || office_orders || ' of ' || frequency || ' orders in office hours'
    from (
        select
            *,
            monetary >= 4 * order_value * frequency as is_large,
            office_orders >= 0.80 * frequency as is_office
        from customer_orders cross join peers
        where frequency >= 2 and order_value > 0
    )
    anti join (select customer_id from attributes where newest.type in ('2B', '2C')) as given using (customer_id)
    where is_large = is_office

    union all

    select customer_id, 'industry', newest.industry, 'given by the shop'
    from attributes
    where newest.industry is not null

    union all

    select customer_id, 'region', newest.region, 'given by the shop' from attributes where newest.region is not null

    union all

    select customer_id, 'registered_month', strftime(newest.date, '%Y-%m'), 'given by the shop'
    from attributes
    where newest.date is not null

    union all

    select customer_id, 'source_channel', newest.channel, 'given by the shop'
    from attributes
    where newest.channel is not null
)

select
    customer_id,
    date $day as as_of_date,
    tag_id,
    dictionary.tag_group,
    tag_value,
    'automatic' as source,
    evidence,
    null::date as since_date,
    null::varchar as tagged_by,
    null::varchar as reason,
    null::date as expires_at
from said join dictionary using (tag_id);

copy (from tags order by customer_id, tag_id)
to $tags_file (format parquet, compression zstd);

create temp table profile as
with
further as (
    select
        customer_id,
        max(tag_id) filter (tag_group = 'coupon_sensitivity') as coupon_sensitivity,
        max(tag_id) filter (tag_group = 'active_hours') as active_hours,
        max(tag_value) filter (tag_id = 'main_channel') as main_channel,
        max(tag_id) filter (tag_group = 'customer_type') as customer_type,
        max(tag_id) filter (tag_group = 'price_sensitivity') as price_sensitivity,
        max(tag_id) filter (tag_group = 'active_days') as active_days,
        max(tag_id) filter (tag_group = 'channel_habit') as channel_habit,
        max(tag_id) filter (tag_group = 'need_type') as need_type,
        count(*) filter (tag_id = 'form_filler') as form_filler,
        count(*) filter (tag_id = 'article_reader') as article_reader,
        count(*) filter (tag_id = 'campaign_participant') as campaign_participant,
        count(*) filter (tag_id = 'enquirer') as enquirer,
        count(*) filter (tag_id = 'reviewer') as reviewer,
        count(*) filter (tag_id = 'sharer') as sharer,
        count(*) filter (tag_id = 'inviter') as inviter,
        count(*) filter (tag_id = 'referrer') as referrer
    from tags
    where tag_group not in (
        'rfm_class', 'order_status', 'purchase_count', 'high_ticket_stage', 'activity_stage', 'value_tier', 'region',
        'registration', 'source_channel', 'industry'
    )
    group by customer_id
)

select
    customer_id,
    date $day as as_of_date,
    'rfm_' || rfm_class as rfm_class,
    case when lifetime_orders > 0 then 'has_ordered' else 'never_ordered' end as order_status,
    case ecommerce_stage
        when 'first_purchase' then 'first_time_buyer'
        when 'repeat' then 'repeat_buyer'
        when 'super' then 'super_buyer'
    end as purchase_count,
    'high_ticket_' || high_ticket_stage as high_ticket_stage,
    'activity_' || activity_stage as activity_stage,
    'value_' || value_tier as value_tier,
    coupon_sensitivity,
    active_hours,
    null::varchar as favourite_category,
    main_channel,
    strftime(newest.date, '%Y-%m') as registration,
    newest.channel as source_channel,
    newest.region,
    newest.industry,
    null::varchar as age_band,
    null::varchar as income_band,
    null::varchar as household_size,
    null::varchar as marital_status,
    false as is_parent,
    null::varchar as membership_level,
    null::varchar as membership,
    null::varchar as package,
    false as is_membership_ending,
    false as is_package_ending,
    customer_type,
    price_sensitivity,
    active_days,
    null::varchar as rising_category,
    channel_habit,
    need_type,
    coalesce(form_filler, 0) > 0 as is_form_filler,
    coalesce(article_reader, 0) > 0 as is_article_reader,
    coalesce(campaign_participant, 0) > 0 as is_campaign_participant,
    coalesce(enquirer, 0) > 0 as is_enquirer,
    coalesce(reviewer, 0) > 0 as is_reviewer,
    coalesce(sharer, 0) > 0 as is_sharer,
    coalesce(inviter, 0) > 0 as is_inviter,
    coalesce(referrer, 0) > 0 as is_referrer
from customer_segments
left join attributes using (customer_id)
left join further using (customer_id);

copy (from profile order by customer_id)
to $profile_file (format parquet, compression zstd);

copy (
    with
    everybody as (select count(*) as customers from customer_segments),

    by_tag as (
        select dictionary.tag_id, tag_group, is_exclusive, name_en, name_zh, coalesce(customers, 0) as customers
        from dictionary
        left join (select tag_id, count(*) as customers from tags group by tag_id) as given using (tag_id)
    ),

    counted as (
        select 'tag' as level, tag_id as subject, tag_group, name_en, name_zh, customers from by_tag
        union all
        select 'group', tag_group, tag_group, null, null, sum(customers) from by_tag where is_exclusive group by tag_group
        union all
        select 'group', tag_group, tag_group, null, null, count(distinct customer_id)
        from (select distinct tag_group from dictionary where not is_exclusive) as several
        left join tags using (tag_group)
        group by tag_group
        union all
        select 'optional', 'any', null, null, null, count(*)
        from profile
        where coalesce(
            purchase_count, coupon_sensitivity, active_hours, main_channel, registration, source_channel, region, industry,
            customer_type,
            price_sensitivity, active_days, channel_habit, need_type
        ) is not null
        or is_form_filler or is_article_reader or is_campaign_participant or is_enquirer
        or is_reviewer or is_sharer or is_inviter or is_referrer
    )

    select
        date $day as as_of_date,
        level,
        subject,
        tag_group,
        name_en,
        name_zh,
        counted.customers::bigint as customers,
        ((1000000 * counted.customers) // everybody.customers * 0.000001)::decimal(9, 6) as share,
        (everybody.customers - counted.customers)::bigint as untagged_customers,
        ((1000000 * (everybody.customers - counted.customers)) // everybody.customers * 0.000001)::decimal(9, 6)
            as untagged_share
    from counted cross join everybody
    order by level, subject
) to $coverage_file (format parquet, compression zstd);

create temp table plays as
with
fitting as (
    select segments.customer_id, playbook_id, filled, priority::integer as priority
    from customer_segments as segments
    join playbook
        on (playbook.rfm_class is null or playbook.rfm_class = segments.rfm_class)
            and (playbook.activity_stage is null or playbook.activity_stage = segments.activity_stage)
            and (playbook.lifecycle_stage is null or playbook.lifecycle_stage = segments.lifecycle_stage)
            and (playbook.value_tier is null or playbook.value_tier = segments.value_tier)
    left join (select customer_id, tag_id, tag_value from read_parquet($tags_file)) as tags
        on tags.customer_id = segments.customer_id and tags.tag_id = playbook.tag_id
    where playbook.tag_id is null
        or tags.tag_id is not null and (playbook.tag_value is null or playbook.tag_value = tags.tag_value)
)

select customer_id, arg_min(playbook_id, (-filled, priority, playbook_id)) as playbook_id
from fitting
group by customer_id;

copy (
    select
        customer_id,
        as_of_date,
        row_number() over (order by segments.churn_probability desc, segments.monetary desc, customer_id)::integer
            as rank,
        segments.churn_probability,
        segments.rfm_class,
        segments.value_tier,
        segments.monetary,
        coalesce(nullif(concat_ws(
            '; ',
            case
                when gaps > 0 and silence_days > 2 * rhythm_days
                    then 'silence_exceeds_rhythm: ' || silence_days || ' days without an order, usually one every '
                        || rhythm_days || ' days'
            end,
            case
                when segments.lifetime_orders = 1 then 'single_order: ordered once, ' || silence_days || ' days ago'
            end,
            case
                when refunded_orders > 0
                    then 'refunds: ' || refunded_orders || case when refunded_orders = 1 then ' order' else ' orders' end || ' with a refund in the window'
            end,
            case
                when date $day - last_action_date >= 90
                    then 'interactions_stopped: ' || (date $day - last_action_date)
                        || ' days since the last interaction of their own'
            end
        ), ''), 'within_rhythm: ' || silence_days || ' days since the last order, expected every ' || rhythm_days
        || ' days') as reasons,
        action_en as suggested_action,
        action_zh as suggested_action_zh
    from customer_segments as segments
    join churn using (customer_id)
    join customer_orders using (customer_id)
    left join customer_interactions using (customer_id)
    left join plays using (customer_id)
    left join playbook using (playbook_id)
    order by customer_id
) to $risk_file (format parquet, compression zstd);

create temp table decided as
with
said as (
    select
        plays.customer_id,
        arg_max(kind, (interaction_date, coalesce(interaction_hour, 0), kind)) as kind
    from plays
    join playbook using (playbook_id)
    join lake_interactions as received
        on received.customer_id = plays.customer_id
            and (received.channel is null or received.channel = playbook.channel)
    where kind in ('consent_given', 'consent_withdrawn') and interaction_date <= date $day
    group by plays.customer_id
),

contacts as (
    select customer_id, channel, date $day - interaction_date as days_ago
    from lake_interactions
    anti join repeated_interactions using (interaction_id, received_date)
    where kind = 'contact' and interaction_date <= date $day and interaction_date > date $day - 90
),

counted as (
    select
        contacts.customer_id,
        count(*) filter (contacts.channel = channels.channel and days_ago < cap_days)::integer as channel_contacts,
        count(*) filter (days_ago < 30)::integer as overall_contacts
    from contacts
    join plays using (customer_id)
    join playbook using (playbook_id)
    join channels on channels.channel = playbook.channel
    group by contacts.customer_id
)

select
    segments.customer_id,
    playbook_id,
    playbook.priority::integer as play_priority,
    playbook.channel,
    (coalesce(churn_probability::decimal(9, 6), 0) * monetary::decimal(18, 2))::decimal(18, 2) as priority,
    coalesce(channel_contacts, 0) as channel_contacts,
    coalesce(overall_contacts, 0) as overall_contacts,
    case
        when is_contacted = 'false' then 'left_alone'
        when coalesce(said.kind = 'consent_withdrawn', not consent_by_default) then 'no_consent'
        when coalesce(channel_contacts, 0) >= cap_contacts then 'channel_cap'
        when coalesce(overall_contacts, 0) >= 4 then 'overall_cap'
    end as suppressed_reason
from customer_segments as segments
join plays using (customer_id)
join playbook using (playbook_id)
join channels on channels.channel = playbook.channel
left join said using (customer_id)
left join counted using (customer_id);

copy (
    select
        customer_id,
        date $day as as_of_date,
        row_number() over (order by decided.priority desc, play_priority, customer_id)::integer as rank,
        decided.priority,
        segments.churn_probability,
        segments.monetary,
        segments.rfm_class,
        segments.lifecycle_stage,
        segments.value_tier,
        why_en,
        why_zh,
        reasons,
        playbook_id,
        action_en,
        action_zh,
        decided.channel,
        offer
    from decided
    join customer_segments as segments using (customer_id)
    join playbook using (playbook_id)
    left join (select customer_id, reasons from read_parquet($risk_file)) as risk using (customer_id)
    where suppressed_reason is null
    order by customer_id
) to $list_file (format parquet, compression zstd);

copy (
    select
        customer_id,
        date $day as as_of_date,
        suppressed_reason,
        channel_contacts,
        overall_contacts,
        priority,
        playbook_id,
        channel
    from decided
    where suppressed_reason is not null
    order by customer_id
) to $suppressed_file (format parquet, compression zstd);

copy (
    select
        customer_id,
        date $day as as_of_date,
        365 as horizon_days,
        (alive * 365 / rhythm_days)::decimal(18, 6) as expected_orders,
        (lifetime_value / lifetime_orders)::decimal(18, 2) as expected_order_value,
        (0.95 * alive * 365 / rhythm_days * lifetime_value / lifetime_orders)::decimal(18, 2) as expected_value,
        (0.5 * alive * 365 / rhythm_days * lifetime_value / lifetime_orders)::decimal(18, 2) as expected_value_low,
        (1.5 * alive * 365 / rhythm_days * lifetime_value / lifetime_orders)::decimal(18, 2) as expected_value_high,
        alive::decimal(18, 6) as alive_probability,
        'formula' as method
    from churn join customer_orders using (customer_id)
    order by customer_id
) to $value_file (format parquet, compression zstd);

copy (
    select
        date $day as as_of_date,
        measure,
        'quantile' as method,
        'mean_score' as high_rule,
        cutoff[1]::decimal(18, 2) as cutoff_1,
        cutoff[2]::decimal(18, 2) as cutoff_2,
        cutoff[3]::decimal(18, 2) as cutoff_3,
        cutoff[4]::decimal(18, 2) as cutoff_4,
        mean_score,
        mean_value,
        means.customers as scored_customers,
        found.customers as customers_in_window
    from (
        select 'recency' as measure, recency::decimal(18, 2)[] as cutoff, recency_mean as mean_value, customers
        from cutoffs
        union all
        select 'frequency', frequency::decimal(18, 2)[], frequency_mean, customers from cutoffs
        union all
        select 'monetary', monetary::decimal(18, 2)[], monetary_mean, customers from cutoffs
    ) as found
    join (
        unpivot (select recency, frequency, monetary from means) on recency, frequency, monetary
        into name measure value mean_score
    ) using (measure)
    cross join means
    order by measure
) to $cutoffs_file (format parquet, compression zstd);

copy (
    select
        date $day as as_of_date,
        'formula' as candidate,
        null::date as trained_at,
        90 as horizon_days,
        true as is_used,
        'nothing is trained' as reason,
        null::double as auc,
        null::double as log_loss,
        null::double as brier
) to $card_file (format parquet, compression zstd);
