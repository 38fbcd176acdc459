"""One day copied into the database.

Several connections at once copy its tables into partitions that nobody knows yet, which is why key and indexes can be
made by sorting when the rows are there. The partitions are attached, which locks no reader out, and the views show none
of them before the one transaction that notes which copy of the day is the one to read. A day that readers know already
is copied the same way, beside the copy they are reading.
"""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from strataflow import runs
from strataflow.errors import StepFailed
from strataflow.export import literal, quoted
from strataflow.postgres.contract import DAY_COLUMN, PART_COLUMN, Contract, offered
from strataflow.postgres.layout import LONGEST_NAME, WRITER, Layout, partition_name, stored_name
from strataflow.postgres.migration import keys
from strataflow.postgres.session import Session
from strataflow.publish import day_of, read_manifest

if TYPE_CHECKING:
    import pyarrow as pa

    from strataflow.home import Home

BATCH_ROWS = 65_536
CONNECTIONS = 2
SECONDS_FOR_OLD_PLANS = 10.0
SECONDS_FOR_ELDERS = 5.0
# For two processes, as far as one is free to help. Not more: sorting in pieces that the processor's cache can hold and
# merging them takes a quarter less time.
MEMORY_FOR_INDEXES = "64MB"

# A log is written anew until its run has ended; the last ones are copied again.
SECONDS_A_RUN_MAY_TAKE = 2 * 86_400
EXACT = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "DECIMAL")


@dataclass(frozen=True)
class Copy:
    """A day as it was copied this time: the number in its rows, and how many there are per table."""

    number: int
    rows: dict[str, int]


@dataclass(frozen=True)
class Day:
    """A published version as the database takes it in.

    Attributes:
        is_cleaned: the character with the code 0, which PostgreSQL can't hold, is replaced by U+FFFD. Only on
            demand, because it means looking into every text.
    """

    path: Path
    manifest: dict[str, Any]
    offers: tuple[Contract, ...]
    is_cleaned: bool = False

    @property
    def date(self) -> date:
        """The day the version is about."""
        return day_of(self.path)

    @classmethod
    def of(cls, version: Path) -> Day:
        """The version in a folder.

        Raises:
            InputError: its manifest can't be read.
            UsageError: a column has a type without a match.
        """
        import pyarrow.parquet as pq

        manifest, day = read_manifest(version), day_of(version)
        told = manifest.get("contracts", {})
        offers = []
        for table, entry in manifest["tables"].items():
            schema = pq.read_schema(_file(version, entry))
            offers.append(offered(table, schema, told.get(table, {}), entry["key"], day, is_partitioned=True))
        with _references(version) as connection:
            for table in sorted(set(told) - set(manifest["tables"])):
                schema = connection.sql(f"from {quoted(table)} limit 0").to_arrow_table().schema
                offers.append(offered(table, schema, told[table], told[table]["key"], day, is_partitioned=False))
        return cls(version, manifest, tuple(offers))

    @contextmanager
    def batches(self, contract: Contract) -> Iterator[pa.RecordBatchReader]:
        """A table's rows in batches, with the day beside rows that don't name it."""
        with self._read(contract) as batches:
            yield cleaned(batches) if self.is_cleaned else batches

    @contextmanager
    def _read(self, contract: Contract) -> Iterator[pa.RecordBatchReader]:
        import pyarrow.parquet as pq

        if contract.is_partitioned:
            with pq.ParquetFile(_file(self.path, self.manifest["tables"][contract.table])) as file:
                yield _with_day(file.schema_arrow, file.iter_batches(BATCH_ROWS), self.date)
        else:
            with _references(self.path) as connection:
                found = connection.sql(f"from {quoted(contract.table)}").to_arrow_table()
                yield _with_day(found.schema, iter(found.to_batches()), self.date)


def copy_beside(
    session: Session, layout: Layout, day: Day, contracts: dict[str, Contract], dsn: str
) -> tuple[Copy, set[str]]:
    """Copy the large tables of a day into partitions that no view shows yet; commits.

    Raises:
        StepFailed: what arrived is not what the version's manifest says, or the server refused it. Nothing of it stays.

    Returns:
        The copy, and the transactions of readers whose query plans may not know its partitions; see :func:`wait_for`.
    """
    number = session.value(f"select nextval({literal(layout.note('copies'))})")
    session.commit()
    large = [contract for contract in contracts.values() if contract.is_partitioned]
    helpers = [Session(dsn) for _ in range(CONNECTIONS)]
    try:
        rows = _copy_side_by_side(helpers, layout, day, large, number)
        for helper in helpers:
            helper.commit()
    finally:
        for helper in helpers:
            helper.close()
    readers = _holding(session, layout, [stored_name(one.table, one.version) for one in large])
    session.commit()
    return Copy(number, rows), readers


def wait_for(session: Session, layout: Layout, readers: set[str]) -> None:
    """Let queries that were being planned when partitions came get to their end, for some seconds at most.

    PostgreSQL plans a query before it takes the snapshot it reads by. One planned without the new partition, but
    reading the note that the new day is current, would find nothing. A query that takes longer than that has its
    snapshot.
    """
    deadline = time.monotonic() + SECONDS_FOR_OLD_PLANS
    while readers and time.monotonic() < deadline:
        readers &= _holding(session, layout)
        if readers:
            time.sleep(0.05)


def copy_small(session: Session, layout: Layout, day: Day, contracts: dict[str, Contract]) -> dict[str, int]:
    """Replace a day's rows in the small tables that explain keys, within the caller's transaction; rows per table."""
    rows = {}
    for table, contract in contracts.items():
        if not contract.is_partitioned:
            into, name = layout.stored(table, contract.version), stored_name(table, contract.version)
            session.run(f"delete from {into} where {DAY_COLUMN} = {literal(day.date)}")
            with day.batches(contract) as batches:
                rows[table] = session.copy(layout.store, name, batches)
            session.run(*indexes(contract.indexes, into, name), f"analyze {into}")
    return rows


def note(session: Session, layout: Layout, day: Day, contracts: dict[str, Contract], copy: Copy) -> None:
    """Note what a day holds, with which this copy of it, and no other, becomes visible at the caller's commit."""
    on, version, rows = literal(day.date), day.manifest, copy.rows
    parts = {table: copy.number if one.is_partitioned else "null" for table, one in contracts.items()}
    told = [
        literal(text)
        for text in (
            day.path.name, version["known_at"], version["rules_hash"], version["code_version"], version["shop"]["name"],
        )
    ]  # fmt: skip
    session.run(
        f"delete from {layout.note('versions')} where as_of_date = {on}",
        f"delete from {layout.note('contents')} where as_of_date = {on}",
        f"insert into {layout.note('versions')} "
        "(as_of_date, version, known_at_date, rules_hash, code_version, shop, rows) "
        f"values ({on}, {', '.join(told)}, {sum(rows.values())})",
        f"insert into {layout.note('contents')} (as_of_date, table_name, contract_version, part, rows) values "
        + ", ".join(
            f"({on}, {literal(table)}, {contracts[table].version}, {parts[table]}, {count})"
            for table, count in rows.items()
        ),
    )


def _copy_side_by_side(
    helpers: list[Session], layout: Layout, day: Day, contracts: list[Contract], number: int
) -> dict[str, int]:
    """Every table by one of the connections, the one with most values first; their transactions stay open."""
    rows = {table: entry["rows"] for table, entry in day.manifest["tables"].items()}
    waiting = deque(sorted(contracts, key=lambda one: rows[one.table] * len(one.columns), reverse=True))

    def work(helper: Session) -> dict[str, int]:
        rows = {}
        try:
            helper.run(f"set role {WRITER}")
            while waiting:
                contract = waiting.popleft()
                rows[contract.table] = _copy_table(helper, layout, day, contract, number)
        except IndexError:
            # The other one has just taken the last table.
            return rows
        except BaseException:
            waiting.clear()
            raise
        return rows

    with ThreadPoolExecutor(len(helpers)) as pool:
        found = list(pool.map(work, helpers))
    return {table: count for rows in found for table, count in rows.items()}


def follow_runs(session: Session, layout: Layout, home: Home) -> None:
    """Bring the logs of runs in line: those written since shortly before the last one that is there; commits."""
    newest = session.value(f"select extract(epoch from max(started_at))::float8 from {layout.note('runs')}")
    with runs.opened(home, newest - SECONDS_A_RUN_MAY_TAKE if newest else None) as connection:
        for table in runs.KEYS:
            found = connection.sql(f"from {table}").to_arrow_table()
            keys = set(zip(found["as_of_date"].to_pylist(), found["run"].to_pylist(), strict=True))
            if keys:
                named = ", ".join(f"({literal(day)}, {run})" for day, run in sorted(keys))
                session.run(f"delete from {layout.note(table)} where (as_of_date, run) in ({named})")
                session.copy(layout.store, table, found.to_reader())
    session.commit()


def partitions(session: Session, layout: Layout) -> dict[str, tuple[str, bool]]:
    """The partitions that are attached, by name: the table they belong to, and whether a removal was cut short."""
    found = session.rows(
        "select child.relname::text, parent.relname::text, inhdetachpending from pg_inherits "
        "join pg_class as child on child.oid = inhrelid join pg_class as parent on parent.oid = inhparent "
        f"where parent.relkind = 'p' and parent.relnamespace = {literal(layout.store)}::regnamespace"
    )
    return {child: (parent, is_pending) for child, parent, is_pending in found}


def cut_off(session: Session, layout: Layout, column: str) -> list[str]:
    """Partitions with a certain column that their table no longer reaches, because their removal was cut short."""
    found = session.rows(
        "select relname::text from pg_class join pg_attribute on attrelid = pg_class.oid "
        f"left join pg_inherits on inhrelid = pg_class.oid where attname = {literal(column)} and relkind = 'r' "
        f"and relnamespace = {literal(layout.store)}::regnamespace and relname ~ '_[0-9]{{8}}_[0-9]+$' "
        "and (inhrelid is null or inhdetachpending)"
    )
    return [name for (name,) in found]


def _copy_table(session: Session, layout: Layout, day: Day, contract: Contract, number: int) -> int:
    """Copy a table into a partition of its own, compare it, and attach it."""
    table, version = contract.table, contract.version
    parent, into = layout.stored(table, version), layout.partition(table, version, day.date, number)
    name = partition_name(table, version, day.date, number)
    session.run(
        # Attaching believes the constraint and need not look at the rows again.
        f"create table {into} (like {parent}, constraint of_this_copy check "
        f"({DAY_COLUMN} = {literal(day.date)} and {PART_COLUMN} = {number}))",
        f"alter table {into} alter column {PART_COLUMN} set default {number}",
    )
    with day.batches(contract) as batches:
        copied = session.copy(layout.store, name, batches)
    session.run(*indexes(contract.indexes, into, name, keys(contract, into)), f"analyze {into}")
    _compare(session, into, day.manifest["tables"][table], table)
    this, next_one = (f"({literal(day.date)}, {one})" for one in (number, number + 1))
    session.run(
        f"alter table {parent} attach partition {into} for values from {this} to {next_one}",
        f"alter table {into} drop constraint of_this_copy",
    )
    return copied


def indexes(wanted: Iterable[Iterable[str]], into: str, name: str, key: Iterable[str] = ()) -> list[str]:
    """SQL for indexes, made once the rows are there: half the work of keeping them up row by row.

    Args:
        wanted: the columns of each.
        into: the table, as SQL.
        name: what it is called there.
        key: SQL that adds its key.
    """
    statements = [*key]
    for index in wanted:
        columns = ", ".join(quoted(column) for column in index)
        digest = hashlib.sha256(f"{name} {columns}".encode()).hexdigest()[:6]
        called = f"{name[: LONGEST_NAME - 7]}_{digest}"
        statements.append(f"create index if not exists {quoted(called)} on {into} ({columns})")
    return [f"set local maintenance_work_mem = '{MEMORY_FOR_INDEXES}'", *statements]


def _compare(session: Session, into: str, entry: dict[str, Any], table: str) -> None:
    """Rows and exact sums that arrived, against the manifest's."""
    exact = [name for name, kind in entry["columns"].items() if kind.split("(")[0] in EXACT and name in entry["sums"]]
    sums = "".join(f", sum({quoted(name)})::text" for name in exact)
    count, *totals = session.rows(f"select count(*){sums} from {into}")[0]
    expected = [entry["sums"][name] for name in exact]
    if count != entry["rows"] or [_number(one) for one in totals] != [_number(one) for one in expected]:
        raise StepFailed(
            f"{table} arrived as {count} rows with the sums {totals}, not as {entry['rows']} with {expected}",
            where=into,
            todo="publish to PostgreSQL again; nothing of this is visible. If it stays, publish the day again",
        )


def _number(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


def _holding(session: Session, layout: Layout, tables: list[str] | None = None) -> set[str]:
    """Transactions of others that use tables of the store; all tables if none are named."""
    named = "" if tables is None else f" and relname in ({', '.join(literal(name) for name in tables)})"
    found = session.rows(
        "select distinct virtualtransaction from pg_locks join pg_class on pg_class.oid = relation "
        f"where relnamespace = {literal(layout.store)}::regnamespace{named} and granted "
        "and pid <> pg_backend_pid() and database = (select oid from pg_database where datname = current_database())"
    )
    return {transaction for (transaction,) in found}


def wait_for_elders(session: Session) -> bool:
    """Let the transactions of others that are open now come to their end, for some seconds; whether they have.

    One that reads by the snapshot it began with finds the notes of that time, and looks for the copies they name.
    """
    deadline, elders = time.monotonic() + SECONDS_FOR_ELDERS, _open(session)
    while elders and time.monotonic() < deadline:
        time.sleep(0.05)
        elders &= _open(session)
    return not elders


def _open(session: Session) -> set[str]:
    """Open transactions of other logins' connections to this database; the server's own processes have no login."""
    found = session.rows(
        "select virtualtransaction from pg_locks join pg_stat_activity using (pid) where locktype = 'virtualxid' "
        "and datname = current_database() and usesysid is not null and pid <> pg_backend_pid()"
    )
    session.commit()
    return {transaction for (transaction,) in found}


@contextmanager
def _references(version: Path) -> Iterator[Any]:
    """The version's database, which holds the small tables that explain keys."""
    import duckdb

    connection = duckdb.connect(str(version / "current.duckdb"), read_only=True)
    try:
        yield connection
    finally:
        connection.close()


def _file(version: Path, entry: dict[str, Any]) -> Path:
    return version / entry["files"][0]["path"]


def cleaned(batches: pa.RecordBatchReader) -> pa.RecordBatchReader:
    """The same rows with U+FFFD in place of the character that PostgreSQL can't hold."""
    import pyarrow as pa
    import pyarrow.compute as pc

    def without(batch: pa.RecordBatch) -> pa.RecordBatch:
        columns = [
            pc.replace_substring(column, "\0", "\ufffd") if pa.types.is_string(column.type) else column
            for column in batch.columns
        ]
        return pa.RecordBatch.from_arrays(columns, schema=batch.schema)

    return pa.RecordBatchReader.from_batches(batches.schema, (without(batch) for batch in batches))


def _with_day(schema: pa.Schema, batches: Iterator[pa.RecordBatch], day: date) -> pa.RecordBatchReader:
    import pyarrow as pa

    if DAY_COLUMN in schema.names:
        return pa.RecordBatchReader.from_batches(schema, batches)
    widened = schema.append(pa.field(DAY_COLUMN, pa.date32()))
    return pa.RecordBatchReader.from_batches(
        widened,
        (
            pa.RecordBatch.from_arrays([*batch.columns, pa.array([day] * batch.num_rows, pa.date32())], schema=widened)
            for batch in batches
        ),
    )
