{# When people order; `day` is a business date. #}

{# Saturdays and Sundays; 5 January 1970 was a Monday. #}
{% macro is_weekend(day) -%}
    ({{ days_between("cast('1970-01-05' as date)", day) }} % 7) in (5, 6, -1, -2)
{%- endmacro %}

{# From office_hours_start to before office_hours_end on Mondays to Fridays. #}
{% macro is_office_hour(day, hour) -%}
    ({{ hour }} >= {{ var('office_hours_start') }} and {{ hour }} < {{ var('office_hours_end') }} and not {{ is_weekend(day) }})
{%- endmacro %}
