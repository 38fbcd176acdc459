{#
  Totals over all history without adding all of it up: what an earlier run kept and what
  came since. Customers of whom an older order came late or changed since are summed anew.
  The ledger is named in each place instead of once above, so that each reads only the days it needs.
#}

with

news as (

    {{ since_totals(ref('int_order_ledger'), 'order_date') }}

),

revised_customers as (

    select distinct customer_id from {{ ref('int_order_ledger') }}
    where received_date > {{ totals_through() }}
        and order_date <= {{ totals_through() }}

),

unsettled as (

    select news.* from news
    left join revised_customers on news.customer_id = revised_customers.customer_id
    where revised_customers.customer_id is null

    union all

    select history.* from {{ ref('int_order_ledger') }} as history
    inner join revised_customers on history.customer_id = revised_customers.customer_id
    where history.order_date <= {{ as_of() }}

),

order_days as (

    {{ order_days_of('unsettled') }}

),

new_totals as (

    {{ order_totals_of('order_days') }}

),

kept_totals as (

    {{ kept_totals('order_totals', 'new_totals') }}

),

settled as (

    select kept_totals.* from kept_totals
    left join revised_customers on kept_totals.customer_id = revised_customers.customer_id
    where revised_customers.customer_id is null

),

united as (

    select * from new_totals
    union all
    select * from settled

),

totals as (

    select
        ---------- ids
        customer_id,

        ---------- dates
        min(first_placed_date) as first_placed_date,
        min(first_order_date) as first_order_date,
        max(last_order_date) as last_order_date,

        ---------- counts
        cast(sum(lifetime_orders) as bigint) as lifetime_orders,
        cast(sum(order_days) as bigint) as order_days,
        cast(sum(lifetime_coupon_orders) as bigint) as lifetime_coupon_orders,
        cast(sum(lifetime_refunded_orders) as bigint) as lifetime_refunded_orders,

        ---------- amounts
        cast(sum(lifetime_value) as decimal(18, 2)) as lifetime_value,
        cast(sum(lifetime_discount) as decimal(18, 2)) as lifetime_discount
    from united
    group by customer_id

)

select * from totals
