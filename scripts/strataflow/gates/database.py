"""The database a gate works in: in memory, with views on what it judges and room for what it works out.

Nothing that is judged is copied or loaded into Python. Great Expectations
opens connections of its own, so the database has a name that they share.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

from strataflow.errors import StepFailed


def quoted(name: str) -> str:
    """``name`` as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: object) -> str:
    """``value`` as an SQL string."""
    return "'" + str(value).replace("'", "''") + "'"


class GateDatabase:
    """An in-memory DuckDB of its own; gone, with everything attached to it, when closed.

    ``STRATAFLOW_MEMORY_LIMIT`` (such as ``4GB``) bounds its memory, as it does that of the other steps.

    Args:
        spill: folder for what does not fit into memory.
    """

    def __init__(self, spill: Path) -> None:
        from sqlalchemy import create_engine

        self.url = f"duckdb:///:memory:gate-{uuid4().hex}"
        self._engine = create_engine(self.url)
        self._connection = self._engine.raw_connection()
        spill.mkdir(parents=True, exist_ok=True)
        self.run(f"set temp_directory = {literal(spill)}; set TimeZone = 'UTC'; set enable_progress_bar = false")
        if limit := os.environ.get("STRATAFLOW_MEMORY_LIMIT"):
            self.run(f"set memory_limit = {literal(limit)}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()
        self._engine.dispose()

    def run(self, sql: str) -> None:
        """Execute a statement that returns nothing."""
        self._connection.cursor().execute(sql)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """All rows of a query; only for a few."""
        cursor = self._connection.cursor()
        cursor.execute(sql)
        return cursor.fetchall()

    def has(self, table: str) -> bool:
        """Whether a table of that name is shown."""
        return bool(
            self.rows(f"select 1 from duckdb_views() where view_name = {literal(table)} and not internal limit 1")
        )

    def column_names(self, sql: str) -> list[str]:
        """Names of a query's columns, in order."""
        return [name for name, *_ in self.rows(f"describe {sql}")]

    def make(self, table: str, sql: str, *, needed_by: str) -> None:
        """Work out ``sql`` once and keep it as ``table``.

        Raises:
            StepFailed: the query can't be carried out.
        """
        import duckdb

        try:
            self.run(f"create or replace table {quoted(table)} as {sql}")
        except duckdb.Error as broken:
            raise StepFailed(
                f"the table {table} could not be worked out: {broken}",
                where=needed_by,
                todo="mend its SQL; no expectation of that file was judged",
            ) from broken

    def make_from_records(self, table: str, columns: dict[str, str], records: Iterable[dict[str, Any]]) -> None:
        """Keep ``records`` as ``table``; ``columns`` gives each column's type."""
        shape = json.dumps([columns])
        content = json.dumps(list(records), default=str)
        self.run(
            f"create or replace table {quoted(table)} as "
            f"select unnest(from_json({literal(content)}, {literal(shape)}), recursive := true)"
        )

    def show(self, name: str, sql: str) -> None:
        """Let ``name`` be a view on ``sql``."""
        self.run(f"create or replace view {quoted(name)} as {sql}")

    def show_database(self, path: Path) -> list[str]:
        """Let every table and view of a DuckDB file be seen here; the file is only read.

        Returns:
            Their names.
        """
        # Views in the file name their own database, which is called after the file.
        catalog = quoted(path.stem)
        self.run(f"attach {literal(path)} as {catalog} (read_only)")
        found = self.rows(
            "select table_name from information_schema.tables "
            f"where table_catalog = {literal(path.stem)} and table_schema = 'main' order by all"
        )
        for (name,) in found:
            self.show(name, f"select * from {catalog}.main.{quoted(name)}")
        return [name for (name,) in found]

    def show_parquet(self, name: str, files: list[Path] | Path, *, day_column: str | None = None) -> None:
        """Let ``name`` be a view on Parquet files; ``day_column`` is the date in their folders' names."""
        paths = [files] if isinstance(files, Path) else files
        listed = "[" + ", ".join(literal(path) for path in paths) + "]"
        partitions = f", hive_partitioning = true, hive_types = {{{day_column}: date}}" if day_column else ""
        self.show(name, f"select * from read_parquet({listed}{partitions})")
