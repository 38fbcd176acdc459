{# The two years that end on the day: time-based metrics are joined to it, so that a day without a row counts as none. #}
with

digits as (

    {% for digit in range(10) %}
    select {{ digit }} as digit {{ 'union all' if not loop.last }}
    {% endfor %}

),

numbers as (

    select hundreds.digit * 100 + tens.digit * 10 + ones.digit as days_before
    from digits as hundreds
    cross join digits as tens
    cross join digits as ones

),

days as (

    select {{ days_after(as_of(), '-days_before') }} as calendar_date
    from numbers
    where days_before < 731

)

select * from days
