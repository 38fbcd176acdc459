{#
  Who invited whom, as known on the insight day: interactions that name the customer invited, of any kind,
  and invitations (referral_kinds) that name nobody. Inviting the same person twice in a campaign counts once.
#}
{{ config(materialized='table') }}

with

received as (

    select
        interaction_id,
        customer_id,
        referred_customer_id,
        campaign_id,
        interaction_date,
        received_date,
        kind
    from {{ ref('stg_lake__interactions') }}
    where {{ insights_are_due() }}
        and received_date <= {{ insight_day() }}
        and interaction_date <= {{ insight_day() }}
        and (
            referred_customer_id is not null
            or kind in ('{{ var("referral_kinds") | join("', '") }}')
        )

),

arrivals as (

    select
        *,
        lag(received_date) over (
            partition by interaction_id order by received_date, customer_id, kind
        ) as previous_received_date
    from received

),

---------- a delivery again is the same interaction, as in the ledger
first_arrivals as (

    select * from arrivals
    where previous_received_date is null
        or {{ days_between('previous_received_date', 'received_date') }} > {{ var('interaction_redelivery_days') }}

),

united as (

    select
        customer_id,
        referred_customer_id,
        campaign_id,
        min(interaction_date) as invited_on,
        cast(1 as bigint) as invitations
    from first_arrivals
    where referred_customer_id is not null
    group by customer_id, referred_customer_id, campaign_id

    union all

    select
        customer_id,
        cast(null as {{ dbt.type_string() }}) as referred_customer_id,
        campaign_id,
        interaction_date as invited_on,
        count(*) as invitations
    from first_arrivals
    where referred_customer_id is null
    group by customer_id, campaign_id, interaction_date

)

select * from united
