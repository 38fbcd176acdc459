{#
  Whether a customer is held out of the lists to act on, by lot: var holdout_share of the
  customers, the same ones every day. The lot is the MD5 of salt and customer_id, whose first
  eight hexadecimal digits are compared with the share's; text against text of equal length, so
  that every engine answers alike. A greater share keeps those in it who were in the smaller one.
#}
{% macro is_holdout(customer_id) -%}
    {%- set share = var('holdout_share') | float(-1) -%}
    {%- if share < 0 or share >= 1 -%}
        {{ exceptions.raise_compiler_error("holdout_share is '" ~ var('holdout_share') ~ "'; it must be a share from 0 to below 1 (dbt_project.yml, vars)") }}
    {%- endif -%}
    {%- set salt = var('holdout_salt') | string | replace("'", "''") -%}
    substring({{ dbt.hash("'" ~ salt ~ ":' || " ~ customer_id) }}, 1, 8) < '{{ '%08x' % (share * 4294967296) | int }}'
{%- endmacro %}
