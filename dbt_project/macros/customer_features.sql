{#
  What was known of each customer at the end of a day, for predicting whether they
  order again. The daily build renders it for the day of the run; the trainer renders
  the same text for the days it learns from, so that both mean the same by a name.

  totals        columns of int_customer_order_totals, as of the day
  orders        signed ledger rows as known then; read over four horizons, older ones
                have faded to a sixteenth or less and are in the totals
  interactions  ledger rows as known then, read over four horizons
  kinds         columns of the seed interaction_kinds
  day           a date expression; nothing dated later is looked at
  horizon       days of the prediction (var churn_horizon_days); windows scale with it

  One row per customer with a valid order. Sums are over decimals, so that every run
  gives the same bytes whatever the number of threads; logarithms and the like are
  settled at nine decimals, because their last digit differs from engine to engine and
  a step of the model may lie just there. No column is ever null.
#}
{% macro customer_features(totals, orders, interactions, kinds, day, horizon) -%}
{%- set horizon_as_double = 'cast(' ~ horizon ~ ' as double)' -%}
with

buyers as (

    select
        customer_id,
        {{ days_between('last_order_date', day) }} as silence_days,
        {{ days_between('first_order_date', day) }} as tenure_days,
        cast(order_days as integer) as order_days,
        cast(lifetime_orders as integer) as orders,
        cast(lifetime_value as double) as net_amount,
        cast(lifetime_discount as double) as discount_amount,
        cast(lifetime_coupon_orders as double) as coupon_orders,
        cast(lifetime_refunded_orders as double) as refunded_orders
    from {{ totals }}
    where lifetime_orders > 0

),

order_days as (

    select
        customer_id,
        {{ days_between('order_date', day) }} as days_ago
    from {{ orders }}
    where order_date <= {{ day }}
        and order_date > {{ days_after(day, '-4 * ' ~ horizon) }}
    group by customer_id, order_date
    having sum(valid_orders) > 0

),

recent as (

    select
        customer_id,
        cast(sum(case when days_ago < {{ horizon }} then 1 else 0 end) as integer) as days_last_horizon,
        cast(sum(case when days_ago >= {{ horizon }} and days_ago < 2 * {{ horizon }} then 1 else 0 end) as integer) as days_horizon_before,
        cast(sum(case when days_ago < {{ horizon }} / 2.0 then 1 else 0 end) as integer) as days_last_half,
        cast(sum(case when days_ago < {{ horizon }} / 4.0 then 1 else 0 end) as integer) as days_last_quarter,
        cast(sum(cast(power(0.5, 4 * days_ago / {{ horizon_as_double }}) as decimal(18, 9))) as double) as pulse_fast,
        cast(sum(cast(power(0.5, days_ago / {{ horizon_as_double }}) as decimal(18, 9))) as double) as pulse_slow
    from order_days
    group by customer_id

),

acted as (

    select
        interactions.customer_id,
        cast(sum(
            case when {{ days_between('interactions.interaction_date', day) }} < 2 * {{ horizon }} then 1 else 0 end
        ) as integer) as actions_recent,
        cast(sum(cast(
            kinds.points
            * power(0.5, {{ days_between('interactions.interaction_date', day) }} / cast(kinds.half_life_days as double))
            as decimal(18, 9)
        )) as double) as engagement
    from {{ interactions }} as interactions
    inner join {{ kinds }} as kinds on interactions.kind = kinds.kind
    where kinds.is_customer_action
        and interactions.interaction_date <= {{ day }}
        and interactions.interaction_date > {{ days_after(day, '-4 * ' ~ horizon) }}
    group by interactions.customer_id

),

joined as (

    select
        buyers.*,
        coalesce(recent.days_last_horizon, 0) as days_last_horizon,
        coalesce(recent.days_horizon_before, 0) as days_horizon_before,
        coalesce(recent.days_last_half, 0) as days_last_half,
        coalesce(recent.days_last_quarter, 0) as days_last_quarter,
        coalesce(recent.pulse_fast, 0.0) as pulse_fast,
        coalesce(recent.pulse_slow, 0.0) as pulse_slow,
        coalesce(acted.actions_recent, 0) as actions_recent,
        coalesce(acted.engagement, 0.0) as engagement,
        ---------- two gaps of a quarter horizon stand in for a rhythm not yet seen
        (buyers.tenure_days - buyers.silence_days + {{ horizon_as_double }} / 2) / (buyers.order_days + 1) as rhythm_days
    from buyers
    left join recent on buyers.customer_id = recent.customer_id
    left join acted on buyers.customer_id = acted.customer_id

),

features as (

    select
        ---------- ids
        customer_id,

        ---------- as counted
        silence_days,
        tenure_days,
        order_days,
        orders,
        days_last_horizon,
        days_last_half,
        days_last_quarter,
        actions_recent,

        ---------- rhythm
        rhythm_days,
        {{ settled('ln(rhythm_days / ' ~ horizon ~ ')') }} as log_rhythm,
        {{ settled('ln((silence_days + 1.0) / rhythm_days)') }} as silence_in_rhythms,
        {{ settled('ln(1.0 + silence_days) - ln(1.0 + tenure_days)') }} as silence_of_tenure,
        {{ settled('exp(-' ~ horizon ~ ' * order_days / (tenure_days + ' ~ horizon_as_double ~ ' / 2))') }} as quiet_by_rate,
        pulse_fast,
        pulse_slow,
        {{ settled('ln((days_last_horizon + 1) / cast(days_horizon_before + 1 as double))') }} as trend,

        ---------- value and how it was bought
        greatest(net_amount, 0.0) / orders as order_value,
        coupon_orders / orders as coupon_share,
        refunded_orders / orders as refund_share,
        case
            when greatest(net_amount, 0.0) + greatest(discount_amount, 0.0) > 0
                then greatest(discount_amount, 0.0) / (greatest(net_amount, 0.0) + greatest(discount_amount, 0.0))
            else 0.0
        end as discount_share,
        engagement,

        ---------- on a logarithmic scale, for the linear model
        {{ settled('ln(1.0 + silence_days)') }} as log_silence,
        {{ settled('ln(1.0 + silence_days) * ln(1.0 + silence_days)') }} as log_silence_squared,
        {{ settled('ln(1.0 + silence_days) * ln(1.0 + order_days)') }} as log_silence_by_orders,
        {{ settled('ln(1.0 + order_days)') }} as log_order_days,
        {{ settled('ln(1.0 + days_last_horizon)') }} as log_days_last_horizon,
        {{ settled('ln(1.0 + days_last_half)') }} as log_days_last_half,
        {{ settled('ln(1.0 + days_last_quarter)') }} as log_days_last_quarter,
        {{ settled('ln(1.0 + pulse_fast)') }} as log_pulse_fast,
        {{ settled('ln(1.0 + pulse_slow)') }} as log_pulse_slow,
        {{ settled('ln(1.0 + greatest(net_amount, 0.0) / orders)') }} as log_order_value,
        {{ settled('ln(1.0 + engagement)') }} as log_engagement
    from joined

)

select * from features
{%- endmacro %}

{% macro settled(expression) -%}
    cast(cast({{ expression }} as decimal(18, 9)) as double)
{%- endmacro %}
