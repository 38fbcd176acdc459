{# The groups in force as rows: id, names, when the id was given, and each measure at the centre; none without groups. #}
{% macro clusters_in_force() -%}
    {%- set measures = ['silence_days', 'order_days', 'order_value', 'tenure_days', 'discount_share', 'refund_share', 'engagement'] -%}
    {%- for cluster in var('cluster_fit').clusters %}
    select
        '{{ cluster.cluster_id }}' as cluster_id,
        '{{ cluster.name_en | replace("'", "''") }}' as name_en,
        '{{ cluster.name_zh | replace("'", "''") }}' as name_zh,
        cast('{{ cluster.first_fitted_on }}' as date) as first_fitted_on,
        {%- for measure in measures %}
        cast({{ cluster.typical[measure] if cluster.typical[measure] is not none else 'null' }} as decimal(18, 6)) as typical_{{ measure }}{{ ',' if not loop.last }}
        {%- endfor %}
    {{ 'union all' if not loop.last }}
    {%- else %}
    select
        cast(null as {{ dbt.type_string() }}) as cluster_id,
        cast(null as {{ dbt.type_string() }}) as name_en,
        cast(null as {{ dbt.type_string() }}) as name_zh,
        cast(null as date) as first_fitted_on,
        {%- for measure in measures %}
        cast(null as decimal(18, 6)) as typical_{{ measure }}{{ ',' if not loop.last }}
        {%- endfor %}
    where 1 = 0
    {%- endfor %}
{%- endmacro %}
