with

ledger as (

    select customer_id, order_hour, valid_orders from {{ ref('int_order_ledger') }}
    where order_date between {{ window_start() }} and {{ as_of() }}
        and valid_orders <> 0

),

bands as (

    select * from {{ ref('hour_bands') }}

),

orders_by_band as (

    select
        ledger.customer_id,
        bands.hour_band,
        sum(ledger.valid_orders) as band_orders
    from ledger
    inner join bands on ledger.order_hour = bands.hour
    group by ledger.customer_id, bands.hour_band

),

totalled as (

    select
        *,
        sum(band_orders) over (partition by customer_id) as window_orders,
        row_number() over (partition by customer_id order by band_orders desc, hour_band asc) as band_rank
    from orders_by_band

),

tags as (

    select
        customer_id,
        case when band_orders >= {{ var('habit_share') }} * window_orders then 'hours_' || hour_band else 'hours_mixed' end as tag_id,
        cast(null as {{ dbt.type_string() }}) as tag_value,
        band_orders || ' of ' || window_orders || ' orders in the window in the ' || hour_band as evidence
    from totalled
    where band_rank = 1
        and window_orders >= {{ var('habit_min_orders') }}

)

select * from tags
