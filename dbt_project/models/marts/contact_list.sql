with

decided as (

    select * from {{ ref('int_contact_decided') }}
    where suppressed_reason is null

),

segments as (

    select * from {{ ref('customer_segments') }}

),

risks as (

    select customer_id, reasons from {{ ref('churn_risk') }}

),

playbook as (

    select * from {{ ref('playbook') }}

),

listed as (

    select
        ---------- ids
        decided.customer_id,
        {{ as_of() }} as as_of_date,

        ---------- whom first
        cast(
            row_number() over (order by decided.priority desc, decided.play_priority asc, decided.customer_id asc) as integer
        ) as rank,
        decided.priority,
        segments.churn_probability,
        segments.monetary,

        ---------- who it is
        segments.rfm_class,
        segments.lifecycle_stage,
        segments.value_tier,

        ---------- why
        playbook.why_en,
        playbook.why_zh,
        risks.reasons,

        ---------- what to do
        decided.playbook_id,
        playbook.action_en,
        playbook.action_zh,
        decided.channel,
        playbook.offer
    from decided
    inner join segments on decided.customer_id = segments.customer_id
    inner join playbook on decided.playbook_id = playbook.playbook_id
    left join risks on decided.customer_id = risks.customer_id

)

select * from listed
