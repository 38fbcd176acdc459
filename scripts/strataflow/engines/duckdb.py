"""DuckDB as the engine: dbt writes straight into the build's own database file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from strataflow import dbt_call
from strataflow.dbt_call import run_dbt

if TYPE_CHECKING:
    from pathlib import Path

    from strataflow.engines import Work
    from strataflow.home import Home
    from strataflow.project import Project


@contextmanager
def ready(_home: Home, _scratch: Path) -> Iterator[None]:
    """Nothing to prepare: DuckDB runs in this process."""
    yield


def build_tables(work: Work, *, select: Sequence[str] = (), tests: bool = True) -> None:
    """Compute all tables, or the selected ones, in ``work.database``.

    Args:
        select: dbt's selection; all nodes if empty.
        tests: also run the data tests of what is built.

    Raises:
        StepFailed: a model or a data test failed.
    """
    variables = {
        "STRATAFLOW_BUILD_DB": str(work.database),
        "STRATAFLOW_TEMP_DIR": str(work.scratch / "spill"),
    }
    try:
        run_dbt(
            work.home, work.project, "duckdb", work.run_vars,
            variables=variables, select=select, tests=tests, progress=work.progress,
        )  # fmt: skip
    finally:
        _close_database()


def compile_models(
    home: Home, project: Project, place: str, run_vars: Mapping[str, Any], names: Sequence[str] = ()
) -> dict[str, dict[str, Any]]:
    """As :func:`strataflow.dbt_call.compile_models`, leaving no connection that a build would take up.

    Raises:
        StepFailed: dbt can't compile the project.
    """
    try:
        return dbt_call.compile_models(home, project, place, run_vars, names)
    finally:
        _close_database()


def _close_database() -> None:
    """dbt keeps its connection for the process's life; the file must be free to move and to read."""
    from dbt.adapters.duckdb.connections import DuckDBConnectionManager

    if DuckDBConnectionManager._ENV is not None:
        DuckDBConnectionManager._ENV.close()
    DuckDBConnectionManager.close_all_connections()
