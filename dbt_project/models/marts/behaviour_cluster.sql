{{ config(enabled=var('clusters')) }}

with

assigned as (

    select * from {{ ref('int_customer_behaviour_clustered') }}

),

clusters as (

    {{ clusters_in_force() }}

),

published as (

    select
        ---------- ids
        assigned.customer_id,
        {{ as_of() }} as as_of_date,
        assigned.cluster_id,

        ---------- what it is called
        clusters.name_en,
        clusters.name_zh,

        ---------- how clear it is
        cast(round(assigned.distance, 6) as decimal(18, 6)) as distance,
        assigned.next_cluster_id,
        cast(round(assigned.next_distance, 6) as decimal(18, 6)) as next_distance
    from assigned
    inner join clusters on assigned.cluster_id = clusters.cluster_id

)

select * from published
