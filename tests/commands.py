"""The command ``strataflow`` in a process of its own, as a shell runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import strataflow
from strataflow.home import Home


def environment(**more: str) -> dict[str, str]:
    """This process's environment without settings of Strataflow, and ``more``."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("STRATAFLOW_")}
    return kept | {"PYTHONPATH": str(Path(strataflow.__file__).parents[1])} | more


def call(*arguments: object, home: Home | None = None, **more: str) -> subprocess.CompletedProcess[str]:
    """Run the command with arguments, on a home if one is given; ``more`` goes to its environment."""
    place = ["--home", str(home.root)] if home else []
    return subprocess.run(
        [sys.executable, "-m", "strataflow.cli", *map(str, arguments), *place],
        env=environment(**more),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
