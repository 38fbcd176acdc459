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

comment on column $current.runs.as_of_date is 'The day the run was for.
本次运行所针对的日期。';

comment on column $current.runs.run is 'Number of the run among those of its day, from 1.
当日的第几次运行，从 1 起。';

comment on column $current.runs.command is 'What was asked for: run, land, build, rollback, a task of a DAG.
所执行的命令：run、land、build、rollback 或某个 DAG 任务。';

comment on column $current.runs.started_at is 'When it began.
开始时间。';

comment on column $current.runs.ended_at is 'When it ended; empty while it runs, or if it was killed.
结束时间；运行中或被强行终止则为空。';

comment on column $current.runs.seconds is 'How long it took, in seconds.
耗时（秒）。';

comment on column $current.runs.outcome is 'ok, unchanged, failed, interrupted, killed or running.
结果：成功（ok）、无变化（unchanged）、失败（failed）、中断（interrupted）、被强行终止（killed）或运行中（running）。';

comment on column $current.runs.unfinished_step is 'The step it is in, or was killed in; else empty.
正在执行的步骤，或被强行终止时所处的步骤；否则为空。';

comment on column $current.runs.error_kind is 'What kind of error ended it: busy, usage, input, gate, step or unexpected; empty without one.
错误类别；没有错误则为空。';

comment on column $current.runs.error is 'The error in words.
错误说明。';

comment on column $current.runs.error_where is 'The file, row or setting that it names.
错误所指的文件、行或设置。';

comment on column $current.runs.peak_memory_bytes is 'The most memory the process, or one of its children, had held, in bytes.
该进程或其某个子进程占用过的最大内存（字节）。';

comment on column $current.runs.version is 'The published version it was about, if there is one.
所涉及的已发布版本；没有则为空。';

comment on column $current.runs.strataflow_version is 'Version of this package.
本软件包的版本。';

comment on column $current.runs.versions is 'Versions of Python and of the libraries, as JSON.
Python 及各库的版本（JSON）。';

comment on column $current.runs.parameters is 'What it was called with, as JSON.
调用参数（JSON）。';

comment on column $current.runs.host is 'The machine it ran on.
运行所在的机器。';

comment on column $current.run_steps.as_of_date is 'The day the run was for.
本次运行所针对的日期。';

comment on column $current.run_steps.run is 'Number of the run among those of its day, from 1.
当日的第几次运行，从 1 起。';

comment on column $current.run_steps.position is 'Place of the step in its run, from 1.
步骤在本次运行中的次序，从 1 起。';

comment on column $current.run_steps.command is 'What was asked for: run, land, build, rollback, a task of a DAG.
所执行的命令：run、land、build、rollback 或某个 DAG 任务。';

comment on column $current.run_steps.step is 'Name of the step.
步骤名称。';

comment on column $current.run_steps.started_at is 'When it began.
开始时间。';

comment on column $current.run_steps.seconds is 'How long it took, in seconds.
耗时（秒）。';

comment on column $current.run_steps.rows is 'Rows the step worked on; empty where that means nothing.
该步骤处理的行数；不适用则为空。';

comment on column $current.run_steps.peak_memory_bytes is 'The most memory the process, or one of its children, had held when the step ended, in bytes.
步骤结束时该进程或其某个子进程占用过的最大内存（字节）。';

comment on column $current.run_steps.outcome is 'ok, unchanged, skipped or failed.
结果：成功（ok）、无变化（unchanged）、跳过（skipped）或失败（failed）。';

comment on column $current.run_steps.expectations is 'Of a gate: how many expectations it looked at.
若为质量关卡：检查的期望项数。';

comment on column $current.run_steps.warnings is 'Of a gate: how many of them did not hold and only warn.
若为质量关卡：其中不成立但仅作警告的项数。';

comment on column $current.run_steps.detail is 'What else the step had to say, as JSON.
该步骤的其他说明（JSON）。';

grant select on $current.runs, $current.run_steps to $reader;
