with

products as (

    select * from {{ ref('stg_lake__products') }}

),

ranked as (

    select
        *,
        row_number() over (
            partition by product_id, received_date order by source desc, source_line desc
        ) as version_rank
    from products

),

versions as (

    select
        product_id,
        category,
        product_name,
        received_date as valid_from,
        lead(received_date) over (partition by product_id order by received_date) as valid_until
    from ranked
    where version_rank = 1

)

select * from versions
