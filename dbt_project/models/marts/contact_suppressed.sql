with

decided as (

    select * from {{ ref('int_contact_decided') }}
    where suppressed_reason is not null

),

suppressed as (

    select
        ---------- ids
        customer_id,
        {{ as_of() }} as as_of_date,

        ---------- why not
        suppressed_reason,
        channel_contacts,
        overall_contacts,

        ---------- what would have been done
        priority,
        playbook_id,
        channel
    from decided

)

select * from suppressed
