with

ledger as (

    select * from {{ ref('int_order_ledger') }}
    where order_date <= {{ as_of() }}

),

---------- corrections cancel out within a customer's business date
order_days as (

    select
        customer_id,
        order_date,
        sum(placed_orders) as placed_orders,
        sum(valid_orders) as valid_orders,
        sum(coupon_orders) as coupon_orders,
        sum(refunded_orders) as refunded_orders,
        sum(net_amount) as net_amount
    from ledger
    group by customer_id, order_date

),

flagged as (

    select
        *,
        valid_orders > 0 as is_order_day,
        order_date >= {{ window_start() }} as is_in_window
    from order_days

),

summed as (

    select
        ---------- ids
        customer_id,

        ---------- dates
        min(case when placed_orders > 0 then order_date end) as first_placed_date,
        min(case when is_order_day then order_date end) as first_order_date,
        max(case when is_order_day then order_date end) as last_order_date,

        ---------- over all history
        cast(sum(valid_orders) as bigint) as lifetime_orders,
        cast(sum(net_amount) as decimal(18, 2)) as lifetime_value,
        cast(count(case when is_order_day then 1 end) as bigint) as order_days,

        ---------- in the RFM window
        cast(coalesce(sum(case when is_in_window then valid_orders end), 0) as bigint) as frequency,
        cast(coalesce(sum(case when is_in_window then net_amount end), 0) as decimal(18, 2)) as monetary,
        cast(coalesce(sum(case when is_in_window then coupon_orders end), 0) as bigint) as coupon_orders,
        cast(coalesce(sum(case when is_in_window then refunded_orders end), 0) as bigint) as refunded_orders
    from flagged
    group by customer_id

)

select * from summed
