{{ config(materialized='table') }}

{# The last statement on each tag of a customer that is neither taken back nor expired, and what speaks against it by itself. #}

with

statements as (

    select * from {{ ref('int_manual_tags_understood') }}
    where is_said
        and tag_id is not null
        and statement_number = last_statement_number
        and action = 'add'
        and coalesce(expires_at, {{ as_of() }}) >= {{ as_of() }}

),

dictionary as (

    select * from {{ ref('int_tags_known') }}

),

customers as (

    select customer_id from {{ ref('int_customers_known') }}

),

standing as (

    select
        statements.customer_id,
        statements.statement_number,
        statements.tag_id,
        dictionary.tag_group,
        statements.tag_value,
        statements.tag_text,
        statements.tagged_at,
        statements.tagged_date,
        statements.tagged_by,
        statements.reason,
        statements.expires_at,
        case
            when customers.customer_id is null then 'unknown_customer'
            when not dictionary.is_in_use then 'not_in_use'
            when dictionary.has_value and statements.tag_value is null then 'value_missing'
        end as fault
    from statements
    inner join dictionary on statements.tag_id = dictionary.tag_id
    left join customers on statements.customer_id = customers.customer_id

)

select * from standing
