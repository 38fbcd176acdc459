with

totals as (

    select * from {{ ref('int_customer_interaction_totals') }}

),

ledger as (

    select * from {{ ref('int_interaction_ledger') }}
    where interaction_date >= {{ days_after(as_of(), 1 - var('engagement_window_days')) }}
        and interaction_date <= {{ as_of() }}

),

kinds as (

    select * from {{ ref('interaction_kinds') }}

),

---------- points fade by half every half-life; decimal before summing keeps every run's bytes equal
weighed as (

    select
        ledger.customer_id,
        cast(
            kinds.points
            * power(0.5, {{ days_between('ledger.interaction_date', as_of()) }} / cast(kinds.half_life_days as double))
            as decimal(18, 9)
        ) as decayed_points
    from ledger
    inner join kinds on ledger.kind = kinds.kind

),

engagement as (

    select
        customer_id,
        sum(decayed_points) as engagement_score
    from weighed
    group by customer_id

),

summed as (

    select
        totals.*,
        cast(coalesce(engagement.engagement_score, 0) as decimal(18, 6)) as engagement_score
    from totals
    left join engagement on totals.customer_id = engagement.customer_id

)

select * from summed
