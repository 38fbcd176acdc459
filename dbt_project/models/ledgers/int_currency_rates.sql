with

rates as (

    select
        currency,
        cast(valid_from as date) as valid_from,
        cast(rate as decimal(18, 6)) as rate
    from {{ ref('currency_rates') }}
    where reporting_currency = '{{ var("shop_currency") }}'
        and currency <> '{{ var("shop_currency") }}'

),

bounded as (

    select
        currency,
        valid_from,
        lead(valid_from) over (partition by currency order by valid_from) as valid_until,
        rate
    from rates

),

own_currency as (

    select
        '{{ var("shop_currency") }}' as currency,
        cast('0001-01-01' as date) as valid_from,
        cast(null as date) as valid_until,
        cast(1 as decimal(18, 6)) as rate

),

united as (

    select * from own_currency
    union all
    select * from bounded

)

select * from united
