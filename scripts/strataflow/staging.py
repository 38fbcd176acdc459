"""The workbench of a landing: a DuckDB file in scratch where a batch of files is judged and written out.

Rows are staged once, with their verdict, and both the landed and the refused
ones are written from there. The staged table lies on disk, so memory is
bounded by DuckDB's limit and not by the size of a delivery.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from strataflow import reasons
from strataflow.errors import InputError, StepFailed, StrataflowError
from strataflow.mapping import (
    WITHHELD,
    Mapping,
    as_record,
    build_mapping,
    define_macros,
    kept_text,
    places_of,
    wanted_columns,
    withheld,
)
from strataflow.privacy import pseudonyms
from strataflow.privacy.contact import any_kind
from strataflow.privacy.tombstones import NOTHING_SAID, Tombstones, leave_out
from strataflow.rawfiles import Columns, Delivered, RawFiles, columns_of, without_globs
from strataflow.sqltext import named, quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import date
    from pathlib import Path
    from typing import Self

    import duckdb
    import pyarrow as pa

    from strataflow.project import Table
    from strataflow.records import Header, Tally
    from strataflow.sources import Shop, Source

ROW_GROUP_ROWS = 122_880
LINEAGE = ("source", "source_file", "source_line")
TOO_LITTLE_ROOM = ("No space left", "failed to pin", "could not allocate")


@dataclass(frozen=True)
class Span:
    """Days asked for of files that are split by a date column, and where rows go that belong to none.

    Rows dated before ``first`` count as received on ``earlier_on``, rows
    without a readable date on ``undated_on``; without such a day they are
    left alone, as are rows of other days.
    """

    first: date
    last: date
    earlier_on: date | None = None
    undated_on: date | None = None


@dataclass(frozen=True)
class Staged:
    """What a batch of files held.

    ``counts`` has the rows by (file, day, reason), reason None for those that
    land; ``tallies`` what each file holds as a whole, counted on its own;
    ``unmapped`` the columns that no expression reads; ``newest`` the last day
    a row is dated on, where days are told by a column (the last day asked for
    stands for any later one).
    """

    files: tuple[Delivered, ...]
    mapping: Mapping
    tallies: tuple[Tally, ...]
    counts: dict[tuple[int, date | None, str | None], int]
    unmapped: tuple[str, ...]
    newest: date | None = None


class Workbench:
    """A DuckDB file in ``folder`` on which files of one source are staged; a context manager.

    Args:
        folder: where the database, its spill files and the written files go.
        source: what the delivered files are.
        table: the canonical table they feed.
        shop: whose clock and currency hold.
        rates: first day with a rate into the shop's currency, by currency.
        tombstones: who was erased, and is left out.

    Raises:
        UsageError: the source has contact data and there is no key to replace it.
    """

    def __init__(
        self,
        folder: Path,
        source: Source,
        table: Table,
        shop: Shop,
        rates: dict[str, date],
        tombstones: Tombstones | None = None,
    ) -> None:
        self._tombstones = tombstones
        self._pseudonym_key = pseudonyms.key_for(source, table, shop)
        self._withholds = self._pseudonym_key is not None
        self.folder, self.source, self.table, self.shop, self.rates = folder, source, table, shop, rates
        self._lookup_types: dict[str, str] = {}
        self._wanted = wanted_columns(source)
        self._columns: dict[Path, Header | Columns] = {}

    def __enter__(self) -> Self:
        import duckdb

        self.folder.mkdir(parents=True, exist_ok=True)
        self.connection = duckdb.connect(str(self.folder / "workbench.duckdb"), config=_limits())
        folders = (str(self.source.root()), str(self.folder.resolve()))
        allowed = ", ".join(quoted(f"{path}{os.sep}") for folder in folders for path in (folder, without_globs(folder)))
        for statement in (
            # Rows keep the order of files and lines, so that equal deliveries make equal bytes.
            "set preserve_insertion_order = true",
            "set enable_progress_bar = false",
            "set TimeZone = 'UTC'",
            f"set temp_directory = {quoted(str(self.folder / 'spill'))}",
            # What two expressions share would be worked out before, and so outside, the TRY that guards each;
            # a longer IN would become a join, and joins don't keep the order.
            "set disabled_optimizers = 'common_subexpressions,in_clause'",
            # What the SQL of a mapping may not say, it could not do either.
            f"set allowed_directories = [{allowed}]",
            "set enable_external_access = false",
        ):
            self.connection.execute(statement)
        define_macros(self.connection, self.source.format, self.shop, self._pseudonym_key)
        if self._tombstones:
            self._tombstones.define(self.connection)
        return self

    @property
    def threads(self) -> int:
        """How many files can be written at once."""
        return int(self.connection.execute("select current_setting('threads')").fetchone()[0])

    def __exit__(self, *_: object) -> None:
        self.connection.close()
        for name in ("workbench.duckdb", "workbench.duckdb.wal"):
            (self.folder / name).unlink(missing_ok=True)

    # -- reading

    def columns_of(self, path: Path) -> Header | Columns:
        """Columns of one delivered file.

        Raises:
            InputError: the file can't be read.
        """
        if path not in self._columns:
            self._columns[path] = columns_of(self.connection, path, self.source.format)
        return self._columns[path]

    def load_lookups(self, files: dict[str, Delivered]) -> dict[str, int]:
        """Load the files of the source's lookups, given by lookup; returns their numbers of rows.

        Raises:
            InputError: a file can't be read, lacks a column, or has a key twice.
        """
        rows = {}
        for name, file in files.items():
            self._lookup_types[name] = self._load_lookup(name, file)
            (rows[name],) = self.connection.execute(f"select count(*) from lookup_{name}").fetchone()
        return rows

    def stage(
        self,
        files: Sequence[Delivered],
        headers: Sequence[Header | Columns],
        span: Span | None = None,
        *,
        max_rows: int | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> Staged:
        """Read, map and judge ``files`` into the table ``staged``, in the order given.

        Args:
            files: the delivered files; of Parquet, with the same columns and types.
            headers: the columns of each.
            span: the days asked for, where days are told by a column.
            max_rows: read no more than so many rows.
            progress: told the bytes read since it was last told.

        Raises:
            InputError: a file can't be read or lacks a column.
            UsageError: an expression doesn't fit the columns.
        """
        form = self.source.format
        names = [header.names or self._wanted for header in headers]
        places = tuple(
            places_of(self.source, self._wanted, found, str(file.path))
            for file, found in zip(files, names, strict=True)
        )
        given = (tuple(files), form, self._wanted, places, tuple(headers))
        raw = RawFiles(*given, max_rows, progress)
        types = dict.fromkeys(self._wanted, "VARCHAR")
        if isinstance(headers[0], Columns) and headers[0].types:
            types = {name: headers[0].types[place] for name, place in zip(self._wanted, places[0], strict=True)}
        types |= self._lookup_types
        of_people = self.table.name == "customers"
        self._withholds = self._pseudonym_key is not None or any(
            any_kind(found, of_people=of_people) for found in names
        )
        mapping = build_mapping(
            self.connection, self.source, self.table, self.shop, types, self.rates, withholds=self._withholds
        )
        self._create_files(files)
        self._run(raw, f"create or replace table staged as {self._in_span(self._judged_rows(raw, mapping), span)}")
        self._refuse_older_versions(raw, mapping)
        if self._tombstones and self._tombstones.count:
            # After the verdicts, so that a day landed again is what erasing left of it.
            columns = {column.name: column.data_type for column in self.table.columns if column.name not in LINEAGE}
            leave_out(self.connection, columns, mapping.number(reasons.ERASED))
        read = {name.lower() for name in self._wanted}
        unmapped = sorted({name for found in names for name in found if name.lower() not in read})
        counts = self._counts(mapping)
        newest = None
        if span is not None:
            has_last = any(day == span.last and fault is None for _, day, fault in counts)
            newest = span.last if has_last else self._newest_day(RawFiles(*given), mapping)
        return Staged(tuple(files), mapping, tuple(raw.tallies), counts, tuple(unmapped), newest)

    def _newest_day(self, raw: RawFiles, mapping: Mapping) -> date | None:
        """The last day that any row is dated on; reads the files once more, as rows of later days aren't staged."""
        rows = self._judged_rows(raw, mapping)
        self._run(raw, f"create or replace temp table newest as select max(__day) as day from ({rows})")
        return self.connection.execute("from newest").fetchone()[0]

    def _judged_rows(self, raw: RawFiles, mapping: Mapping) -> str:
        days = ", ".join(_date(file.day) for file in raw.files)
        fields = "".join(f", lookup_{name}.record as {named(name)}" for name in self.source.lookups)
        joins = []
        for name, lookup in self.source.lookups.items():
            matches = [
                f"lookup_{name}.key_{place} = nullif(trim(try(\n{self._key(name, sql)}\n)::varchar), '')"
                for place, sql in enumerate(lookup.key)
            ]
            joins.append(f"left join lookup_{name} on {' and '.join(matches)}")
        return f"""
            with raw_rows as not materialized (
                select rows.*, ([{days}]::date[])[rows.__file + 1] as __received{fields}
                from ({raw.register(self.connection)}) as rows {" ".join(joins)}
            )
            select * from ({mapping.sql})
        """

    def _key(self, lookup: str, sql: str) -> str:
        return self.source.expressions[f"lookups.{lookup}.key.{sql}"].sql

    def _in_span(self, rows: str, span: Span | None) -> str:
        """``rows``, each on the day it counts as received, without those of days not asked for.

        Scans and projections keep the order of files and lines, joins don't,
        so rows are sorted where there is a lookup; and where days are told by
        a column, so that writing one day out reads little else.
        """
        order = "__file, __line" if self.source.lookups else ""
        if span is None:
            return rows + (f" order by {order}" if order else "")
        if span.first != span.last:
            order = "__day, __file, __line"
        day = f"""case
            when __day is null then {_date(span.undated_on)}
            when __day < {_date(span.first)} then {_date(span.earlier_on)}
            when __day <= {_date(span.last)} then __day
        end"""
        rows = f"select * replace ({day} as __day) from ({rows}) where ({day}) is not null"
        return rows + (f" order by {order}" if order else "")

    def _create_files(self, files: Sequence[Delivered]) -> None:
        rows = ", ".join(f"({place}, {quoted(file.name)})" for place, file in enumerate(files))
        self.connection.execute(f"create or replace table delivered as select * from (values {rows}) as f (file, name)")

    def _run(self, raw: RawFiles, statement: str) -> None:
        """Execute what reads ``raw``; if reading fails, raise the reader's own error."""
        import duckdb

        try:
            self.connection.execute(statement)
        except duckdb.Error as error:
            raw.raise_own_error()
            raise self._in_words(error) from error

    def _in_words(self, error: duckdb.Error) -> StrataflowError:
        """What stopped DuckDB: too little room, a Parquet file that can't be read, or something not foreseen."""
        import duckdb

        told = str(error).splitlines()[0]
        where = f"source {self.source.name}"
        if isinstance(error, duckdb.OutOfMemoryException) or any(sign in told for sign in TOO_LITTLE_ROOM):
            return StepFailed(
                f"there was too little memory or disk to stage the delivery: {told}",
                where=where,
                todo="raise STRATAFLOW_MEMORY_LIMIT, make room in the home, or land fewer days at once",
            )
        if self.source.format.type == "parquet":
            return InputError(
                f"the Parquet files of the {where} can't be read: {told}",
                where=str(self.source.root()),
                todo="copy or ask for the file again; nothing of it has landed",
            )
        return StepFailed(f"the delivery could not be staged: {told}", where=where)

    # -- lookups

    def _load_lookup(self, name: str, file: Delivered) -> str:
        """Load one lookup as a table of keys and records; returns the type of the record."""
        lookup = self.source.lookups[name]
        form = lookup.format or self.source.format
        where = f"{self.source.defined_in.name}, lookups.{name}"
        header = columns_of(self.connection, file.path, form)
        used = self._used_of_lookup(name)
        known = {found.lower(): place for place, found in enumerate(header.names or used)}
        lacking = [column for column in used if column.lower() not in known]
        if lacking:
            raise InputError(
                f"{where}: the file has no column '{lacking[0]}'",
                where=f"{file.path}; its columns: {', '.join(header.names)}",
                todo="have the file corrected, or correct the lookup",
            )
        places = tuple(known[column.lower()] for column in used)
        raw = RawFiles((file,), form, used, (places,), (header,))
        keys = list(lookup.key.values())
        key_items = [f"nullif(trim({named(key)}::varchar), '') as key_{place}" for place, key in enumerate(keys)]
        record = ", ".join(f"{named(column)} := {named(column)}" for column in used)
        self._run(
            raw,
            f"create or replace temp table lookup_{name} as"
            f" select {', '.join(key_items)}, struct_pack({record}) as record, __line, __malformed"
            f" from ({raw.register(self.connection)})",
        )
        self._check_lookup(name, where, file, len(keys))
        return self.connection.execute(f"describe select record from lookup_{name}").fetchone()[1]

    def _used_of_lookup(self, name: str) -> tuple[str, ...]:
        used = {column.lower(): column for column in self.source.lookups[name].key.values()}
        for expression in self.source.expressions.values():
            for path in expression.columns:
                if path[0] == name and len(path) > 1:
                    used.setdefault(path[1].lower(), path[1])
        return tuple(used.values())

    def _check_lookup(self, name: str, where: str, file: Delivered, keys: int) -> None:
        broken = self.connection.execute(
            f"select __line, __malformed from lookup_{name} where __malformed is not null order by 1 limit 1"
        ).fetchone()
        if broken:
            raise InputError(f"{where}: {broken[1]}", where=f"{file.path}, line {broken[0]}")
        key = ", ".join(f"key_{place}" for place in range(keys))
        twice = self.connection.execute(
            f"select {key}, count(*) as n from lookup_{name} group by {key} having n > 1 order by all limit 1"
        ).fetchone()
        if twice:
            # A key may be a phone number, and errors are kept in the run's record.
            told = (
                ""
                if self._pseudonym_key or any_kind(self.source.lookups[name].key.values())
                else f" {_listed(twice[:-1])}"
            )
            raise InputError(
                f"{where}: the key{told} stands in {twice[-1]} rows; it must stand in one",
                where=str(file.path),
                todo="name more columns in the lookup's key, or have the file corrected",
            )

    # -- the verdict that takes more than one row

    def _refuse_older_versions(self, raw: RawFiles, mapping: Mapping) -> None:
        """Of the rows with one key on one day, let only the last version land."""
        key = [named(column) for column in self.table.key]
        if not key:
            return
        lands = "__fault is null" + (" and not is_adjustment" if "is_adjustment" in self.table.by_name else "")
        newest = ["updated_at desc nulls last"] if "updated_at" in self.table.by_name else []
        by_key = ", ".join(["__day", *key])
        self.connection.execute(f"""
            create or replace temp table replaced as
            with
            twice as (select {by_key} from staged where {lands} group by all having count(*) > 1),
            versions as (
                select
                    __file, __line,
                    row_number() over newest_first as version,
                    first_value(__file) over newest_first as kept_file,
                    first_value(__line) over newest_first as kept_line
                from staged semi join twice using ({by_key})
                where {lands}
                window newest_first as (
                    partition by {by_key} order by {", ".join([*newest, "__file desc", "__line desc"])}
                )
            )
            select __file, __line, 'line ' || kept_line || ' of ' || delivered.name as kept
            from versions join delivered on delivered.file = kept_file
            where version > 1
        """)
        lines: dict[int, list[int]] = {}
        for file, line in self.connection.execute("select __file, __line from replaced order by all").fetchall():
            lines.setdefault(file, []).append(line)
        if lines:
            raw.texts_of(self.connection, lines)
            fault, kept = mapping.number(reasons.DUPLICATE_IN_DAY), self._kept("raw_texts.__raw")
            self.connection.execute(f"""
                update staged
                set __fault = {fault}, __said = kept, __raw = {kept}
                from replaced join raw_texts using (__file, __line)
                where staged.__file = replaced.__file and staged.__line = replaced.__line
            """)

    def _kept(self, raw: str) -> str:
        """SQL for what is kept of the text of a row of ``staged`` that had been found good."""
        values = {name: withheld(self.table.by_name[name], f"staged.{named(name)}") for name in self.source.columns}
        return kept_text(raw, as_record(values), self.source.format.type, withholds=self._withholds)

    def _counts(self, mapping: Mapping) -> dict[tuple[int, date | None, str | None], int]:
        counts: dict[tuple[int, date | None, str | None], int] = {}
        for file, day, fault, rows in self.connection.execute(
            "select __file, __day, __fault, count(*) from staged group by all order by all"
        ).fetchall():
            key = (file, day, None if fault is None else mapping.faults[fault - 1].code)
            counts[key] = counts.get(key, 0) + rows
        return counts

    # -- writing

    def write_landed(self, staged: Staged, day: date, path: Path) -> None:
        """Write the rows that land on ``day`` as Parquet, in the order of files and lines."""
        files = sorted({file for file, landed_on, fault in staged.counts if landed_on == day and fault is None})
        names = " ".join(f"when {place} then {quoted(staged.files[place].name)}" for place in files)
        derived = {
            "source": quoted(self.source.name),
            "source_file": f"case __file {names} end",
            "source_line": "__line",
        }
        items = [
            f"({derived.get(column.name, named(column.name))})::{column.data_type} as {named(column.name)}"
            for column in self.table.columns
        ]
        self._write(f"select {', '.join(items)} from staged where __day = date '{day}' and __fault is null", path)

    def write_refused(self, staged: Staged, day: date, path: Path) -> None:
        """Write the rows refused on ``day`` as Parquet, each with its place, reason and exact text."""
        self._write(f"select * exclude (day) from ({self.refused(staged)}) where day = date '{day}'", path)

    def refused(self, staged: Staged) -> str:
        """SQL for the refused rows in the order of files and lines, in the columns of the quarantine, and their day."""
        faults = ", ".join(
            f"({number}, {quoted(fault.code)}, {quoted(fault.words)})"
            for number, fault in enumerate(staged.mapping.faults, 1)
        )
        return f"""
            select
                {quoted(self.table.name)} as "table",
                {quoted(self.source.name)} as source,
                delivered.name as source_file,
                __line as source_line,
                faults.code as reason_code,
                case when __said = {quoted(NOTHING_SAID)} then {quoted(WITHHELD)}
                     else replace(faults.words, '{{}}', coalesce(__said, '')) end as reason,
                {"customer_id" if "customer_id" in self.table.by_name else "null::varchar"} as customer_id,
                __raw as raw,
                __day as day
            from staged
            join delivered on delivered.file = staged.__file
            join (values {faults}) as faults (number, code, words) on faults.number = staged.__fault
            where faults.code <> {quoted(reasons.ERASED)}
            order by __file, __line
        """

    def _write(self, query: str, path: Path) -> None:
        """Write a query's rows to one Parquet file; callable from several threads at once."""
        with self.connection.cursor() as cursor:
            write_partition(cursor, query, path)


def write_partition(connection: duckdb.DuckDBPyConnection, query: str, path: Path) -> None:
    """Write a query's rows as a partition of the lake.

    Arrow's writer gets row groups of one size, each as one piece, so that
    the bytes depend on the rows alone. (DuckDB's own COPY is as fast, but
    its row groups and pages follow the threads and where in the table the
    rows happened to lie.)
    """
    from pyarrow import parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    reader = connection.sql(query).to_arrow_reader(ROW_GROUP_ROWS)
    with parquet.ParquetWriter(
        path, reader.schema, compression="zstd", store_schema=False, store_decimal_as_integer=True
    ) as writer:
        for group in _row_groups(reader):
            writer.write_table(group, row_group_size=ROW_GROUP_ROWS)


def _row_groups(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """The rows of ``batches`` in tables of ``ROW_GROUP_ROWS``, the last one shorter."""
    import pyarrow as pa

    waiting: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        waiting.append(batch)
        rows += batch.num_rows
        while rows >= ROW_GROUP_ROWS:
            table = pa.Table.from_batches(waiting)
            yield table.slice(0, ROW_GROUP_ROWS).combine_chunks()
            waiting = table.slice(ROW_GROUP_ROWS).to_batches()
            rows -= ROW_GROUP_ROWS
    if rows:
        yield pa.Table.from_batches(waiting).combine_chunks()


def _listed(values: Iterable[object]) -> str:
    return ", ".join(map(str, values))


def _date(day: date | None) -> str:
    return "null::date" if day is None else f"date '{day}'"


def _limits() -> dict[str, str]:
    """DuckDB's threads and memory, where the environment sets them."""
    limits = {
        "memory_limit": os.environ.get("STRATAFLOW_MEMORY_LIMIT"),
        "threads": os.environ.get("STRATAFLOW_THREADS"),
    }
    return {name: value for name, value in limits.items() if value}
