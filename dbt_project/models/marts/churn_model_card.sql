{% set card = var('churn_model_card') %}

with

candidates as (

    {% for candidate in card.candidates %}
    select
        '{{ candidate.candidate }}' as candidate,
        {{ 'true' if candidate.is_used else 'false' }} as is_used,
        cast({{ candidate.auc if candidate.auc is not none else 'null' }} as double) as auc,
        cast({{ candidate.log_loss if candidate.log_loss is not none else 'null' }} as double) as log_loss,
        cast({{ candidate.brier if candidate.brier is not none else 'null' }} as double) as brier
    {{ 'union all' if not loop.last }}
    {% else %}
    select 'baseline' as candidate, true as is_used, cast(null as double) as auc, cast(null as double) as log_loss, cast(null as double) as brier
    {% endfor %}

),

published as (

    select
        ---------- ids
        {{ as_of() }} as as_of_date,
        candidate,

        ---------- the training
        cast({{ "'" ~ card.trained_at ~ "'" if card.trained_at else 'null' }} as date) as trained_at,
        cast({{ card.horizon_days if card.horizon_days else var('churn_horizon_days') }} as integer) as horizon_days,
        is_used,
        '{{ card.reason | replace("'", "''") }}' as reason,

        ---------- how good, on the newest day whose outcome was known
        auc,
        log_loss,
        brier
    from candidates

)

select * from published
