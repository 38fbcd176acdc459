with

categories as (

    select * from {{ ref('int_customer_categories_summed') }}
    where revenue > 0

),

customers as (

    select customer_id from {{ ref('int_customer_orders_summed') }}
    where lifetime_orders > 0

),

totalled as (

    select
        categories.*,
        sum(categories.revenue) over (partition by categories.customer_id) as window_revenue,
        sum(categories.recent_revenue) over (partition by categories.customer_id) as window_recent_revenue,
        row_number() over (
            partition by categories.customer_id
            order by categories.revenue desc, categories.lines_bought desc, categories.category asc
        ) as category_rank
    from categories
    inner join customers on categories.customer_id = customers.customer_id

),

---------- a share can rise only where there was spending before and since
shared as (

    select
        *,
        {{ basis_points_of('recent_revenue', 'window_recent_revenue') }} as recent_points,
        {{ basis_points_of('revenue - recent_revenue', 'window_revenue - window_recent_revenue') }} as earlier_points
    from totalled
    where window_recent_revenue > 0
        and window_revenue > window_recent_revenue
        and recent_revenue > 0
        and revenue >= recent_revenue

),

risen as (

    select
        *,
        row_number() over (
            partition by customer_id
            order by recent_points - earlier_points desc, recent_revenue desc, recent_lines desc, category asc
        ) as rise_rank
    from shared
    where recent_lines >= {{ var('rising_min_lines') }}
        and recent_points - earlier_points >= 100 * {{ var('rising_min_points') }}

),

tags as (

    select
        customer_id,
        'favourite_category' as tag_id,
        category as tag_value,
        revenue || ' of ' || cast(window_revenue as decimal(18, 2)) || ' spent in the window' as evidence
    from totalled
    where category_rank = 1

    union all

    select
        customer_id,
        'rising_category' as tag_id,
        category as tag_value,
        {{ percent_of_basis_points('recent_points') }} || '% of what was spent in the last {{ var("rising_days") }} days, '
        || {{ percent_of_basis_points('earlier_points') }} || '% before' as evidence
    from risen
    where rise_rank = 1

)

select * from tags
