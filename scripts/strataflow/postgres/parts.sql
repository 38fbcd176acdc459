-- What the tables that span days (history, scorecard) consist of; created where it is missing.

-- What of the home each collection was brought in line with.
create table $store.collections (
    name text primary key,
    version text not null
);

-- The days that the history tells of, and the versions that it was made from.
create table $store.told (
    as_of_date date primary key,
    version text not null
);

-- The contract in force of each table.
create table $store.spanning (
    table_name text primary key,
    contract_version integer not null
);

-- The files whose rows the tables hold; rows name theirs in the column `part`.
create table $store.parts (
    part integer generated always as identity primary key,
    table_name text not null,
    contract_version integer not null,
    path text not null,
    sha256 text not null,
    made_from text,
    rows bigint not null,
    unique (table_name, contract_version, path)
);
