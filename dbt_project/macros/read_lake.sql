{#
  Reads a canonical table where it lies, in the Parquet partitions of the lake.
  A table that no source of the shop feeds has no partition: it reads as an
  empty table of the same columns, so that a shop without an interaction log
  still builds.
#}
{% macro read_lake(table) -%}
    {{ adapter.dispatch('read_lake', 'strataflow')(table) }}
{%- endmacro %}

{% macro duckdb__read_lake(table) -%}
    {%- do source('lake', table) -%}
    {%- if table in var('landed_tables') -%}
        read_parquet('{{ var('lake') | replace("'", "''") }}/{{ table }}/*/*.parquet', hive_partitioning = true, hive_types = {'received_date': date})
    {%- else -%}
        (
            select
            {%- for column in lake_columns(table) %}
                cast(null as {{ column.data_type }}) as {{ column.name }},
            {%- endfor %}
                cast(null as date) as received_date
            where 1 = 0
        )
    {%- endif -%}
{%- endmacro %}

{# On Spark the tables are declared before dbt starts, those without a partition too (engines/spark.py). #}
{% macro spark__read_lake(table) -%}
    {{ source('lake', table) }}
{%- endmacro %}

{% macro lake_columns(table) %}
    {%- set found = [] -%}
    {%- if execute -%}
        {%- for node in graph.sources.values() if node.source_name == 'lake' and node.name == table -%}
            {%- for column in node.columns.values() -%}{%- do found.append(column) -%}{%- endfor -%}
        {%- endfor -%}
    {%- endif -%}
    {{ return(found) }}
{% endmacro %}

{# All Parquet files of a folder, as what an earlier run kept for this one. #}
{% macro read_parquet_files(path) -%}
    {{ adapter.dispatch('parquet_files', 'strataflow')(path) }}
{%- endmacro %}

{% macro duckdb__parquet_files(path) -%}
    read_parquet('{{ path | replace("'", "''") }}/*.parquet')
{%- endmacro %}

{% macro spark__parquet_files(path) -%}
    parquet.`{{ path | replace("`", "``") }}`
{%- endmacro %}
