{#
  How DuckDB writes a table or a view: with one statement. A build writes into a database file of its own that
  nobody opens before it is whole, so nothing has to be written aside, renamed and committed, as dbt does for
  relations that are read while they are replaced. Hooks, grants and indexes have no place in such a file.
#}
{% materialization table, adapter='duckdb' -%}
    {%- set relation = this.incorporate(type='table') -%}
    {%- do drop_if_there(this) -%}
    {%- do run_alone(create_table_as(False, relation, compiled_code)) -%}
    {{ return({'relations': [relation]}) }}
{%- endmaterialization %}

{% materialization view, adapter='duckdb' -%}
    {%- set relation = this.incorporate(type='view') -%}
    {%- do drop_if_there(this) -%}
    {%- do run_alone(get_create_view_as_sql(relation, compiled_code)) -%}
    {{ return({'relations': [relation]}) }}
{%- endmaterialization %}

{# Only where an analyst builds twice into one file with dbt itself. #}
{% macro drop_if_there(relation) -%}
    {%- set there = load_cached_relation(relation) -%}
    {%- if there is not none -%}
        {%- do adapter.drop_relation(there) -%}
    {%- endif -%}
{%- endmacro %}

{#
  dbt's own `statement` also writes each statement to a file below target/run, where it says what target/compiled
  says with a `create` in front, and makes an empty table of results: a tenth of a small shop's build.
#}
{% macro run_alone(sql) -%}
    {%- do adapter.add_query(sql, auto_begin=False) -%}
    {%- do store_result('main', response='OK') -%}
{%- endmacro %}
