{{ config(materialized='table') }}

{{ handed_over('texts', {
    'tag_text': dbt.type_string(),
    'word': dbt.type_string(),
    'nearest_1_tag_id': dbt.type_string(),
    'nearest_1_score': 'double',
    'nearest_1_spelling': dbt.type_string(),
    'nearest_2_tag_id': dbt.type_string(),
    'nearest_2_score': 'double',
    'nearest_2_spelling': dbt.type_string(),
    'nearest_3_tag_id': dbt.type_string(),
    'nearest_3_score': 'double',
    'nearest_3_spelling': dbt.type_string(),
}) }}
