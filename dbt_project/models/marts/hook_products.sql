with

measured as (

    {{ weekly('hook_products', ref('int_hook_products_measured')) }}

),

published as (

    select
        ---------- ids
        {{ as_of() }} as as_of_date,
        level,
        item_id,
        item_name,
        rank,

        ---------- what was looked at
        measured_on,
        within_days,
        customers,

        ---------- who ordered again
        returned_customers,
        returned_share,
        base_share,
        drawn_share,
        drawn_share_low,
        drawn_share_high,
        lift,

        ---------- price and frequency
        unit_price,
        share_of_orders
    from measured

)

select * from published
