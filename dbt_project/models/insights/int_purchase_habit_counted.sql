{#
  Of the customers with a k-th order day, how many ordered again within the days asked for.
  Only customers whose days have passed are counted. Someone who ordered k times last week and
  again since would otherwise count as returned, while those who still have time left count as
  nothing: the share would be too high.
#}

with

order_days as (

    select
        *,
        days_since >= {{ var('repurchase_within_days') }} as has_had_time,
        coalesce(days_to_next <= {{ var('repurchase_within_days') }}, false) as ordered_again
    from {{ ref('int_customer_order_days_numbered') }}

),

numbers as (

    {% for number in range(1, var('repurchase_max_orders') + 1) %}
    select {{ number }} as order_number
    {{ 'union all' if not loop.last }}
    {% endfor %}

),

counted as (

    select
        order_number,
        sum(case when has_had_time then 1 else 0 end) as customers,
        sum(case when has_had_time then 0 else 1 end) as too_recent_customers,
        sum(case when has_had_time and ordered_again then 1 else 0 end) as returned_customers,
        percentile_disc(0.5) within group (
            order by case when has_had_time and ordered_again then days_to_next end
        ) as median_days_to_next,
        percentile_disc({{ var('repurchase_call_share') }}) within group (
            order by case when has_had_time and ordered_again then days_to_next end
        ) as call_on_day
    from order_days
    group by order_number

),

curve as (

    select
        numbers.order_number,
        cast(coalesce(counted.customers, 0) as bigint) as customers,
        cast(coalesce(counted.too_recent_customers, 0) as bigint) as too_recent_customers,
        cast(coalesce(counted.returned_customers, 0) as bigint) as returned_customers,
        cast(counted.median_days_to_next as integer) as median_days_to_next,
        cast(counted.call_on_day as integer) as call_on_day
    from numbers
    left join counted on numbers.order_number = counted.order_number

)

select * from curve
