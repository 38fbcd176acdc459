{#
  What `strataflow build` hands over about the vocabulary (scripts/strataflow/tags/handed.py): one of its
  tables, or no rows of the same columns where no manual tag has been received.
#}
{% macro handed_over(name, columns) -%}
    select
    {%- for column, type in columns.items() %}
        cast({{ column if var('tag_texts') else 'null' }} as {{ type }}) as {{ column }}{{ ',' if not loop.last }}
    {%- endfor %}
    {% if var('tag_texts') -%}
    from {{ read_parquet_files(var('tag_texts') ~ '/' ~ name) }}
    {%- else -%}
    from (select 1 as nothing) as nothing_handed_over
    where 1 = 0
    {%- endif -%}
{%- endmacro %}

{# Whether the shop has manual tags at all; without them nothing is looked for beside them. #}
{% macro has_manual_tags() -%}
    {{ return('manual_tags' in var('landed_tables')) }}
{%- endmacro %}

{# The different texts of a column in one, in order. #}
{% macro joined_texts(column) -%}
    {{ adapter.dispatch('joined_texts', 'strataflow')(column) }}
{%- endmacro %}

{% macro duckdb__joined_texts(column) -%}
    string_agg(distinct {{ column }}, ', ' order by {{ column }})
{%- endmacro %}

{% macro spark__joined_texts(column) -%}
    array_join(sort_array(collect_set({{ column }})), ', ')
{%- endmacro %}
