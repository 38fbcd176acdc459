with

curve as (

    select * from {{ ref('int_purchase_habit_counted') }}

),

threshold as (

    select * from {{ ref('int_purchase_habit_bent') }}

),

measured as (

    select
        ---------- ids
        curve.order_number as orders,

        ---------- what was looked at
        {{ insight_day() }} as measured_on,
        cast({{ var('repurchase_within_days') }} as integer) as within_days,
        curve.customers,
        curve.too_recent_customers,

        ---------- who ordered again
        curve.returned_customers,
        {{ as_share('curve.returned_customers / nullif(cast(curve.customers as double), 0)') }} as returned_share,
        {{ as_share(wilson_low('curve.returned_customers', 'curve.customers')) }} as returned_share_low,
        {{ as_share(wilson_high('curve.returned_customers', 'curve.customers')) }} as returned_share_high,
        curve.median_days_to_next,
        curve.call_on_day,

        ---------- where the curve flattens
        coalesce(curve.order_number = threshold.threshold_orders, false) as is_threshold,
        threshold.threshold_orders,
        threshold.threshold_low,
        threshold.threshold_high,
        threshold.threshold_outcome
    from curve
    cross join threshold

)

select * from measured
