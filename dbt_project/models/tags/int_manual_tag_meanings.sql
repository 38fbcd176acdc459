{{ config(materialized='table') }}

{{ handed_over('meanings', {
    'tag_text': dbt.type_string(),
    'tag_id': dbt.type_string(),
    'tag_value': dbt.type_string(),
    'valid_from': 'date',
    'valid_to': 'date',
}) }}
