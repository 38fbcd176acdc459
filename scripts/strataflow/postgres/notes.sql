-- The writer's own tables, the two views on them, and what readers may do. Run once, as the owner.

create table $store.versions (
    as_of_date date primary key,
    version text not null,
    known_at_date date not null,
    rules_hash text not null,
    code_version text not null,
    shop text not null,
    rows bigint not null,
    loaded_at timestamptz not null default clock_timestamp()
);

-- Under which contract a day holds each table.
create table $store.contents (
    as_of_date date,
    table_name text,
    contract_version integer,
    rows bigint not null,
    primary key (as_of_date, table_name)
);

create table $store.contracts (
    table_name text,
    contract_version integer,
    content jsonb not null,
    view_name text not null,
    deprecated_date date,
    primary key (table_name, contract_version)
);

-- The day that the current view of each contract shows.
create table $store.shown (
    table_name text,
    contract_version integer,
    as_of_date date,
    primary key (table_name, contract_version)
);

-- The day that readers see now; one row.
create table $store.pointer (
    is_current boolean primary key default true check (is_current),
    as_of_date date not null
);

create view $current.published_version as
select as_of_date, version, known_at_date, shop, rules_hash, code_version, rows, loaded_at
from $store.versions
where as_of_date = (select as_of_date from $store.pointer);

comment on view $current.published_version is 'The version that readers see now. One row.
读者当前看到的版本。一行。';

create view $history.published_versions as
select as_of_date, version, known_at_date, shop, rules_hash, code_version, rows, loaded_at
from $store.versions;

comment on view $history.published_versions is 'The version of each day that is kept. One row per day.
保留的每一日的版本。每日一行。';

grant usage on schema $current, $history to $reader;

grant select on $current.published_version, $history.published_versions to $reader;
