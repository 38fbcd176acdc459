{#
  For every customer what is to be done, and why it is not done if so. Priority is what the shop stands to
  lose: docs/metrics.md#contact-priority. The first reason in the order of the seed suppression_reasons counts;
  holdout comes last, so that it means "would be on the list".
#}

with

segments as (

    select * from {{ ref('customer_segments') }}

),

chosen as (

    select * from {{ ref('int_contact_plays_chosen') }}

),

playbook as (

    select * from {{ ref('playbook') }}

),

channels as (

    select * from {{ ref('contact_channels') }}

),

withheld as (

    select * from {{ ref('int_contact_consents_withheld') }}

),

contacts as (

    select * from {{ ref('int_contact_counts') }}

),

gathered as (

    select
        segments.customer_id,
        segments.is_holdout,
        segments.churn_probability,
        segments.monetary,
        playbook.playbook_id,
        playbook.priority as play_priority,
        playbook.is_contacted,
        playbook.channel,
        channels.cap_contacts,
        withheld.customer_id is not null as is_withheld,
        coalesce(on_channel.contacts, 0) as channel_contacts,
        coalesce(overall.contacts, 0) as overall_contacts
    from segments
    inner join chosen on segments.customer_id = chosen.customer_id
    inner join playbook on chosen.playbook_id = playbook.playbook_id
    inner join channels on playbook.channel = channels.channel
    left join withheld on segments.customer_id = withheld.customer_id
    left join contacts as on_channel
        on segments.customer_id = on_channel.customer_id and playbook.channel = on_channel.channel
    left join contacts as overall
        on segments.customer_id = overall.customer_id and overall.channel is null

),

decided as (

    select
        ---------- ids
        customer_id,

        ---------- the play
        playbook_id,
        play_priority,
        channel,

        ---------- what is at stake: the probability has six decimals, so the product is exact
        cast(
            coalesce(cast(churn_probability as decimal(9, 6)), 0) * cast(monetary as decimal(18, 2)) as decimal(18, 2)
        ) as priority,

        ---------- contacts that count towards the caps
        channel_contacts,
        overall_contacts,

        ---------- may it be done
        case
            when not is_contacted then 'left_alone'
            when is_withheld then 'no_consent'
            when channel_contacts >= cap_contacts then 'channel_cap'
            when overall_contacts >= {{ var('contact_cap_contacts') }} then 'overall_cap'
            when is_holdout then 'holdout'
        end as suppressed_reason
    from gathered

)

select * from decided
