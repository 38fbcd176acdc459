"""Looking for persons through everything a home holds, to prove that they are gone.

Values of Parquet files and databases are compressed, so looking at a file's bytes
proves nothing; they are read value by value. Of every file, whatever it is, the bytes
are looked at as well.
"""

from __future__ import annotations

import csv
import json
import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb

from strataflow.privacy.received import relation_of
from strataflow.privacy.traces import Persons, columns_of, names_customers
from strataflow.sqltext import named, quoted

if TYPE_CHECKING:
    from strataflow.home import Home


def files_of(home: Home) -> Iterator[Path]:
    """All files of a home, links not followed."""
    for folder, _, names in os.walk(home.root):
        for name in names:
            path = Path(folder, name)
            if path.is_file() and not path.is_symlink():
                yield path


def find(home: Home, persons: Persons, folder: Path | None = None) -> dict[Path, int]:
    """The files that name one of the persons, with how many rows, records or places do.

    Args:
        folder: look there; else everywhere but where ids are kept until other systems have heard
            that they are to be deleted (:func:`strataflow.crm.outbox.forget`).
    """
    found = {}
    with duckdb.connect() as connection:
        for path in files_of(home):
            is_wanted = path.is_relative_to(folder) if folder else not path.is_relative_to(home.crm)
            if not is_wanted:
                continue
            places = max(_in_values(connection, path, persons), _in_bytes(path, persons))
            if places:
                found[path] = places
    return dict(sorted(found.items()))


def _in_values(connection: duckdb.DuckDBPyConnection, path: Path, persons: Persons) -> int:
    if path.suffix == ".parquet":
        return _in_relation(connection, relation_of(path), persons)
    if path.suffix == ".duckdb":
        return _in_database(connection, path, persons)
    if path.suffix == ".csv":
        return _in_csv(path, persons)
    if path.suffix in (".json", ".jsonl"):
        return _in_json(path, persons)
    return 0


def _in_relation(connection: duckdb.DuckDBPyConnection, relation: str, persons: Persons) -> int:
    columns = columns_of(connection, relation)
    clauses = persons.clauses(columns)
    found = sum(clauses.counted(connection, relation)) if clauses else 0
    nested = [name for name, kind in columns.items() if kind.endswith("]") or kind.startswith(("STRUCT", "MAP"))]
    if nested and persons.telling:
        signs = " or ".join(
            f"contains({named(name)}::varchar, {quoted(one)})" for name in nested for one in persons.telling
        )
        found += connection.execute(f"select count(*) from {relation} where {signs}").fetchall()[0][0]
    return found


def _in_database(connection: duckdb.DuckDBPyConnection, path: Path, persons: Persons) -> int:
    connection.execute(f"attach {quoted(str(path))} as looked_at (read_only)")
    try:
        tables = connection.execute(
            "select schema_name, table_name from duckdb_tables() where database_name = 'looked_at' and not internal"
        ).fetchall()
        relations = [f"looked_at.{named(schema)}.{named(table)}" for schema, table in tables]
        return sum(_in_relation(connection, relation, persons) for relation in relations)
    finally:
        connection.execute("detach looked_at")


def _in_csv(path: Path, persons: Persons) -> int:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            about = [place for place, name in enumerate(next(reader, [])) if names_customers(name)]
            return sum(
                any(place < len(row) and row[place].removeprefix("'") in persons.ids for place in about)
                for row in reader
            )
    except (UnicodeDecodeError, csv.Error):
        return 0


def _in_json(path: Path, persons: Persons) -> int:
    try:
        text = path.read_text(encoding="utf-8")
        if not persons.may_be_in(text):
            return 0
        documents = [json.loads(line) for line in text.splitlines()] if path.suffix == ".jsonl" else [json.loads(text)]
    except ValueError:
        return 0
    return sum(persons.cleaned([document]) != [document] for document in documents)


def _in_bytes(path: Path, persons: Persons) -> int:
    if not persons.telling or not path.stat().st_size:
        return 0
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return sum(content.find(one.encode()) >= 0 for one in persons.telling)
