{#
  The group of customers each one belongs to: the one whose centre is nearest, by the
  groups fitted last. Nobody has one where there are no groups.
#}
{{ config(enabled=var('clusters')) }}

with

{% if var('cluster_assignment_sql') %}
assigned as (

    {{ var('cluster_assignment_sql') | replace('__features__', ref('int_customer_features_computed') | string) }}

)
{% else %}
assigned as (

    select
        customer_id,
        cast(null as {{ dbt.type_string() }}) as cluster_id,
        cast(null as double) as distance,
        cast(null as {{ dbt.type_string() }}) as next_cluster_id,
        cast(null as double) as next_distance
    from {{ ref('int_customer_features_computed') }}
    where 1 = 0

)
{% endif %}

select * from assigned
