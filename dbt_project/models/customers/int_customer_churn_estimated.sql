{#
  P(no valid order in the next churn_horizon_days). A customer buys with a
  rhythm g (mean days between order days, drawn towards the shop's own for
  customers with few gaps) and drops out with a small share after each order:
    P(gone)      = share / (share + (1 - share) * exp(-silence / g))
    P(no return) = P(gone) + (1 - P(gone)) * exp(-horizon / g)
  Definition and reading: docs/metrics.md#churn-probability.
#}

with

orders as (

    select * from {{ ref('int_customer_orders_summed') }}
    where lifetime_orders > 0

),

spans as (

    select
        customer_id,
        {{ days_between('first_order_date', 'last_order_date') }} as span_days,
        order_days - 1 as gaps,
        {{ days_between('last_order_date', as_of()) }} as silence_days
    from orders

),

shop as (

    select
        case when sum(gaps) > 0 then cast(sum(span_days) as double) / sum(gaps) else {{ var('churn_horizon_days') }} end as shop_gap_days
    from spans

),

rhythms as (

    select
        spans.customer_id,
        spans.gaps,
        spans.silence_days,
        greatest(
            1.0,
            (spans.span_days + {{ var('churn_rhythm_weight') }} * shop.shop_gap_days)
            / (spans.gaps + {{ var('churn_rhythm_weight') }})
        ) as rhythm_days
    from spans
    cross join shop

),

gone as (

    select
        *,
        {{ var('churn_dropout_share') }}
        / (
            {{ var('churn_dropout_share') }}
            + (1 - {{ var('churn_dropout_share') }}) * exp(-silence_days / rhythm_days)
        ) as gone_probability
    from rhythms

),

estimated as (

    select
        customer_id,
        gaps,
        silence_days,
        cast(round(rhythm_days, 1) as decimal(9, 1)) as rhythm_days,
        round(
            gone_probability + (1 - gone_probability) * exp(-{{ var('churn_horizon_days') }} / rhythm_days), 6
        ) as churn_probability
    from gone

)

select * from estimated
