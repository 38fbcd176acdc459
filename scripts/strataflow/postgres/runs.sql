-- The logs of runs, followed like the versions; created where they are missing.

create table $store.runs (
    as_of_date date,
    run integer,
    command text not null,
    started_at timestamptz not null,
    ended_at timestamptz,
    seconds double precision,
    outcome text not null,
    unfinished_step text,
    error_kind text,
    error text,
    error_where text,
    peak_memory_bytes bigint,
    version text,
    strataflow_version text,
    versions text,
    parameters text,
    host text,
    primary key (as_of_date, run)
);

create table $store.run_steps (
    as_of_date date,
    run integer,
    position integer,
    command text not null,
    step text not null,
    started_at timestamptz not null,
    seconds double precision,
    rows bigint,
    peak_memory_bytes bigint,
    outcome text not null,
    expectations integer,
    warnings integer,
    detail text,
    primary key (as_of_date, run, position)
);

create view $current.runs as select * from $store.runs;

create view $current.run_steps as select * from $store.run_steps;

comment on view $current.runs is 'What was run, when, how it ended and what it ran on. One row per run.
运行了什么、何时、结果如何、在何种版本上运行。每次运行一行。';

comment on view $current.run_steps is 'The steps of each run: rows, seconds, peak memory, gates. One row per run and step.
每次运行的各步骤：行数、秒数、内存峰值、质量关卡。每次运行每个步骤一行。';

grant select on $current.runs, $current.run_steps to $reader;
