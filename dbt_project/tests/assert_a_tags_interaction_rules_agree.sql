-- The kinds of a tag are counted together, so its rows in the seed must name one window and one least count.
select tag_id
from {{ ref('interaction_tags') }}
group by tag_id
having count(distinct window_days) > 1
    or count(distinct min_count) > 1
