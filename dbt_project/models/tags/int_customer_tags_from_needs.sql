{#
  Functional, emotional or social need: which occasions speak for which is the seed need_types,
  lines bought by their category and interactions by their kind, each with a weight. What a customer
  asks for more than the others do says more than what everybody buys most of, so that comes first.
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

peers as (

    select
        tag_id,
        {{ percent_of('100 * sum(occasions)', 'sum(sum(occasions)) over ()') }} as peers_points
    from summed
    group by tag_id

),

totalled as (

    select
        *,
        cast(sum(occasions) over (partition by customer_id) as bigint) as all_occasions
    from summed

),

compared as (

    select
        totalled.customer_id,
        totalled.tag_id,
        totalled.occasions,
        totalled.all_occasions,
        peers.peers_points,
        {{ percent_of('100 * totalled.occasions', 'totalled.all_occasions') }} as own_points
    from totalled
    inner join peers on totalled.tag_id = peers.tag_id
    where totalled.occasions >= {{ var('need_min_occasions') }}

),

marked as (

    select
        *,
        own_points >= {{ var('need_ratio') }} * peers_points as is_above_peers,
        {{ whole_division('10000 * own_points', 'nullif(peers_points, 0)') }} as factor
    from compared
    where own_points >= {{ var('need_ratio') }} * peers_points
        or occasions >= {{ var('need_share') }} * all_occasions

),

ranked as (

    select
        *,
        row_number() over (
            partition by customer_id
            order by
                case when is_above_peers then 0 else 1 end,
                case when is_above_peers then factor end desc,
                occasions desc,
                tag_id asc
        ) as need_rank
    from marked

),

tags as (

    select
        customer_id,
        tag_id,
        cast(null as {{ dbt.type_string() }}) as tag_value,
        occasions || ' of ' || all_occasions || ' weighted lines and interactions in the window; peers '
        || {{ percent_of_basis_points('peers_points') }} || '%' as evidence
    from ranked
    where need_rank = 1

)

select * from tags
