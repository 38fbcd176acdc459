{{ config(materialized='table') }}

with

delivered as (

    select * from {{ ref('int_orders_delivered') }}

),

redelivered_orders as (

    select order_id from delivered
    group by order_id
    having count(*) > 1

),

---------- most orders arrive once: no window needed
delivered_once as (

    select delivered.* from delivered
    left join redelivered_orders on delivered.order_id = redelivered_orders.order_id
    where redelivered_orders.order_id is null
        and delivered.received_date > {{ ledger_through() }}

),

---------- a whole delivery starts the order anew, adjustments add to it
sequenced as (

    select
        delivered.*,
        sum(case when delivered.is_adjustment then 0 else 1 end) over (
            partition by delivered.order_id
            order by delivered.received_date, delivered.is_adjustment, delivered.source, delivered.source_line
            rows between unbounded preceding and current row
        ) as delivery_number
    from delivered
    inner join redelivered_orders on delivered.order_id = redelivered_orders.order_id

),

accumulated as (

    select
        order_id,
        received_date,
        first_value(customer_id) over so_far as customer_id,
        first_value(order_date) over so_far as order_date,
        first_value(order_hour) over so_far as order_hour,
        first_value(channel) over so_far as channel,
        first_value(counts_as_valid) over so_far as counts_as_valid,
        cast(sum(net_amount) over so_far as decimal(18, 2)) as net_amount,
        cast(sum(refund_amount) over so_far as decimal(18, 2)) as refund_amount,
        cast(sum(discount) over so_far as decimal(18, 2)) as discount,
        cast(sum(coupon) over so_far as decimal(18, 2)) as coupon,
        row_number() over (
            partition by order_id, received_date
            order by is_adjustment desc, source desc, source_line desc
        ) as events_to_day_end
    from sequenced
    window so_far as (
        partition by order_id, delivery_number
        order by received_date, is_adjustment, source, source_line
        rows between unbounded preceding and current row
    )

),

versions as (

    select
        *,
        lag(received_date) over (partition by order_id order by received_date) as previous_received_date,
        lead(received_date) over (partition by order_id order by received_date) as superseded_date
    from accumulated
    where events_to_day_end = 1

),

signed as (

    select 1 as sign, customer_id, order_date, order_hour, channel, counts_as_valid, received_date, net_amount, refund_amount, discount, coupon
    from delivered_once

    union all

    select 1 as sign, customer_id, order_date, order_hour, channel, counts_as_valid, received_date, net_amount, refund_amount, discount, coupon
    from versions
    where received_date > {{ ledger_through() }}

    union all

    select -1 as sign, customer_id, order_date, order_hour, channel, counts_as_valid, superseded_date as received_date, net_amount, refund_amount, discount, coupon
    from versions
    where superseded_date > {{ ledger_through() }}

),

flagged as (

    select
        *,
        case when counts_as_valid and net_amount > 0 then sign else 0 end as valid_sign
    from signed

),

ledger as (

    select
        ---------- ids
        customer_id,

        ---------- dates
        order_date,
        received_date,

        ---------- how it was ordered
        order_hour,
        channel,

        ---------- signed counts and amounts
        cast(sign as smallint) as placed_orders,
        cast(valid_sign as smallint) as valid_orders,
        cast(valid_sign * case when coupon > 0 then 1 else 0 end as smallint) as coupon_orders,
        cast(valid_sign * case when refund_amount > 0 then 1 else 0 end as smallint) as refunded_orders,
        cast(valid_sign * net_amount as decimal(18, 2)) as net_amount,
        cast(valid_sign * discount as decimal(18, 2)) as discount_amount,
        cast(valid_sign * coupon as decimal(18, 2)) as coupon_amount
    from flagged

)

select * from ledger
