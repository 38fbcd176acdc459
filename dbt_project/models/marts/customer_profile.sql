{#
  Generated from the dictionary: the columns are those that `strataflow tags profile` has written into
  _customer_profile__columns.yml, and how they are filled is said in macros/customer_profile.sql.
#}
{% set sums = profile_sums() %}

with

segments as (

    select * from {{ ref('customer_segments') }}

),

tags as (

    select * from {{ ref('customer_tags') }}

),

codes as (

    select
        coded.tag_id,
        coded.slot,
        {% for sum in range(1, sums + 1) %}
        cast(coded.sum_{{ sum }} as bigint) as sum_{{ sum }}{{ ',' if not loop.last }}
        {% endfor %}
    from (
        values
        {{ profile_codes() }}
    ) as coded (tag_id, slot, {% for sum in range(1, sums + 1) %}sum_{{ sum }}{{ ', ' if not loop.last }}{% endfor %})

),

---------- everybody has a row, tags or not
coded as (

    select
        tags.customer_id,
        tags.tag_value,
        codes.*
    from tags
    inner join codes on tags.tag_id = codes.tag_id

    union all

    select
        customer_id,
        cast(null as {{ dbt.type_string() }}) as tag_value,
        cast(null as {{ dbt.type_string() }}) as tag_id,
        0 as slot,
        {% for sum in range(1, sums + 1) %}
        0 as sum_{{ sum }}{{ ',' if not loop.last }}
        {% endfor %}
    from segments

),

summed as (

    select
        customer_id,
        {% for column in profile_columns() | selectattr('holds', 'equalto', 'value') %}
        max(case when slot = {{ loop.index }} then coalesce(tag_value, tag_id) end) as {{ column.name }},
        {% endfor %}
        {% for sum in range(1, sums + 1) %}
        cast(sum(sum_{{ sum }}) as bigint) as sum_{{ sum }}{{ ',' if not loop.last }}
        {% endfor %}
    from coded
    group by customer_id

),

profile as (

    select
        ---------- ids
        customer_id,
        {{ as_of() }} as as_of_date,

        ---------- values
        {% for column in profile_columns() | selectattr('holds', 'equalto', 'value') %}
        {{ column.name }},
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

)

select * from profile
