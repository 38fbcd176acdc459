{#
  The probability in force: of the model trained last, else the estimate from the
  customer's own rhythm. `because_*` is what a group of the customer's own numbers adds
  to the log-odds against the mean customer; empty where no model is in force.
#}
{% set groups = ['silence', 'rhythm', 'activity', 'value', 'discounts', 'refunds', 'engagement'] %}

with

{% if var('churn_scoring_sql') %}
scored as (

    {{ var('churn_scoring_sql') | replace('__features__', ref('int_customer_features_computed') | string) }}

)
{% else %}
-- depends_on: {{ ref('int_customer_features_computed') }}
scored as (

    select
        customer_id,
        churn_probability,
        {%- for group in groups %}
        cast(null as double) as because_{{ group }}{{ ',' if not loop.last }}
        {%- endfor %}
    from {{ ref('int_customer_churn_estimated') }}

)
{% endif %}

select * from scored
