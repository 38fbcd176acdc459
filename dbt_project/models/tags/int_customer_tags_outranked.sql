{{ config(materialized='table') }}

{# Automatic tags that give way to a statement: they can't stand beside it, or are the same tag with another value. #}

with

statements as (

    select * from {{ ref('int_manual_tags_weighed') }}
    where outcome = 'in_force'

),

automatic as (

    select * from {{ ref('int_customer_tags_beside_manual') }}

),

relations as (

    select * from {{ ref('int_tag_relations') }}
    where relation = 'excludes'

),

giving_way as (

    select
        automatic.*,
        statements.tag_id as against_tag_id,
        row_number() over (
            partition by automatic.customer_id, automatic.tag_id
            order by statements.statement_number desc
        ) as recency_rank
    from automatic
    inner join statements on automatic.customer_id = statements.customer_id
    left join relations
        on statements.tag_id = relations.tag_id
            and automatic.tag_id = relations.other_tag_id
    where relations.tag_id is not null
        or (
            automatic.tag_id = statements.tag_id
            and coalesce(automatic.tag_value, '') <> coalesce(statements.tag_value, '')
        )

),

outranked as (

    select
        customer_id,
        tag_id,
        tag_group,
        tag_value,
        evidence,
        against_tag_id
    from giving_way
    where recency_rank = 1

)

select * from outranked
