"""Taking persons out of what readers see, without ever showing them less than a whole version.

A published version never changes and is called after its content. So a version that
names an erased customer is not edited: one without the person is written beside it,
links are led there one by one, and then the old one is removed. Figures about
everybody (cut-offs, means, counts per class) stay as they were published: they name
nobody, and working them out again would rewrite what was said.
"""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from dataclasses import replace
from datetime import date
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

import duckdb

from strataflow.durable import json_text, point, sha256, sync, sync_tree
from strataflow.export import STORAGE_VERSION, totals_of
from strataflow.marks import Marks, note_replaced, replaced
from strataflow.privacy.received import relation_of
from strataflow.privacy.traces import Persons, columns_of, names_customers
from strataflow.publish import (
    MANIFEST,
    PRUNED,
    STAGING,
    day_of,
    link_folders,
    make_readable,
    read_manifest,
    version_path,
)
from strataflow.sqltext import named, quoted

if TYPE_CHECKING:
    from collections import Counter

    from strataflow.home import Home

DATABASE = "current.duckdb"
ERASED = "erased"
HISTORY_STAGING = ".history-"


def erase_published(home: Home, persons: Persons, tally: Counter[str]) -> dict[str, str]:
    """Replace every published version that names one of the persons; the caller holds the writer's lock.

    Returns:
        The new names of the versions replaced now, by their old ones.
    """
    names = {}
    for kind in (STAGING, PRUNED, HISTORY_STAGING):
        for left in home.published.glob(f"{kind}*"):
            shutil.rmtree(left)
    for version in sorted((home.published / "versions").glob("[0-9]*")):
        made = _without(home, version, persons, tally)
        if made is None:
            continue
        names[version.name] = made.name
        _lead_on(home, version, made)
        aside = home.published / f"{PRUNED}{version.name}"
        version.rename(aside)
        sync(aside.parent)
        shutil.rmtree(aside)
    _forget_old_names(home)
    return names


def renamed(home: Home) -> dict[str, str]:
    """All versions that erasures have replaced, by their former names."""
    found = {}
    for version in (home.published / "versions").glob("[0-9]*"):
        for former in read_manifest(version).get(ERASED, {}).get("replaces", ()):
            found[former] = version.name
    return found


def _without(home: Home, version: Path, persons: Persons, tally: Counter[str]) -> Path | None:
    """The version without the persons, in its place and whole; None if it doesn't name them."""
    staging = Path(mkdtemp(prefix=STAGING, dir=home.published))
    try:
        with duckdb.connect() as connection:
            connection.execute("set TimeZone = 'UTC'")
            changed = _copy_files(connection, version, staging, persons)
            gone = changed.pop(DATABASE, 0)
            if not changed and not gone:
                return None
            manifest = _manifest(connection, version, staging, changed)
            (staging / MANIFEST).write_text(json_text(manifest), encoding="utf-8")
            name = f"{manifest['as_of']}-{sha256(staging / MANIFEST)[:12]}"
            _copy_database(connection, version / DATABASE, staging / DATABASE, persons, name)
        make_readable(staging)
        sync_tree(staging)
        made = version_path(home, name)
        # One that a killed process left may lack its last bytes; this one is whole.
        shutil.rmtree(made, ignore_errors=True)
        staging.rename(made)
        sync(made.parent)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    tally["published/versions"] += sum(changed.values())
    return made


def _copy_files(
    connection: duckdb.DuckDBPyConnection, version: Path, staging: Path, persons: Persons
) -> dict[str, int]:
    """Fill ``staging``: what names nobody as a link, the rest anew; rows that went by the path of each changed file."""
    changed = {}
    for path in sorted(path for path in version.rglob("*") if path.is_file()):
        name, target = path.relative_to(version).as_posix(), staging / path.relative_to(version)
        target.parent.mkdir(parents=True, exist_ok=True)
        if name == MANIFEST:
            continue
        if name == DATABASE:
            found = _named_in_database(connection, path, persons)
            rows, is_changed = found, bool(found)
        elif path.suffix == ".parquet":
            rows, is_changed = rewrite_parquet(connection, path, target, persons)
        elif path.suffix == ".csv":
            rows, is_changed = rewrite_csv(path, target, persons)
        else:
            rows, is_changed = 0, rewrite_text(path, target, persons)
        if is_changed:
            changed[name] = rows
        elif name != DATABASE:
            os.link(path, target)
    return changed


def rewrite_parquet(
    connection: duckdb.DuckDBPyConnection, path: Path, target: Path, persons: Persons
) -> tuple[int, bool]:
    """Write a Parquet file without the persons, if it names one; rows that went, and whether it was written."""
    relation = relation_of(path)
    clauses = persons.clauses(columns_of(connection, relation))
    gone, changed = clauses.counted(connection, relation) if clauses else (0, 0)
    if not gone and not changed:
        return 0, False
    connection.execute(f"copy ({clauses.kept(relation)}) to {quoted(str(target))} (format parquet, compression zstd)")
    return gone, True


def rewrite_csv(path: Path, target: Path, persons: Persons) -> tuple[int, bool]:
    """Write a CSV file without the records of the persons, all others byte for byte."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    reader = csv.reader(io.StringIO("".join(lines), newline=""))
    kept, gone, start, about = [], 0, 0, []
    for record in reader:
        text, start = "".join(lines[start : reader.line_num]), reader.line_num
        if not kept:
            about = [place for place, name in enumerate(record) if names_customers(name.lstrip("\ufeff"))]
        # A spreadsheet's apostrophe may stand before the id.
        if any(place < len(record) and record[place].removeprefix("'") in persons.ids for place in about):
            gone += 1
            continue
        kept.append(persons.without(text))
    text = "".join(kept)
    if text == "".join(lines):
        return 0, False
    target.write_text(text, encoding="utf-8", newline="")
    return gone, True


def rewrite_text(path: Path, target: Path, persons: Persons) -> bool:
    """Write a page or document without the persons, if it names one."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return False
    if not persons.may_be_in(text):
        return False
    if path.suffix == ".json":
        content = json.loads(text)
        cleaned = persons.cleaned(content)
        cleaned = text if cleaned == content else json_text(cleaned)
    elif path.suffix == ".jsonl":
        lines = text.splitlines(keepends=True)
        # Blank instead of gone, so that the lines behind it keep their numbers, by which their rows are known.
        cleaned = "".join("\n" if persons.is_record(_parsed(line)) else persons.without(line) for line in lines)
    else:
        cleaned = persons.without_rows(text) if path.suffix == ".html" else persons.without(text)
    if cleaned == text:
        return False
    target.write_text(cleaned, encoding="utf-8")
    return True


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None


def _manifest(
    connection: duckdb.DuckDBPyConnection, version: Path, staging: Path, changed: dict[str, int]
) -> dict[str, Any]:
    """The manifest of what lies in ``staging``, with what erasures took out of it: rows by table, no names."""
    before = read_manifest(version)
    manifest = _with_new_entries(before, staging, changed)
    rows = dict(before.get(ERASED, {}).get("rows", {}))
    for name, table in manifest["tables"].items():
        paths = [entry["path"] for entry in table["files"]]
        if any(path in changed for path in paths):
            listed = ", ".join(quoted(str(staging / path)) for path in paths)
            count, sums = totals_of(
                connection, f"read_parquet([{listed}], hive_partitioning = false)", table["columns"]
            )
            rows[name] = rows.get(name, 0) + table["rows"] - count
            table.update(rows=count, sums=sums)
    for sheet in manifest["spreadsheets"].values():
        if "rows" in sheet:
            sheet["rows"] -= changed.get(sheet["path"], 0)
    former = [*before.get(ERASED, {}).get("replaces", ()), version.name]
    return manifest | {ERASED: {"rows": rows, "replaces": former}}


def _with_new_entries(content: Any, staging: Path, changed: dict[str, int]) -> Any:
    """A manifest with size and digest of the changed files, wherever it lists files."""
    if isinstance(content, list):
        return [_with_new_entries(item, staging, changed) for item in content]
    if not isinstance(content, dict):
        return content
    content = {key: _with_new_entries(value, staging, changed) for key, value in content.items()}
    if content.get("path") in changed and "sha256" in content:
        path = staging / content["path"]
        content |= {"bytes": path.stat().st_size, "sha256": sha256(path)}
    return content


def _tables(connection: duckdb.DuckDBPyConnection, database: str) -> list[str]:
    return [
        name
        for (name,) in connection.execute(
            "select table_name from duckdb_tables() where database_name = $1 and schema_name = 'main' order by all",
            [database],
        ).fetchall()
    ]


def _named_in_database(connection: duckdb.DuckDBPyConnection, path: Path, persons: Persons) -> int:
    connection.execute(f"attach {quoted(str(path))} as old (read_only)")
    try:
        found = 0
        for table in _tables(connection, "old"):
            relation = f"old.main.{named(table)}"
            clauses = persons.clauses(columns_of(connection, relation))
            found += sum(clauses.counted(connection, relation)) if clauses else 0
        return found
    finally:
        connection.execute("detach old")


def _copy_database(
    connection: duckdb.DuckDBPyConnection, path: Path, target: Path, persons: Persons, version: str
) -> None:
    """Copy a database without the persons, into new pages: in the old ones, what is deleted can still be read."""
    connection.execute(f"attach {quoted(str(path))} as old (read_only)")
    connection.execute(f"attach {quoted(str(target))} as new (storage_version {quoted(STORAGE_VERSION)})")
    try:
        # One transaction: each on its own would be written to the log and the disk.
        connection.execute("begin")
        for table in _tables(connection, "old"):
            relation = f"old.main.{named(table)}"
            clauses = persons.clauses(columns_of(connection, relation))
            query = clauses.kept(relation) if clauses else f"select * from {relation}"
            connection.execute(f"create table new.main.{named(table)} as {query}")
        if "published_version" in _tables(connection, "new"):
            connection.execute("update new.main.published_version set version = $1", [version])
        _copy_comments(connection)
        connection.execute("use new")
        for (view,) in connection.execute(
            "select sql from duckdb_views() where database_name = 'old' and not internal order by view_oid"
        ).fetchall():
            connection.execute(view)
        connection.execute("commit")
    finally:
        connection.execute("use memory")
        connection.execute("detach old")
        connection.execute("detach new")


def _copy_comments(connection: duckdb.DuckDBPyConnection) -> None:
    for table, comment in connection.execute(
        "select table_name, comment from duckdb_tables() where database_name = 'old' and comment is not null"
    ).fetchall():
        connection.execute(f"comment on table new.main.{named(table)} is {quoted(comment)}")
    for table, column, comment in connection.execute(
        "select table_name, column_name, columns.comment from duckdb_columns() as columns"
        " semi join duckdb_tables() as tables using (database_name, table_name)"
        " where database_name = 'old' and columns.comment is not null"
    ).fetchall():
        connection.execute(f"comment on column new.main.{named(table)}.{named(column)} is {quoted(comment)}")


def _lead_on(home: Home, old: Path, new: Path) -> None:
    """Decisions about the old version hold for the new one, and every link to the one leads to the other."""
    marks = Marks.of(home)
    both = {
        mark: getattr(marks, mark) | {new.name} for mark in ("held_back", "pinned") if old.name in getattr(marks, mark)
    }
    if both:
        # Before any link moves: a version held back must not be followed under its new name.
        replace(marks, **both).save(home)
    for link in [
        *(link for folder in link_folders(home) for link in folder.glob("[0-9]*")),
        home.published / "current",
    ]:
        if link.is_symlink() and Path(os.readlink(link)).name == old.name:
            point(link, str(Path(os.readlink(link)).with_name(new.name)))


def _forget_old_names(home: Home) -> None:
    """Take the names of versions that are gone for good out of what is noted about versions."""
    names, marks = renamed(home), Marks.of(home)
    if not names:
        return

    def now(found: frozenset[str]) -> frozenset[str]:
        return frozenset(names.get(name, name) for name in found)

    if marks != Marks():
        pruned = {day: names.get(name, name) for day, name in marks.pruned.items()}
        replace(marks, held_back=now(marks.held_back), pinned=now(marks.pinned), pruned=pruned).save(home)
    left = replaced(home)
    if now(left) != left:
        note_replaced(home, now(left))


def erase_report(home: Home, persons: Persons, tally: Counter[str]) -> None:
    """Put the page about the current version, without the persons, under the version's new name."""
    from strataflow.report import LINK, PAGE, PAGES

    pages, names = home.published / PAGES, renamed(home)
    for folder in sorted(pages.glob("[0-9]*")):
        page = folder / PAGE
        text = page.read_text(encoding="utf-8") if page.is_file() else ""
        cleaned = persons.without_rows(text)
        target = pages / names.get(folder.name, folder.name)
        if target == folder and cleaned == text:
            continue
        tally["published/reports"] += cleaned != text
        aside = home.scratch / "erase" / f"page-{target.name}"
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        (aside / PAGE).write_text(cleaned, encoding="utf-8", newline="\n")
        sync_tree(aside)
        if target == folder:
            os.replace(aside / PAGE, page)
            continue
        shutil.rmtree(target, ignore_errors=True)
        aside.rename(target)
        if (home.published / LINK).resolve() == folder:
            point(home.published / LINK, f"{PAGES}/{target.name}")
        shutil.rmtree(folder)


def erase_history(home: Home, persons: Persons, tally: Counter[str]) -> None:
    """Replace the history that readers see by one without the persons, made from the versions' new names."""
    from strataflow.history.refresh import current_history, switch

    folder = current_history(home)
    if folder is None:
        return
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    staging = Path(mkdtemp(prefix=HISTORY_STAGING, dir=home.published))
    try:
        files, gone = _history_files(folder, staging, manifest["files"], persons)
        files = _made_from_now(home, files)
        if files == manifest["files"]:
            _only(folder)
            return
        waiting = tuple(date.fromisoformat(day) for day in manifest["waiting"])
        made = switch(home, staging, files, waiting, date.fromisoformat(folder.name[:10]))
        tally["published/history"] += gone
        _only(made)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _only(folder: Path) -> None:
    """Remove all histories but one."""
    for other in folder.parent.iterdir():
        if other != folder:
            shutil.rmtree(other)


def _history_files(
    folder: Path, staging: Path, entries: dict[str, dict[str, Any]], persons: Persons
) -> tuple[dict[str, dict[str, Any]], int]:
    from strataflow.history.writing import write_parquet

    files, gone = {}, 0
    with duckdb.connect() as connection:
        connection.execute("set TimeZone = 'UTC'")
        for name, entry in entries.items():
            relation, target = relation_of(folder / name), staging / name
            clauses = persons.clauses(columns_of(connection, relation))
            rows, changed = clauses.counted(connection, relation) if clauses else (0, 0)
            if rows or changed:
                files[name] = entry | write_parquet(connection, clauses.kept(relation), target)
                gone += rows
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                os.link(folder / name, target)
                files[name] = entry
    return files, gone


def _made_from_now(home: Home, files: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The entries of history with the versions' new names, so that it isn't made anew for the names' sake."""
    from strataflow.history.causes import PublishedDay
    from strataflow.history.plan import held_path, plan, plan_stability

    names, known = renamed(home), {}
    for entry in files.values():
        if entry["table"] == "segment_snapshots":
            (name,) = entry["made_from"]
            known[day_of(name)] = name

    def planned(names_now: dict[str, str]) -> dict[str, list[str]]:
        days = [
            PublishedDay(day, version_path(home, names_now.get(name, name)), {}) for day, name in sorted(known.items())
        ]
        steadied = [one for one in days if held_path(one.day) in files]
        return {part.path: list(part.made_from) for part in (*plan(days), *plan_stability(steadied))}

    before, now = planned({}), planned(names)
    return {
        path: entry | {"made_from": now[path]} if entry["made_from"] == before.get(path) else entry
        for path, entry in files.items()
    }
