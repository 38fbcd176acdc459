with

ledger as (

    select * from {{ ref('int_interaction_ledger') }}
    where interaction_date <= {{ as_of() }}

),

kinds as (

    select * from {{ ref('interaction_kinds') }}

),

---------- points fade by half every half-life; decimal before summing keeps every run's bytes equal
weighed as (

    select
        ledger.customer_id,
        ledger.interaction_date,
        coalesce(kinds.is_customer_action, false) as is_customer_action,
        coalesce(kinds.signals_intent, false) as signals_intent,
        case
            when ledger.interaction_date >= {{ days_after(as_of(), 1 - var('engagement_window_days')) }}
                then cast(
                    kinds.points
                    * power(0.5, {{ days_between('ledger.interaction_date', as_of()) }} / cast(kinds.half_life_days as double))
                    as decimal(18, 9)
                )
        end as decayed_points
    from ledger
    left join kinds on ledger.kind = kinds.kind

),

summed as (

    select
        ---------- ids
        customer_id,

        ---------- dates
        min(interaction_date) as first_interaction_date,
        min(case when is_customer_action then interaction_date end) as first_action_date,
        max(case when is_customer_action then interaction_date end) as last_action_date,

        ---------- counts
        cast(count(*) as bigint) as interactions,
        cast(count(case when is_customer_action then 1 end) as bigint) as actions,
        cast(count(case when signals_intent then 1 end) as bigint) as intent_signals,

        ---------- scores
        cast(coalesce(sum(decayed_points), 0) as decimal(18, 6)) as engagement_score
    from weighed
    group by customer_id

)

select * from summed
