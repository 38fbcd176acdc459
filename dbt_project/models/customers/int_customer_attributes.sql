with

customers as (

    select * from {{ ref('stg_lake__customers') }}
    where coalesce(registered_date, received_date) <= {{ as_of() }}

),

ranked as (

    select
        *,
        min(received_date) over (partition by customer_id) as first_received_date,
        row_number() over (
            partition by customer_id order by received_date desc, source desc, source_line desc
        ) as recency_rank
    from customers

),

latest as (

    select
        customer_id,
        registered_date,
        substring(cast(registered_date as {{ dbt.type_string() }}), 1, 7) as registered_month,
        first_received_date,
        region,
        source_channel,
        industry,
        customer_type,
        attributes
    from ranked
    where recency_rank = 1

)

select * from latest
