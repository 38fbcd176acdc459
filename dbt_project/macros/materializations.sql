{#
  How DuckDB writes a table or a view: with one statement. A build writes into a database file of its own that
  nobody opens before it is whole, so nothing has to be written aside, renamed and committed, as dbt does for
  relations that are read while they are replaced. Hooks, grants and indexes have no place in such a file.
#}
{% materialization table, adapter='duckdb' -%}
    {%- set relation = this.incorporate(type='table') -%}
    {%- do drop_if_there(this) -%}
    {%- call statement('main', auto_begin=False) -%}
        {{ create_table_as(False, relation, compiled_code) }}
    {%- endcall -%}
    {{ return({'relations': [relation]}) }}
{%- endmaterialization %}

{% materialization view, adapter='duckdb' -%}
    {%- set relation = this.incorporate(type='view') -%}
    {%- do drop_if_there(this) -%}
    {%- call statement('main', auto_begin=False) -%}
        {{ get_create_view_as_sql(relation, compiled_code) }}
    {%- endcall -%}
    {{ return({'relations': [relation]}) }}
{%- endmaterialization %}

{# Only where an analyst builds twice into one file with dbt itself. #}
{% macro drop_if_there(relation) -%}
    {%- set there = load_cached_relation(relation) -%}
    {%- if there is not none -%}
        {%- do adapter.drop_relation(there) -%}
    {%- endif -%}
{%- endmacro %}
