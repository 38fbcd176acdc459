with

ledger as (

    select customer_id, channel, valid_orders from {{ ref('int_order_ledger') }}
    where order_date between {{ window_start() }} and {{ as_of() }}
        and valid_orders <> 0
        and channel is not null

),

orders_by_channel as (

    select
        customer_id,
        channel,
        sum(valid_orders) as channel_orders
    from ledger
    group by customer_id, channel
    having sum(valid_orders) > 0

),

ranked as (

    select
        *,
        sum(channel_orders) over (partition by customer_id) as window_orders,
        row_number() over (partition by customer_id order by channel_orders desc, channel asc) as channel_rank
    from orders_by_channel

),

main_channels as (

    select * from ranked
    where channel_rank = 1

),

---------- a choice between channels can be a habit only where the shop has several
shop as (

    select count(distinct channel) as channels from orders_by_channel

),

tags as (

    select
        customer_id,
        'main_channel' as tag_id,
        channel as tag_value,
        channel_orders || ' of ' || window_orders || ' orders in the window' as evidence
    from main_channels

    union all

    select
        main_channels.customer_id,
        case when main_channels.channel_orders >= {{ var('single_channel_share') }} * main_channels.window_orders then 'single_channel' else 'multi_channel' end as tag_id,
        cast(null as {{ dbt.type_string() }}) as tag_value,
        main_channels.channel_orders || ' of ' || main_channels.window_orders || ' orders in the window through '
        || main_channels.channel as evidence
    from main_channels
    cross join shop
    where main_channels.window_orders >= {{ var('habit_min_orders') }}
        and shop.channels > 1

)

select * from tags
