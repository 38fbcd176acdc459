-- The logs of runs as two tables, from the table log_texts: a log as JSON, and whether its process was killed.

create temp view run_logs as
with parsed as (
    select
        from_json(text, '{
            "as_of": "DATE", "run": "INTEGER", "command": "VARCHAR", "started_at": "TIMESTAMPTZ",
            "ended_at": "TIMESTAMPTZ", "seconds": "DOUBLE", "outcome": "VARCHAR", "step": "VARCHAR",
            "host": "VARCHAR", "parameters": "JSON", "versions": "JSON",
            "error": {"kind": "VARCHAR", "what": "VARCHAR", "where": "VARCHAR"},
            "steps": [{
                "name": "VARCHAR", "started_at": "TIMESTAMPTZ", "seconds": "DOUBLE", "rows": "BIGINT",
                "peak_memory_bytes": "BIGINT", "outcome": "VARCHAR", "detail": "JSON"
            }]
        }') as log,
        is_killed
    from log_texts
)

select log.*, is_killed
from parsed;

create temp view runs as
select
    as_of as as_of_date,
    run,
    command,
    started_at,
    ended_at,
    seconds,
    case when is_killed then 'killed' else outcome end as outcome,
    step as unfinished_step,
    error.kind as error_kind,
    error.what as error,
    error."where" as error_where,
    list_max(list_transform(steps, lambda one: one.peak_memory_bytes)) as peak_memory_bytes,
    list_first(
        list_filter(list_transform(steps, lambda one: one.detail ->> '$.version'), lambda version: version is not null)
    ) as version,
    versions ->> '$.strataflow' as strataflow_version,
    cast(versions as varchar) as versions,
    cast(parameters as varchar) as parameters,
    host
from run_logs;

create temp view run_steps as
with numbered as (
    select as_of, run, command, unnest(steps) as one, generate_subscripts(steps, 1) as position
    from run_logs
)

select
    as_of as as_of_date,
    run,
    cast(position as integer) as position,
    command,
    one.name as step,
    one.started_at as started_at,
    one.seconds as seconds,
    one."rows" as "rows",
    one.peak_memory_bytes as peak_memory_bytes,
    one.outcome as outcome,
    cast(one.detail ->> '$.expectations' as integer) as expectations,
    case when one.detail ->> '$.expectations' is not null then cast(json_array_length(one.detail, '$.warnings') as integer)
    end as warnings,
    cast(one.detail as varchar) as detail
from numbered;
