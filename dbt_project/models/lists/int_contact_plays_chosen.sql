{#
  The play that says most about a customer: the one with the most columns filled, then the lower
  priority, then the id. Plays without a tag are matched once per situation that occurs, not per customer.
#}
{% set situation = ['rfm_class', 'activity_stage', 'lifecycle_stage', 'value_tier'] %}

with

segments as {{ not_copied() }} (

    select * from {{ ref('customer_segments') }}

),

playbook as (

    select
        *,
        {%- for column in situation + ['tag_id', 'tag_value'] %}
        case when {{ column }} is null then 0 else 1 end{{ ' +' if not loop.last }}
        {%- endfor %} as columns_filled
    from {{ ref('playbook') }}

),

situations as (

    select distinct {{ situation | join(', ') }} from segments

),

matched as (

    select
        {%- for column in situation %}
        situations.{{ column }},
        {%- endfor %}
        playbook.playbook_id,
        playbook.priority,
        playbook.columns_filled,
        row_number() over (
            partition by {% for column in situation %}situations.{{ column }}{{ ', ' if not loop.last }}{% endfor %}
            order by playbook.columns_filled desc, playbook.priority asc, playbook.playbook_id asc
        ) as play_rank
    from situations
    inner join playbook
        on {% for column in situation -%}
            (playbook.{{ column }} is null or playbook.{{ column }} = situations.{{ column }})
            and {% endfor -%}
            playbook.tag_id is null

),

of_situation as (

    select * from matched
    where play_rank = 1

),

---------- only tags that the playbook names
tags as (

    select
        customer_tags.customer_id,
        playbook.*
    from {{ ref('customer_tags') }} as customer_tags
    inner join playbook
        on customer_tags.tag_id = playbook.tag_id
            and (playbook.tag_value is null or customer_tags.tag_value = playbook.tag_value)

),

tagged as (

    select
        tags.customer_id,
        tags.playbook_id,
        tags.priority,
        tags.columns_filled,
        row_number() over (
            partition by tags.customer_id order by tags.columns_filled desc, tags.priority asc, tags.playbook_id asc
        ) as play_rank
    from tags
    inner join segments
        on tags.customer_id = segments.customer_id
            {%- for column in situation %}
            and (tags.{{ column }} is null or tags.{{ column }} = segments.{{ column }})
            {%- endfor %}

),

of_tags as (

    select * from tagged
    where play_rank = 1

),

chosen as (

    select
        ---------- ids
        segments.customer_id,

        ---------- the play
        case
            when of_tags.playbook_id is null then of_situation.playbook_id
            when of_situation.playbook_id is null then of_tags.playbook_id
            when of_tags.columns_filled <> of_situation.columns_filled
                then case when of_tags.columns_filled > of_situation.columns_filled then of_tags.playbook_id else of_situation.playbook_id end
            when of_tags.priority <> of_situation.priority
                then case when of_tags.priority < of_situation.priority then of_tags.playbook_id else of_situation.playbook_id end
            else least(of_tags.playbook_id, of_situation.playbook_id)
        end as playbook_id
    from segments
    left join of_situation
        on {% for column in situation -%}
            segments.{{ column }} = of_situation.{{ column }}
            {{- ' and ' if not loop.last }}
            {%- endfor %}
    left join of_tags on segments.customer_id = of_tags.customer_id

)

select * from chosen
