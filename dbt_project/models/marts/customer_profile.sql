{#
  Generated from the dictionary: the columns are those that `strataflow tags profile` has written into
  _customer_profile__columns.yml, and how they are filled is said in macros/customer_profile.sql.
#}
{% set sums = profile_sums() %}
{% set value_columns = profile_columns() | selectattr('holds', 'equalto', 'value') | list %}

with

segments as (

    select * from {{ ref('customer_segments') }}

),

tags as {{ not_copied() }} (

    select * from {{ ref('customer_tags') }}

),

codes as (

    select
        coded.tag_id,
        {% for sum in range(1, sums + 1) %}
        cast(coded.sum_{{ sum }} as bigint) as sum_{{ sum }}{{ ',' if not loop.last }}
        {% endfor %}
    from (
        values
        {{ profile_codes() }}
    ) as coded (tag_id, {% for sum in range(1, sums + 1) %}sum_{{ sum }}{{ ', ' if not loop.last }}{% endfor %})

),

---------- everybody has a row, tags or not
coded as (

    select
        tags.customer_id,
        {% for sum in range(1, sums + 1) %}
        codes.sum_{{ sum }}{{ ',' if not loop.last }}
        {% endfor %}
    from tags
    inner join codes on tags.tag_id = codes.tag_id

    union all

    select
        customer_id,
        {% for sum in range(1, sums + 1) %}
        0 as sum_{{ sum }}{{ ',' if not loop.last }}
        {% endfor %}
    from segments

),

summed as (

    select
        customer_id,
        {% for sum in range(1, sums + 1) %}
        cast(sum(sum_{{ sum }}) as bigint) as sum_{{ sum }}{{ ',' if not loop.last }}
        {% endfor %}
    from coded
    group by customer_id

),

---------- apart, because few tags have a value
valued as (

    select
        customer_id{{ ',' if value_columns }}
        {% for column in value_columns %}
        max(case when {{ tag_is_one_of(column.tags) }} then coalesce(tag_value, tag_id) end) as {{ column.name }}{{ ',' if not loop.last }}
        {% endfor %}
    from tags
    where {{ tag_is_one_of(value_columns | map(attribute='tags') | sum(start=[])) }}
    group by customer_id

),

profile as (

    select
        ---------- ids
        summed.customer_id,
        {{ as_of() }} as as_of_date,

        ---------- values
        {% for column in value_columns %}
        valued.{{ column.name }},
        {% endfor %}

        ---------- words and flags
        {% for digit in profile_digits() %}
        {% if digit.holds == 'flag' %}
        {{ profile_digit(digit) }} = 1 as {{ digit.name }}{{ ',' if not loop.last }}
        {% else %}
        case {{ profile_digit(digit) }}
            {% for tag in digit.tags %}
            when {{ loop.index }} then '{{ tag }}'
            {% endfor %}
        end as {{ digit.name }}{{ ',' if not loop.last }}
        {% endif %}
        {% endfor %}
    from summed
    left join valued on summed.customer_id = valued.customer_id

)

select * from profile
