with

statements as (

    select * from {{ ref('int_manual_tags_understood') }}

),

weighed as (

    select * from {{ ref('int_manual_tags_weighed') }}

),

outcomes as (

    select
        ---------- ids
        statements.customer_id,
        {{ as_of() }} as as_of_date,

        ---------- what was said
        statements.tag_text,
        statements.action,
        statements.tagged_by,
        statements.tagged_at,
        statements.tagged_date,
        statements.reason,
        statements.expires_at,

        ---------- what became of it
        statements.tag_id,
        statements.tag_value,
        case
            when not statements.is_said then 'not_yet'
            when statements.tag_id is null then 'queued'
            when weighed.outcome is not null then weighed.outcome
            when statements.last_action = 'remove' then 'removed'
            when statements.statement_number < statements.last_statement_number then 'replaced'
            else 'expired'
        end as outcome,
        weighed.against_tag_id,

        ---------- lineage
        statements.received_date,
        statements.source_name,
        statements.source_file,
        statements.source_line
    from statements
    left join weighed
        on statements.customer_id = weighed.customer_id
            and statements.statement_number = weighed.statement_number

)

select * from outcomes
