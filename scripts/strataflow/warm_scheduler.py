"""Airflow's scheduler with the heavy libraries already loaded.

LocalExecutor forks every task from the scheduler. What the scheduler has
imported, the task has too, at no cost; what it has not, each task imports
anew: seconds for Great Expectations and dbt, several times a day's run, and
thousands of times in a backfill. Takes the arguments of ``airflow scheduler``.
"""

from __future__ import annotations

import importlib
import sys

HEAVY = (
    *("dbt.cli.main", "dbt.adapters.duckdb", "duckdb", "duckdb_engine", "great_expectations", "pyarrow.parquet"),
    *("strataflow.run", "strataflow.build", "strataflow.report.page"),
)


def main() -> None:
    """Load, then become the scheduler. Nothing is connected or opened before the fork."""
    for name in HEAVY:
        importlib.import_module(name)
    from airflow.__main__ import main as airflow

    sys.argv = ["airflow", "scheduler", *sys.argv[1:]]
    airflow()


if __name__ == "__main__":
    main()
