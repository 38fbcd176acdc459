"""Scenarios too long for the tests: random shops replayed, causes that add up, a backfill through a scheduler.

Each is a program of its own that writes what it found to a file. One that finds a difference ends with an
error; here it is a target that was missed, told beside the figures, so that the rest is still measured.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from bench.measure import CommandFailed, measured

ROOT = Path(__file__).parents[2]
WORLDS, JOURNEY_DAYS, BACKFILL_DAYS = 50, 60, 30


def worlds(work: Path, log: Path, count: int = WORLDS) -> dict[str, Any]:
    """Random shops through the whole pipeline, day by day, by backfill in any order and from an empty home.

    Returns:
        worlds, same (those without a differing byte), differences (sentences), seconds, cpu_seconds.
    """
    return _told([str(ROOT / "tests" / "whole_worlds.py"), "--worlds", str(count)], work / "worlds.json", log)


def causes(work: Path, log: Path, days: int = JOURNEY_DAYS) -> dict[str, Any]:
    """The last days of Complete Journey, one by one: moves, and whether their causes add up to them.

    Returns:
        days, add_up (days), moves (by cause), seconds, cpu_seconds.
    """
    return _told([str(ROOT / "tests" / "journey_history.py"), "--days", str(days)], work / "causes.json", log)


def backfill(work: Path, log: Path, days: int = BACKFILL_DAYS) -> dict[str, Any]:
    """The last days of Complete Journey through a real scheduler; see :mod:`bench.backfill`.

    Returns:
        what ``python -m bench.backfill --json`` prints.
    """
    return _told(["-m", "bench.backfill", "--days", str(days)], work / "backfill.json", log)


def _told(arguments: list[str], told: Path, log: Path) -> dict[str, Any]:
    """Run a scenario in a process of its own; what it wrote to ``told``, and what the process took where that lacks it.

    Raises:
        CommandFailed: it ended without telling anything.
    """
    told.unlink(missing_ok=True)
    environment = {"PYTHONPATH": f"{ROOT / 'scripts'}:{ROOT / 'tests'}"}
    try:
        took = measured([sys.executable, *arguments, "--told", str(told)], log, environment=environment).as_dict()
    except CommandFailed:
        if not told.is_file():
            raise
        took = {}
    figures = {name: took[name] for name in ("seconds", "cpu_seconds") if name in took}
    return figures | json.loads(told.read_text(encoding="utf-8"))
