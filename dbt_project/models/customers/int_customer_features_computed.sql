{{ customer_features(
    ref('int_customer_order_totals'), ref('int_order_ledger'), ref('int_interaction_ledger'), ref('interaction_kinds'),
    as_of(), var('churn_horizon_days')
) }}
