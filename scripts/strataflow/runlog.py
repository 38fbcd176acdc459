"""What happened in each run, for the person who asks the morning after.

The only part that reads the clock; it decides nothing. A run's record is
written when the run starts and around every step, so that a killed run leaves
one too: its outcome stays ``running`` and ``step`` names where it was, although
its process is gone.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from strataflow import __version__
from strataflow.durable import write_json
from strataflow.errors import Busy, GateFailed, InputError, StepFailed, StrataflowError, UsageError
from strataflow.lineage import Lineage

if TYPE_CHECKING:
    from strataflow.home import Home

SCHEMA_VERSION = 1
LIBRARIES = ("duckdb", "dbt-core", "dbt-duckdb", "great-expectations", "apache-airflow")
KINDS = {Busy: "busy", UsageError: "usage", InputError: "input", GateFailed: "gate", StepFailed: "step"}


@dataclass
class Step:
    """One step of a run as it is recorded; the step's code sets ``rows``, ``outcome`` and ``detail``.

    Attributes:
        seconds: wall time.
        rows: rows the step worked on, where that means something.
        peak_memory_bytes: the largest memory this process had held when the step ended.
        outcome: ok, unchanged, skipped or failed.
        inputs: what the step read, named by its place in the flow: ``lake/orders``, ``published/churn_risk``.
        outputs: what it wrote, named alike.
    """

    name: str
    started_at: str
    seconds: float = 0.0
    rows: int | None = None
    peak_memory_bytes: int = 0
    outcome: str = "ok"
    detail: dict[str, Any] = field(default_factory=dict)
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)


@dataclass
class RunLog:
    """The record of one run, kept in ``runs/<as_of>/<n>.json``."""

    path: Path
    record: dict[str, Any]
    _started: float
    _lineage: Lineage

    @classmethod
    def start(cls, home: Home, command: str, as_of: date, parameters: dict[str, Any]) -> RunLog:
        """Open the record of a run that begins now.

        Args:
            command: what was asked for: ``run``, ``land``, ``build``, ...
            parameters: what it was asked with.
        """
        path = _next_path(home.root / "runs" / str(as_of))
        record = {
            "schema_version": SCHEMA_VERSION,
            "run": int(path.stem),
            "command": command,
            "as_of": str(as_of),
            "parameters": parameters,
            "versions": versions(),
            "host": platform.node(),
            "process": os.getpid(),
            "started_at": _now(),
            "seconds": 0.0,
            "outcome": "running",
            "error": None,
            "step": None,
            "steps": [],
        }
        log = cls(path, record, time.perf_counter(), Lineage.of(command, str(as_of)))
        log._save()
        log._lineage.run_started()
        return log

    @contextmanager
    def step(self, name: str) -> Iterator[Step]:
        """Time and record what happens inside; an exception marks the step as failed and goes on."""
        step, started, error = Step(name=name, started_at=_now()), time.perf_counter(), None
        self.record["step"] = name
        self._save()
        self._lineage.step_started(name)
        try:
            yield step
        except BaseException as fault:
            step.outcome, error = "failed", describe(fault)["what"]
            raise
        finally:
            step.seconds = round(time.perf_counter() - started, 3)
            step.peak_memory_bytes = peak_memory_bytes()
            self.record["step"] = None
            self.record["steps"].append(asdict(step))
            self._save()
            self._lineage.step_ended(step, error)

    @contextmanager
    def closing(self) -> Iterator[RunLog]:
        """Record how the run ends: ok (or what :meth:`ends_as` said), failed, or interrupted."""
        try:
            yield self
        except KeyboardInterrupt:
            self._finish("interrupted", None)
            raise
        except Exception as fault:
            self._finish("failed", describe(fault))
            raise
        self._finish("ok" if self.record["outcome"] == "running" else self.record["outcome"], None)

    def ends_as(self, outcome: str) -> None:
        """Say how the run ends if nothing goes wrong any more, e.g. ``unchanged``."""
        self.record["outcome"] = outcome

    def _finish(self, outcome: str, error: dict[str, Any] | None) -> None:
        self.record.update(
            outcome=outcome, error=error, seconds=round(time.perf_counter() - self._started, 3), ended_at=_now()
        )
        self._save()
        self._lineage.run_ended((error or {"what": outcome})["what"] if outcome in ("failed", "interrupted") else None)

    def _save(self) -> None:
        write_json(self.path, self.record)


def records(home: Home, as_of: date | None = None) -> list[dict[str, Any]]:
    """All recorded runs, or those of one day, in the order they started."""
    folder = home.root / "runs"
    texts = [path.read_text(encoding="utf-8") for path in folder.glob(f"{as_of or '*-*-*'}/[0-9]*.json")]
    # A run killed in its very first moment leaves an empty file.
    return sorted((json.loads(text) for text in texts if text), key=lambda record: record["started_at"])


def is_alive(record: dict[str, Any]) -> bool:
    """Whether the process of a recorded run still exists; taken for granted for another machine's."""
    if record["host"] != platform.node():
        return True
    try:
        os.kill(record["process"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def describe(fault: BaseException) -> dict[str, Any]:
    """A fault as it is recorded and printed for machines: kind, what, where, todo."""
    if isinstance(fault, StrataflowError):
        kind = next((name for cls, name in KINDS.items() if isinstance(fault, cls)), "step")
        return {"kind": kind, "what": fault.what, "where": fault.where, "todo": fault.todo}
    return {"kind": "unexpected", "what": f"{type(fault).__name__}: {fault}", "where": None, "todo": None}


def keep_traceback(fault: BaseException, folder: Path) -> Path:
    """Write the traceback of a fault nobody foresaw to ``folder`` and return the file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"traceback-{datetime.now(UTC):%Y%m%dT%H%M%S}-{os.getpid()}.txt"
    path.write_text("".join(traceback.format_exception(fault)), encoding="utf-8")
    return path


def versions() -> dict[str, str]:
    """Versions of this package, Python and the libraries that are installed."""
    found = {"strataflow": __version__, "python": platform.python_version()}
    for library in LIBRARIES:
        try:
            found[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            continue
    return found


def peak_memory_bytes() -> int:
    """The most memory this process, or its largest child that has ended, has held so far."""
    largest = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return largest if sys.platform == "darwin" else largest * 1024


def _next_path(folder: Path) -> Path:
    """The first free ``<n>.json``, taken at once so that no other run takes it."""
    folder.mkdir(parents=True, exist_ok=True)
    number = 1 + max((int(path.stem) for path in folder.glob("[0-9]*.json")), default=0)
    while True:
        path = folder / f"{number}.json"
        try:
            path.touch(exist_ok=False)
        except FileExistsError:
            number += 1
            continue
        return path


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
