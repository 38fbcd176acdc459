with

totals as (

    select * from {{ ref('int_customer_order_totals') }}

),

ledger as (

    select * from {{ ref('int_order_ledger') }}
    where order_date >= {{ window_start() }}
        and order_date <= {{ as_of() }}

),

window_sums as (

    select
        customer_id,
        sum(valid_orders) as frequency,
        sum(net_amount) as monetary,
        sum(coupon_orders) as coupon_orders,
        sum(refunded_orders) as refunded_orders,
        sum(case when {{ is_weekend('order_date') }} then valid_orders else 0 end) as weekend_orders,
        sum(case when {{ is_office_hour('order_date', 'order_hour') }} then valid_orders else 0 end) as office_orders,
        sum(discount_amount) as discount_amount,
        sum(coupon_amount) as coupon_amount
    from ledger
    group by customer_id

),

summed as (

    select
        ---------- ids
        totals.customer_id,

        ---------- dates
        totals.first_placed_date,
        totals.first_order_date,
        totals.last_order_date,

        ---------- over all history
        totals.lifetime_orders,
        totals.lifetime_value,
        totals.order_days,

        ---------- in the RFM window
        cast(coalesce(window_sums.frequency, 0) as bigint) as frequency,
        cast(coalesce(window_sums.monetary, 0) as decimal(18, 2)) as monetary,
        cast(coalesce(window_sums.coupon_orders, 0) as bigint) as coupon_orders,
        cast(coalesce(window_sums.refunded_orders, 0) as bigint) as refunded_orders,
        cast(coalesce(window_sums.weekend_orders, 0) as bigint) as weekend_orders,
        cast(coalesce(window_sums.office_orders, 0) as bigint) as office_orders,
        cast(coalesce(window_sums.discount_amount, 0) as decimal(18, 2)) as discount_amount,
        cast(coalesce(window_sums.coupon_amount, 0) as decimal(18, 2)) as coupon_amount
    from totals
    left join window_sums on totals.customer_id = window_sums.customer_id

)

select * from summed
