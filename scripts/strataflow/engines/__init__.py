"""What computes the tables of a build: DuckDB in this process, or a Spark cluster.

An engine reads the lake and the kept ledgers, runs the same dbt models and
leaves one DuckDB file with every table, seed and view of the project. What
comes after (ledgers kept, gate 2, publishing) reads that file and can't tell
which engine made it. The engine is a setting of a deployment, never a rule:
results don't depend on it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
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
_MODULES = {"duckdb": "strataflow.engines.duckdb", "spark": "strataflow.engines.spark"}


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

    def build_tables(self, work: Work) -> None:
        """Compute all tables and leave them in ``work.database``, closed.

        Raises:
            UsageError: something the engine needs is not installed or not set.
            StepFailed: a model or a data test failed, or the engine did.
        """


def engine_named(name: str | None = None) -> Engine:
    """The engine called ``name``, else the one ``$STRATAFLOW_ENGINE`` names, else DuckDB.

    Raises:
        UsageError: there is no such engine.
    """
    chosen = name or os.environ.get("STRATAFLOW_ENGINE") or DEFAULT
    if chosen not in _MODULES:
        raise UsageError(
            f"there is no engine {chosen!r}",
            where="--engine" if name else "STRATAFLOW_ENGINE",
            todo=f"use one of: {', '.join(_MODULES)}",
        )
    return import_module(_MODULES[chosen])
