with

measured as (

    {{ weekly('product_affinities', ref('int_product_affinities_measured')) }}

),

published as (

    select
        ---------- ids
        {{ as_of() }} as as_of_date,
        level,
        antecedent,
        consequent,
        antecedent_name,
        consequent_name,

        ---------- what was looked at
        measured_on,
        antecedent_items,
        orders,
        antecedent_orders,
        consequent_orders,
        orders_together,

        ---------- how they go together
        support,
        confidence,
        consequent_share,
        lift,
        drawn_lift,
        drawn_lift_low,
        drawn_lift_high,
        consequent_rebought_share
    from measured

)

select * from published
