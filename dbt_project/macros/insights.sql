{#
  Insights change slowly and read long histories: they are computed once a week, as of the
  last Sunday before the day and from what had been received by then, and taken over on
  the other days of the week. The trained churn model keeps the same calendar.
#}

{# The last Sunday before as_of(): what was known then is complete when the day is built. #}
{% macro insight_day() %}{{ days_after("cast(date_trunc('week', " ~ as_of() ~ ') as date)', -1) }}{% endmacro %}

{# A condition: false where the week's insights are on file already, so that nothing is read. #}
{% macro insights_are_due() %}{{ 'false' if var('kept_insights') else 'true' }}{% endmacro %}

{# The week's rows of `name`: from the file an earlier build of the week kept, else from the relation that computes them. #}
{% macro weekly(name, computed) -%}
    {%- if var('kept_insights') -%}
        select * from {{ read_parquet_files(var('kept_insights') ~ '/' ~ name) }}
    {%- else -%}
        select * from {{ computed }}
    {%- endif -%}
{%- endmacro %}

{# A share or ratio as it is published: six decimals, halves up, alike on every engine. #}
{% macro as_share(expression) -%}
    cast(round({{ expression }}, 6) as decimal(18, 6))
{%- endmacro %}

{#
  An end of the 95% Wilson interval of a share (Wilson 1927): the shares that `successes`
  out of `trials` do not speak against. Null where there are no trials.
#}
{% macro wilson_low(successes, trials) %}{{ _wilson(successes, trials, '-') }}{% endmacro %}

{% macro wilson_high(successes, trials) %}{{ _wilson(successes, trials, '+') }}{% endmacro %}

{% macro _wilson(successes, trials, sign) -%}
    {%- set z = '1.959963984540054e0' -%}
    {%- set n = 'nullif(cast(' ~ trials ~ ' as double), 0)' -%}
    {%- set p = '(' ~ successes ~ ' / ' ~ n ~ ')' -%}
    least(1.0, greatest(0.0, (
        {{ p }} + {{ z }} * {{ z }} / (2 * {{ n }})
        {{ sign }} {{ z }} * sqrt({{ p }} * (1 - {{ p }}) / {{ n }} + {{ z }} * {{ z }} / (4 * {{ n }} * {{ n }}))
    ) / (1 + {{ z }} * {{ z }} / {{ n }})))
{%- endmacro %}
