{% set measures = ['recency', 'frequency', 'monetary'] %}

with

scored as (

    select * from {{ ref('int_customer_rfm_scored') }}

),

means as (

    {% for measure in measures %}
    select
        '{{ measure }}' as measure,
        cast({{ mean_of(measure ~ '_score') }} as decimal(9, 6)) as mean_score,
        cast(count(*) as bigint) as scored_customers
    from scored
    {{ 'union all' if not loop.last }}
    {% endfor %}

)

select * from means
