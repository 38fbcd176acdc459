{#
  Which items go into one basket, as rules: antecedent (one item or several) and consequent (one).
  Sets of items are counted as Agrawal and Srikant's Apriori does (1994): a set can only be
  frequent if all its parts are, so only baskets that hold a frequent part are looked at for the
  next size. The lift is drawn towards 1 as in DuMouchel's gamma-Poisson shrinker (1999): as if
  affinity_prior_orders more orders had been expected and found. Its interval is that of the gamma
  distribution, by Wilson and Hilferty's cube root (1931).
#}
{{ config(materialized='table') }}

{% set most = var('affinity_max_antecedent') %}
{% if most not in [1, 2, 3] %}
    {{ exceptions.raise_compiler_error("affinity_max_antecedent is '" ~ most ~ "'; it must be 1, 2 or 3 (dbt_project.yml, vars)") }}
{% endif %}
{% set prior = 'cast(' ~ var('affinity_prior_orders') ~ ' as double)' %}
{% set z = '1.959963984540054e0' %}

with

lines as (

    select * from {{ ref('int_basket_lines') }}

),

---------- a shop of any size is known well enough from so many orders; always the same ones
sampled_orders as (

    select order_id from (select distinct order_id from lines) as orders
    order by {{ dbt.hash('order_id') }}, order_id
    limit {{ var('affinity_max_orders') }}

),

sampled_lines as (

    select lines.order_id, lines.product_id, lines.product_name, lines.category from lines
    inner join sampled_orders on lines.order_id = sampled_orders.order_id

),

entries as (

    select 'product' as level, order_id, product_id as item_id, product_name as item_name from sampled_lines

    union all

    select distinct 'category' as level, order_id, category as item_id, category as item_name from sampled_lines
    where category is not null

),

orders_in_all as (

    select level, cast(count(distinct order_id) as double) as orders from entries
    group by level

),

items as (

    select
        entries.level,
        entries.item_id,
        max(entries.item_name) as item_name,
        count(*) as orders,
        row_number() over (order by entries.level, entries.item_id) as item
    from entries
    inner join orders_in_all on entries.level = orders_in_all.level
    group by entries.level, entries.item_id, orders_in_all.orders
    having count(*) >= {{ var('affinity_min_orders') }}
        and count(*) / orders_in_all.orders >= cast({{ var('affinity_min_support') }} as double)

),

frequent_entries as (

    select entries.level, entries.order_id, items.item from entries
    inner join items
        on entries.level = items.level
            and entries.item_id = items.item_id

),

sets_1 as (

    select level, item as item_1, orders from items

),

{% for size in range(2, most + 2) %}
sets_{{ size }} as (

    select
        entry_1.level,
        {%- for number in range(1, size + 1) %}
        entry_{{ number }}.item as item_{{ number }},
        {%- endfor %}
        count(*) as orders
    from frequent_entries as entry_1
    inner join orders_in_all on entry_1.level = orders_in_all.level
    {%- for number in range(2, size + 1) %}
    inner join frequent_entries as entry_{{ number }}
        on entry_1.order_id = entry_{{ number }}.order_id
            and entry_1.level = entry_{{ number }}.level
            and entry_{{ number - 1 }}.item < entry_{{ number }}.item
    {%- if number < size and number > 1 %}
    inner join sets_{{ number }} as parts_{{ number }}
        on
        {%- for part in range(1, number + 1) %}
            {{ 'and ' if not loop.first }}entry_{{ part }}.item = parts_{{ number }}.item_{{ part }}
        {%- endfor %}
    {%- endif %}
    {%- endfor %}
    group by entry_1.level, orders_in_all.orders
        {%- for number in range(1, size + 1) %}, entry_{{ number }}.item{% endfor %}
    having count(*) >= {{ var('affinity_min_orders') }}
        and count(*) / orders_in_all.orders >= cast({{ var('affinity_min_support') }} as double)

),

{% endfor %}
rules as (

    {% for size in range(2, most + 2) %}
    {%- set outer_loop = loop %}
    {%- for consequent in range(1, size + 1) %}
    {%- set antecedent = range(1, size + 1) | reject('equalto', consequent) | list %}
    select
        whole.level,
        {%- for number in range(1, most + 1) %}
        {{ 'whole.item_' ~ antecedent[number - 1] if number < size else 'cast(null as bigint)' }} as item_{{ number }},
        {%- endfor %}
        whole.item_{{ consequent }} as consequent_item,
        {{ size - 1 }} as antecedent_items,
        whole.orders as orders_together,
        part.orders as antecedent_orders
    from sets_{{ size }} as whole
    inner join sets_{{ size - 1 }} as part
        on
        {%- for number in antecedent %}
            {{ 'and ' if not loop.first }}whole.item_{{ number }} = part.item_{{ loop.index }}
        {%- endfor %}
    {{ 'union all' if not (loop.last and outer_loop.last) }}
    {% endfor %}
    {%- endfor %}

),

named as (

    select
        rules.level,
        item_1.item_id
        {%- for number in range(2, most + 1) %} || coalesce(' + ' || item_{{ number }}.item_id, ''){% endfor %} as antecedent,
        item_1.item_name
        {%- for number in range(2, most + 1) %} || coalesce(' + ' || item_{{ number }}.item_name, ''){% endfor %} as antecedent_name,
        consequents.item_id as consequent,
        consequents.item_name as consequent_name,
        rules.antecedent_items,
        orders_in_all.orders,
        cast(rules.orders_together as double) as orders_together,
        cast(rules.antecedent_orders as double) as antecedent_orders,
        cast(consequents.orders as double) as consequent_orders
    from rules
    inner join orders_in_all on rules.level = orders_in_all.level
    inner join items as consequents on rules.consequent_item = consequents.item
    inner join items as item_1 on rules.item_1 = item_1.item
    {%- for number in range(2, most + 1) %}
    left join items as item_{{ number }} on rules.item_{{ number }} = item_{{ number }}.item
    {%- endfor %}

),

confident as (

    select
        *,
        orders_together / antecedent_orders as confidence,
        orders_together + {{ prior }} as drawn_orders,
        antecedent_orders * consequent_orders / orders + {{ prior }} as drawn_expected
    from named
    where orders_together / antecedent_orders >= cast({{ var('affinity_min_confidence') }} as double)

),

---------- what is bought again by many of its buyers can be suggested again
rebought as (

    select
        'product' as level,
        product_id,
        sum(case when order_days > 1 then 1 else 0 end) / cast(count(*) as double) as rebought_share
    from {{ ref('int_customer_products_owned') }}
    group by product_id

),

measured as (

    select
        ---------- ids
        confident.level,
        confident.antecedent,
        confident.consequent,
        confident.antecedent_name,
        confident.consequent_name,

        ---------- what was looked at
        {{ insight_day() }} as measured_on,
        cast(confident.antecedent_items as integer) as antecedent_items,
        cast(confident.orders as bigint) as orders,
        cast(confident.antecedent_orders as bigint) as antecedent_orders,
        cast(confident.consequent_orders as bigint) as consequent_orders,
        cast(confident.orders_together as bigint) as orders_together,

        ---------- how they go together
        {{ as_share('confident.orders_together / confident.orders') }} as support,
        {{ as_share('confident.confidence') }} as confidence,
        {{ as_share('confident.consequent_orders / confident.orders') }} as consequent_share,
        {{ as_share('confident.confidence / (confident.consequent_orders / confident.orders)') }} as lift,
        {{ as_share('confident.drawn_orders / confident.drawn_expected') }} as drawn_lift,
        {%- for name, sign in [('low', '-'), ('high', '+')] %}
        {{ as_share(
            'confident.drawn_orders / confident.drawn_expected * power(1 - 1 / (9 * confident.drawn_orders) ' ~ sign
            ~ ' ' ~ z ~ ' / (3 * sqrt(confident.drawn_orders)), 3)'
        ) }} as drawn_lift_{{ name }},
        {%- endfor %}

        ---------- whether it is bought again
        {{ as_share('rebought.rebought_share') }} as consequent_rebought_share
    from confident
    left join rebought
        on confident.level = rebought.level
            and confident.consequent = rebought.product_id

)

select * from measured
