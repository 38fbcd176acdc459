"""Taking persons out of what has been received: the lake, the quarantine and their manifests.

What is left of a day is byte for byte what landing it again would yield, since landing
leaves erased customers out by the same rule. So no later landing finds anything to mend.
"""

from __future__ import annotations

import json
import shutil
from datetime import date
from typing import TYPE_CHECKING, Any

import duckdb

from strataflow.durable import sha256, sync, write_json
from strataflow.landing import quarantine_ratio
from strataflow.privacy.traces import Persons, columns_of
from strataflow.sqltext import named, quoted
from strataflow.staging import write_partition

if TYPE_CHECKING:
    from collections import Counter
    from pathlib import Path

    from strataflow.home import Home

PARTITION = "received_date="
NO_TABLE = ("landings", "quarantine")


def relation_of(path: Path) -> str:
    """SQL that reads one Parquet file as it is."""
    return f"read_parquet({quoted(str(path))}, hive_partitioning = false)"


def erase_received(home: Home, persons: Persons, tally: Counter[str]) -> None:
    """Rewrite every partition and quarantine file that names one of the persons, each with its manifest.

    Args:
        tally: rows that went are added to it, by place.
    """
    with duckdb.connect() as connection:
        connection.execute("set TimeZone = 'UTC'")
        for folder in sorted(path for path in home.lake.glob("*") if path.is_dir() and path.name not in NO_TABLE):
            for path in sorted(folder.glob(f"{PARTITION}*/*.parquet")):
                _erase_landed(home, connection, path, persons, tally)
        for path in sorted(home.quarantine.glob(f"{PARTITION}*/*.parquet")):
            _erase_refused(home, connection, path, persons, tally)
        _settle_emptied(home, connection)
    for folder in sorted(home.refused.glob("*/*")):
        _forget_refused_day(folder, persons, tally)


def _erase_landed(
    home: Home, connection: duckdb.DuckDBPyConnection, path: Path, persons: Persons, tally: Counter[str]
) -> None:
    relation = relation_of(path)
    clauses = persons.clauses(columns_of(connection, relation))
    gone, changed = clauses.counted(connection, relation) if clauses else (0, 0)
    if gone or changed:
        _replace(home, connection, clauses.kept(relation), path)
        tally[f"lake/{path.parent.parent.name}"] += gone
    # A process killed between file and manifest left them apart.
    _settle_manifest(home, connection, path)


def _erase_refused(
    home: Home, connection: duckdb.DuckDBPyConnection, path: Path, persons: Persons, tally: Counter[str]
) -> None:
    """Rows of the persons go; what others' rows say of them goes without a look at what it means."""
    relation = relation_of(path)
    columns = columns_of(connection, relation)
    goes = f"coalesce({persons.is_in('customer_id')}, false)" if "customer_id" in columns else "false"
    says = f"coalesce({persons.has_word('raw')} or {persons.has_word('reason')}, false)"
    gone, changed = connection.execute(
        f"select count(*) filter ({goes}), count(*) filter (not {goes} and {says}) from {relation}"
    ).fetchall()[0]
    if gone or changed:
        instead = {"raw": "null::varchar", "reason": "'(withheld)'"}
        items = [
            f"case when {says} then {instead[name]} else {named(name)} end as {named(name)}"
            if name in instead
            else named(name)
            for name in columns
        ]
        _replace(home, connection, f"select {', '.join(items)} from {relation} where not {goes}", path)
        tally["lake/quarantine"] += gone + changed
    _settle_manifest(home, connection, path)


def _replace(home: Home, connection: duckdb.DuckDBPyConnection, query: str, path: Path) -> None:
    """Put what is left of a file in its place; nothing is left, nothing lies there."""
    aside = home.scratch / "erase" / "partition.parquet"
    aside.parent.mkdir(parents=True, exist_ok=True)
    with connection.cursor() as cursor:
        write_partition(cursor, query, aside)
    if connection.execute(f"select count(*) from {relation_of(aside)}").fetchall()[0][0]:
        sync(aside)
        aside.replace(path)
        return
    aside.unlink()
    path.unlink()
    if not any(path.parent.iterdir()):
        path.parent.rmdir()


def _settle_manifest(home: Home, connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Make the manifest of a day tell what lies there now, if it doesn't."""
    source, day = path.stem, date.fromisoformat(path.parent.name.removeprefix(PARTITION))
    place = home.landing(source, day)
    if not place.is_file():
        return
    manifest = json.loads(place.read_bytes())
    landed, refused = home.partition(manifest["table"], day, source), home.quarantined(day, source)
    found = {"partition_sha256": _digest(landed), "quarantine_sha256": _digest(refused)}
    if all(manifest.get(key) == digest for key, digest in found.items()):
        return
    by_file = {
        "rows_landed": _counts(connection, landed, "source_file"),
        "rows_quarantined": _counts(connection, refused, "source_file"),
    }
    told = _recounted(manifest, by_file) | found | {"reasons": _counts(connection, refused, "reason_code")}
    if "limits" in told:
        told["quarantine_ratio"] = quarantine_ratio(told["rows_landed"], told["reasons"], told["limits"]["expected"])
    write_json(place, told)


def _settle_emptied(home: Home, connection: duckdb.DuckDBPyConnection) -> None:
    """Settle days of which nothing is left, where a process was killed before their manifest said so."""
    for place in sorted(home.landings.glob("*/*.json")):
        manifest = json.loads(place.read_bytes())
        path = home.partition(manifest["table"], date.fromisoformat(place.stem), place.parent.name)
        refused = home.quarantined(date.fromisoformat(place.stem), place.parent.name)
        if (manifest["partition_sha256"] and not path.is_file()) or (
            manifest.get("quarantine_sha256") and not refused.is_file()
        ):
            _settle_manifest(home, connection, path)


def _recounted(manifest: dict[str, Any], by_file: dict[str, dict[str, int]]) -> dict[str, Any]:
    files = []
    for file in manifest.get("files", ()):
        rows = {key: counts.get(file["path"], 0) for key, counts in by_file.items()}
        files.append(file | rows | {"rows_erased": file["rows_read"] - sum(rows.values())})
    rows = {key: sum(counts.values()) for key, counts in by_file.items()}
    rows["rows_erased"] = manifest.get("rows_read", 0) - sum(rows.values())
    return manifest | rows | {"files": files}


def _digest(path: Path) -> str | None:
    return sha256(path) if path.is_file() else None


def _counts(connection: duckdb.DuckDBPyConnection, path: Path, column: str) -> dict[str, int]:
    if not path.is_file():
        return {}
    return dict(
        connection.execute(f"select {column}, count(*) from {relation_of(path)} group by all order by all").fetchall()
    )


def _forget_refused_day(folder: Path, persons: Persons, tally: Counter[str]) -> None:
    """A day that was refused for too many bad rows is kept to be looked at; with the person in it, it goes whole."""
    path = folder / "quarantine.parquet"
    if path.is_file():
        relation = relation_of(path)
        with duckdb.connect() as connection:
            columns = columns_of(connection, relation)
            subject = persons.is_in("customer_id") if "customer_id" in columns else "false"
            says = f"{subject} or {persons.has_word('raw')} or {persons.has_word('reason')}"
            query = f"select count(*) from {relation} where coalesce({says}, false)"
            found = connection.execute(query).fetchall()[0][0]
        if not found:
            return
        tally["refused"] += found
    shutil.rmtree(folder)
