"""What a result has to say about where it comes from, without a host's name or a path."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

LIBRARIES = ("dbt-core", "dbt-duckdb", "duckdb", "great-expectations", "numpy", "pandas", "polars", "pyarrow")


def machine() -> dict[str, Any]:
    """Cores this process may use, memory, processor and kernel."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return {
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": memory,
        "processor": next(named, platform.machine()),
        "system": f"{platform.system()} {platform.release()}",
    }


def load() -> float:
    """Processes that wanted a core in the last minute, on average: far above the cores, the seconds mean little."""
    return round(os.getloadavg()[0], 2)


def versions() -> dict[str, str]:
    """Versions of Python and of what is measured."""
    found = {"python": platform.python_version()}
    for library in LIBRARIES:
        try:
            found[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            continue
    return found


def commit(root: Path) -> str | None:
    """The commit that ``root`` is at, with ``+`` where files differ from it; None outside of git."""
    head = _git(root, "rev-parse", "--short=12", "HEAD")
    if head is None:
        return None
    # What a benchmark itself writes doesn't make the code another one.
    changed = _git(root, "status", "--porcelain", "--", ".", ":!docs/bench")
    return head.strip() + ("+" if changed else "")


def committed(root: Path, path: str) -> str | None:
    """Content of a file as last committed; None if it is not."""
    return _git(root, "show", f"HEAD:{path}")


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)  # noqa: S607
    except FileNotFoundError:
        return None
    return done.stdout if done.returncode == 0 else None
