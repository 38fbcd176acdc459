{# A key of a JSON object as text; null where the key is missing, or the text is no JSON. #}
{% macro json_text(json, key) -%}
    {{ adapter.dispatch('json_text', 'strataflow')(json, key) }}
{%- endmacro %}

{% macro duckdb__json_text(json, key) -%}
    case when json_valid({{ json }}) then {{ json }} ->> {{ key }} end
{%- endmacro %}

{% macro spark__json_text(json, key) -%}
    get_json_object({{ json }}, '$.' || {{ key }})
{%- endmacro %}
