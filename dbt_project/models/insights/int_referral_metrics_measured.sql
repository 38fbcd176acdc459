with

invitations as (

    select * from {{ ref('int_invitations') }}

),

credited as (

    select * from {{ ref('int_referrals_credited') }}

),

first_orders as (

    select customer_id, order_date as first_order_date from {{ ref('int_customer_order_days_numbered') }}
    where order_number = 1

),

generations as (

    select customer_id, max(distance) as generation from {{ ref('int_referral_ancestors') }}
    group by customer_id

),

judged as (

    select
        invitations.*,
        invitations.referred_customer_id = invitations.customer_id as is_self,
        first_orders.first_order_date < invitations.invited_on as is_customer_already,
        {{ days_between('invitations.invited_on', insight_day()) }} >= {{ var('referral_within_days') }} as has_had_time,
        credited.referred_customer_id is not null and not credited.is_circular as is_credited,
        coalesce(credited.is_circular, false) as is_circular,
        generations.generation
    from invitations
    left join first_orders on invitations.referred_customer_id = first_orders.customer_id
    left join credited
        on invitations.referred_customer_id = credited.referred_customer_id
            and invitations.customer_id = credited.referrer_id
            and invitations.invited_on = credited.invited_on
            and coalesce(invitations.campaign_id, '') = coalesce(credited.campaign_id, '')
    left join generations on invitations.referred_customer_id = generations.customer_id

),

scoped as (

    select judged.*, 'all' as scope, '' as campaign from judged

    union all

    select
        judged.*,
        case when judged.campaign_id is null then 'no_campaign' else 'campaign' end as scope,
        coalesce(judged.campaign_id, '') as campaign
    from judged

),

counted as (

    select
        scope,
        campaign,
        count(distinct case when not coalesce(is_self, false) then customer_id end) as inviters,
        sum(case when not coalesce(is_self, false) then invitations else 0 end) as invitations,
        sum(case when has_had_time and not coalesce(is_self, false) then invitations else 0 end) as settled_invitations,
        sum(case when has_had_time and is_credited then 1 else 0 end) as settled_conversions,
        count(distinct case when not is_self then referred_customer_id end) as invited_customers,
        sum(case when is_credited then 1 else 0 end) as converted_customers,
        sum(case when is_self then 1 else 0 end) as self_referrals,
        sum(case when is_circular then 1 else 0 end) as circular_referrals,
        count(distinct case when not is_self and is_customer_already then referred_customer_id end) as existing_customers,
        max(case when is_credited then generation end) as generations,
        sum(case when is_credited and generation > 1 then 1 else 0 end) as later_generation_customers
    from scoped
    group by scope, campaign

),

---------- in a campaign those who invited and those who came can pass it on
participants as (

    select scope, campaign, customer_id from scoped
    where scope <> 'all'
        and not coalesce(is_self, false)

    union distinct

    select scope, campaign, referred_customer_id as customer_id from scoped
    where scope <> 'all'
        and is_credited

),

bases as (

    select scope, campaign, count(*) as base_customers from participants
    group by scope, campaign

    union all

    select 'all' as scope, '' as campaign, count(*) as base_customers from first_orders

),

rates as (

    select
        counted.*,
        coalesce(bases.base_customers, 0) as base_customers,
        counted.invitations / nullif(cast(bases.base_customers as double), 0) as invitations_per_customer,
        counted.settled_conversions / nullif(cast(counted.settled_invitations as double), 0) as conversion_rate
    from counted
    left join bases
        on counted.scope = bases.scope
            and counted.campaign = bases.campaign

),

measured as (

    select
        ---------- ids
        scope,
        campaign as campaign_id,

        ---------- what was looked at
        {{ insight_day() }} as measured_on,
        cast({{ var('referral_within_days') }} as integer) as within_days,

        ---------- invitations
        cast(inviters as bigint) as inviters,
        cast(invitations as bigint) as invitations,
        cast(invited_customers as bigint) as invited_customers,
        cast(existing_customers as bigint) as existing_customers,
        cast(self_referrals as bigint) as self_referrals,
        cast(circular_referrals as bigint) as circular_referrals,

        ---------- what became of them
        cast(converted_customers as bigint) as converted_customers,
        cast(settled_invitations as bigint) as settled_invitations,
        cast(settled_conversions as bigint) as settled_conversions,
        {{ as_share('conversion_rate') }} as conversion_rate,
        {{ as_share(wilson_low('settled_conversions', 'settled_invitations')) }} as conversion_rate_low,
        {{ as_share(wilson_high('settled_conversions', 'settled_invitations')) }} as conversion_rate_high,

        ---------- growth
        cast(base_customers as bigint) as base_customers,
        {{ as_share('invitations_per_customer') }} as invitations_per_customer,
        {{ as_share('invitations_per_customer * conversion_rate') }} as k_factor,
        cast(coalesce(generations, 0) as integer) as generations,
        cast(later_generation_customers as bigint) as later_generation_customers
    from rates

)

select * from measured
