{#
  What a customer's ledger rows come to. The models and the trainer's features render
  the same text, so that both mean the same by a name.
#}

{# One row per customer and business date: corrections cancel out within it. #}
{% macro order_days_of(ledger) -%}
    select
        customer_id,
        order_date,
        sum(placed_orders) as placed_orders,
        sum(valid_orders) as valid_orders,
        sum(coupon_orders) as coupon_orders,
        sum(refunded_orders) as refunded_orders,
        sum(net_amount) as net_amount,
        sum(discount_amount) as discount_amount
    from {{ ledger }}
    group by customer_id, order_date
{%- endmacro %}

{# One row per customer, from rows as order_days_of gives them. #}
{% macro order_totals_of(order_days) -%}
    select
        ---------- ids
        customer_id,

        ---------- dates
        min(case when placed_orders > 0 then order_date end) as first_placed_date,
        min(case when valid_orders > 0 then order_date end) as first_order_date,
        max(case when valid_orders > 0 then order_date end) as last_order_date,

        ---------- counts
        cast(sum(valid_orders) as bigint) as lifetime_orders,
        cast(count(case when valid_orders > 0 then 1 end) as bigint) as order_days,
        cast(sum(coupon_orders) as bigint) as lifetime_coupon_orders,
        cast(sum(refunded_orders) as bigint) as lifetime_refunded_orders,

        ---------- amounts
        cast(sum(net_amount) as decimal(18, 2)) as lifetime_value,
        cast(sum(discount_amount) as decimal(18, 2)) as lifetime_discount
    from {{ order_days }}
    group by customer_id
{%- endmacro %}

{# The day up to which an earlier run's totals are taken over; a day before all days where there are none. #}
{% macro totals_through() %}cast('{{ (var("kept_totals") or {"through": "0001-01-01"}).through }}' as date){% endmacro %}

{#
  An earlier run's totals, received and dated up to totals_through(): the columns of `empty`,
  a query of no rows that stands in where nothing is kept.
#}
{% macro kept_totals(name, empty) -%}
    {%- if var('kept_totals') -%}
        select * from {{ read_parquet_files(var('kept_totals').path ~ '/' ~ name) }}
    {%- else -%}
        select * from {{ empty }} where 1 = 0
    {%- endif -%}
{%- endmacro %}

{# Rows of a ledger that the kept totals don't have: received since, or dated ahead of them. #}
{% macro since_totals(ledger, date_column) -%}
    select * from {{ ledger }}
    where received_date > {{ totals_through() }}
        and {{ date_column }} <= {{ as_of() }}

    union all

    select * from {{ ledger }}
    where received_date <= {{ totals_through() }}
        and {{ date_column }} > {{ totals_through() }}
        and {{ date_column }} <= {{ as_of() }}
{%- endmacro %}
