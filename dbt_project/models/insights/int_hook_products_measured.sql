{#
  Which products in a first basket go along with a second order. The share that came back is drawn
  towards that of all first baskets with the weight of hook_prior_customers of them, so that three
  customers who all came back do not lead the list. Going along is not bringing about.
#}

with

first_orders as (

    select
        customer_id,
        order_date,
        coalesce(days_to_next <= {{ var('repurchase_within_days') }}, false) as ordered_again
    from {{ ref('int_customer_order_days_numbered') }}
    where order_number = 1
        and days_since >= {{ var('repurchase_within_days') }}

),

lines as (

    select * from {{ ref('int_basket_lines') }}

),

---------- one row per order and item
items as (

    select order_id, customer_id, order_date, 'product' as level, product_id as item_id, product_name as item_name, quantity, net_amount
    from lines

    union all

    select
        order_id,
        min(customer_id) as customer_id,
        min(order_date) as order_date,
        'category' as level,
        category as item_id,
        category as item_name,
        sum(quantity) as quantity,
        sum(net_amount) as net_amount
    from lines
    where category is not null
    group by order_id, category

),

first_items as (

    select distinct items.level, items.item_id, items.customer_id, first_orders.ordered_again
    from items
    inner join first_orders
        on items.customer_id = first_orders.customer_id
            and items.order_date = first_orders.order_date

),

first_baskets as (

    select distinct level, customer_id, ordered_again from first_items

),

base as (

    select
        level,
        cast(count(*) as double) as customers,
        sum(case when ordered_again then 1 else 0 end) / cast(count(*) as double) as returned_share
    from first_baskets
    group by level

),

hooked as (

    select
        level,
        item_id,
        count(*) as customers,
        sum(case when ordered_again then 1 else 0 end) as returned_customers
    from first_items
    group by level, item_id
    having count(*) >= {{ var('hook_min_customers') }}

),

orders_in_all as (

    select level, cast(count(distinct order_id) as double) as orders from items
    group by level

),

sold as (

    select
        items.level,
        items.item_id,
        max(items.item_name) as item_name,
        cast(count(*) as double) as orders,
        sum(items.net_amount) as net_amount,
        sum(items.quantity) as quantity
    from items
    inner join hooked
        on items.level = hooked.level
            and items.item_id = hooked.item_id
    group by items.level, items.item_id

),

shrunk as (

    select
        hooked.*,
        base.returned_share as base_share,
        hooked.returned_customers + {{ var('hook_prior_customers') }} * base.returned_share as drawn_returned,
        hooked.customers + {{ var('hook_prior_customers') }} as drawn_customers
    from hooked
    inner join base on hooked.level = base.level

),

measured as (

    select
        ---------- ids
        shrunk.level,
        shrunk.item_id,
        sold.item_name,

        ---------- what was looked at
        {{ insight_day() }} as measured_on,
        cast({{ var('repurchase_within_days') }} as integer) as within_days,
        cast(shrunk.customers as bigint) as customers,

        ---------- who ordered again
        cast(shrunk.returned_customers as bigint) as returned_customers,
        {{ as_share('shrunk.returned_customers / cast(shrunk.customers as double)') }} as returned_share,
        {{ as_share('shrunk.base_share') }} as base_share,
        {{ as_share('shrunk.drawn_returned / shrunk.drawn_customers') }} as drawn_share,
        {{ as_share(wilson_low('shrunk.drawn_returned', 'shrunk.drawn_customers')) }} as drawn_share_low,
        {{ as_share(wilson_high('shrunk.drawn_returned', 'shrunk.drawn_customers')) }} as drawn_share_high,
        {{ as_share('shrunk.drawn_returned / shrunk.drawn_customers / nullif(shrunk.base_share, 0)') }} as lift,

        ---------- price and frequency
        cast(round(cast(sold.net_amount as double) / nullif(cast(sold.quantity as double), 0), 2) as decimal(18, 2)) as unit_price,
        {{ as_share('sold.orders / orders_in_all.orders') }} as share_of_orders
    from shrunk
    inner join sold
        on shrunk.level = sold.level
            and shrunk.item_id = sold.item_id
    inner join orders_in_all on shrunk.level = orders_in_all.level

),

ranked as (

    select
        *,
        cast(
            row_number() over (partition by level order by drawn_share_low desc, customers desc, item_id asc) as integer
        ) as rank
    from measured

)

select * from ranked
