{#
  Every statement with what it means on its day, and which statement on the same tag of the customer came
  last by the day asked for. Only that one counts; dates of receipt and places in files decide between equal times.
#}
{% set in_order = 'tagged_at, received_date, source_name, source_file, source_line' %}

with

statements as (

    select * from {{ ref('stg_lake__manual_tags') }}

),

meanings as (

    select * from {{ ref('int_manual_tag_meanings') }}

),

understood as (

    select
        statements.*,
        meanings.tag_id,
        meanings.tag_value,
        statements.tagged_date <= {{ as_of() }} as is_said
    from statements
    left join meanings
        on statements.tag_text = meanings.tag_text
            and statements.tagged_date >= coalesce(meanings.valid_from, statements.tagged_date)
            and statements.tagged_date <= coalesce(meanings.valid_to, statements.tagged_date)

),

numbered as (

    select
        *,
        cast(row_number() over (partition by customer_id order by {{ in_order }}) as bigint) as statement_number
    from understood

),

last_words as (

    select
        *,
        max(statement_number) over (partition by customer_id, tag_id, is_said) as last_statement_number
    from numbered

),

statements_judged_alone as (

    select
        *,
        max(case when statement_number = last_statement_number then action end) over (
            partition by customer_id, tag_id, is_said
        ) as last_action
    from last_words

)

select * from statements_judged_alone
