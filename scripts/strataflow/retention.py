"""Which published versions are removed, and how, so that no reader loses what it may be following.

What is kept is counted in days from the current one, never from the clock, so
the same home is pruned the same way whenever that happens. A version leaves the
links first, then its name, then the disk: killed in between, all that is left
to see is whole.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from strataflow.durable import sync
from strataflow.errors import UsageError
from strataflow.marks import Marks, replaced
from strataflow.publish import PRUNED, current_version, day_of, link_folders, published_days, version_of, version_path
from strataflow.serving import size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from strataflow.home import Home

SETTING = "STRATAFLOW_KEEP_DAYS"
SNAPSHOTS = "segment_snapshots"


@dataclass(frozen=True)
class Pruning:
    """What retention removes and what it spares.

    Attributes:
        first_kept: the earliest day whose versions are kept; None while nothing is published.
        days: per day that readers lose, the version it had.
        removed: names of the versions that go, superseded ones included.
        spared: names of versions that would go by their day, or for being superseded, with the reason they stay.
        freed: bytes of what goes.
    """

    first_kept: date | None
    days: dict[date, str]
    removed: tuple[str, ...]
    spared: dict[str, str]
    freed: int

    def as_dict(self) -> dict[str, Any]:
        """As one JSON document."""
        return {
            "first_kept": str(self.first_kept) if self.first_kept else None,
            "days": [str(day) for day in sorted(self.days)],
            "removed": list(self.removed),
            "spared": self.spared,
            "freed_bytes": self.freed,
        }


def keep_days_setting(setting: str = SETTING) -> int | None:
    """Days to keep before the current one by ``$STRATAFLOW_KEEP_DAYS``; None, keep all, if it is not set.

    Args:
        setting: another variable, of what keeps days of its own.

    Raises:
        UsageError: it is no whole number above 0.
    """
    given = os.environ.get(setting, "").strip()
    if not given:
        return None
    if not given.isascii() or not given.isdigit() or int(given) < 1:
        raise UsageError(
            f"{given!r} is no number of days to keep", where=setting, todo="give a whole number from 1, or unset it"
        )
    return int(given)


def planned(home: Home, keep_days: int, spare: date | None = None) -> Pruning:
    """What :func:`prune` would do.

    Args:
        keep_days: days before the current one whose versions are kept.
        spare: a day whose versions are kept whatever their age: the one a run has just published.
    """
    current = current_version(home)
    if current is None:
        return Pruning(None, {}, (), {}, 0)
    first_kept = day_of(current) - timedelta(days=keep_days)
    links = _links(home)
    reasons = _reasons(home, current, spare)
    in_history = _days_in_history(home)
    days, removed, spared = {}, [], {}
    for path in sorted((home.published / "versions").glob("[0-9]*")):
        name, day = path.name, day_of(path)
        is_of_day = home.published / "days" / str(day) in links.get(name, ())
        if day >= first_kept and name in links:
            continue
        reason = reasons.get(name)
        if reason is None and is_of_day and in_history.get(day) != name:
            reason = "history has not taken it in yet: strataflow history"
        if reason:
            spared[name] = reason
            continue
        removed.append(name)
        if is_of_day:
            days[day] = name
    freed = sum(size(version_path(home, name)) for name in removed)
    return Pruning(first_kept, days, tuple(removed), spared, freed)


def prune(home: Home, keep_days: int, spare: date | None = None) -> Pruning:
    """Remove versions that are past keeping; the caller holds the writer's lock.

    Removed are versions of days more than ``keep_days`` before the current one,
    and superseded versions of the days that stay. Never removed: the current
    version, a pinned one, what a kept day's link leads to, what the last publish
    or rollback led readers away from, and a day that history has not taken in.
    Snapshots and history tables keep the days that go.

    Raises:
        InputError: the marks of the home can't be read.
    """
    found = planned(home, keep_days, spare)
    _finish_earlier(home)
    marks = Marks.of(home)
    replace(marks, pruned=marks.pruned | found.days).save(home)
    links = _links(home)
    for name in found.removed:
        for link in links.get(name, ()):
            link.unlink()
            sync(link.parent)
        aside = home.published / f"{PRUNED}{name}"
        version_path(home, name).rename(aside)
        sync(aside.parent)
        shutil.rmtree(aside)
    return found


def print_pruning(found: Pruning, console: Console, *, is_dry: bool) -> None:
    """Print what goes and what stays for people."""
    verb = "Would remove" if is_dry else "Removed"
    lines = [f"{verb} {len(found.removed)} versions ({found.freed / 1e6:,.1f} MB); kept from {found.first_kept}"]
    lines += [f"  {name}" for name in found.removed]
    lines += [f"  {name} stays: {reason}" for name, reason in found.spared.items()]
    console.print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)


def _links(home: Home) -> dict[str, list[Path]]:
    """The links of days and restatements by the version they lead to."""
    found: dict[str, list[Path]] = {}
    for folder in link_folders(home):
        for link in sorted(folder.glob("[0-9]*")):
            found.setdefault(link.resolve().name, []).append(link)
    return found


def _reasons(home: Home, current: Path, spare: date | None) -> dict[str, str]:
    """Versions that stay whatever their day, with the reason; the weightier reason wins."""
    marks = Marks.of(home)
    reasons = dict.fromkeys(replaced(home), "readers were led away from it last and may still be in it")
    reasons |= dict.fromkeys(marks.pinned, "pinned")
    if spare and (version := version_of(home, spare)):
        reasons.setdefault(version.name, "its run has just ended")
    return reasons | {current.name: "current"}


def _days_in_history(home: Home) -> dict[date, str]:
    """The version that history's snapshot of each day was made from; empty unless history knows all days.

    A day that history has yet to take in may need the days before it.
    """
    found = dict(_snapshots(home))
    for day in published_days(home):
        version = version_of(home, day)
        if version and found.get(day) != version.name:
            return {}
    return found


def _snapshots(home: Home) -> Iterator[tuple[date, str]]:
    try:
        folder = (home.published / "history").resolve(strict=True)
        files = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError):
        return
    for path, entry in files.items():
        if entry["table"] == SNAPSHOTS and (folder / path).is_file():
            (name,) = entry["made_from"]
            yield day_of(name), name


def _finish_earlier(home: Home) -> None:
    """Remove what a pruning that was killed had already taken from readers."""
    for left in home.published.glob(f"{PRUNED}*"):
        shutil.rmtree(left)
