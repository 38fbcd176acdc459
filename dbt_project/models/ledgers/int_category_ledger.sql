with

ledger as (

    {{ ledger_known(ref('int_category_ledger_appended'), 'category_ledger') }}

)

select * from ledger
