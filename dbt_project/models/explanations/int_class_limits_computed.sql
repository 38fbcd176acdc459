{#
  From which value on a measure counts as high. A limit on frequency and monetary also
  holds when the cut-offs are taken anew with one more customer above it; see
  docs/metrics.md#next-steps.
#}

with

cutoffs as (

    select * from {{ ref('int_rfm_cutoffs_computed') }}

),

means as (

    select * from {{ ref('int_rfm_means_computed') }}

),

customers as (

    select frequency, monetary from {{ ref('int_customer_orders_summed') }}
    where frequency > 0

),

scored as (

    select
        cutoffs.*,
        {{ cutoffs_given('cutoffs') }} as cutoffs_given,
        {{ high_from_score('means.mean_score') }} as high_from_score
    from cutoffs
    inner join means on cutoffs.measure = means.measure

),

numbered as (

    select
        *,
        case
            when measure = 'recency' then cutoffs_given + 2 - high_from_score
            else high_from_score - 1
        end as cutoff_number
    from scored

),

---------- everyone is high from score 1 on, nobody from a score on that no one can have, or where there is nothing to pass
bounded as (

    select
        measure,
        cutoff_number,
        customers_in_window,
        {{ value_to_pass('cutoff_number') }} as to_pass,
        coalesce(high_from_score <= 1, false) as is_always_high,
        coalesce(high_from_score > cutoffs_given + 1, mean_value is null) as is_never_high
    from numbered

),

recency as (

    select * from bounded where measure = 'recency'

),

frequency as (

    select * from bounded where measure = 'frequency'

),

monetary as (

    select * from bounded where measure = 'monetary'

),

around as (

    select
        count(case when customers.frequency <= frequency.to_pass then 1 end) as frequency_at_or_below,
        min(case when customers.frequency > frequency.to_pass then customers.frequency end) as frequency_next_above,
        count(case when customers.monetary <= monetary.to_pass then 1 end) as monetary_at_or_below,
        min(case when customers.monetary > monetary.to_pass then customers.monetary end) as monetary_next_above
    from customers
    cross join frequency
    cross join monetary

),

passed as (

    select
        recency.is_always_high as recency_is_always_high,
        recency.is_never_high as recency_is_never_high,
        recency.to_pass as recency_to_pass,
        frequency.is_always_high as frequency_is_always_high,
        frequency.is_never_high as frequency_is_never_high,
        {{ passed_by_one(
            'frequency.to_pass', 'frequency.cutoff_number', 'around.frequency_at_or_below',
            'around.frequency_next_above', 'frequency.customers_in_window'
        ) }} as frequency_to_pass,
        monetary.is_always_high as monetary_is_always_high,
        monetary.is_never_high as monetary_is_never_high,
        {{ passed_by_one(
            'monetary.to_pass', 'monetary.cutoff_number', 'around.monetary_at_or_below',
            'around.monetary_next_above', 'monetary.customers_in_window'
        ) }} as monetary_to_pass
    from around
    cross join recency
    cross join frequency
    cross join monetary

),

limits as (

    select
        ---------- null: there is no such day
        case
            when recency_is_always_high then null
            when recency_is_never_high then -1
            else cast({{ 'ceil(recency_to_pass) - 1' if var('high_rule') == 'value_mean' else 'floor(recency_to_pass)' }} as integer)
        end as recency_high_through,

        ---------- null: out of reach
        case
            when frequency_is_always_high then 0
            when not frequency_is_never_high then cast(floor(frequency_to_pass) as bigint) + 1
        end as frequency_high_from,
        case
            when monetary_is_always_high then cast(0 as decimal(18, 2))
            when not monetary_is_never_high
                then cast(cast(floor(monetary_to_pass * 100) as bigint) * 0.01 + 0.01 as decimal(18, 2))
        end as monetary_high_from
    from passed

)

select * from limits
