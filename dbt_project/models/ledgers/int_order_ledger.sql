with

ledger as (

    {{ ledger_known(ref('int_order_ledger_appended'), 'order_ledger') }}

)

select * from ledger
