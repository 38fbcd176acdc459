{{ config(materialized='table') }}

{{ handed_over('relations', {
    'tag_id': dbt.type_string(),
    'relation': dbt.type_string(),
    'other_tag_id': dbt.type_string(),
}) }}
