{{ config(materialized='table') }}

{#
  Standing statements against the data and against each other.

  What restates the segments, and what sorts everyone into a mandatory group, is not displaced, except that
  a statement may take the place of an automatic tag in a group of its own that is not worked out from the
  orders. Of two statements that exclude each other the later one holds.
#}

with

standing as (

    select * from {{ ref('int_manual_tags_standing') }}

),

automatic as (

    select * from {{ ref('int_customer_tags_beside_manual') }}

),

dictionary as (

    select * from {{ ref('int_tags_known') }}

),

relations as (

    select * from {{ ref('int_tag_relations') }}

),

-- a tag with itself and all that it brings along
brought as (

    select tag_id, tag_id as brought_tag_id from dictionary
    union all
    select tag_id, other_tag_id as brought_tag_id from relations
    where relation = 'implies'

),

brought_groups as (

    select distinct
        brought.tag_id,
        dictionary.tag_group
    from brought
    inner join dictionary on brought.brought_tag_id = dictionary.tag_id

),

-- what a statement needs from the data, as nobody can say it: a class, a value
needed as (

    select
        brought.tag_id,
        brought.brought_tag_id
    from brought
    inner join dictionary on brought.brought_tag_id = dictionary.tag_id
    where dictionary.restates_segments
        or (dictionary.has_value and brought.tag_id <> brought.brought_tag_id)

),

excluded_by_data as (

    select
        standing.customer_id,
        standing.tag_id,
        coalesce(
            min(case when automatic.tag_group = standing.tag_group then automatic.tag_id end),
            min(automatic.tag_id)
        ) as against_tag_id
    from standing
    inner join automatic on standing.customer_id = automatic.customer_id
    inner join relations
        on standing.tag_id = relations.tag_id
            and automatic.tag_id = relations.other_tag_id
            and relations.relation = 'excludes'
    inner join dictionary on automatic.tag_id = dictionary.tag_id
    left join brought_groups
        on standing.tag_id = brought_groups.tag_id
            and dictionary.tag_group = brought_groups.tag_group
    where standing.fault is null
        and (dictionary.restates_segments or (dictionary.is_mandatory and brought_groups.tag_id is null))
    group by standing.customer_id, standing.tag_id

),

lacking_data as (

    select
        standing.customer_id,
        standing.tag_id,
        min(needed.brought_tag_id) as needed_tag_id
    from standing
    inner join needed on standing.tag_id = needed.tag_id
    left join automatic
        on standing.customer_id = automatic.customer_id
            and needed.brought_tag_id = automatic.tag_id
    where standing.fault is null
        and automatic.customer_id is null
    group by standing.customer_id, standing.tag_id

),

held_against_data as (

    select
        standing.*,
        coalesce(excluded_by_data.against_tag_id, lacking_data.needed_tag_id) as data_tag_id,
        case
            when standing.fault is not null then standing.fault
            when excluded_by_data.tag_id is not null then 'against_data'
            when lacking_data.tag_id is not null then 'not_in_data'
        end as fault_with_data
    from standing
    left join excluded_by_data
        on standing.customer_id = excluded_by_data.customer_id
            and standing.tag_id = excluded_by_data.tag_id
    left join lacking_data
        on standing.customer_id = lacking_data.customer_id
            and standing.tag_id = lacking_data.tag_id

),

sound as (

    select
        customer_id,
        tag_id,
        statement_number
    from held_against_data
    where fault_with_data is null

),

outranked as (

    select
        sound.customer_id,
        sound.tag_id,
        max(later.statement_number) as by_statement_number
    from sound
    inner join sound as later
        on sound.customer_id = later.customer_id
            and sound.statement_number < later.statement_number
    inner join relations
        on sound.tag_id = relations.tag_id
            and later.tag_id = relations.other_tag_id
            and relations.relation = 'excludes'
    group by sound.customer_id, sound.tag_id

),

outranked_by as (

    select
        outranked.customer_id,
        outranked.tag_id,
        sound.tag_id as by_tag_id
    from outranked
    inner join sound
        on outranked.customer_id = sound.customer_id
            and outranked.by_statement_number = sound.statement_number

),

weighed as (

    select
        held_against_data.customer_id,
        held_against_data.statement_number,
        held_against_data.tag_id,
        held_against_data.tag_group,
        held_against_data.tag_value,
        held_against_data.tag_text,
        held_against_data.tagged_at,
        held_against_data.tagged_date,
        held_against_data.tagged_by,
        held_against_data.reason,
        held_against_data.expires_at,
        coalesce(held_against_data.data_tag_id, outranked_by.by_tag_id) as against_tag_id,
        case
            when held_against_data.fault_with_data is not null then held_against_data.fault_with_data
            when outranked_by.tag_id is not null then 'outranked'
            else 'in_force'
        end as outcome
    from held_against_data
    left join outranked_by
        on held_against_data.customer_id = outranked_by.customer_id
            and held_against_data.tag_id = outranked_by.tag_id

)

select * from weighed
