with

invitations as (

    select
        customer_id,
        sum(invitations) as invitations
    from {{ ref('int_invitations') }}
    where coalesce(referred_customer_id, '') <> customer_id
    group by customer_id

),

ancestors as (

    select * from {{ ref('int_referral_ancestors') }}

),

brought as (

    select
        ancestor_id as customer_id,
        sum(case when distance = 1 then 1 else 0 end) as brought_customers,
        count(*) as brought_in_all,
        max(distance) as generations
    from ancestors
    group by ancestor_id

),

ledger as (

    select * from {{ ref('int_order_ledger') }}
    where {{ insights_are_due() }}
        and received_date <= {{ insight_day() }}
        and order_date <= {{ insight_day() }}

),

spent as (

    select
        ancestors.ancestor_id as customer_id,
        sum(ledger.net_amount) as brought_value
    from ledger
    inner join ancestors
        on ledger.customer_id = ancestors.customer_id
            and ancestors.distance = 1
    group by ancestors.ancestor_id

),

mentions as (

    select
        customer_id,
        count(*) as mentions
    from {{ ref('int_interaction_ledger') }}
    where {{ insights_are_due() }}
        and received_date <= {{ insight_day() }}
        and interaction_date <= {{ insight_day() }}
        and kind in ('{{ var("advocate_kinds") | join("', '") }}')
    group by customer_id
    having count(*) >= {{ var('advocate_min_mentions') }}

),

everyone as (

    select customer_id from invitations
    union distinct
    select customer_id from brought
    union distinct
    select customer_id from mentions

),

gathered as (

    select
        everyone.customer_id,
        cast(coalesce(brought.brought_customers, 0) as bigint) as brought_customers,
        cast(coalesce(brought.brought_in_all, 0) as bigint) as brought_in_all,
        cast(coalesce(brought.generations, 0) as integer) as generations,
        cast(coalesce(spent.brought_value, 0) as decimal(18, 2)) as brought_value,
        cast(coalesce(invitations.invitations, 0) as bigint) as invitations,
        cast(coalesce(mentions.mentions, 0) as bigint) as mentions
    from everyone
    left join invitations on everyone.customer_id = invitations.customer_id
    left join brought on everyone.customer_id = brought.customer_id
    left join spent on everyone.customer_id = spent.customer_id
    left join mentions on everyone.customer_id = mentions.customer_id

),

measured as (

    select
        *,
        {{ insight_day() }} as measured_on
    from gathered

)

select * from measured
