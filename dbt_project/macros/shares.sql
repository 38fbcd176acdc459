{#
  Shares for evidence and thresholds, in whole numbers: a share of doubles is rounded by the
  engine as it happens, and what is published has to be the same from every one.
#}

{# Percent, halves up; null where there is nothing to take a share of. Counts, never negative. #}
{% macro percent_of(part, whole) -%}
    cast({{ whole_division('200 * cast(' ~ part ~ ' as bigint) + cast(' ~ whole ~ ' as bigint)', 'nullif(2 * cast(' ~ whole ~ ' as bigint), 0)') }} as bigint)
{%- endmacro %}

{# Hundredths of a percent, rounded down; of amounts to the cent, never negative. #}
{% macro basis_points_of(part, whole) -%}
    cast({{ whole_division('cast(1000000 * (' ~ part ~ ') as bigint)', 'nullif(cast(100 * (' ~ whole ~ ') as bigint), 0)') }} as bigint)
{%- endmacro %}

{# Basis points as percent to the eye: 1834 is 18. #}
{% macro percent_of_basis_points(points) -%}
    {{ whole_division(points ~ ' + 50', '100') }}
{%- endmacro %}

{# A share from 0 to 1 with six decimals, rounded down; null where there is nothing to take a share of. Of counts. #}
{% macro share_of(part, whole) -%}
    cast({{ whole_division('1000000 * cast(' ~ part ~ ' as bigint)', 'nullif(cast(' ~ whole ~ ' as bigint), 0)') }} * 0.000001 as decimal(9, 6))
{%- endmacro %}
