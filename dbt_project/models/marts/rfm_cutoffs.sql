with

cutoffs as (

    select * from {{ ref('int_rfm_cutoffs_computed') }}

),

means as (

    select * from {{ ref('int_rfm_means_computed') }}

),

published as (

    select
        ---------- ids
        {{ as_of() }} as as_of_date,
        cutoffs.measure,

        ---------- rules in force
        '{{ var("rfm_method") }}' as method,
        '{{ var("high_rule") }}' as high_rule,

        ---------- cut-offs
        cutoffs.cutoff_1,
        cutoffs.cutoff_2,
        cutoffs.cutoff_3,
        cutoffs.cutoff_4,

        ---------- what they were taken from
        means.mean_score,
        cutoffs.mean_value,
        means.scored_customers,
        cutoffs.customers_in_window
    from cutoffs
    inner join means on cutoffs.measure = means.measure

)

select * from published
