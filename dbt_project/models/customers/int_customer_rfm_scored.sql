with

orders as (

    select * from {{ ref('int_customer_orders_summed') }}
    where lifetime_orders > 0

),

cutoffs as (

    select * from {{ ref('int_rfm_cutoffs_computed') }}

),

recency as (

    select * from cutoffs where measure = 'recency'

),

frequency as (

    select * from cutoffs where measure = 'frequency'

),

monetary as (

    select * from cutoffs where measure = 'monetary'

),

measured as (

    select
        *,
        {{ days_between('last_order_date', as_of()) }} as recency_days
    from orders

),

scored as (

    select
        ---------- ids
        measured.customer_id,

        ---------- measures
        measured.recency_days,
        measured.frequency,
        measured.monetary,

        ---------- scores
        {{ score_by_cutoffs('measured.recency_days', 'recency', best='low') }} as recency_score,
        {{ score_by_cutoffs('measured.frequency', 'frequency') }} as frequency_score,
        {{ score_by_cutoffs('measured.monetary', 'monetary') }} as monetary_score
    from measured
    cross join recency
    cross join frequency
    cross join monetary

)

select * from scored
