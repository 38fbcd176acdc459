-- The day's totals as said and as known. Relations: before, today (customer_segments).
with summed as (
    select
        'said' as told,
        count(*) as customers,
        count(*) filter (lifetime_orders > 0) as customers_with_orders,
        coalesce(sum(frequency), 0) as orders_in_window,
        coalesce(sum(monetary), 0) as revenue_in_window,
        coalesce(sum(lifetime_orders), 0) as lifetime_orders,
        coalesce(sum(lifetime_value), 0) as lifetime_value
    from before
    union all
    select
        'known',
        count(*),
        count(*) filter (lifetime_orders > 0),
        coalesce(sum(frequency), 0),
        coalesce(sum(monetary), 0),
        coalesce(sum(lifetime_orders), 0),
        coalesce(sum(lifetime_value), 0)
    from today
)

select
    measure,
    cast(max(total) filter (told = 'said') as decimal(18, 2)) as said,
    cast(max(total) filter (told = 'known') as decimal(18, 2)) as known
from (
    unpivot (
        select
            told,
            cast(customers as decimal(18, 2)) as customers,
            cast(customers_with_orders as decimal(18, 2)) as customers_with_orders,
            cast(orders_in_window as decimal(18, 2)) as orders_in_window,
            cast(revenue_in_window as decimal(18, 2)) as revenue_in_window,
            cast(lifetime_orders as decimal(18, 2)) as lifetime_orders,
            cast(lifetime_value as decimal(18, 2)) as lifetime_value
        from summed
    )
    on customers, customers_with_orders, orders_in_window, revenue_in_window, lifetime_orders, lifetime_value
    into name measure value total
)
group by measure
order by list_position(
    ['customers', 'customers_with_orders', 'orders_in_window', 'revenue_in_window', 'lifetime_orders', 'lifetime_value'],
    measure
)
