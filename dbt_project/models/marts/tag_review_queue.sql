with

statements as (

    select * from {{ ref('manual_tag_outcomes') }}
    where outcome = 'queued'

),

texts as (

    select * from {{ ref('int_manual_tag_texts') }}

),

queued as (

    select
        ---------- ids
        texts.word,
        {{ as_of() }} as as_of_date,

        ---------- what was typed, by whom, how often
        min(statements.tag_text) as tag_text,
        count(*) as times,
        count(distinct statements.customer_id) as customers,
        {{ joined_texts('statements.tagged_by') }} as tagged_by,
        min(statements.tagged_date) as first_date,
        max(statements.tagged_date) as last_date,

        ---------- what it may have meant
        {% for n in [1, 2, 3] %}
        max(texts.nearest_{{ n }}_tag_id) as nearest_{{ n }}_tag_id,
        max(texts.nearest_{{ n }}_score) as nearest_{{ n }}_score,
        max(texts.nearest_{{ n }}_spelling) as nearest_{{ n }}_spelling{{ ',' if not loop.last }}
        {% endfor %}
    from statements
    inner join texts on statements.tag_text = texts.tag_text
    group by texts.word

)

select * from queued
