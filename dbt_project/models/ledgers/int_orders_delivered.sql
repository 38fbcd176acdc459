{#
  Orders arrive whole (table orders) or as lines (table order_lines); a shop
  that delivers both has its orders at order level and its lines for products.
#}
{% set from_orders = 'orders' in var('landed_tables') %}

with

statuses as (

    select status, counts_as_valid from {{ ref('order_statuses') }}

),

rates as (

    select * from {{ ref('int_currency_rates') }}

),

{% if from_orders %}
touched as (

    select * from {{ ref('stg_lake__orders') }}
    {{ where_touched_by_new_days(ref('stg_lake__orders'), 'order_id') }}

),
{% else %}
touched as (

    select * from {{ ref('stg_lake__order_lines') }}
    {{ where_touched_by_new_days(ref('stg_lake__order_lines'), 'order_id') }}

),
{% endif %}

valued as (

    select
        touched.*,
        coalesce(statuses.counts_as_valid, false) as counts_as_valid,
        {{ in_reporting_currency('(touched.amount - touched.refunded_amount)') }} as net_amount,
        {{ in_reporting_currency('touched.refunded_amount') }} as refund_amount,
        {{ in_reporting_currency('touched.discount_amount') }} as discount,
        {{ in_reporting_currency('touched.coupon_amount') }} as coupon
    from touched
    left join statuses on touched.status = statuses.status
    left join rates
        on touched.currency = rates.currency
            and touched.order_date >= rates.valid_from
            and (rates.valid_until is null or touched.order_date < rates.valid_until)

),

{% if from_orders %}
delivered as (

    select
        order_id,
        received_date,
        is_adjustment,
        source,
        source_line,
        customer_id,
        order_date,
        order_hour,
        channel,
        counts_as_valid,
        net_amount,
        refund_amount,
        discount,
        coupon
    from valued

)
{% else %}
delivered as (

    select
        order_id,
        received_date,
        is_adjustment,
        'lines' as source,
        0 as source_line,
        min(customer_id) as customer_id,
        min(order_date) as order_date,
        min(order_hour) as order_hour,
        min(channel) as channel,
        bool_or(counts_as_valid) as counts_as_valid,
        cast(coalesce(sum(case when counts_as_valid then net_amount end), 0) as decimal(18, 2)) as net_amount,
        cast(coalesce(sum(case when counts_as_valid then refund_amount end), 0) as decimal(18, 2)) as refund_amount,
        cast(coalesce(sum(case when counts_as_valid then discount end), 0) as decimal(18, 2)) as discount,
        cast(coalesce(sum(case when counts_as_valid then coupon end), 0) as decimal(18, 2)) as coupon
    from valued
    group by order_id, received_date, is_adjustment

)
{% endif %}

select * from delivered
