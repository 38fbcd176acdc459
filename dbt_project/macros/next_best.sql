{#
  What to offer next, from what customers own. The week renders it for everyone, a day for
  those who have bought since, so that both mean the same by it.
#}

{#
  Rules worth scoring by, in the order in which they are preferred: by what owning the one adds
  to the probability of the other. Only rules between two products whose drawn lift is above 1
  beyond doubt, and for each product the best few.
#}
{% macro next_best_rules(affinities) -%}
    select
        *,
        cast(
            row_number() over (order by gain desc, drawn_lift desc, antecedent asc, consequent asc) as integer
        ) as rule_rank
    from (
        select
            *,
            confidence - consequent_share as gain,
            row_number() over (
                partition by antecedent order by confidence - consequent_share desc, drawn_lift desc, consequent asc
            ) as antecedent_rank
        from {{ affinities }}
        where level = 'product'
            and antecedent_items = 1
            and drawn_lift_low > 1
    ) as rules
    where antecedent_rank <= {{ var('next_best_rules') }}
{%- endmacro %}

{#
  The best products of each customer in `owned` (customer_id, product_id, last_order_date):
  those they have not bought in the window, and those that many buy again and they last bought
  long ago. One row per customer and rank.
#}
{% macro next_best_of(owned, rules) -%}
    select
        customer_id,
        cast(rank as integer) as rank,
        rule_rank,
        is_bought_before
    from (
        select
            candidates.customer_id,
            candidates.rule_rank,
            had.customer_id is not null as is_bought_before,
            row_number() over (partition by candidates.customer_id order by candidates.rule_rank) as rank
        from (
            select
                owned.customer_id,
                rules.consequent,
                min(rules.rule_rank) as rule_rank,
                max(rules.consequent_rebought_share) as rebought_share
            from {{ owned }} as owned
            inner join {{ rules }} as rules on owned.product_id = rules.antecedent
            group by owned.customer_id, rules.consequent
        ) as candidates
        left join {{ owned }} as had
            on candidates.customer_id = had.customer_id
                and candidates.consequent = had.product_id
        where had.customer_id is null
            or (
                candidates.rebought_share >= {{ var('next_best_rebought_share') }}
                and {{ days_between('had.last_order_date', insight_day()) }} >= {{ var('next_best_again_days') }}
            )
    ) as ranked
    where rank <= {{ var('next_best_count') }}
{%- endmacro %}
