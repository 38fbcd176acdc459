{# What a run is about. Models never read the clock: these are their only dates. #}

{% macro as_of() %}cast('{{ var("as_of") }}' as date){% endmacro %}

{% macro known_at() %}cast('{{ var("known_at") }}' as date){% endmacro %}

{% macro ledger_through() %}cast('{{ var("ledger_through") or "0001-01-01" }}' as date){% endmacro %}

{% macro window_start() %}{{ days_after(as_of(), 1 - var('rfm_window_days')) }}{% endmacro %}

{# Plain date arithmetic, in the words that DuckDB and Spark share; null where a date is null. #}

{% macro days_after(day, count) %}({{ day }} + ({{ count }})){% endmacro %}

{% macro days_between(earlier, later) %}cast({{ later }} - {{ earlier }} as integer){% endmacro %}
