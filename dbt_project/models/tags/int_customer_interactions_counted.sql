{#
  All that the rule seeds ask of interactions, counted in one pass over the ledger: the kinds
  that no rule names are left out by the join, and a rule more costs its own rows only.
#}
{{ config(materialized='table') }}

with

tag_rules as (

    select
        tag_id,
        kind,
        names_referred_customer,
        window_days,
        1 as weight,
        'interaction_tags' as rule_seed
    from {{ ref('interaction_tags') }}

),

need_rules as (

    select
        tag_id,
        subject as kind,
        false as names_referred_customer,
        {{ var('rfm_window_days') }} as window_days,
        weight,
        'need_types' as rule_seed
    from {{ ref('need_types') }}
    where subject_type = 'interaction'

),

rules as (

    select * from tag_rules
    union all
    select * from need_rules

),

ledger as (

    select * from {{ ref('int_interaction_ledger') }}
    where interaction_date <= {{ as_of() }}
        and interaction_date > {{ days_after(as_of(), -([var('engagement_window_days'), var('rfm_window_days')] | max)) }}

),

counted as (

    select
        ledger.customer_id,
        rules.rule_seed,
        rules.tag_id,
        cast(sum(rules.weight) as bigint) as interactions,
        max(ledger.interaction_date) as last_date
    from ledger
    inner join rules
        on ledger.kind = rules.kind
            and {{ days_between('ledger.interaction_date', as_of()) }} < rules.window_days
            and (ledger.is_referral or not rules.names_referred_customer)
    group by ledger.customer_id, rules.rule_seed, rules.tag_id

)

select * from counted
