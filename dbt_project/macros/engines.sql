{#
  For a `with` that only names a table: DuckDB copies a `with` that is read more than once, all rows of it, where
  reading the table again costs nothing. Spark reads again of itself.

      segments as {{ not_copied() }} (
#}
{% macro not_copied() -%}
    {{ adapter.dispatch('not_copied', 'strataflow')() }}
{%- endmacro %}

{% macro default__not_copied() -%}
    not materialized
{%- endmacro %}

{% macro spark__not_copied() -%}{%- endmacro %}
