"""Where the tables that a gate judges lie: the lake's partitions for gate 1, a build for gate 2.

Everything becomes a view in the gate's database under its plain name, so that
an expectation reads the same wherever the tables were built.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from strataflow.durable import sha256
from strataflow.errors import InputError
from strataflow.gates.database import GateDatabase, literal, quoted
from strataflow.home import Home
from strataflow.project import Project, Table
from strataflow.sources import Source

# Weeks of landing manifests that a day's row count is compared with.
RECENT_WEEKS = 8

_DELIVERY = {
    "source": "varchar",
    "table_name": "varchar",
    "received_date": "date",
    "is_judged": "boolean",
    "is_delivered": "boolean",
    "rows_read": "bigint",
    "rows_landed": "bigint",
    "rows_quarantined": "bigint",
    "rows_erased": "bigint",
    "quarantine_ratio": "double",
    "max_quarantine_ratio": "double",
    "rows_in_lake": "bigint",
    "rows_in_quarantine": "bigint",
    "is_as_landed": "boolean",
}
_DELIVERED_FILE = {
    "source": "varchar",
    "received_date": "date",
    "path": "varchar",
    "rows_read": "bigint",
    "rows_landed": "bigint",
    "rows_quarantined": "bigint",
    "rows_erased": "bigint",
}


@dataclass(frozen=True)
class Days:
    """The days a gate judges, both included."""

    since: date
    day: date

    def all(self) -> list[date]:
        """Every one of them, in order."""
        return [self.since + timedelta(days=n) for n in range((self.day - self.since).days + 1)]


def show_landed(
    database: GateDatabase, home: Home, tables: Mapping[str, Table], sources: Iterable[Source], days: Days
) -> None:
    """Show what landed on ``days``.

    One view per canonical table with its columns and ``received_date``, empty
    where nothing landed, and two tables: ``deliveries``, one row per source
    and day (with the weeks before, for comparison), and ``delivered_files``,
    one row per file delivered on the days judged.

    Raises:
        InputError: a manifest can't be read.
    """
    for table in tables.values():
        _show_partitions(database, home, table, days)
    deliveries, files = _deliveries(database, home, list(sources), days)
    database.make_from_records("deliveries", _DELIVERY, deliveries)
    database.make_from_records("delivered_files", _DELIVERED_FILE, files)


def show_seeds(database: GateDatabase, project: Project) -> None:
    """Show the dbt seeds as they are now, under their names."""
    for path in sorted((project.dbt / "seeds").rglob("*.csv")):
        database.show(path.stem, f"select * from read_csv({literal(path)}, header = true)")


def show_built(database: GateDatabase, home: Home, where: Path, known_at: date) -> None:
    """Show a build and what it was made from.

    Args:
        where: a DuckDB file, or a folder with a folder of Parquet files per table.
        known_at: the last day received that the build knows of.

    Beside the build's own tables there is ``orders_received``: every order id
    with the days it was received, at order level where the shop had delivered
    that by then, as the models read it. And ``manual_tags_received``: every
    statement of staff received by then.
    """
    if where.is_dir():
        for folder in sorted(path for path in where.iterdir() if path.is_dir()):
            database.show_parquet(folder.name, folder / "**" / "*.parquet")
    else:
        database.show_database(where)
    _show_manual_tags_received(database, home, known_at)
    for table in ("orders", "order_lines"):
        if _received_files(home, table, known_at):
            every = home.lake / table / "received_date=*" / "*.parquet"
            database.show_parquet("orders_received", every, day_column="received_date")
            return
    database.show("orders_received", "select null::varchar as order_id, null::date as received_date where false")


def _show_manual_tags_received(database: GateDatabase, home: Home, known_at: date) -> None:
    files = _received_files(home, "manual_tags", known_at)
    name = "manual_tags_lying_in_the_lake"
    if files:
        database.show_parquet(name, files, day_column="received_date")
    else:
        texts = ", ".join(f"null::varchar as {column}" for column in ("customer_id", "tag", "source", "source_file"))
        database.show(name, f"select {texts}, null::bigint as source_line, null::date as received_date where false")
    columns = "customer_id, tag, received_date, source as source_name, source_file, source_line"
    database.show("manual_tags_received", f"select {columns} from {name}")


def _received_files(home: Home, table: str, known_at: date) -> list[Path]:
    """Partitions of a canonical table received by a day."""
    found = sorted((home.lake / table).glob("received_date=*/*.parquet"))
    return [path for path in found if path.parent.name <= f"received_date={known_at}"]


def show_classes_before(database: GateDatabase, version: Path | None) -> None:
    """Show ``classes_before``: customers per class of an earlier published version, empty without one."""
    files = [] if version is None else sorted((version / "customer_segments").rglob("*.parquet"))
    if not files:
        columns = "null::date as as_of_date, null::varchar as rfm_class, null::bigint as customers"
        database.show("classes_before", f"select {columns} where false")
        return
    listed = ", ".join(literal(path) for path in files)
    database.show(
        "classes_before",
        f"select as_of_date, rfm_class, count(*) as customers from read_parquet([{listed}], "
        "hive_partitioning = false) group by all",
    )


def _show_partitions(database: GateDatabase, home: Home, table: Table, days: Days) -> None:
    folders = [home.lake / table.name / f"received_date={day}" for day in days.all()]
    files = [path for folder in folders for path in sorted(folder.glob("*.parquet"))]
    if files:
        database.show_parquet(table.name, files, day_column="received_date")
        return
    columns = [f"cast(null as {column.data_type}) as {quoted(column.name)}" for column in table.columns]
    columns.append("cast(null as date) as received_date")
    database.show(table.name, f"select {', '.join(columns)} where false")


def _deliveries(
    database: GateDatabase, home: Home, sources: list[Source], days: Days
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Records of ``deliveries`` and ``delivered_files``."""
    before = [days.since - timedelta(days=n) for n in range(RECENT_WEEKS * 7, 0, -1)]
    judged = [
        (source, day, _manifest(home, source, day))
        for source in sources
        for day in days.all()
        if source.begins is None or day >= source.begins
    ]
    counted = _rows_of_files(database, [path for source, day, _ in judged for path in _files_of(home, source, day)])
    deliveries = [_judged(home, source, day, manifest, counted) for source, day, manifest in judged]
    deliveries += [
        _delivery(source, day, manifest)
        for source in sources
        for day in before
        if (manifest := _manifest(home, source, day))
    ]
    files = [
        {"source": source.name, "received_date": day, "rows_erased": 0, **entry}
        for source, day, manifest in judged
        for entry in (manifest or {}).get("files", [])
    ]
    return deliveries, files


def _files_of(home: Home, source: Source, day: date) -> list[Path]:
    paths = (home.partition(source.table, day, source.name), home.quarantined(day, source.name))
    return [path for path in paths if path.is_file()]


def _rows_of_files(database: GateDatabase, paths: list[Path]) -> dict[str, int]:
    """Rows of each Parquet file, from its footer."""
    if not paths:
        return {}
    listed = ", ".join(literal(path) for path in paths)
    return dict(database.rows(f"select file_name, num_rows from parquet_file_metadata([{listed}])"))


def _judged(
    home: Home, source: Source, day: date, manifest: Mapping[str, Any] | None, counted: Mapping[str, int]
) -> dict[str, Any]:
    lake, refused = home.partition(source.table, day, source.name), home.quarantined(day, source.name)
    promised = [(manifest or {}).get(key) for key in ("partition_sha256", "quarantine_sha256")]
    found = [sha256(path) if str(path) in counted else None for path in (lake, refused)]
    return _delivery(source, day, manifest) | {
        "is_judged": True,
        "rows_in_lake": counted.get(str(lake), 0),
        "rows_in_quarantine": counted.get(str(refused), 0),
        "is_as_landed": found == promised,
    }


def _delivery(source: Source, day: date, manifest: Mapping[str, Any] | None) -> dict[str, Any]:
    told = manifest or {}
    return {
        "source": source.name,
        "table_name": source.table,
        "received_date": day,
        "is_judged": False,
        "is_delivered": manifest is not None,
        "rows_read": told.get("rows_read"),
        "rows_landed": told.get("rows_landed"),
        "rows_quarantined": told.get("rows_quarantined"),
        "rows_erased": told.get("rows_erased", 0),
        "quarantine_ratio": told.get("quarantine_ratio"),
        "max_quarantine_ratio": told.get("limits", {}).get("max_quarantine_ratio"),
    }


def _manifest(home: Home, source: Source, day: date) -> dict[str, Any] | None:
    path = home.landing(source.name, day)
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as broken:
        raise InputError(
            f"a landing manifest can't be read: {broken}",
            where=str(path),
            todo="remove the file and land that day again",
        ) from broken
