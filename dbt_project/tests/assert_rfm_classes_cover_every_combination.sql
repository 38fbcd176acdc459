-- Each combination of the three flags has exactly one class, and one class is for customers without
-- an order. Customers alone can't show a combination that is missing as long as none of them has it.
with

flags as (

    select true as is_high
    union all
    select false as is_high

),

expected as (

    select
        recency.is_high as recency_high,
        frequency.is_high as frequency_high,
        monetary.is_high as monetary_high
    from flags as recency
    cross join flags as frequency
    cross join flags as monetary

    union all

    select
        null as recency_high,
        null as frequency_high,
        null as monetary_high

),

found as (

    select
        rfm_class,
        recency_high,
        frequency_high,
        monetary_high
    from {{ ref('rfm_classes') }}

),

wrong as (

    select
        coalesce(expected.recency_high, found.recency_high) as recency_high,
        coalesce(expected.frequency_high, found.frequency_high) as frequency_high,
        coalesce(expected.monetary_high, found.monetary_high) as monetary_high,
        count(found.rfm_class) as classes,
        min(found.rfm_class) as first_class
    from expected
    full outer join found
        on
            expected.recency_high is not distinct from found.recency_high
            and expected.frequency_high is not distinct from found.frequency_high
            and expected.monetary_high is not distinct from found.monetary_high
    group by
        coalesce(expected.recency_high, found.recency_high),
        coalesce(expected.frequency_high, found.frequency_high),
        coalesce(expected.monetary_high, found.monetary_high)
    having
        count(found.rfm_class) <> 1
        or sum(case when (found.rfm_class = 'no_orders') <> (found.recency_high is null) then 1 else 0 end) > 0

)

select * from wrong
