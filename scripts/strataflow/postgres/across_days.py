"""Tables that span days, brought in line with the files they consist of: the history and the scorecard.

Their past may change: a day published again changes the intervals and moves that hang on it. But each of their files
has a digest, so the rows of a file that is there already stay as they are, those of a file that is gone go, and new
ones are copied, in the transaction that shows the day.

One file is made anew every day and is as long as the list of customers: what is open after the last day. It is not
copied again. The day's own file names the rows that have ended, and the others are those that began on it; that it was
made from the very days that the database has makes sure that nothing else can differ.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from strataflow import contracts, scorecard
from strataflow.errors import StepFailed
from strataflow.export import literal, quoted
from strataflow.history.plan import OPEN_INTERVALS, OPEN_STRETCHES, closed_day, snapshot_day
from strataflow.history.refresh import MANIFEST, current_history
from strataflow.postgres.contract import PART_COLUMN, Contract, offered
from strataflow.postgres.layout import Layout, stored_name
from strataflow.postgres.load import BATCH_ROWS, cleaned, indexes
from strataflow.postgres.session import Session

if TYPE_CHECKING:
    import pyarrow as pa

    from strataflow.home import Home

OPEN = {"segment_history": OPEN_INTERVALS, "segment_stability": OPEN_STRETCHES}
# What stands for the digest of a file of which rows were removed.
CHANGED_HERE = ""


@dataclass(frozen=True)
class File:
    """One file of a table: ``made_from`` tells which days an open one goes up to; empty where that doesn't matter."""

    table: str
    path: str
    place: Path
    sha256: str
    rows: int
    made_from: str = ""


@dataclass(frozen=True)
class Collection:
    """The history, or all scorecards, as they lie in the home.

    Attributes:
        version: differs whenever a file does.
        day: the newest day it speaks of.
        told: of the history, the versions that it was made from, by day.
    """

    name: str
    version: str
    day: date
    files: tuple[File, ...]
    told: dict[date, str]

    def offers(self) -> list[Contract]:
        """The contracts of its tables that a database copies."""
        return [
            offered(table, _schema(told["columns"]), told, told["key"], self.day, is_partitioned=False)
            for table, told in contracts.across_days(self.name).items()
            if not told["excerpt_of"]
        ]


@dataclass(frozen=True)
class _Part:
    """A file whose rows the database has."""

    number: int
    path: str
    sha256: str
    made_from: str
    rows: int


def news(session: Session, layout: Layout, home: Home) -> list[Collection]:
    """The collections of the home that the database is not in line with; those the home has not are left alone."""
    known = dict(session.rows(f"select name, version from {layout.note('collections')}"))
    session.commit()
    found = [one for one in (_history(home), _scorecards(home)) if one]
    return [one for one in found if known.get(one.name) != one.version]


def bring_in(
    session: Session, layout: Layout, collection: Collection, wanted: dict[str, Contract], *, is_cleaned: bool
) -> int:
    """Bring the tables of a collection in line with its files, within the caller's transaction.

    Args:
        wanted: the contracts in force, by table.
        is_cleaned: as for :class:`~strataflow.postgres.load.Day`.

    Returns:
        Rows that came or went.

    Raises:
        StepFailed: what arrived is not what the manifest says.
    """
    changed = 0
    for offer in collection.offers():
        files = [file for file in collection.files if file.table == offer.table]
        changed += _Table(session, layout, wanted[offer.table], is_cleaned).follow(files)
        session.run(
            f"insert into {layout.note('spanning')} values ({literal(offer.table)}, {offer.version}) "
            "on conflict (table_name) do update set contract_version = excluded.contract_version"
        )
    if collection.told:
        told = ", ".join(f"({literal(day)}, {literal(version)})" for day, version in collection.told.items())
        session.run(f"delete from {layout.note('told')}", f"insert into {layout.note('told')} values {told}")
    session.run(
        f"insert into {layout.note('collections')} values ({literal(collection.name)}, {literal(collection.version)}) "
        "on conflict (name) do update set version = excluded.version"
    )
    return changed


def mark_changed(session: Session, layout: Layout, contract: Contract, condition: str) -> None:
    """Have the files that hold certain rows copied again, because those are about to be removed here."""
    stored = layout.stored(contract.table, contract.version)
    session.run(
        f"update {layout.note('collections')} set version = {literal(CHANGED_HERE)}",
        f"update {layout.note('parts')} set sha256 = {literal(CHANGED_HERE)} "
        f"where part in (select {PART_COLUMN} from {stored} where {condition})",
    )


@dataclass(frozen=True)
class _Table:
    """One table under the contract in force."""

    session: Session
    layout: Layout
    contract: Contract
    is_cleaned: bool

    def follow(self, files: list[File]) -> int:
        """Let the rows of files that are gone or differ go, and copy those that are new; rows that came or went."""
        have, wanted = self._parts(), {file.path: file for file in files}
        open_path, changed = OPEN.get(self.contract.table), 0
        before, after = have.get(open_path), wanted.get(open_path)
        ended = self._ended_since(before, files) if before and after else None
        if ended and before.sha256 != after.sha256:
            count = self._go_on(before, after, [file for file in ended if file.path not in have])
            if count is not None:
                changed, have = count, self._parts()
        gone = [part for path, part in have.items() if path not in wanted or part.sha256 != wanted[path].sha256]
        kept = {part.path for part in have.values()} - {part.path for part in gone}
        new = [file for file in files if file.path not in kept]
        changed += self._remove(gone) + sum(self._copy(file) for file in new)
        if changed:
            name = stored_name(self.contract.table, self.contract.version)
            wanted = [(PART_COLUMN,), *self.contract.indexes]
            self.session.run(*indexes(wanted, self._stored, name), f"analyze {self._stored}")
        return changed

    @property
    def _stored(self) -> str:
        return self.layout.stored(self.contract.table, self.contract.version)

    @property
    def _columns(self) -> str:
        return ", ".join(quoted(name) for name in self.contract.columns)

    def _parts(self) -> dict[str, _Part]:
        found = self.session.rows(
            f"select part, path, sha256, made_from, rows from {self.layout.note('parts')} "
            f"where table_name = {literal(self.contract.table)} and contract_version = {self.contract.version}"
        )
        return {part.path: part for part in (_Part(*row) for row in found)}

    def _ended_since(self, before: _Part, files: list[File]) -> list[File] | None:
        """The files of the days since the open rows that the database has; None if it doesn't have a state of these.

        A closed file of a day is made from the same days as the open one was when that day was the last.
        """
        closed = sorted((day, file) for file in files if (day := closed_day(file.path)))
        last = next((day for day, file in closed if file.made_from == before.made_from), None)
        if last is None or before.sha256 == CHANGED_HERE:
            return None
        return [file for day, file in closed if day > last]

    def _go_on(self, before: _Part, after: File, ended: list[File]) -> int | None:
        """Carry the open rows on over some days; None, and nothing is done, if that doesn't give what is on file."""
        if not ended:
            return None
        keys = " and ".join(f"held.{quoted(name)} = ended.{quoted(name)}" for name in self.contract.key)
        aside = f"{stored_name(self.contract.table, self.contract.version)}_ended"
        ending = f"{quoted(self.layout.store)}.{quoted(aside)}"
        since = min(closed_day(file.path) for file in ended)
        self.session.run("savepoint going_on", f"create table {ending} (like {self._stored})")
        copied = gone = 0
        for file in ended:
            copied += self._copy(file, aside)
        self.session.run(f"analyze {ending}")
        gone = self.session.run(
            f"delete from {self._stored} as held using {ending} as ended "
            f"where {keys} and held.{PART_COLUMN} = {before.number}"
        )
        self.session.run(f"insert into {self._stored} select * from {ending}", f"drop table {ending}")
        begun = self._send(after, before.number, stored_name(self.contract.table, self.contract.version), since)
        if before.rows - gone + begun != after.rows:
            self.session.run("rollback to savepoint going_on")
            return None
        self.session.run(
            "release savepoint going_on",
            f"update {self.layout.note('parts')} set sha256 = {literal(after.sha256)}, "
            f"made_from = {literal(after.made_from)}, rows = {after.rows} where part = {before.number}",
        )
        return copied + begun

    def _remove(self, parts: Iterable[_Part]) -> int:
        numbers = ", ".join(str(part.number) for part in parts)
        if not numbers:
            return 0
        removed = self.session.run(f"delete from {self._stored} where {PART_COLUMN} in ({numbers})")
        self.session.run(f"delete from {self.layout.note('parts')} where part in ({numbers})")
        return removed

    def _copy(self, file: File, into: str | None = None) -> int:
        """Copy a file, and note that it is here."""
        number = self.session.value(
            f"insert into {self.layout.note('parts')} "
            "(table_name, contract_version, path, sha256, made_from, rows) values "
            f"({literal(file.table)}, {self.contract.version}, {literal(file.path)}, {literal(file.sha256)}, "
            f"{literal(file.made_from)}, {file.rows}) returning part"
        )
        copied = self._send(file, number, into or stored_name(file.table, self.contract.version))
        if copied != file.rows:
            raise StepFailed(
                f"{file.table} arrived as {copied} rows, not as {file.rows}",
                where=str(file.place),
                todo="publish to PostgreSQL again; nothing of this is visible. If it stays, make the files again",
            )
        return copied

    def _send(self, file: File, number: int, into: str, since: date | None = None) -> int:
        with _rows(file.place, self._columns, number, since) as batches:
            return self.session.copy(self.layout.store, into, cleaned(batches) if self.is_cleaned else batches)


@contextmanager
def _rows(place: Path, columns: str, part: int, since: date | None) -> Iterator[pa.RecordBatchReader]:
    """A file's rows with the number of its part; those that begin on a day or later, if one is given."""
    import duckdb

    begun = f" where valid_from >= {literal(since)}" if since else ""
    with duckdb.connect() as connection:
        yield connection.sql(
            f"select {columns}, {part}::integer as {PART_COLUMN} "
            f"from read_parquet({literal(place)}, hive_partitioning = false){begun}"
        ).to_arrow_reader(BATCH_ROWS)


def _schema(columns: dict[str, dict[str, Any]]) -> pa.Schema:
    """The Arrow types of columns that are described in DuckDB's."""
    import duckdb

    typed = ", ".join(f"cast(null as {told['data_type']}) as {quoted(name)}" for name, told in columns.items())
    with duckdb.connect() as connection:
        return connection.sql(f"select {typed}").to_arrow_table().schema


def _history(home: Home) -> Collection | None:
    folder = current_history(home)
    if folder is None:
        return None
    listed = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
    files, told = [], {}
    for path, entry in listed.items():
        made_from = " ".join(entry["made_from"])
        if day := snapshot_day(path):
            told[day] = made_from
        else:
            files.append(File(entry["table"], path, folder / path, entry["sha256"], entry["rows"], made_from))
    return Collection("history", folder.name, max(told, default=date.min), tuple(files), told)


def _scorecards(home: Home) -> Collection | None:
    folders = sorted(path.parent for path in (home.published / scorecard.FOLDER).glob(f"*/{scorecard.MANIFEST}"))
    if not folders:
        return None
    files, days = [], []
    for folder in folders:
        manifest = json.loads((folder / scorecard.MANIFEST).read_text(encoding="utf-8"))
        digests = {entry["path"]: entry["sha256"] for entry in manifest["files"]}
        days.append(date.fromisoformat(manifest["as_of"]))
        for table, rows in manifest["rows"].items():
            name = f"{table}.parquet"
            files.append(File(table, f"{folder.name}/{name}", folder / name, digests[name], rows))
    version = hashlib.sha256(" ".join(folder.name for folder in folders).encode()).hexdigest()[:12]
    return Collection("scorecard", version, max(days), tuple(files), {})
