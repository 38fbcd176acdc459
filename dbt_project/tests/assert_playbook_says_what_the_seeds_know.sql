-- A misspelt class, stage, tier, tag or channel in the playbook would match nobody and never be noticed; a class
-- without a play for all of its customers would leave some of them without an action. Each row is one such fault.
{% set words = ['rfm_class', 'activity_stage', 'lifecycle_stage', 'value_tier', 'tag_id', 'channel'] %}

with

playbook as (

    select * from {{ ref('playbook') }}

),

channels as (

    select * from {{ ref('contact_channels') }}

),

known as (

    select 'rfm_class' as said_as, rfm_class as word from {{ ref('rfm_classes') }}
    union all
    select 'activity_stage' as said_as, stage as word from {{ ref('lifecycle_stages') }}
    where ladder = 'activity'
    union all
    select 'lifecycle_stage' as said_as, stage as word from {{ ref('lifecycle_stages') }}
    where ladder = '{{ var("leading_ladder") }}'
    union all
    select 'value_tier' as said_as, value_tier as word from {{ ref('value_tiers') }}
    union all
    select 'tag_id' as said_as, tag_id as word from {{ ref('tag_dictionary') }}
    union all
    select 'channel' as said_as, channel as word from channels

),

said as (

    {% for column in words %}
    select playbook_id, '{{ column }}' as said_as, {{ column }} as word from playbook
    where {{ column }} is not null
    {{ 'union all' if not loop.last }}
    {% endfor %}

),

plays_of_classes as (

    select distinct rfm_class from playbook
    where coalesce(activity_stage, lifecycle_stage, value_tier, tag_id) is null

),

faults as (

    select said.playbook_id, 'unknown ' || said.said_as as fault, said.word
    from said
    left join known on said.said_as = known.said_as and said.word = known.word
    where known.word is null

    union all

    select playbook_id, 'no channel' as fault, channel as word from playbook
    where channel is null

    union all

    select playbook_id, 'tag_value without tag_id' as fault, tag_value as word from playbook
    where tag_value is not null and tag_id is null

    union all

    select 'none' as playbook_id, 'no play for all of the class' as fault, known.word
    from known
    left join plays_of_classes on known.word = plays_of_classes.rfm_class
    where known.said_as = 'rfm_class' and plays_of_classes.rfm_class is null

    union all

    select 'none' as playbook_id, 'cap_days beyond contact_look_back_days' as fault, channel as word from channels
    where greatest(cap_days, {{ var('contact_cap_days') }}) > {{ var('contact_look_back_days') }}

)

select * from faults
