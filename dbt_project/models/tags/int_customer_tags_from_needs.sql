{#
  Functional, emotional or social need: which occasions speak for which is the seed need_types,
  lines bought by their category and interactions by their kind, each with a weight.
#}

with

needs as (

    select * from {{ ref('need_types') }}

),

categories as (

    select * from {{ ref('int_customer_categories_summed') }}

),

interactions as (

    select * from {{ ref('int_customer_interactions_counted') }}
    where rule_seed = 'need_types'

),

occasions as (

    select
        categories.customer_id,
        needs.tag_id,
        categories.lines_bought * needs.weight as occasions
    from categories
    inner join needs
        on needs.subject_type = 'category'
            and lower(categories.category) = lower(needs.subject)

    union all

    select customer_id, tag_id, interactions as occasions from interactions

),

summed as (

    select
        customer_id,
        tag_id,
        cast(sum(occasions) as bigint) as occasions
    from occasions
    group by customer_id, tag_id

),

ranked as (

    select
        *,
        cast(sum(occasions) over (partition by customer_id) as bigint) as all_occasions,
        row_number() over (partition by customer_id order by occasions desc, tag_id asc) as need_rank
    from summed

),

tags as (

    select
        customer_id,
        tag_id,
        cast(null as {{ dbt.type_string() }}) as tag_value,
        occasions || ' of ' || all_occasions || ' weighted lines and interactions in the window' as evidence
    from ranked
    where need_rank = 1
        and all_occasions >= {{ var('need_min_occasions') }}
        and occasions >= {{ var('need_share') }} * all_occasions

)

select * from tags
