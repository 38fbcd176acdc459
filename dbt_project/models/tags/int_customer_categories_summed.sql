{{ config(materialized='table') }}

with

ledger as (

    select * from {{ ref('int_category_ledger') }}
    where order_date between {{ window_start() }} and {{ as_of() }}

),

marked as (

    select
        *,
        order_date > {{ days_after(as_of(), -var('rising_days')) }} as is_recent
    from ledger

),

summed as (

    select
        customer_id,
        category,
        cast(sum(net_amount) as decimal(18, 2)) as revenue,
        cast(sum(case when is_recent then net_amount else 0 end) as decimal(18, 2)) as recent_revenue,
        cast(sum(lines_bought) as bigint) as lines_bought,
        cast(sum(case when is_recent then lines_bought else 0 end) as bigint) as recent_lines,
        cast(sum(bulk_lines) as bigint) as bulk_lines
    from marked
    group by customer_id, category
    having sum(lines_bought) > 0

)

select * from summed
