{#
  Whom the shop may not contact on the channel of their play. What a customer said last counts, of the
  channel or of all of them; who said nothing has the channel's default.
#}
{{ config(materialized='view') }}

with

plays as (

    select
        chosen.customer_id,
        channels.channel,
        channels.consent_by_default
    from {{ ref('int_contact_plays_chosen') }} as chosen
    inner join {{ ref('playbook') }} as playbook on chosen.playbook_id = playbook.playbook_id
    inner join {{ ref('contact_channels') }} as channels on playbook.channel = channels.channel

),

consents as (

    select * from {{ ref('int_customer_consents') }}

),

said as (

    select
        plays.customer_id,
        consents.consent,
        row_number() over (
            partition by plays.customer_id order by consents.said_date desc, consents.said_hour desc, consents.consent desc
        ) as newness
    from plays
    inner join consents
        on plays.customer_id = consents.customer_id
            and (plays.channel = consents.channel or consents.channel = '')

),

withheld as (

    select plays.customer_id
    from plays
    left join said on plays.customer_id = said.customer_id and said.newness = 1
    where coalesce(said.consent, case when plays.consent_by_default then 'given' else 'withdrawn' end) = 'withdrawn'

)

select * from withheld
