-- What was in force on the published day before: cut-offs, means and the bounds of the tiers.
-- The amount of a tier's poorest customer bounds it: nobody in between was published otherwise.
-- Relations: context_segments (customer_segments), context_cutoffs (rfm_cutoffs).
create or replace table int_rfm_cutoffs_computed as
select measure, cutoff_1, cutoff_2, cutoff_3, cutoff_4, mean_value, customers_in_window from context_cutoffs;

create or replace table int_rfm_means_computed as
select measure, mean_score, scored_customers from context_cutoffs;

create or replace table int_value_tiers_bounded as
select
    min(monetary) filter (value_tier = 'high') as high_from,
    min(monetary) filter (value_tier in ('high', 'mid')) as mid_from
from context_segments
where monetary > 0
