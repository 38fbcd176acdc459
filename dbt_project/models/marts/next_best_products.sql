{#
  Scored once a week for everyone; on the other days anew for those who have bought since.
  What came back since Sunday counts as owned until the next Sunday.
#}

with

rules as (

    {{ next_best_rules(ref('product_affinities')) }}

),

lines_since as (

    select * from {{ ref('stg_lake__order_lines') }}
    where received_date > {{ insight_day() }}
        and order_date <= {{ as_of() }}
        and product_id is not null
        and amount - refunded_amount > 0

),

statuses as (

    select status from {{ ref('order_statuses') }}
    where counts_as_valid

),

bought_since as (

    select
        lines_since.customer_id,
        lines_since.product_id,
        max(lines_since.order_date) as last_order_date
    from lines_since
    inner join statuses on lines_since.status = statuses.status
    group by lines_since.customer_id, lines_since.product_id

),

buyers_since as (

    select distinct customer_id from bought_since

),

owned_before as (

    {{ weekly('customer_products_owned', ref('int_customer_products_owned')) }}

),

owned_parts as (

    select customer_id, product_id, last_order_date from bought_since

    union all

    select owned_before.customer_id, owned_before.product_id, owned_before.last_order_date from owned_before
    inner join buyers_since on owned_before.customer_id = buyers_since.customer_id

),

owned as (

    select customer_id, product_id, max(last_order_date) as last_order_date from owned_parts
    group by customer_id, product_id

),

ranked_since as (

    {{ next_best_of('owned', 'rules') }}

),

ranked_before as (

    {{ weekly('next_best_ranked', ref('int_next_best_ranked')) }}

),

ranked as (

    select customer_id, rank, rule_rank, is_bought_before from ranked_since

    union all

    select ranked_before.customer_id, ranked_before.rank, ranked_before.rule_rank, ranked_before.is_bought_before
    from ranked_before
    left join buyers_since on ranked_before.customer_id = buyers_since.customer_id
    where buyers_since.customer_id is null

),

published as (

    select
        ---------- ids
        ranked.customer_id,
        {{ as_of() }} as as_of_date,
        ranked.rank,

        ---------- what to offer
        rules.consequent as product_id,
        rules.consequent_name as product_name,
        ranked.is_bought_before,

        ---------- why
        rules.antecedent as because_product_id,
        rules.antecedent_name as because_product_name,
        rules.confidence,
        rules.consequent_share as base_share,
        rules.drawn_lift,
        case when ranked.is_bought_before then 'bought_again: ' else 'goes_with: ' end
        || cast(cast(round(100 * rules.confidence, 1) as decimal(9, 1)) as {{ dbt.type_string() }})
        || '% of the orders with ' || rules.antecedent_name || ' hold it, '
        || cast(cast(round(100 * rules.consequent_share, 1) as decimal(9, 1)) as {{ dbt.type_string() }})
        || '% of all orders' as reason
    from ranked
    inner join rules on ranked.rule_rank = rules.rule_rank
    where not {{ is_holdout('ranked.customer_id') }}

)

select * from published
