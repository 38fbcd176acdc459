{# What a run is about. Models never read the clock: these are their only dates. #}

{% macro as_of() %}cast('{{ var("as_of") }}' as date){% endmacro %}

{% macro known_at() %}cast('{{ var("known_at") }}' as date){% endmacro %}

{% macro ledger_through() %}cast('{{ var("ledger_through") or "0001-01-01" }}' as date){% endmacro %}

{% macro window_start() %}cast({{ dbt.dateadd('day', 1 - var('rfm_window_days'), as_of()) }} as date){% endmacro %}

{% macro days_between(earlier, later) %}cast({{ dbt.datediff(earlier, later, 'day') }} as integer){% endmacro %}
