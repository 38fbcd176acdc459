"""DuckDB as the engine: dbt writes straight into the build's own database file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from strataflow.dbt_call import run_dbt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from strataflow.engines import Work


def build_tables(work: Work, *, select: Sequence[str] = ()) -> None:
    """Compute all tables, or the ``select``ed ones, in ``work.database``.

    Raises:
        StepFailed: a model or a data test failed.
    """
    variables = {
        "STRATAFLOW_BUILD_DB": str(work.database),
        "STRATAFLOW_TEMP_DIR": str(work.scratch / "spill"),
    }
    try:
        run_dbt(
            work.home, work.project, "duckdb", work.run_vars, variables, select=select, progress=work.progress
        )
    finally:
        _close_database()


def _close_database() -> None:
    """dbt keeps its connection for the process's life; the file must be free to move and to read."""
    from dbt.adapters.duckdb.connections import DuckDBConnectionManager

    if DuckDBConnectionManager._ENV is not None:
        DuckDBConnectionManager._ENV.close()
    DuckDBConnectionManager.close_all_connections()
