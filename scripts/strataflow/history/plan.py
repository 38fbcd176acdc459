"""Which files history consists of, and what each is made from.

The plan is a function of the published days alone. A file is made again when,
and only when, what it is made from has changed; so a day published again, in
whatever order, refreshes what hangs on it and nothing else.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import pairwise

from strataflow.history.causes import PublishedDay

OPEN_INTERVALS = "segment_history/open.parquet"
OPEN_STRETCHES = "segment_stability/open.parquet"
# What the fold over the steadied days writes; see stability.py.
STABILITY_TABLES = ("segment_stability", "stability_held", "stability_moves")


@dataclass(frozen=True)
class Planned:
    """One file of history.

    Attributes:
        path: relative to the folder of the history.
        table: the table it is a part of.
        made_from: names of versions, or a digest over many; equal, equal content.
        today: the published day it is about.
        before: the published day it is compared with; the day itself where nothing is compared.
        period: day, week or month, for a file of the transition matrix.
        period_start: the period's first calendar day.
    """

    path: str
    table: str
    made_from: tuple[str, ...]
    today: PublishedDay
    before: PublishedDay
    period: str | None = None
    period_start: date | None = None


def plan(days: list[PublishedDay]) -> list[Planned]:
    """All files of the history of ``days`` (oldest first), each after those it needs."""
    planned = [_snapshot(today) for today in days]
    digest = hashlib.sha256(days[0].path.name.encode()).hexdigest() if days else ""
    for before, today in pairwise(days):
        versions = (before.path.name, today.path.name)
        digest = hashlib.sha256(f"{digest} {today.path.name}".encode()).hexdigest()
        path = f"segment_transitions/as_of_date={today.day}/segment_transitions.parquet"
        planned.append(Planned(path, "segment_transitions", versions, today, before))
        planned.append(_matrix(before, today, "day", today.day))
        closed = f"segment_history/closed/{today.day}.parquet"
        planned.append(Planned(closed, "segment_history", (digest,), today, before))
    for period, start_of in (("week", _week), ("month", _month)):
        planned += _periods(days, period, {published.day: start_of(published.day) for published in days})
    if days:
        planned.append(Planned(OPEN_INTERVALS, "segment_history", (digest,), days[-1], days[-1]))
    return planned


def plan_stability(days: list[PublishedDay]) -> list[Planned]:
    """The files of the days that are steadied (oldest first); each is made from all of them up to its own."""
    planned, digest, before = [], "", None
    for today in days:
        digest = hashlib.sha256(f"{digest} {today.path.name}".encode()).hexdigest()
        planned.append(Planned(held_path(today.day), "stability_held", (digest,), today, before or today))
        if before:
            moves = f"stability_moves/as_of_date={today.day}/stability_moves.parquet"
            planned.append(Planned(moves, "stability_moves", (digest,), today, before))
            closed = f"segment_stability/closed/{today.day}.parquet"
            planned.append(Planned(closed, "segment_stability", (digest,), today, before))
        before = today
    if days:
        planned.append(Planned(OPEN_STRETCHES, "segment_stability", (digest,), days[-1], days[-1]))
    return planned


def held_path(day: date) -> str:
    """Where those held back on a day lie, relative to the folder of the history; every steadied day has the file."""
    return f"stability_held/as_of_date={day}/stability_held.parquet"


def snapshot_path(day: date) -> str:
    """Where the snapshot of a day lies, relative to the folder of the history."""
    return f"segment_snapshots/as_of_date={day}/segment_snapshots.parquet"


def snapshot_day(path: str) -> date | None:
    """The day whose snapshot lies at a path relative to the folder of the history; None for other files."""
    table, _, rest = path.partition("/as_of_date=")
    return date.fromisoformat(rest.partition("/")[0]) if table == "segment_snapshots" else None


def closed_day(path: str) -> date | None:
    """The day on which the intervals or stretches at a path ended; None for other files."""
    _, is_closed, name = path.partition("/closed/")
    return date.fromisoformat(name.removesuffix(".parquet")) if is_closed else None


def _snapshot(today: PublishedDay) -> Planned:
    return Planned(snapshot_path(today.day), "segment_snapshots", (today.path.name,), today, today)


def _matrix(before: PublishedDay, today: PublishedDay, period: str, start: date) -> Planned:
    path = f"transition_matrix/period={period}/period_start={start}/transition_matrix.parquet"
    return Planned(path, "transition_matrix", (before.path.name, today.path.name), today, before, period, start)


def _periods(days: list[PublishedDay], period: str, starts: dict[date, date]) -> list[Planned]:
    """A file per calendar period: from the last published day before it, or its own first, to its last."""
    planned = []
    for start in sorted(set(starts.values())):
        inside = [published for published in days if starts[published.day] == start]
        earlier = [published for published in days if published.day < start]
        base = earlier[-1] if earlier else inside[0]
        if base is not inside[-1]:
            planned.append(_matrix(base, inside[-1], period, start))
    return planned


def _week(day: date) -> date:
    return day - timedelta(days=day.weekday())


def _month(day: date) -> date:
    return day.replace(day=1)
