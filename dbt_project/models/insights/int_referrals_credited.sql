{#
  One referrer at most for each new customer: the first who invited them within referral_within_days
  before their first order. Following referrers upwards must come to an end; where it comes back
  (two who invited each other before either ordered) nobody can say who brought whom, and none
  of the circle is credited.
#}
{{ config(materialized='table') }}

{% set most = var('referral_max_generations') %}

with

invitations as (

    select * from {{ ref('int_invitations') }}
    where referred_customer_id <> customer_id

),

first_orders as (

    select customer_id, order_date as first_order_date from {{ ref('int_customer_order_days_numbered') }}
    where order_number = 1

),

timely as (

    select
        invitations.referred_customer_id,
        invitations.customer_id as referrer_id,
        invitations.campaign_id,
        invitations.invited_on,
        first_orders.first_order_date,
        row_number() over (
            partition by invitations.referred_customer_id
            order by invitations.invited_on, invitations.customer_id, coalesce(invitations.campaign_id, '')
        ) as invitation_rank
    from invitations
    inner join first_orders on invitations.referred_customer_id = first_orders.customer_id
    where invitations.invited_on <= first_orders.first_order_date
        and {{ days_between('invitations.invited_on', 'first_orders.first_order_date') }} <= {{ var('referral_within_days') }}

),

edges as (

    select referred_customer_id, referrer_id, campaign_id, invited_on, first_order_date from timely
    where invitation_rank = 1

),

chains as (

    select
        edges.*,
        {%- for step in range(2, most + 1) %}
        step_{{ step }}.referrer_id as ancestor_{{ step }}{{ ',' if not loop.last }}
        {%- endfor %}
    from edges
    {%- for step in range(2, most + 1) %}
    left join edges as step_{{ step }}
        on {{ 'edges' if step == 2 else 'step_' ~ (step - 1) }}.referrer_id = step_{{ step }}.referred_customer_id
    {%- endfor %}

),

credited as (

    select
        referred_customer_id,
        referrer_id,
        campaign_id,
        invited_on,
        first_order_date,
        referred_customer_id in (
            {%- for step in range(2, most + 1) %}coalesce(ancestor_{{ step }}, ''){{ ', ' if not loop.last }}{% endfor -%}
        ) as is_circular
    from chains

)

select * from credited
