{#
  One row per customer from one row per customer and tag, in one pass.

  Which columns there are, and which tags stand in them, is what _customer_profile__columns.yml says of the
  model, and `strataflow tags profile` writes that file from the dictionary.

  A maximum per column and tag would be looked at again for each of many columns on each of many rows. So
  each column of words is one digit of a number: a tag adds its own value at the place of its column,
  the numbers are summed, and the digits taken apart again, once per customer. The sum is exact as long as
  nobody has two tags of an exclusive group, or one twice; both stop publishing (gate 2).
#}

{#
  The columns that hold tags, in order: name, tag_group, is_mandatory, tags (ids) and holds:
  tag_id (of an exclusive group), value (the values of its tags) or flag.
#}
{% macro profile_columns() %}
    {%- set found = [] -%}
    {%- if execute -%}
        {%- for node in graph.nodes.values() if node.resource_type == 'model' and node.name == 'customer_profile' -%}
            {%- for column in node.columns.values() if column.config.meta.holds -%}
                {%- do found.append(dict(column.config.meta, name=column.name)) -%}
            {%- endfor -%}
        {%- endfor -%}
    {%- endif -%}
    {{ return(found) }}
{% endmacro %}

{# The columns of words with the number (`sum`) and the place in it that is theirs; a number stays below 2^52. #}
{% macro profile_digits() %}
    {%- set digits, state = [], namespace(sum=1, place=1) -%}
    {%- for column in profile_columns() if column.holds != 'value' -%}
        {%- set base = column.tags | length + 1 -%}
        {%- if state.place * base > 4503599627370496 -%}
            {%- set state.sum = state.sum + 1 -%}
            {%- set state.place = 1 -%}
        {%- endif -%}
        {%- do digits.append(dict(column, sum=state.sum, place=state.place, base=base)) -%}
        {%- set state.place = state.place * base -%}
    {%- endfor -%}
    {{ return(digits) }}
{% endmacro %}

{# Rows of (tag_id, sum_1, sum_2, ...): what a tag adds to each number. #}
{% macro profile_codes() -%}
    {%- set digits, rows = profile_digits(), [] -%}
    {%- set sums = digits | map(attribute='sum') | max if digits else 1 -%}
    {%- for digit in digits -%}
        {%- for tag in digit.tags -%}
            {%- set cells = [] -%}
            {%- for sum in range(1, sums + 1) -%}
                {%- do cells.append(digit.place * (digit.tags.index(tag) + 1) if sum == digit.sum else 0) -%}
            {%- endfor -%}
            {%- do rows.append("('" ~ tag ~ "', " ~ cells | join(', ') ~ ")") -%}
        {%- endfor -%}
    {%- endfor -%}
    {{ rows | join(',\n        ') if rows else "('', 0)" }}
{%- endmacro %}

{# Whether a row of customer_tags is about one of the tags. #}
{% macro tag_is_one_of(tags) -%}
    {{ "tag_id in ('" ~ tags | join("', '") ~ "')" if tags else 'false' }}
{%- endmacro %}

{# How many numbers the columns of words take. #}
{% macro profile_sums() %}
    {%- set digits = profile_digits() -%}
    {{ return((digits | map(attribute='sum') | max) if digits else 1) }}
{% endmacro %}

{# The digit of a column, of a row of `summed`, which has its number as sum_<n>. #}
{% macro profile_digit(digit) -%}
    ({{ whole_division('summed.sum_' ~ digit.sum, digit.place) }}) % {{ digit.base }}
{%- endmacro %}

{# Whether a row of customer_profile has something in one of the columns. #}
{% macro profile_has(columns) -%}
    {%- set conditions = ['false'] -%}
    {%- for column in columns -%}
        {%- do conditions.append(column.name if column.holds == 'flag' else column.name ~ ' is not null') -%}
    {%- endfor -%}
    {{ conditions | join(' or ') }}
{%- endmacro %}
