{#
  A ledger is appended day by day. Only keys that the new days touch can change,
  so only their rows are read again; on the first build that is everything.
#}
{% macro where_touched_by_new_days(relation, key) -%}
    {%- if var('ledger_through') -%}
        where {{ key }} in (select {{ key }} from {{ relation }} where received_date > {{ ledger_through() }})
    {%- endif -%}
{%- endmacro %}

{#
  The whole ledger as known in this run: what earlier runs kept, up to the day
  they still agree with the lake, and what this run appended.
#}
{% macro ledger_known(appended, kept) -%}
    {%- if var('ledger_through') %}
        select * from {{ read_parquet_files(var('state') ~ '/' ~ kept) }}
        where received_date <= {{ ledger_through() }}
            and received_date <= {{ known_at() }}

        union all

    {% endif -%}
        select * from {{ appended }}
{%- endmacro %}

{# Amount in the shop's reporting currency, to the cent; `rates` is an alias of int_currency_rates. #}
{% macro in_reporting_currency(amount, rates='rates') -%}
    cast(round({{ amount }} * {{ rates }}.rate, 2) as decimal(18, 2))
{%- endmacro %}
