"""Bringing history up to what is published, in one step that readers see whole or not at all.

The folder that readers follow is never changed. A new one is filled beside it,
mostly with links to the files that stay as they are, and then takes its place.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

from strataflow.durable import json_text, point, sync_tree
from strataflow.history.causes import (
    Evidence,
    PublishedDay,
    database,
    find_causes,
    find_moves,
    look_at,
    name_kinds,
    statement,
)
from strataflow.history.plan import (
    OPEN_INTERVALS,
    OPEN_STRETCHES,
    STABILITY_TABLES,
    Planned,
    held_path,
    plan,
    plan_stability,
    snapshot_path,
)
from strataflow.history.stability import Fold, settings_of
from strataflow.history.writing import write_parquet
from strataflow.lake import Received, received
from strataflow.marks import Marks
from strataflow.publish import published_days, version_of, version_path
from strataflow.rules import code_version, rules_hash
from strataflow.sqltext import quoted

if TYPE_CHECKING:
    import duckdb

    from strataflow.home import Home
    from strataflow.project import Project
    from strataflow.sources import Shop

MANIFEST = "manifest.json"
# Rises when a reader of the history's files has to change; files of another version are made anew.
SCHEMA_VERSION = 1
STAGING = ".history-"
_OF_STABILITY = {
    "segment_stability": "from stable_closed order by customer_id, attribute",
    "stability_held": "from held order by customer_id, attribute",
    "stability_moves": "from stability_moves order by attribute",
}


@dataclass(frozen=True)
class Refreshed:
    """What bringing history up to date did.

    Attributes:
        path: folder of the history that readers see now; None while nothing is published.
        days: published days of which at least one file was written.
        waiting: days whose moves can't be explained until the day is run again, because it was
            published from other rules, code or data than those now in force.
    """

    path: Path | None
    days: tuple[date, ...]
    waiting: tuple[date, ...]


def current_history(home: Home) -> Path | None:
    """Folder of the history that ``published/history`` leads to now; None before the first."""
    try:
        return (home.published / "history").resolve(strict=True)
    except FileNotFoundError:
        return None


def refresh(home: Home, project: Project, shop: Shop) -> Refreshed:
    """Bring the history of all published days up to date; the caller holds the writer's lock.

    Days that were published and pruned keep their files.

    Nothing is written if no published version has changed since the last time.

    Raises:
        StepFailed: the moves of a day have no cause, or dbt can't compile the rules; names the day.
    """
    at_hand = [PublishedDay.at(day, path) for day in published_days(home) if (path := version_of(home, day))]
    if not at_hand:
        return Refreshed(None, (), ())
    _clear(home)
    last, now = _Last.of(home), _InForce(home, project, shop, at_hand)
    days = sorted([*at_hand, *_pruned_days(home, last, at_hand)], key=lambda published: published.day)
    steadied = _Steadied.of(days, last)
    everything = [*plan(days), *plan_stability(steadied.days)]
    planned = [part for part in everything if last.has(part) or (now.can_make(part) and steadied.can_make(part))]
    kept = [part for part in planned if last.has(part)]
    outdated = [part for part in planned if not last.has(part)]
    waiting = tuple(sorted({part.today.day for part in everything if part not in planned}))
    if not outdated and len(kept) == len(last.files) and last.waiting == waiting:
        return Refreshed(last.folder, (), waiting)
    staging = Path(mkdtemp(prefix=STAGING, dir=home.published))
    try:
        files = last.link(kept, staging)
        with database(home.scratch / "history") as connection:
            files |= _Writer(connection, staging, days, steadied, last, now).write(outdated)
        path = switch(home, staging, files, waiting, days[-1].day)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return Refreshed(path, tuple(sorted({part.today.day for part in outdated})), waiting)


@dataclass(frozen=True)
class _Last:
    """The history on file: its folder, and by path what each file was made from, its rows, bytes and digest."""

    folder: Path | None
    files: dict[str, dict[str, Any]]
    waiting: tuple[date, ...]

    @classmethod
    def of(cls, home: Home) -> _Last:
        folder = current_history(home)
        try:
            manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8")) if folder else {}
        except (OSError, ValueError):
            manifest = {}
        if manifest.get("schema_version") != SCHEMA_VERSION:
            return cls(folder, {}, ())
        return cls(folder, manifest["files"], tuple(date.fromisoformat(day) for day in manifest["waiting"]))

    def has(self, part: Planned) -> bool:
        """Whether the file is there, whole, and made from what it would be made from now."""
        return self._is_whole(part.path) and self.files[part.path]["made_from"] == list(part.made_from)

    def link(self, parts: list[Planned], staging: Path) -> dict[str, dict[str, Any]]:
        """Take files into a new folder without copying them; their entries by path."""
        for part in parts:
            target = staging / part.path
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(Path(self.folder or "") / part.path, target)
        return {part.path: self.files[part.path] for part in parts}

    def open_on(self, day: date, open_now: str) -> list[str]:
        """The files that hold every interval not yet ended before ``day``; none if one is missing.

        Args:
            open_now: path of the table's intervals that are open after the last day.
        """
        table = open_now.partition("/")[0]
        closed = [path for path in self.files if path.startswith(f"{table}/closed/") and Path(path).stem >= str(day)]
        wanted = [open_now, *closed]
        return [str(Path(self.folder or "") / path) for path in wanted] if all(map(self._is_whole, wanted)) else []

    def _is_whole(self, path: str) -> bool:
        entry = self.files.get(path)
        if self.folder is None or entry is None:
            return False
        file = self.folder / path
        return file.is_file() and file.stat().st_size == entry["bytes"]


@dataclass(frozen=True)
class _Steadied:
    """The days that are steadied, and from which of them on the fold has to be gone through.

    Attributes:
        days: from the first published with a setting of stability on; empty while there is none.
        start: the first day whose stretches are not on file, or not as they would come out now.
        files: with what was open before ``start``; empty if the fold begins with the first day.
    """

    days: list[PublishedDay]
    start: date
    files: list[str]

    @classmethod
    def of(cls, days: list[PublishedDay], last: _Last) -> _Steadied:
        """As published now, against the history on file."""
        first = next(
            (place for place, one in enumerate(days) if _was_steadied(one, last) or settings_of(one).attributes),
            len(days),
        )
        followed = days[first:]
        if not followed:
            return cls([], date.max, [])
        on_file = {part.path for part in plan_stability(followed) if last.has(part)}
        anew = [part.today.day for part in plan_stability(followed) if part.path not in {*on_file, OPEN_STRETCHES}]
        gone = [
            date.fromisoformat(Path(path).stem)
            for path in last.files
            if path.startswith("segment_stability/closed/") and path not in on_file
        ]
        start = min([*anew, *gone], default=date.max)
        files = last.open_on(start, OPEN_STRETCHES) if start > followed[0].day else []
        return cls(followed, start if files else followed[0].day, files)

    def can_make(self, part: Planned) -> bool:
        """Whether the days to go through for the file still have their measures, which a pruned one has not."""
        if part.table not in STABILITY_TABLES:
            return True
        return not any(one.snapshot and self.start <= one.day <= part.today.day for one in self.days)


def _was_steadied(published: PublishedDay, last: _Last) -> bool:
    return published.snapshot is not None and held_path(published.day) in last.files


class _InForce:
    """What the rules, the code and the lake are now, against what a version was made from."""

    def __init__(self, home: Home, project: Project, shop: Shop, days: list[PublishedDay]) -> None:
        self._home, self._project, self._shop = home, project, shop
        self._rules = (rules_hash(project), code_version(project))
        self._received = received(home, max(date.fromisoformat(published.manifest["known_at"]) for published in days))

    def can_make(self, part: Planned) -> bool:
        """Whether all that the file depends on is at hand.

        Causes are worked out by the rules in force from the data in the lake, so they can be had
        only for a version made from both; all else is derived from versions alone. Of a pruned
        version only the snapshot is left: enough to tell who moved, not why or with what revenue.
        """
        needs_causes = part.table == "segment_transitions" or part.period == "day"
        if needs_causes:
            return part.before.snapshot is None and part.today.snapshot is None and self._is_of_now(part.today)
        return part.table in {"segment_history", *STABILITY_TABLES} or part.today.snapshot is None

    @cached_property
    def evidence(self) -> Evidence:
        """What the causes of all days are worked out from; each takes of it what was received by its ``known_at``."""
        return Evidence.gather(self._home, self._project, self._shop, self._received)

    def _is_of_now(self, published: PublishedDay) -> bool:
        said = {name: published.manifest["shop"][name] for name in ("time_zone", "currency")}
        return (
            published.rules == self._rules
            and said == {"time_zone": self._shop.time_zone, "currency": self._shop.currency}
            and published.manifest["inputs"]["sha256"] == self._known(published).digest()
        )

    def _known(self, published: PublishedDay) -> Received:
        known_at = date.fromisoformat(published.manifest["known_at"])
        return Received(known_at, tuple(one for one in self._received.deliveries if one.day <= known_at))


class _Writer:
    """Writes the files of a history that can't be taken over from the last one."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        staging: Path,
        days: list[PublishedDay],
        steadied: _Steadied,
        last: _Last,
        now: _InForce,
    ) -> None:
        self._connection, self._staging = connection, staging
        self._days, self._steadied, self._last, self._now = days, steadied, last, now
        self._moves_of: tuple[str, str] | None = None

    def write(self, parts: list[Planned]) -> dict[str, dict[str, Any]]:
        """Write the files; their entries in the manifest by path."""
        entries = {}
        for part in parts:
            if part.table == "segment_snapshots":
                self._connection.execute(
                    f"create or replace view today as from {part.today.table('customer_segments')}"
                )
                entries[part.path] = self._keep(part, statement("snapshot"))
            elif part.table == "segment_transitions":
                entries[part.path] = self._transitions(part)
            elif part.table == "transition_matrix":
                entries[part.path] = self._matrix(part)
        entries |= self._intervals([part for part in parts if part.table == "segment_history"])
        return entries | self._stability([part for part in parts if part.table in STABILITY_TABLES])

    def _transitions(self, part: Planned) -> dict[str, Any]:
        self._find_moves(part.before, part.today)
        look_at(self._connection, part.before, part.today)
        find_causes(self._connection, self._now.evidence, part.before, part.today)
        return self._keep(part, "from transitions order by customer_id, attribute")

    def _matrix(self, part: Planned) -> dict[str, Any]:
        look_at(self._connection, part.before, part.today)
        name_kinds(self._connection, part.today)
        self._connection.execute(
            statement("period_matrix"),
            {
                "period": part.period,
                "period_start": part.period_start,
                "from_date": part.before.day,
                "to_date": part.today.day,
            },
        )
        if part.period == "day":
            path = self._staging / f"segment_transitions/as_of_date={part.today.day}/segment_transitions.parquet"
            self._connection.execute(
                "create or replace view transitions_kept as "
                f"from read_parquet({quoted(str(path))}, hive_partitioning = false)"
            )
            self._connection.execute(statement("day_matrix"))
        table = "day_matrix" if part.period == "day" else "matrix"
        return self._keep(part, f"from {table} order by attribute, from_value, to_value, kind, cause")

    def _intervals(self, parts: list[Planned]) -> dict[str, dict[str, Any]]:
        """Go through the days from the first that changed, ending and beginning intervals."""
        if not parts:
            return {}
        wanted = {part.path: part for part in parts}
        changed = min((part.today.day for part in parts if part.before is not part.today), default=self._days[0].day)
        start = self._begin_intervals(changed)
        entries = {}
        for before, today in pairwise(self._days):
            if today.day < start:
                continue
            self._find_moves(before, today)
            self._connection.execute(statement("intervals_closed"), {"day": today.day})
            self._connection.execute(statement("intervals_open"), {"day": today.day})
            part = wanted.get(f"segment_history/closed/{today.day}.parquet")
            if part:
                entries[part.path] = self._keep(part, "from closed_intervals order by customer_id, attribute")
        part = wanted.get(OPEN_INTERVALS)
        if part:
            query = "select *, cast(null as date) as valid_to from open_intervals order by customer_id, attribute"
            entries[part.path] = self._keep(part, query)
        return entries

    def _begin_intervals(self, changed: date) -> date:
        """Create ``open_intervals`` as they stood before a day; returns the day to go on with."""
        files = self._last.open_on(changed, OPEN_INTERVALS) if changed > self._days[0].day else []
        if len(self._days) > 1 and changed > self._days[1].day and files:
            listed = ", ".join(quoted(path) for path in files)
            self._connection.execute(
                "create or replace table open_intervals as select customer_id, attribute, value, valid_from "
                f"from read_parquet([{listed}], union_by_name = true) where valid_from < date '{changed}'"
            )
            return changed
        first = self._days[0]
        self._connection.execute(f"create or replace view today as from {first.table('customer_segments')}")
        self._connection.execute(statement("intervals_first"), {"day": first.day})
        return first.day

    def _stability(self, parts: list[Planned]) -> dict[str, dict[str, Any]]:
        """Go through the steadied days from the first that changed."""
        if not parts:
            return {}
        wanted, days = {part.path: part for part in parts}, self._steadied.days
        last_day = max(part.today.day for part in parts)
        fold, entries = Fold(self._connection), {}
        for before, today in zip([None, *days], days, strict=False):
            if today.day < self._steadied.start or today.day > last_day:
                continue
            if before is None:
                fold.begin(today)
            else:
                if today.day == self._steadied.start:
                    fold.resume(self._steadied.files, before, today.day)
                self._find_moves(before, today)
                look_at(self._connection, before, today)
                fold.step(before, today)
            for path in (path for path, part in wanted.items() if part.today is today and path != OPEN_STRETCHES):
                entries[path] = self._keep(wanted[path], _OF_STABILITY[wanted[path].table])
        if OPEN_STRETCHES in wanted:
            if self._steadied.start > days[-1].day:
                fold.resume(self._steadied.files, days[-1], self._steadied.start)
            query = "select *, cast(null as date) as valid_to from stable order by customer_id, attribute"
            entries[OPEN_STRETCHES] = self._keep(wanted[OPEN_STRETCHES], query)
        return entries

    def _find_moves(self, before: PublishedDay, today: PublishedDay) -> None:
        """Moves between two versions, found once for all files of a day."""
        versions = (before.path.name, today.path.name)
        if self._moves_of != versions:
            find_moves(self._connection, before, today)
            self._moves_of = versions

    def _keep(self, part: Planned, query: str) -> dict[str, Any]:
        written = write_parquet(self._connection, query, self._staging / part.path)
        return {"table": part.table, "made_from": list(part.made_from), **written}


def _pruned_days(home: Home, last: _Last, at_hand: list[PublishedDay]) -> list[PublishedDay]:
    """Days whose version retention removed, as far as the last history holds their snapshot."""
    known, found = {published.day for published in at_hand}, []
    for day, name in Marks.of(home).pruned.items():
        path = snapshot_path(day)
        is_kept = last.folder and last.files.get(path, {}).get("made_from") == [name]
        if day not in known and is_kept and (last.folder / path).is_file():
            found.append(PublishedDay(day, version_path(home, name), {}, last.folder / path))
    return found


def _clear(home: Home) -> None:
    """Remove what killed runs left; no reader ever saw it."""
    (home.published / "histories").mkdir(parents=True, exist_ok=True)
    home.scratch.mkdir(parents=True, exist_ok=True)
    for left in home.published.glob(f"{STAGING}*"):
        shutil.rmtree(left)


def switch(
    home: Home, staging: Path, files: dict[str, dict[str, Any]], waiting: tuple[date, ...], last_day: date
) -> Path:
    """Give the staged folder its name, lead readers to it, and keep only the one they may still be reading."""
    manifest = json_text({"schema_version": SCHEMA_VERSION, "files": files, "waiting": waiting})
    (staging / MANIFEST).write_text(manifest, encoding="utf-8")
    (staging / MANIFEST).chmod(0o444)
    for folder, _, _ in os.walk(staging):
        Path(folder).chmod(0o755)
    sync_tree(staging)
    path = home.published / "histories" / f"{last_day}-{hashlib.sha256(manifest.encode()).hexdigest()[:12]}"
    before = current_history(home)
    if path.exists():
        shutil.rmtree(path)
    staging.rename(path)
    point(home.published / "history", f"histories/{path.name}")
    for folder in path.parent.iterdir():
        if folder not in {path, before}:
            shutil.rmtree(folder)
    return path
