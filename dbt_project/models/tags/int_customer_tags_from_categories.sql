with

ledger as (

    select * from {{ ref('int_category_ledger') }}
    where order_date between {{ window_start() }} and {{ as_of() }}

),

customers as (

    select customer_id from {{ ref('int_customer_orders_summed') }}
    where lifetime_orders > 0

),

revenue_by_category as (

    select
        ledger.customer_id,
        ledger.category,
        sum(ledger.net_amount) as revenue,
        sum(ledger.lines_bought) as lines_bought
    from ledger
    inner join customers on ledger.customer_id = customers.customer_id
    group by ledger.customer_id, ledger.category
    having sum(ledger.net_amount) > 0

),

ranked as (

    select
        *,
        sum(revenue) over (partition by customer_id) as window_revenue,
        row_number() over (
            partition by customer_id order by revenue desc, lines_bought desc, category asc
        ) as category_rank
    from revenue_by_category

),

tags as (

    select
        customer_id,
        'favourite_category' as tag_id,
        category as tag_value,
        revenue || ' of ' || window_revenue || ' spent in the window' as evidence
    from ranked
    where category_rank = 1

)

select * from tags
