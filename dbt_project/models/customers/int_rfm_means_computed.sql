{% set measures = ['recency', 'frequency', 'monetary'] %}

with

scored as (

    select * from {{ ref('int_customer_rfm_scored') }}

),

means as (

    {% for measure in measures %}
    select
        '{{ measure }}' as measure,
        cast(sum({{ measure }}_score) as decimal(18, 6)) / nullif(count(*), 0) as mean_score,
        cast(count(*) as bigint) as scored_customers
    from scored
    {{ 'union all' if not loop.last }}
    {% endfor %}

),

rounded as (

    select
        measure,
        cast(mean_score as decimal(9, 6)) as mean_score,
        scored_customers
    from means

)

select * from rounded
