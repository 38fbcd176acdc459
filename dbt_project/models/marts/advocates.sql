with

measured as (

    {{ weekly('advocates', ref('int_advocates_measured')) }}

),

listed as (

    select * from measured
    where not {{ is_holdout('measured.customer_id') }}

),

ranked as (

    select
        ---------- ids
        customer_id,
        {{ as_of() }} as as_of_date,
        cast(
            row_number() over (
                order by brought_in_all desc, brought_customers desc, brought_value desc, mentions desc, invitations desc, customer_id asc
            ) as integer
        ) as rank,

        ---------- what was looked at
        measured_on,

        ---------- whom they brought
        invitations,
        brought_customers,
        brought_in_all,
        generations,
        brought_value,

        ---------- whom they told
        mentions
    from listed

)

select * from ranked
