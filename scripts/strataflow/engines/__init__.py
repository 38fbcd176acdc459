"""What computes the tables of a build: DuckDB in this process, or a Spark cluster.

An engine reads the lake and the kept ledgers, runs the same dbt models and
leaves one DuckDB file with every table, seed and view of the project. What
comes after (ledgers kept, gate 2, publishing) reads that file and can't tell
which engine made it. The engine is a setting of a deployment, never a rule:
results don't depend on it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from strataflow.errors import UsageError

if TYPE_CHECKING:
    from strataflow.dbt_call import Progress
    from strataflow.home import Home
    from strataflow.project import Project

DEFAULT = "duckdb"
ENGINES = {"duckdb": "strataflow.engines.duckdb", "spark": "strataflow.engines.spark"}


@dataclass(frozen=True)
class Work:
    """One build as an engine gets it.

    Attributes:
        home: holds the lake and the kept ledgers.
        project: the dbt project.
        run_vars: what the run is about, as dbt's vars.
        scratch: an empty folder for whatever the engine needs, removed after the build.
        progress: called with each finished node of dbt.
    """

    home: Home
    project: Project
    run_vars: Mapping[str, Any]
    scratch: Path
    progress: Progress | None = None

    @property
    def database(self) -> Path:
        """The DuckDB file to leave behind."""
        return self.scratch / "build.duckdb"


class Engine(Protocol):
    """What every engine's module offers."""

    def ready(self, home: Home, scratch: Path) -> AbstractContextManager[None]:
        """Have at hand what the engine needs to run; several builds may share it.

        Raises:
            UsageError: something is not installed or not set.
            StepFailed: a cluster does not answer.
        """

    def build_tables(self, work: Work, *, select: Sequence[str] = ()) -> None:
        """Compute all tables, or those that ``select`` names to dbt, and leave them in ``work.database``, closed.

        Raises:
            StepFailed: a model or a data test failed, or the engine did.
        """


def chosen(name: str | None = None) -> tuple[str, Engine]:
    """The engine called ``name``, else by ``$STRATAFLOW_ENGINE``, else DuckDB; with the name it goes by.

    Raises:
        UsageError: there is no such engine.
    """
    engine = name or os.environ.get("STRATAFLOW_ENGINE") or DEFAULT
    if engine not in ENGINES:
        raise UsageError(
            f"there is no engine {engine!r}",
            where="--engine" if name else "STRATAFLOW_ENGINE",
            todo=f"use one of: {', '.join(ENGINES)}",
        )
    return engine, import_module(ENGINES[engine])
