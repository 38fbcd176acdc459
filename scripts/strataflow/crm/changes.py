"""The difference between what a target has acknowledged and what readers see, worked out by DuckDB.

Nobody walks over customers in Python: the two tables are compared by a join, and every change becomes a line of JSON
in the same query. A row that entered or changed is told **whole**, so that telling it twice, or after another telling
that was lost, does no harm. A value that is not there is left out of ``set``, so that it overwrites nothing; if the
target may hold an older one, its name stands in ``clear``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from strataflow.sqltext import named, quoted

if TYPE_CHECKING:
    import duckdb

CHANGES = ("entered", "changed", "left")
_PLAIN = ("BOOLEAN", "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "DECIMAL")


@contextmanager
def working(spill: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database in memory that spills into ``spill``."""
    import duckdb

    with duckdb.connect() as connection:
        connection.execute("set enable_progress_bar = false")
        connection.execute(f"set temp_directory = {quoted(str(spill))}")
        yield connection


def find(
    connection: duckdb.DuckDBPyConnection,
    published: Sequence[Path],
    known: Path | None,
    doubted: Sequence[str],
    columns: Mapping[str, str],
    batch_rows: int,
    target: Path,
) -> dict[str, int]:
    """Write to ``target`` what has to be told: batch, customer_id, change, checksum, clear, and the columns.

    Args:
        connection: from :func:`working`.
        published: Parquet files of the table as readers see it.
        known: Parquet of what the target has acknowledged, as :func:`fold` writes it; None before the first.
        doubted: queries for the ids of customers of whom the target may hold something else than ``known`` says.
        columns: DuckDB type by name of what is told.
        batch_rows: changes in a batch; batches count from 1, in the order of ids.

    Returns:
        Number of changes of each kind, those that occur.
    """
    listed = ", ".join(quoted(str(path)) for path in published)
    names = list(columns)
    connection.execute(
        f"create or replace temp view now as select customer_id, {_listed(names)}, {_checksum(columns)} as checksum "
        f"from read_parquet([{listed}], hive_partitioning = false)"
    )
    connection.execute(f"create or replace temp view known as {_known(connection, known, columns)}")
    connection.execute(f"create or replace temp view doubted as {_union(doubted)}")
    cleared = [
        f"case when now.{named(name)} is null and (known.{named(name)} is not null or doubted.customer_id is not null) "
        f"then {quoted(name)} end"
        for name in names
    ]
    connection.execute(
        f"""
        copy (
            with compared as (
                select
                    coalesce(now.customer_id, known.customer_id, doubted.customer_id) as customer_id,
                    case
                        when now.customer_id is null then 'left'
                        when known.customer_id is null then 'entered'
                        else 'changed'
                    end as change,
                    now.checksum,
                    case when now.customer_id is not null then concat_ws(',', {", ".join(cleared)}) end as clear,
                    {", ".join(f"now.{named(name)}" for name in names)}
                from now
                full join known on now.customer_id = known.customer_id
                full join doubted on doubted.customer_id = coalesce(now.customer_id, known.customer_id)
                where now.checksum is distinct from known.checksum or doubted.customer_id is not null
                    or now.customer_id is null
            )
            select ((row_number() over (order by customer_id) - 1) // {batch_rows} + 1)::integer as batch, *
            from compared
            order by customer_id
        ) to {quoted(str(target))} (format parquet, compression zstd)
        """
    )
    return dict(
        connection.execute(
            f"select change, count(*) from read_parquet({quoted(str(target))}) group by change order by change"
        ).fetchall()
    )


def fold(
    connection: duckdb.DuckDBPyConnection,
    known: Path | None,
    changes: Path,
    through: int,
    columns: Mapping[str, str],
    target: Path,
) -> None:
    """Write to ``target`` what is acknowledged once the batches up to ``through`` are: ids, columns, checksum."""
    connection.execute(f"create or replace temp view known as {_known(connection, known, columns)}")
    told = f"(from read_parquet({quoted(str(changes))}) where batch <= {through})"
    listed = f"customer_id, {_listed(list(columns))}, checksum"
    connection.execute(
        f"""
        copy (
            select {listed} from known anti join {told} as told using (customer_id)
            union all
            select {listed} from {told} where change <> 'left'
            order by customer_id
        ) to {quoted(str(target))} (format parquet, compression zstd)
        """
    )


def keep_doubts(connection: duckdb.DuckDBPyConnection, doubted: Sequence[str], told: str, target: Path) -> None:
    """Write to ``target`` the ids of the queries ``doubted`` that are not among those of the query ``told``."""
    connection.execute(
        f"copy (select customer_id from ({_union(doubted)}) as doubts anti join ({told}) as told using (customer_id) "
        f"order by customer_id) to {quoted(str(target))} (format parquet)"
    )


def blank(
    connection: duckdb.DuckDBPyConnection, known: Path, doubted: Path | None, customer_ids: Sequence[str], target: Path
) -> int:
    """Write ``known`` to ``target`` without the values of these customers.

    Returns:
        How many of them are in ``known`` or ``doubted``.
    """
    relation = f"read_parquet({quoted(str(known))})"
    names = [named(column[0]) for column in connection.execute(f"from {relation} limit 0").description[1:]]
    values = ", ".join(f"case when gone.customer_id is null then known.{name} end as {name}" for name in names)
    connection.execute(
        "create or replace temp table gone as select unnest(?::varchar[]) as customer_id", [customer_ids]
    )
    connection.execute(
        f"copy (select known.customer_id, {values} from {relation} as known left join gone using (customer_id) "
        f"order by customer_id) to {quoted(str(target))} (format parquet, compression zstd)"
    )
    places = [all_ids(path) for path in (known, doubted) if path]
    [(found,)] = connection.execute(
        f"select count(*) from ({_union(places)}) as told semi join gone using (customer_id)"
    ).fetchall()
    return found


def lines(
    connection: duckdb.DuckDBPyConnection, changes: Path, columns: Mapping[str, str], after: int, batch_rows: int
) -> Iterator[list[str]]:
    """The changes after batch ``after`` as lines of JSON, a list per batch, in order.

    The file is sorted; it is read once and as far as it is asked for.
    """
    told = {name: f"{quoted(_key(name))} || {_json(named(name), kind)}" for name, kind in columns.items()}
    query = f"""
        select '{{"customer_id":' || to_json(customer_id)::varchar || ',"change":"' || change || '"'
            || case when change = 'left' then '' else ',"checksum":"' || checksum || '","set":{{'
                || concat_ws(',', {", ".join(told.values())}) || '}},"clear":['
                || case when clear = '' then '' else '"' || replace(clear, ',', '","') || '"' end || ']' end
            || '}}'
        from read_parquet({quoted(str(changes))}) where batch > {after}
    """
    found = connection.execute(query)
    while rows := found.fetchmany(batch_rows):
        yield [line for (line,) in rows]


def ids(changes: Path, first: int, last: int) -> str:
    """A query for the customers in the batches from ``first`` to ``last``."""
    return f"select customer_id from read_parquet({quoted(str(changes))}) where batch between {first} and {last}"


def all_ids(path: Path) -> str:
    """A query for the customers in a file."""
    return f"select customer_id from read_parquet({quoted(str(path))})"


def _union(queries: Sequence[str]) -> str:
    return " union ".join(queries) or "select null::varchar as customer_id where false"


def _known(connection: duckdb.DuckDBPyConnection, known: Path | None, columns: Mapping[str, str]) -> str:
    """A query with ``columns`` as they are wanted now; one that was not told before has no value."""
    if known is None:
        nothing = ", ".join(f"null::{kind} as {named(name)}" for name, kind in columns.items())
        return f"select null::varchar as customer_id, {nothing}, null::varchar as checksum where false"
    relation = f"read_parquet({quoted(str(known))})"
    there = {column[0] for column in connection.execute(f"from {relation} limit 0").description}
    casts = [
        f"{f'try_cast({named(name)} as {kind})' if name in there else f'null::{kind}'} as {named(name)}"
        for name, kind in columns.items()
    ]
    return f"select customer_id, {', '.join(casts)}, checksum from {relation}"


def _checksum(columns: Mapping[str, str]) -> str:
    """MD5 of the id and of ``name=value`` of every value there is, a line each."""
    told = ", ".join(f"{quoted(name + '=')} || {named(name)}::varchar" for name in columns)
    return f"md5(concat_ws(chr(10), customer_id, {told}))"


def _json(expression: str, kind: str) -> str:
    if kind in ("FLOAT", "DOUBLE"):  # JSON knows no infinity
        return f"case when isfinite({expression}) then {expression}::varchar end"
    if kind.partition("(")[0] in _PLAIN:
        return f"{expression}::varchar"
    return f"to_json({expression}::varchar)::varchar"


def _key(name: str) -> str:
    return f'"{name}":'


def _listed(names: Sequence[str]) -> str:
    return ", ".join(named(name) for name in names)
