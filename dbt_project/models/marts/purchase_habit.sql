with

measured as (

    {{ weekly('purchase_habit', ref('int_purchase_habit_measured')) }}

),

published as (

    select
        ---------- ids
        {{ as_of() }} as as_of_date,
        orders,

        ---------- what was looked at
        measured_on,
        within_days,
        customers,
        too_recent_customers,

        ---------- who ordered again
        returned_customers,
        returned_share,
        returned_share_low,
        returned_share_high,
        median_days_to_next,
        call_on_day,

        ---------- where the curve flattens
        is_threshold,
        threshold_orders,
        threshold_low,
        threshold_high,
        threshold_outcome
    from measured

)

select * from published
