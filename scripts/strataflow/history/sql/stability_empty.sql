-- Before the first day that is steadied: nobody stands anywhere.
create or replace table stable (
    customer_id varchar, attribute varchar, value varchar, previous_value varchar, valid_from date
);

create or replace table held (
    customer_id varchar,
    as_of_date date,
    attribute varchar,
    published_value varchar,
    stable_value varchar,
    stable_since date,
    held_by varchar
)
