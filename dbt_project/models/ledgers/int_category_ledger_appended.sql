{{ config(materialized='table') }}

with

lines as (

    select * from {{ ref('stg_lake__order_lines') }}
    {{ where_touched_by_new_days(ref('stg_lake__order_lines'), 'order_id') }}

),

statuses as (

    select status from {{ ref('order_statuses') }}
    where counts_as_valid

),

rates as (

    select * from {{ ref('int_currency_rates') }}

),

products as (

    select * from {{ ref('int_product_versions') }}

),

whole_deliveries as (

    select distinct order_id, received_date from lines
    where not is_adjustment

),

---------- each whole delivery ends the lines delivered since the one before it
superseded as (

    select
        order_id,
        coalesce(
            lag(received_date) over (partition by order_id order by received_date), cast('0001-01-01' as date)
        ) as first_ended_date,
        received_date as superseded_date
    from whole_deliveries

),

valued as (

    select
        lines.order_id,
        lines.customer_id,
        products.category,
        lines.order_date,
        lines.received_date,
        case when lines.quantity >= {{ var('bulk_line_units') }} then 1 else 0 end as is_bulk,
        {{ in_reporting_currency('(lines.amount - lines.refunded_amount)') }} as net_amount
    from lines
    inner join statuses on lines.status = statuses.status
    inner join products
        on lines.product_id = products.product_id
            and lines.received_date >= products.valid_from
            and (products.valid_until is null or lines.received_date < products.valid_until)
    left join rates
        on lines.currency = rates.currency
            and lines.order_date >= rates.valid_from
            and (rates.valid_until is null or lines.order_date < rates.valid_until)
    where products.category is not null

),

ended as (

    select
        valued.customer_id,
        valued.category,
        valued.order_date,
        superseded.superseded_date as received_date,
        valued.is_bulk,
        valued.net_amount
    from valued
    inner join superseded
        on valued.order_id = superseded.order_id
            and valued.received_date >= superseded.first_ended_date
            and valued.received_date < superseded.superseded_date

),

signed as (

    select customer_id, category, order_date, received_date, 1 as sign, is_bulk, net_amount from valued
    union all
    select customer_id, category, order_date, received_date, -1 as sign, is_bulk, net_amount from ended

),

ledger as (

    select
        customer_id,
        category,
        order_date,
        received_date,
        cast(sum(sign) as integer) as lines_bought,
        cast(sum(sign * is_bulk) as integer) as bulk_lines,
        cast(sum(sign * net_amount) as decimal(18, 2)) as net_amount
    from signed
    where received_date > {{ ledger_through() }}
    group by customer_id, category, order_date, received_date

)

select * from ledger
