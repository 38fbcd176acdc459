{#
  Totals over all history: what an earlier run kept and what came since, as in
  int_customer_order_totals. Interactions are never taken back, so the two just add up.
#}

with

kinds as (

    select * from {{ ref('interaction_kinds') }}

),

news as (

    {{ since_totals(ref('int_interaction_ledger'), 'interaction_date') }}

),

flagged as (

    select
        news.customer_id,
        news.interaction_date,
        coalesce(kinds.is_customer_action, false) as is_customer_action,
        coalesce(kinds.signals_intent, false) as signals_intent
    from news
    left join kinds on news.kind = kinds.kind

),

new_totals as (

    select
        customer_id,
        min(interaction_date) as first_interaction_date,
        min(case when is_customer_action then interaction_date end) as first_action_date,
        max(case when is_customer_action then interaction_date end) as last_action_date,
        cast(count(*) as bigint) as interactions,
        cast(count(case when is_customer_action then 1 end) as bigint) as actions,
        cast(count(case when signals_intent then 1 end) as bigint) as intent_signals
    from flagged
    group by customer_id

),

kept_totals as (

    {{ kept_totals('interaction_totals', 'new_totals') }}

),

united as (

    select * from new_totals
    union all
    select * from kept_totals

),

totals as (

    select
        ---------- ids
        customer_id,

        ---------- dates
        min(first_interaction_date) as first_interaction_date,
        min(first_action_date) as first_action_date,
        max(last_action_date) as last_action_date,

        ---------- counts
        cast(sum(interactions) as bigint) as interactions,
        cast(sum(actions) as bigint) as actions,
        cast(sum(intent_signals) as bigint) as intent_signals
    from united
    group by customer_id

)

select * from totals
