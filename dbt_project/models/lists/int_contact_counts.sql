{#
  Contacts that count towards the caps: of kinds with is_contact, on the days that a cap looks back to, the
  day of the list included. A row without a channel has those of all channels together.
#}
{{ config(materialized='view') }}

with

kinds as (

    select kind from {{ ref('interaction_kinds') }}
    where is_contact

),

channels as (

    select * from {{ ref('contact_channels') }}

),

contacts as (

    select
        ledger.customer_id,
        ledger.channel,
        {{ days_between('ledger.interaction_date', as_of()) }} as days_ago
    from {{ ref('int_interaction_ledger') }} as ledger
    inner join kinds on ledger.kind = kinds.kind
    where ledger.interaction_date > {{ days_after(as_of(), -var('contact_look_back_days')) }}
        and ledger.interaction_date <= {{ as_of() }}

),

on_channels as (

    select
        contacts.customer_id,
        contacts.channel,
        cast(count(*) as integer) as contacts
    from contacts
    inner join channels on contacts.channel = channels.channel
    where contacts.days_ago < channels.cap_days
    group by contacts.customer_id, contacts.channel

),

overall as (

    select
        customer_id,
        cast(null as {{ dbt.type_string() }}) as channel,
        cast(count(*) as integer) as contacts
    from contacts
    where days_ago < {{ var('contact_cap_days') }}
    group by customer_id

),

counted as (

    select * from on_channels
    union all
    select * from overall

)

select * from counted
