{#
  RFM scores by value cut-offs: score = 1 + the number of cut-offs strictly below
  the value, so that equal values always score equally. For recency few days are
  good, so the score is mirrored within the same scale. See docs/metrics.md#rfm.
#}

{% macro rfm_cutoffs(measure) -%}
    {%- set method = var('rfm_method') -%}
    {%- if method == 'quantile' -%}
        {%- for share in [0.2, 0.4, 0.6, 0.8] %}
        cast(percentile_disc({{ share }}) within group (order by {{ measure }}) as decimal(18, 2)) as cutoff_{{ loop.index }}{{ ',' if not loop.last }}
        {%- endfor -%}
    {%- elif method == 'fixed' -%}
        {%- for value in var('rfm_fixed_cutoffs')[measure] %}
        cast({{ value }} as decimal(18, 2)) as cutoff_{{ loop.index }}{{ ',' if not loop.last }}
        {%- endfor -%}
    {%- elif method == 'mean' %}
        cast({{ mean_of(measure) }} as decimal(18, 2)) as cutoff_1,
        cast(null as decimal(18, 2)) as cutoff_2,
        cast(null as decimal(18, 2)) as cutoff_3,
        cast(null as decimal(18, 2)) as cutoff_4
    {%- else -%}
        {{ exceptions.raise_compiler_error("rfm_method is '" ~ method ~ "'; it must be quantile, fixed or mean (dbt_project.yml, vars)") }}
    {%- endif -%}
{%- endmacro %}

{#
  Mean of a measure that is never empty or negative, to six decimals with halves
  up. It is worked out in whole hundredths: a division of doubles rounds a half
  up or down as it happens, and not the same way on every engine.
#}
{% macro mean_of(measure) -%}
    cast(
        cast(
            {{ whole_division(
                '20000 * cast(sum(cast(100 * ' ~ measure ~ ' as bigint)) as bigint) + count(*)', 'nullif(2 * count(*), 0)'
            ) }} as bigint
        ) * 0.000001 as decimal(18, 6)
    )
{%- endmacro %}

{% macro whole_division(dividend, divisor) -%}
    {{ adapter.dispatch('whole_division', 'strataflow')(dividend, divisor) }}
{%- endmacro %}

{% macro duckdb__whole_division(dividend, divisor) -%}
    ({{ dividend }}) // ({{ divisor }})
{%- endmacro %}

{% macro spark__whole_division(dividend, divisor) -%}
    ({{ dividend }}) div ({{ divisor }})
{%- endmacro %}

{% macro cutoffs_below(value, cutoffs) -%}
    (
        {%- for number in [1, 2, 3, 4] %}
        case when {{ cutoffs }}.cutoff_{{ number }} < {{ value }} then 1 else 0 end{{ ' +' if not loop.last }}
        {%- endfor %}
    )
{%- endmacro %}

{% macro cutoffs_given(cutoffs) -%}
    (
        {%- for number in [1, 2, 3, 4] %}
        case when {{ cutoffs }}.cutoff_{{ number }} is null then 0 else 1 end{{ ' +' if not loop.last }}
        {%- endfor %}
    )
{%- endmacro %}

{% macro score_by_cutoffs(value, cutoffs, best='high') -%}
    {%- if best == 'high' -%}
        cast(1 + {{ cutoffs_below(value, cutoffs) }} as integer)
    {%- else -%}
        cast(1 + {{ cutoffs_given(cutoffs) }} - {{ cutoffs_below(value, cutoffs) }} as integer)
    {%- endif -%}
{%- endmacro %}

{# Whether a measure counts as high, by var high_rule. #}
{% macro is_high(score, mean_score, value, mean_value, best='high') -%}
    {%- set rule = var('high_rule') -%}
    {%- if rule == 'mean_score' -%}
        {{ score }} > {{ mean_score }}
    {%- elif rule == 'score_at_least' -%}
        {{ score }} >= {{ var('high_score_at_least') }}
    {%- elif rule == 'value_mean' -%}
        {{ value }} {{ '>' if best == 'high' else '<' }} {{ mean_value }}
    {%- else -%}
        {{ exceptions.raise_compiler_error("high_rule is '" ~ rule ~ "'; it must be mean_score, score_at_least or value_mean (dbt_project.yml, vars)") }}
    {%- endif -%}
{%- endmacro %}
