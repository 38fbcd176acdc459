{{ config(materialized='table') }}

with

received as (

    select * from {{ ref('stg_lake__interactions') }}
    {% if var('ledger_through') %}
    where received_date > {{ days_after(ledger_through(), -var('interaction_redelivery_days')) }}
    {% endif %}

),

---------- an id seen twice is rare: only those are looked at in order of arrival
repeated_ids as (

    select interaction_id from received
    group by interaction_id
    having count(*) > 1

),

received_once as (

    select received.* from received
    left join repeated_ids on received.interaction_id = repeated_ids.interaction_id
    where repeated_ids.interaction_id is null

),

ordered_arrivals as (

    select
        received.*,
        lag(received.received_date) over (
            partition by received.interaction_id
            order by received.received_date, received.customer_id, received.kind
        ) as previous_received_date
    from received
    inner join repeated_ids on received.interaction_id = repeated_ids.interaction_id

),

first_arrivals as (

    select * from ordered_arrivals
    where previous_received_date is null
        or {{ days_between('previous_received_date', 'received_date') }} > {{ var('interaction_redelivery_days') }}

),

united as (

    select customer_id, interaction_date, interaction_hour, received_date, kind, channel, referred_customer_id is not null as is_referral from received_once
    union all
    select customer_id, interaction_date, interaction_hour, received_date, kind, channel, referred_customer_id is not null as is_referral from first_arrivals

),

ledger as (

    select * from united
    where received_date > {{ ledger_through() }}

)

select * from ledger
