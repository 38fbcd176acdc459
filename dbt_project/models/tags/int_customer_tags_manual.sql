{{ config(materialized='table') }}

{# What staff said and is in force, and what comes along with it although the data doesn't say so. #}

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

),

dictionary as (

    select * from {{ ref('int_tags_known') }}

),

said as (

    select
        statements.customer_id,
        statements.tag_id,
        statements.tag_group,
        statements.tag_value,
        'manual' as source,
        coalesce(
            automatic.evidence,
            'said by ' || statements.tagged_by || ' on ' || cast(statements.tagged_date as {{ dbt.type_string() }})
        ) as evidence,
        statements.tagged_date as since_date,
        statements.tagged_by,
        statements.reason,
        statements.expires_at
    from statements
    left join automatic
        on statements.customer_id = automatic.customer_id
            and statements.tag_id = automatic.tag_id
            and coalesce(statements.tag_value, '') = coalesce(automatic.tag_value, '')

),

brought_along as (

    select
        statements.customer_id,
        relations.other_tag_id as tag_id,
        statements.tag_id as by_tag_id,
        statements.tagged_date,
        statements.tagged_by,
        statements.reason,
        statements.expires_at,
        row_number() over (
            partition by statements.customer_id, relations.other_tag_id
            order by statements.statement_number desc
        ) as recency_rank
    from statements
    inner join relations
        on statements.tag_id = relations.tag_id
            and relations.relation = 'implies'
    left join automatic
        on statements.customer_id = automatic.customer_id
            and relations.other_tag_id = automatic.tag_id
    left join said
        on statements.customer_id = said.customer_id
            and relations.other_tag_id = said.tag_id
    where automatic.customer_id is null
        and said.customer_id is null

),

implied as (

    select
        brought_along.customer_id,
        brought_along.tag_id,
        dictionary.tag_group,
        cast(null as {{ dbt.type_string() }}) as tag_value,
        'implied' as source,
        'comes along with ' || brought_along.by_tag_id as evidence,
        brought_along.tagged_date as since_date,
        brought_along.tagged_by,
        brought_along.reason,
        brought_along.expires_at
    from brought_along
    inner join dictionary on brought_along.tag_id = dictionary.tag_id
    where brought_along.recency_rank = 1

),

united as (

    select * from said
    union all
    select * from implied

)

select * from united
