-- The plain query: RFM scores and flags of all customers with a valid order, straight from the Parquet file.
create or replace temp table scored as
with
measured as (
    select
        customer_id,
        (date $day - max(order_date))::integer as recency_days,
        count(*) filter (order_date > date $day - 365) as frequency,
        coalesce(sum(net_amount) filter (order_date > date $day - 365), 0)::decimal(18, 2) as monetary
    from read_parquet($orders)
    where valid_orders > 0 and order_date <= date $day
    group by customer_id
),

cutoffs as (
    select
        quantile_disc(recency_days, [0.2, 0.4, 0.6, 0.8]) as r,
        quantile_disc(frequency, [0.2, 0.4, 0.6, 0.8]) as f,
        quantile_disc(monetary, [0.2, 0.4, 0.6, 0.8]) as m
    from measured
    where frequency > 0
)

select
    measured.*,
    5 - (r[1] < recency_days)::int - (r[2] < recency_days)::int - (r[3] < recency_days)::int
    - (r[4] < recency_days)::int as recency_score,
    1 + (f[1] < frequency)::int + (f[2] < frequency)::int + (f[3] < frequency)::int
    + (f[4] < frequency)::int as frequency_score,
    1 + (m[1] < monetary)::int + (m[2] < monetary)::int + (m[3] < monetary)::int
    + (m[4] < monetary)::int as monetary_score
from measured cross join cutoffs;

create or replace temp table classified as
with
means as (
    select avg(recency_score) as r, avg(frequency_score) as f, avg(monetary_score) as m from scored
)

select
    scored.*,
    case when monetary_score > m then 'important_' else 'general_' end
    || case
        when recency_score > r and frequency_score > f then 'value'
        when recency_score > r then 'develop'
        when frequency_score > f then 'keep'
        else 'winback'
    end as rfm_class
from scored cross join means;
