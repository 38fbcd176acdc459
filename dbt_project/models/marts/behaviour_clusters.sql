{{ config(enabled=var('clusters')) }}

{% set fit = var('cluster_fit') %}

with

clusters as (

    {{ clusters_in_force() }}

),

assigned as (

    select * from {{ ref('int_customer_behaviour_clustered') }}

),

orders as (

    select * from {{ ref('int_customer_orders_summed') }}

),

counted as (

    select
        assigned.cluster_id,
        count(*) as customers,
        sum(orders.monetary) as net_revenue
    from assigned
    inner join orders on assigned.customer_id = orders.customer_id
    group by assigned.cluster_id

),

totals as (

    select
        cast(sum(customers) as double) as customers,
        cast(sum(net_revenue) as double) as net_revenue
    from counted

),

-- a row of its own where there are no groups, for the reason
listed as (

    select * from clusters
    {% if not fit.clusters %}
    union all
    select
        'none' as cluster_id,
        'no groups' as name_en,
        '未分群' as name_zh,
        cast(null as date) as first_fitted_on,
        null as typical_silence_days,
        null as typical_order_days,
        null as typical_order_value,
        null as typical_tenure_days,
        null as typical_discount_share,
        null as typical_refund_share,
        null as typical_engagement
    {% endif %}

),

measured as (

    select
        listed.*,
        case when listed.cluster_id <> 'none' then coalesce(counted.customers, 0) end as customers,
        case when listed.cluster_id <> 'none' then coalesce(counted.net_revenue, 0) end as net_revenue,
        totals.customers as all_customers,
        totals.net_revenue as all_revenue
    from listed
    cross join totals
    left join counted on listed.cluster_id = counted.cluster_id

),

published as (

    select
        ---------- ids
        {{ as_of() }} as as_of_date,
        cluster_id,

        ---------- what it is called
        name_en,
        name_zh,

        ---------- who is in it today
        cast(customers as bigint) as customers,
        {{ as_share('customers / nullif(all_customers, 0)') }} as customer_share,
        cast(net_revenue as decimal(18, 2)) as net_revenue,
        {{ as_share('cast(net_revenue as double) / nullif(all_revenue, 0)') }} as revenue_share,

        ---------- its centre
        typical_silence_days,
        typical_order_days,
        typical_order_value,
        typical_tenure_days,
        typical_discount_share,
        typical_refund_share,
        typical_engagement,

        ---------- the fit
        first_fitted_on,
        cast({{ "'" ~ fit.fitted_on ~ "'" if fit.fitted_on else 'null' }} as date) as fitted_on,
        cast({{ fit.customers }} as bigint) as fitted_customers,
        cast({{ fit.silhouette if fit.silhouette is not none else 'null' }} as decimal(18, 6)) as silhouette,
        '{{ fit.tried }}' as silhouettes_tried,
        '{{ fit.reason | replace("'", "''") }}' as reason
    from measured

)

select * from published
