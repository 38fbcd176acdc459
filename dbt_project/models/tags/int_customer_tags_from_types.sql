{#
  Organisation (2B) or person (2C): as the shop says, else by the majority of what can be asked
  of the orders: are they large, placed in office hours, of many units a line (bought to sell on)?
  The confidence is the share of those answers that agree; a tie gives no tag.
#}

with

given as (

    select
        customer_id,
        case upper(trim(customer_type)) when '2B' then 'customer_2b' when '2C' then 'customer_2c' end as tag_id
    from {{ ref('int_customer_attributes') }}
    where customer_type is not null

),

orders as (

    select * from {{ ref('int_customer_orders_summed') }}
    where frequency >= {{ var('customer_type_min_orders') }}

),

lines as (

    select
        customer_id,
        sum(lines_bought) as lines_bought,
        sum(bulk_lines) as bulk_lines
    from {{ ref('int_customer_categories_summed') }}
    group by customer_id

),

peers as (

    select * from {{ ref('int_peers_measured') }}
    where order_value > 0

),

untold as (

    select
        orders.customer_id,
        orders.frequency,
        orders.office_orders,
        lines.lines_bought,
        lines.bulk_lines,
        peers.order_value,
        cast(
            {{ whole_division('cast(100 * orders.monetary as bigint)', 'cast(orders.frequency as bigint)') }} * 0.01 as decimal(18, 2)
        ) as mean_order,
        case when orders.monetary >= {{ var('b2b_order_size_ratio') }} * peers.order_value * orders.frequency then 1 else 0 end as is_large,
        case when orders.office_orders >= {{ var('b2b_office_share') }} * orders.frequency then 1 else 0 end as is_office,
        case
            when lines.lines_bought is null then 0
            when lines.bulk_lines >= {{ var('b2b_bulk_share') }} * lines.lines_bought then 1
            else 0
        end as is_resale,
        case when lines.lines_bought is null then 2 else 3 end as asked
    from orders
    cross join peers
    left join given on orders.customer_id = given.customer_id
    left join lines on orders.customer_id = lines.customer_id
    where given.tag_id is null

),

answered as (

    select
        *,
        is_large + is_office + is_resale as yes,
        case when 2 * (is_large + is_office + is_resale) > asked then 'customer_2b' else 'customer_2c' end as tag_id
    from untold
    where 2 * (is_large + is_office + is_resale) <> asked

),

tags as (

    select
        customer_id,
        tag_id,
        cast(null as {{ dbt.type_string() }}) as tag_value,
        'given by the shop' as evidence
    from given
    where tag_id is not null

    union all

    select
        customer_id,
        tag_id,
        cast(null as {{ dbt.type_string() }}) as tag_value,
        'inferred, confidence '
        || {{ percent_of("case when tag_id = 'customer_2b' then yes else asked - yes end", 'asked') }}
        || '%: mean order ' || mean_order || ', peers ' || order_value
        || '; ' || office_orders || ' of ' || frequency || ' orders in office hours'
        || coalesce('; ' || bulk_lines || ' of ' || lines_bought || ' lines of {{ var("bulk_line_units") }} units or more', '') as evidence
    from answered

)

select * from tags
