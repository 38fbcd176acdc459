with

measured as (

    {{ weekly('referral_metrics', ref('int_referral_metrics_measured')) }}

),

published as (

    select
        ---------- ids
        {{ as_of() }} as as_of_date,
        scope,
        campaign_id,

        ---------- what was looked at
        measured_on,
        within_days,

        ---------- invitations
        inviters,
        invitations,
        invited_customers,
        existing_customers,
        self_referrals,
        circular_referrals,

        ---------- what became of them
        converted_customers,
        settled_invitations,
        settled_conversions,
        conversion_rate,
        conversion_rate_low,
        conversion_rate_high,

        ---------- growth
        base_customers,
        invitations_per_customer,
        k_factor,
        generations,
        later_generation_customers
    from measured

)

select * from published
