{# What dbt's own macros have to be told about Spark; dbt finds these before its adapter's. #}

{#
  Contracts and fixtures name types as DuckDB does; a varchar of any length is a string in Spark, a
  timestamp that no zone moves a timestamp_ntz.
#}
{% macro spark__cast(field, type) -%}
    cast({{ field }} as {{ {'varchar': 'string', 'timestamp': 'timestamp_ntz'}.get(type, type) }})
{%- endmacro %}

{# The adapter writes an empty cell as the text None and stumbles over an apostrophe. #}
{% macro spark__load_csv_rows(model, agate_table) %}
    {%- set types = model['config'].get('column_types', {}) -%}
    {%- set sql -%}
        insert into {{ this }} values
        {%- for row in agate_table.rows %}
        (
            {%- for value in row -%}
            {%- set type = types.get(agate_table.column_names[loop.index0], adapter.convert_type(agate_table, loop.index0)) -%}
            cast({{ spark_literal(value) }} as {{ type }}){{ ', ' if not loop.last }}
            {%- endfor -%}
        ){{ ',' if not loop.last }}
        {%- endfor %}
    {%- endset -%}
    {%- do adapter.add_query(sql, abridge_sql_log=True) -%}
    {{ return(sql) }}
{% endmacro %}

{% macro spark_literal(value) -%}
    {%- if value is none -%}
        null
    {%- else -%}
        '{{ value | string | replace("\\", "\\\\") | replace("'", "\\'") }}'
    {%- endif -%}
{%- endmacro %}
