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

-- Numbers of copies of days: a day copied again is another copy, and its rows lie beside those of the first.
create sequence $store.copies as integer;

-- Under which contract a day holds each table, and in which copy; without one in the small tables that explain keys.
create table $store.contents (
    as_of_date date,
    table_name text,
    contract_version integer,
    part integer,
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

comment on column $current.published_version.as_of_date is 'The day the version speaks of.
该版本数据所截至的日期。';

comment on column $current.published_version.version is 'Name of the version: its day and a digest of its content.
版本名称：日期与内容摘要。';

comment on column $current.published_version.known_at_date is 'Data received up to this day was counted.
已计入截至该日收到的数据。';

comment on column $current.published_version.shop is 'Name of the shop.
店铺名称。';

comment on column $current.published_version.rules_hash is 'Digest of the rules the version was made with.
生成该版本所用规则的摘要。';

comment on column $current.published_version.code_version is 'Version and digest of the code it was made with.
生成该版本所用代码的版本与摘要。';

comment on column $current.published_version.rows is 'Rows of all its tables together.
其全部数据表的总行数。';

comment on column $current.published_version.loaded_at is 'When it was copied into this database.
复制到本数据库的时间。';

create view $history.published_versions as
select as_of_date, version, known_at_date, shop, rules_hash, code_version, rows, loaded_at
from $store.versions;

comment on view $history.published_versions is 'The version of each day that is kept. One row per day.
保留的每一日的版本。每日一行。';

comment on column $history.published_versions.as_of_date is 'The day the version speaks of.
该版本数据所截至的日期。';

comment on column $history.published_versions.version is 'Name of the version: its day and a digest of its content.
版本名称：日期与内容摘要。';

comment on column $history.published_versions.known_at_date is 'Data received up to this day was counted.
已计入截至该日收到的数据。';

comment on column $history.published_versions.shop is 'Name of the shop.
店铺名称。';

comment on column $history.published_versions.rules_hash is 'Digest of the rules the version was made with.
生成该版本所用规则的摘要。';

comment on column $history.published_versions.code_version is 'Version and digest of the code it was made with.
生成该版本所用代码的版本与摘要。';

comment on column $history.published_versions.rows is 'Rows of all its tables together.
其全部数据表的总行数。';

comment on column $history.published_versions.loaded_at is 'When it was copied into this database.
复制到本数据库的时间。';

comment on schema $current is 'What readers see now: a view per table, of the current day.
读者当前看到的数据：每张表一个视图，均为当前日。';

comment on schema $history is 'All days that are kept: a view per table.
保留的全部日期：每张表一个视图。';

comment on schema $store is 'The tables below the views, and the notes of whoever writes them. Not for readers.
视图背后的数据表与写入方的记录，不供读者使用。';

grant usage on schema $current, $history to $reader;

grant select on $current.published_version, $history.published_versions to $reader;
