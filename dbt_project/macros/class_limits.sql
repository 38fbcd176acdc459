{#
  Where a measure begins to count as high, from the rules that is_high applies (rfm.sql):
  what customer_explanations counts distances to. See docs/metrics.md#next-steps.
#}

{# The lowest score that counts as high; null where values are compared instead. #}
{% macro high_from_score(mean_score) -%}
    {%- set rule = var('high_rule') -%}
    {%- if rule == 'mean_score' -%}
        cast(floor({{ mean_score }}) as integer) + 1
    {%- elif rule == 'score_at_least' -%}
        {{ var('high_score_at_least') }}
    {%- else -%}
        cast(null as integer)
    {%- endif -%}
{%- endmacro %}

{# The value that has to be passed, of a row of int_rfm_cutoffs_computed: a cut-off, or the mean where values are compared. #}
{% macro value_to_pass(number) -%}
    {%- if var('high_rule') == 'value_mean' -%}
        mean_value
    {%- else -%}
        cast(
            case {{ number }}
                {%- for position in [1, 2, 3, 4] %}
                when {{ position }} then cutoff_{{ position }}
                {%- endfor %}
            end as decimal(18, 6)
        )
    {%- endif -%}
{%- endmacro %}

{#
  A customer who passes a quantile no longer counts below it, so that the quantile may
  become the next value above: that is the one to pass then. Other cut-offs stay.
#}
{% macro passed_by_one(value, share_number, at_or_below, next_above, customers) -%}
    {%- if var('rfm_method') == 'quantile' and var('high_rule') != 'value_mean' -%}
        case
            when 5 * ({{ at_or_below }} - 1) >= {{ share_number }} * {{ customers }} then {{ value }}
            else coalesce(cast({{ next_above }} as decimal(18, 6)), {{ value }})
        end
    {%- else -%}
        {{ value }}
    {%- endif -%}
{%- endmacro %}
