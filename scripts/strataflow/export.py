"""What one published version holds, written from a build.

Each table leaves the build in one pass, sorted by its key, so that the same
rows give the same bytes whatever the number of threads. What was written is
read back and counted before anyone may see it. This module knows nothing of
versions or links: it fills an empty folder.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from strataflow.contracts import in_both_languages
from strataflow.durable import json_text, sha256
from strataflow.errors import StepFailed

if TYPE_CHECKING:
    import duckdb

# Exports for people: table -> the order in which a person wants to read it.
SPREADSHEETS = {"churn_risk": ("rank",), "contact_list": ("rank",)}

# What the keys in the published tables mean, in both languages; copied into the database beside them.
REFERENCES = (
    "contact_channels",
    "lifecycle_stages",
    "playbook",
    "rfm_classes",
    "suppression_reasons",
    "tag_dictionary",
    "value_tiers",
)

# DuckDB 1.4 (a long-term release) and later can open it; older formats take half as long again to write.
STORAGE_VERSION = "v1.4.0"

NUMERIC_TYPES = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "DECIMAL", "FLOAT", "DOUBLE")

# The four signs that start a formula, in every form Unicode normalises to them, and the minus sign.
_FORMULA_SIGNS = "=+@\\-＝﹦⁼₌＋﹢⁺₊－﹣⁻₋\u2212＠﹫"
_BLANKS = r"[\s\p{Z}\p{C}]"
_NUMBER = r"^[+-]?[0-9]+([.,][0-9]+)?$"
_STARTS_A_FORMULA = rf"^{_BLANKS}*[{_FORMULA_SIGNS}]|^\p{{C}}"
_FORMULA_AFTER_SEPARATOR = rf'([;,|"\t\r\n]{_BLANKS}*)([{_FORMULA_SIGNS}])'


def quoted(name: str) -> str:
    """``name`` as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str | Path) -> str:
    """``text`` as an SQL string."""
    return "'" + str(text).replace("'", "''") + "'"


def spreadsheet_safe(expression: str) -> str:
    """SQL for a text that a spreadsheet shows but never runs.

    A text that a spreadsheet could take for a formula (one of ``= + - @``,
    wide forms included, possibly after blanks) or that begins with a control
    character gets an apostrophe in front; so does such a sign after ``;``,
    ``,``, ``|``, a quote, a tab or a line break, since a spreadsheet set to
    another separator starts a cell there. Plain numbers stay as they are.
    """
    inner = f"regexp_replace({expression}, {literal(_FORMULA_AFTER_SEPARATOR)}, '\\1''\\2', 'g')"
    return (
        f"case when regexp_matches({expression}, {literal(_NUMBER)}) then {expression} "
        f"when regexp_matches({expression}, {literal(_STARTS_A_FORMULA)}) then '''' || {inner} "
        f"else {inner} end"
    )


@contextmanager
def opened(build_file: Path, spill: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection that has the build attached, read-only, as ``build``; spills into ``spill``."""
    import duckdb

    connection = duckdb.connect()
    try:
        connection.execute(f"set temp_directory = {literal(spill)}")
        connection.execute(f"attach {literal(build_file)} as build (read_only)")
        yield connection
    finally:
        connection.close()


def export_table(
    connection: duckdb.DuckDBPyConnection, folder: Path, table: str, key: list[str], as_of: date
) -> dict[str, Any]:
    """Write ``table`` of the build to ``folder/<table>/as_of_date=D/<table>.parquet``.

    Args:
        connection: from :func:`opened`.
        key: columns that name a row; the file is sorted by them.

    Returns:
        The table's entry in the manifest: columns, files, key, rows, sums.

    Raises:
        StepFailed: the table is missing, belongs to another day, or what was
            written is not what the build holds.
    """
    columns = _columns(connection, table)
    source = f"build.main.{quoted(table)}"
    _refuse_other_days(connection, source, table, columns, as_of)
    path = folder / table / f"as_of_date={as_of}" / f"{table}.parquet"
    path.parent.mkdir(parents=True)
    order = ", ".join(quoted(column) for column in key)
    connection.execute(
        f"copy (select * from {source} order by {order}) to {literal(path)} (format parquet, compression zstd)"
    )
    written = f"read_parquet({literal(path)}, hive_partitioning = false)"
    expected, found = (totals_of(connection, relation, columns) for relation in (source, written))
    if expected != found:
        raise StepFailed(
            f"the exported table {table} differs from the build: {found} instead of {expected}",
            where=str(path),
            todo="check the disk, then publish again; nothing was published",
        )
    rows, sums = found
    return {
        "columns": columns,
        "files": [_file_entry(path, folder)],
        "key": key,
        "rows": rows,
        "sums": sums,
    }


def export_spreadsheet(
    connection: duckdb.DuckDBPyConnection, folder: Path, table: str, entry: dict[str, Any]
) -> dict[str, Any]:
    """Write ``folder/<table>.csv`` for people, from the table's exported Parquet.

    UTF-8 with a byte order mark, without which Excel takes Chinese text for
    another encoding. Text cells go through :func:`spreadsheet_safe`.

    Args:
        entry: what :func:`export_table` returned.

    Returns:
        The file's entry in the manifest: path, bytes, sha256, rows.
    """
    parquet = folder / entry["files"][0]["path"]
    path = folder / f"{table}.csv"
    cells = []
    for position, (column, kind) in enumerate(entry["columns"].items()):
        cell = spreadsheet_safe(quoted(column)) if kind == "VARCHAR" else quoted(column)
        byte_order_mark = "\ufeff" if position == 0 else ""
        cells.append(f"{cell} as {quoted(byte_order_mark + column)}")
    order = ", ".join(quoted(column) for column in dict.fromkeys([*SPREADSHEETS[table], *entry["key"]]))
    connection.execute(
        f"copy (select {', '.join(cells)} from read_parquet({literal(parquet)}, hive_partitioning = false) "
        f"order by {order}) to {literal(path)} (format csv, header)"
    )
    return {**_file_entry(path, folder), "rows": entry["rows"]}


def export_model_card(folder: Path, card: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Write the churn model's card as ``model_card.json`` and ``model_card.html``; their manifest entries by name."""
    from strataflow.prediction.card_page import page

    texts = {"model_card.json": json_text(card), "model_card.html": page(card)}
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return {name: _file_entry(folder / name, folder) for name in texts}


def export_database(
    connection: duckdb.DuckDBPyConnection,
    folder: Path,
    tables: dict[str, dict[str, Any]],
    descriptions: dict[str, dict[str, Any]],
    about: dict[str, Any],
) -> Path:
    """Write ``folder/current.duckdb``: the exported tables as tables, described by comments.

    The seeds that explain keys (:data:`REFERENCES`) come with them, as far as the build has them.

    Args:
        tables: manifest entries by table name.
        descriptions: by table name, its contract (:mod:`strataflow.contracts`), which becomes comments.
        about: column -> value of the one row of its table ``published_version``,
            by which a reader of the database alone knows what it reads.
    """
    path = folder / "current.duckdb"
    connection.execute(f"attach {literal(path)} as target (storage_version {literal(STORAGE_VERSION)})")
    for table, entry in tables.items():
        parquet = folder / entry["files"][0]["path"]
        _copy_in(connection, table, f"read_parquet({literal(parquet)}, hive_partitioning = false)")
        _describe(connection, table, descriptions.get(table, {}))
    for table in REFERENCES:
        if table not in tables and _has_table(connection, table):
            _copy_in(connection, table, f"build.main.{quoted(table)}")
            _describe(connection, table, descriptions.get(table, {}))
    values = ", ".join(f"? as {quoted(column)}" for column in about)
    connection.execute(f"create table target.main.published_version as select {values}", list(about.values()))
    connection.execute("detach target")
    return path


def _copy_in(connection: duckdb.DuckDBPyConnection, table: str, relation: str) -> None:
    connection.execute(f"create table target.main.{quoted(table)} as from {relation}")


def _describe(connection: duckdb.DuckDBPyConnection, table: str, description: dict[str, Any]) -> None:
    name = f"target.main.{quoted(table)}"
    if said := in_both_languages(description):
        connection.execute(f"comment on table {name} is {literal(said)}")
    for column, told in description.get("columns", {}).items():
        if said := in_both_languages(told):
            connection.execute(f"comment on column {name}.{quoted(column)} is {literal(said)}")


def _has_table(connection: duckdb.DuckDBPyConnection, table: str) -> bool:
    found = connection.execute(
        "select 1 from duckdb_tables() where database_name = 'build' and schema_name = 'main' and table_name = ?",
        [table],
    ).fetchone()
    return found is not None


def _columns(connection: duckdb.DuckDBPyConnection, table: str) -> dict[str, str]:
    rows = connection.execute(
        "select column_name, data_type from duckdb_columns() "
        "where database_name = 'build' and schema_name = 'main' and table_name = ? order by column_index",
        [table],
    ).fetchall()
    if not rows:
        raise StepFailed(
            f"the build has no table {table}",
            todo="build the day again; if the model is gone, take `published` off its description",
        )
    return dict(rows)


def _refuse_other_days(
    connection: duckdb.DuckDBPyConnection, source: str, table: str, columns: dict[str, str], as_of: date
) -> None:
    if "as_of_date" not in columns:
        return
    strangers = connection.execute(
        f"select count(*) from {source} where as_of_date is distinct from ?", [as_of]
    ).fetchone()
    if strangers and strangers[0]:
        raise StepFailed(
            f"{strangers[0]} rows of {table} are not of {as_of}",
            where=f"{table}.as_of_date in the build of {as_of}",
            todo="the model must set as_of_date from the run's day; then build again",
        )


def totals_of(
    connection: duckdb.DuckDBPyConnection, relation: str, columns: dict[str, str]
) -> tuple[int, dict[str, str | None]]:
    """Rows, and the exact sum of each numeric column as text (null if there is no value).

    Floating point columns are rounded to nine decimals before they are added,
    because their plain sum depends on the order of the rows.
    """
    numeric = {name: kind for name, kind in columns.items() if kind.split("(")[0] in NUMERIC_TYPES}
    sums = [
        f"sum(try_cast({quoted(name)} as decimal(38, 9)))" if kind in ("FLOAT", "DOUBLE") else f"sum({quoted(name)})"
        for name, kind in numeric.items()
    ]
    parts = ", ".join(["count(*)", *(f"cast({total} as varchar)" for total in sums)])
    count, *totals = connection.execute(f"select {parts} from {relation}").fetchone() or (0,)
    return count, dict(zip(numeric, totals, strict=True))


def _file_entry(path: Path, folder: Path) -> dict[str, Any]:
    return {
        "path": path.relative_to(folder).as_posix(),
        "bytes": path.stat().st_size,
        "sha256": sha256(path),
    }
