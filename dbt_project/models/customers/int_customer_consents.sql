{#
  What each customer said last about being contacted, carried on like int_customer_interaction_totals.
  An interaction without a channel speaks of all channels; its row has an empty channel. Of two on one
  hour the withdrawal counts.
#}

with

kinds as (

    select kind, consent from {{ ref('interaction_kinds') }}
    where consent is not null

),

news as (

    {{ since_totals(ref('int_interaction_ledger'), 'interaction_date') }}

),

new_consents as (

    select
        news.customer_id,
        coalesce(news.channel, '') as channel,
        news.interaction_date as said_date,
        cast(coalesce(news.interaction_hour, 0) as integer) as said_hour,
        kinds.consent
    from news
    inner join kinds on news.kind = kinds.kind

),

kept_consents as (

    {{ kept_totals('consents', 'new_consents') }}

),

united as (

    select * from new_consents
    union all
    select * from kept_consents

),

ranked as (

    select
        *,
        row_number() over (
            partition by customer_id, channel order by said_date desc, said_hour desc, consent desc
        ) as newness
    from united

),

latest as (

    select
        customer_id,
        channel,
        said_date,
        said_hour,
        consent
    from ranked
    where newness = 1

)

select * from latest
