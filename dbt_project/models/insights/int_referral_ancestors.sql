{#
  Everyone through whom a customer came, one generation after another, up to referral_max_generations.
#}
{{ config(materialized='table') }}

{% set most = var('referral_max_generations') %}

with

edges as (

    select referred_customer_id, referrer_id from {{ ref('int_referrals_credited') }}
    where not is_circular

),

chains as (

    select
        edges.referred_customer_id as customer_id,
        edges.referrer_id as ancestor_1,
        {%- for step in range(2, most + 1) %}
        step_{{ step }}.referrer_id as ancestor_{{ step }}{{ ',' if not loop.last }}
        {%- endfor %}
    from edges
    {%- for step in range(2, most + 1) %}
    left join edges as step_{{ step }}
        on {{ 'edges' if step == 2 else 'step_' ~ (step - 1) }}.referrer_id = step_{{ step }}.referred_customer_id
    {%- endfor %}

),

ancestors as (

    {% for step in range(1, most + 1) %}
    select customer_id, ancestor_{{ step }} as ancestor_id, {{ step }} as distance from chains
    where ancestor_{{ step }} is not null
    {{ 'union all' if not loop.last }}
    {% endfor %}

)

select * from ancestors
