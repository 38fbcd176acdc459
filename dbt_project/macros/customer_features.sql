{#
  What was known of each customer at the end of a day, for predicting whether they
  order again. The daily build renders it for the day of the run; the trainer renders
  the same text for the days it learns from, so that both mean the same by a name.

  day        a date expression; nothing ordered or received later is looked at
  horizon    days of the prediction (var churn_horizon_days); windows scale with it
  customers  optional relation with customer_id: only these

  One row per customer with a valid order. Sums are over decimals, so that every run
  gives the same bytes whatever the number of threads; logarithms and the like are
  settled at nine decimals, because their last digit differs from engine to engine and
  a step of the model may lie just there. No column is ever null.
#}
{% macro customer_features(orders, interactions, kinds, day, horizon, customers=none) -%}
{%- set horizon_as_double = 'cast(' ~ horizon ~ ' as double)' -%}
with

order_days as (

    select
        customer_id,
        order_date,
        {{ days_between('order_date', day) }} as days_ago,
        sum(valid_orders) as orders,
        sum(coalesce(try_cast(net_amount as decimal(18, 2)), 0)) as net_amount,
        sum(coalesce(try_cast(discount_amount as decimal(18, 2)), 0)) as discount_amount,
        sum(coalesce(coupon_orders, 0)) as coupon_orders,
        sum(coalesce(refunded_orders, 0)) as refunded_orders
    from {{ orders }}
    where order_date <= {{ day }}
        and received_date <= {{ day }}
        and customer_id is not null
        {%- if customers %}
        and customer_id in (select customer_id from {{ customers }})
        {%- endif %}
    group by customer_id, order_date
    having sum(valid_orders) > 0

),

ordered as (

    select
        customer_id,
        min(days_ago) as silence_days,
        max(days_ago) as tenure_days,
        cast(count(*) as integer) as order_days,
        cast(sum(orders) as integer) as orders,
        cast(sum(case when days_ago < {{ horizon }} then 1 else 0 end) as integer) as days_last_horizon,
        cast(sum(case when days_ago >= {{ horizon }} and days_ago < 2 * {{ horizon }} then 1 else 0 end) as integer) as days_horizon_before,
        cast(sum(case when days_ago < {{ horizon }} / 2.0 then 1 else 0 end) as integer) as days_last_half,
        cast(sum(case when days_ago < {{ horizon }} / 4.0 then 1 else 0 end) as integer) as days_last_quarter,
        cast(sum(cast(power(0.5, 4 * days_ago / {{ horizon_as_double }}) as decimal(18, 9))) as double) as pulse_fast,
        cast(sum(cast(power(0.5, days_ago / {{ horizon_as_double }}) as decimal(18, 9))) as double) as pulse_slow,
        cast(sum(net_amount) as double) as net_amount,
        cast(sum(discount_amount) as double) as discount_amount,
        cast(sum(coupon_orders) as double) as coupon_orders,
        cast(sum(refunded_orders) as double) as refunded_orders
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
        and interactions.received_date <= {{ day }}
        {%- if customers %}
        and interactions.customer_id in (select customer_id from {{ customers }})
        {%- endif %}
    group by interactions.customer_id

),

joined as (

    select
        ordered.*,
        coalesce(acted.actions_recent, 0) as actions_recent,
        coalesce(acted.engagement, 0.0) as engagement,
        ---------- two gaps of a quarter horizon stand in for a rhythm not yet seen
        (ordered.tenure_days - ordered.silence_days + {{ horizon_as_double }} / 2) / (ordered.order_days + 1) as rhythm_days
    from ordered
    left join acted on ordered.customer_id = acted.customer_id

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
