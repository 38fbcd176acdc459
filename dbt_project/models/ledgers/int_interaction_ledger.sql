with

ledger as (

    {{ ledger_known(ref('int_interaction_ledger_appended'), 'interaction_ledger') }}

)

select * from ledger
