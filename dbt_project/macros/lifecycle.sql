{#
  The ladder whose stage stands in lifecycle_stage. A name that is no ladder would
  otherwise end in a database error about a column that nobody has written.
#}
{% macro leading_ladder() -%}
    {%- set ladder = var('leading_ladder') -%}
    {%- if ladder not in ['ecommerce', 'high_ticket', 'activity'] -%}
        {{ exceptions.raise_compiler_error("leading_ladder is '" ~ ladder ~ "'; it must be ecommerce, high_ticket or activity (dbt_project.yml, vars)") }}
    {%- endif -%}
    {{ ladder }}
{%- endmacro %}
