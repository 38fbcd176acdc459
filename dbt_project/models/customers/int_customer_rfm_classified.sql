with

scored as (

    select * from {{ ref('int_customer_rfm_scored') }}

),

cutoffs as (

    select
        cutoffs.measure,
        cutoffs.mean_value,
        means.mean_score
    from {{ ref('int_rfm_cutoffs_computed') }} as cutoffs
    inner join {{ ref('int_rfm_means_computed') }} as means on cutoffs.measure = means.measure

),

limits as (

    select
        max(case when measure = 'recency' then mean_score end) as recency_mean_score,
        max(case when measure = 'recency' then mean_value end) as recency_mean_value,
        max(case when measure = 'frequency' then mean_score end) as frequency_mean_score,
        max(case when measure = 'frequency' then mean_value end) as frequency_mean_value,
        max(case when measure = 'monetary' then mean_score end) as monetary_mean_score,
        max(case when measure = 'monetary' then mean_value end) as monetary_mean_value
    from cutoffs

),

classes as (

    select * from {{ ref('rfm_classes') }}

),

flagged as (

    select
        scored.*,
        {{ is_high('scored.recency_score', 'limits.recency_mean_score', 'scored.recency_days', 'limits.recency_mean_value', best='low') }} as recency_high,
        {{ is_high('scored.frequency_score', 'limits.frequency_mean_score', 'scored.frequency', 'limits.frequency_mean_value') }} as frequency_high,
        {{ is_high('scored.monetary_score', 'limits.monetary_mean_score', 'scored.monetary', 'limits.monetary_mean_value') }} as monetary_high
    from scored
    cross join limits

),

classified as (

    select
        flagged.*,
        classes.rfm_class
    from flagged
    inner join classes
        on flagged.recency_high = classes.recency_high
            and flagged.frequency_high = classes.frequency_high
            and flagged.monetary_high = classes.monetary_high

)

select * from classified
