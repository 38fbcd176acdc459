{% set measures = ['recency', 'frequency', 'monetary'] %}

with

customers as (

    select
        {{ days_between('last_order_date', as_of()) }} as recency,
        frequency,
        monetary
    from {{ ref('int_customer_orders_summed') }}
    where frequency > 0

),

{% for measure in measures %}
{{ measure }}_cutoffs as (

    select
        '{{ measure }}' as measure,
        {{ rfm_cutoffs(measure) }},
        {{ mean_of(measure) }} as mean_value,
        cast(count(*) as bigint) as customers_in_window
    from customers

),
{% endfor %}

united as (

    {% for measure in measures %}
    select * from {{ measure }}_cutoffs
    {{ 'union all' if not loop.last }}
    {% endfor %}

)

select * from united
