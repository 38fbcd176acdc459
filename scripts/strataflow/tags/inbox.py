"""What is said of customers on the command line, kept in the home until it lands like any other delivery.

``manual_tags/<day>.jsonl`` holds what was typed to be received on a day, a JSON object per line. A statement
is received on the business date of its ``tagged_at``, or, where that day has landed or its landing has begun,
on the first day that has not: what has landed never changes, and a day built again sees what it saw. A file is
replaced whole under a lock, so any number of people may type at once and a killed process leaves no half line.

The files are read by a source of this package's own, :data:`SOURCE`, from the first of their days on.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from strataflow.durable import sync
from strataflow.errors import Busy, InputError, UsageError

if TYPE_CHECKING:
    from strataflow.home import Home
    from strataflow.sources import Source, Sources

SOURCE = "command_line_tags"
TABLE = "manual_tags"
SECONDS_TO_WAIT = 30
_CLOSED = "closed_through"


@dataclass(frozen=True)
class Statement:
    """A tag set on a customer (``add``) or taken back (``remove``).

    Attributes:
        tag: the text as typed.
        tagged_at: an instant, with its offset.
        expires_at: last business date in force, None without an end.
    """

    customer_id: str
    tag: str
    action: str
    tagged_by: str
    tagged_at: datetime
    reason: str | None = None
    expires_at: date | None = None

    def line(self) -> str:
        """The statement as a line of a file: equal statements, equal lines."""
        told = asdict(self) | {
            "tagged_at": self.tagged_at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
            "expires_at": str(self.expires_at) if self.expires_at else None,
        }
        return json.dumps(told, ensure_ascii=False) + "\n"


@dataclass(frozen=True)
class Kept:
    """What :func:`keep` did: how many statements per day received, and how many were there already."""

    by_day: dict[date, int]
    repeated: int


def keep(home: Home, statements: Iterable[tuple[Statement, date]]) -> Kept:
    """Write statements, each with the business date on which it was said, to be landed.

    A statement that stands in its day's file already is left out, so a call that was killed is repaired by
    making it again.

    Raises:
        Busy: others were writing all the time, or a run is, and these are the home's first statements.
    """
    _begin(home)
    with _writing(home):
        open_from = _first_open_day(home)
        by_day: dict[date, list[str]] = {}
        for statement, said_on in statements:
            by_day.setdefault(max(said_on, open_from), []).append(statement.line())
        counts, repeated = {}, 0
        for day, lines in sorted(by_day.items()):
            path = _file(home, day)
            before = path.read_text(encoding="utf-8") if path.exists() else ""
            known = set(before.splitlines(keepends=True))
            new = [line for line in dict.fromkeys(lines) if line not in known]
            if new:
                _replace(path, before + ("" if not before or before.endswith("\n") else "\n") + "".join(new))
            repeated += len(lines) - len(new)
            counts[day] = len(new)
    return Kept(counts, repeated)


def waiting(home: Home, after: date | None) -> Iterator[tuple[date, dict[str, str | None]]]:
    """Statements to be received after a day, all if it is None: each with its day, in the order they were typed."""
    for day in days(home):
        if after is None or day > after:
            for line in _file(home, day).read_text(encoding="utf-8").splitlines():
                if line.strip():
                    yield day, json.loads(line)


def days(home: Home) -> list[date]:
    """The days on which something typed is received, in order."""
    return sorted(date.fromisoformat(path.stem) for path in home.manual_tags.glob("[0-9]*.jsonl"))


def close(home: Home, through: date) -> None:
    """Let nothing more be received on ``through`` or before: a landing of that day is about to read it."""
    if not home.manual_tags.is_dir():
        return
    with _writing(home):
        if (closed := _closed_through(home)) is None or closed < through:
            _replace(home.manual_tags / _CLOSED, f"{through}\n")


def including(home: Home, sources: Sources) -> Sources:
    """The sources, and that of the command line if anything was typed.

    Raises:
        UsageError: the shop describes a source of that name.
    """
    if any(source.name == SOURCE and source.begins for source in sources.sources):
        return sources
    own = source(home)
    if own is None:
        return sources
    described = next((other for other in sources.sources if other.name == SOURCE), None)
    if described is not None:
        raise UsageError(
            f"the name {SOURCE} is taken by what is typed on the command line",
            where=str(described.defined_in),
            todo="give the source another name",
        )
    return sources.model_copy(update={"sources": (*sources.sources, own)})


def source(home: Home) -> Source | None:
    """The source that reads what was typed, None if nothing was."""
    from strataflow.sources import Files, Format, Limits, Source

    typed_on = days(home)
    if not typed_on:
        return None
    columns = ("customer_id", "tag", "action", "tagged_by", "tagged_at", "reason", "expires_at")
    return Source(
        name=SOURCE,
        table=TABLE,
        description="What was typed on the command line: strataflow tags add, remove and import.",
        format=Format(type="jsonl"),
        files=Files(path="{date}.jsonl", if_missing="empty", if_empty="empty"),
        columns={column: column for column in columns},
        # A person's slip is to be looked at in quarantine and holds up nobody's day.
        limits=Limits(max_quarantine_ratio=1),
        defined_in=home.manual_tags / SOURCE,
        begins=typed_on[0],
    )


def refuse_unlanded(home: Home, through: date) -> None:
    """Raise if something was typed to be received by ``through`` and has not landed.

    Raises:
        InputError: names the day.
    """
    for day in days(home):
        if day <= through and not home.landing(SOURCE, day).exists():
            raise InputError(
                f"tags typed to be received on {day} have not landed",
                where=str(_file(home, day)),
                todo=f"strataflow land --date {day} --tables {TABLE}",
            )


def _begin(home: Home) -> None:
    """Make the folder of the first statement; not while a run that did not find it may be landing."""
    if not home.manual_tags.is_dir():
        with home.writing(SECONDS_TO_WAIT):
            home.manual_tags.mkdir(parents=True, exist_ok=True)


@contextmanager
def _writing(home: Home) -> Iterator[None]:
    lock = FileLock(home.manual_tags / ".lock", timeout=SECONDS_TO_WAIT)
    try:
        with lock:
            yield
    except Timeout as busy:
        raise Busy("others are setting tags", where=str(home.manual_tags), todo="try again") from busy


def _first_open_day(home: Home) -> date:
    landed = [date.fromisoformat(path.stem) for path in home.landings.glob("*/*.json")]
    closed = _closed_through(home)
    taken = [*landed, *([closed] if closed else [])]
    return max(taken) + timedelta(days=1) if taken else date.min


def _closed_through(home: Home) -> date | None:
    path = home.manual_tags / _CLOSED
    return date.fromisoformat(path.read_text(encoding="utf-8").strip()) if path.exists() else None


def _file(home: Home, day: date) -> Path:
    return home.manual_tags / f"{day}.jsonl"


def _replace(path: Path, text: str) -> None:
    aside = path.with_name(f".aside-{path.name}")
    aside.write_text(text, encoding="utf-8")
    sync(aside)
    os.replace(aside, path)
    sync(path.parent)
