{#- A key is there and stands once: dbt's `unique` and `not_null` in one scan and one node. -#}
{% test is_key(model, column_name) %}
select
    {{ column_name }} as key_found,
    count(*) as rows_with_it
from {{ model }}
group by {{ column_name }}
having {{ column_name }} is null or count(*) > 1
{% endtest %}
