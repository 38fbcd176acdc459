"""Which published version readers are led to, when the newest is not the one they should see.

A bad day is taken back by leading ``published/current`` to an earlier day, in
the one step that publishing uses. The decision is written down first, so that
it holds: a process killed in between has its work finished by the next run, and
publishing the same content again does not undo it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from strataflow import runlog
from strataflow.durable import sync
from strataflow.errors import InputError, StrataflowError, UsageError
from strataflow.marks import Marks, note_replaced
from strataflow.publish import (
    current_version,
    damage,
    day_link,
    day_of,
    follow_newest_day,
    link_folders,
    published_days,
    read_manifest,
    version_of,
)

if TYPE_CHECKING:
    from rich.console import Console

    from strataflow.home import Home


@dataclass(frozen=True)
class Led:
    """What readers of ``published/current`` saw and see.

    Attributes:
        before: folder of the version they saw.
        after: folder of the version they see now.
        held_back: names of versions that ``current`` passes over.
        changed: whether anything was decided or switched.
    """

    before: Path
    after: Path
    held_back: tuple[str, ...]
    changed: bool


def seen_now(home: Home) -> Path:
    """Folder of the version that readers see.

    Raises:
        UsageError: nothing is published.
    """
    version = current_version(home)
    if version is None:
        raise UsageError("nothing is published yet", where=str(home.published), todo="strataflow run --date YYYY-MM-DD")
    return version


def rollback(home: Home, to: date | None = None) -> Led:
    """Lead readers to the version of a day and hold back those of all later days; the caller holds the lock.

    Held back are versions, not days: later content for such a day, or a newer
    day, is followed again. A day that was held back itself can be named in
    ``to``, which undoes a rollback.

    Args:
        to: the day; by default the last published one before the current that is not held back.

    Raises:
        UsageError: nothing is published, there is no such day, or none before the current one.
        InputError: the version of that day is damaged.
    """
    before, marks = seen_now(home), Marks.of(home)
    day = to or _day_before(home, before, marks)
    target = _published(home, day)
    if found := damage(target, read_manifest(target), thorough=False):
        raise InputError(
            f"the version of {day} is damaged: {found[0]}; readers still see {before.name}",
            where=str(target),
            todo=f"mend it: strataflow run --skip-land --date {day}, or roll back to another day",
        )
    later = {version.name for other in published_days(home) if other > day and (version := version_of(home, other))}
    if day_of(before) > day:
        later.add(before.name)
    return _decide(home, before, replace(marks, held_back=marks.held_back - {target.name} | later))


def withdraw(home: Home, day: date) -> Led:
    """Take a day that should never have been away from readers; the caller holds the lock.

    ``published/days/<day>`` is removed and ``current`` follows the newest day that is left. The
    version stays in ``published/versions`` until it is pruned.

    Raises:
        UsageError: the day is not published, or is the only one that readers could be led to.
    """
    before, marks, version = seen_now(home), Marks.of(home), _published(home, day)
    held_back = marks.held_back | {version.name}
    left = [other for other in published_days(home) if other != day and _name(home, other) not in held_back]
    if before == version and not left:
        raise UsageError(
            f"{day} is the only day that readers can be led to",
            where=str(home.published),
            todo="publish another day first, or roll back to one that was held back: strataflow rollback --to DATE",
        )
    pruned = {other: name for other, name in marks.pruned.items() if other != day}
    led = _decide(home, before, replace(marks, held_back=held_back, pruned=pruned))
    note_replaced(home, {version.name, before.name})
    link = day_link(home, day)
    link.unlink()
    sync(link.parent)
    return replace(led, changed=True)


def pin(home: Home, named: str) -> tuple[str, bool]:
    """Keep a version from ever being pruned; the caller holds the lock.

    Args:
        named: a version's name, or a day (YYYY-MM-DD) for the version that day has now.

    Returns:
        The version's name, and False if it was pinned already.

    Raises:
        UsageError: there is no such version.
    """
    name = _version_named(home, named)
    marks = Marks.of(home)
    return name, replace(marks, pinned=marks.pinned | {name}).save(home)


def unpin(home: Home, named: str) -> list[str]:
    """Let pinned versions be pruned again; the caller holds the lock.

    Args:
        named: a version's name, or a day (YYYY-MM-DD) for all pinned versions of that day.

    Returns:
        The names of the versions.

    Raises:
        UsageError: none of that name or day is pinned.
    """
    marks = Marks.of(home)
    names = {name for name in marks.pinned if named in (name, str(day_of(name)))}
    if not names:
        raise UsageError(
            f"no pinned version is called {named} or is of that day",
            where=str(home.published),
            todo=f"pinned: {', '.join(sorted(marks.pinned)) or 'none'}",
        )
    replace(marks, pinned=marks.pinned - names).save(home)
    return sorted(names)


def follow_with_page(home: Home) -> str | None:
    """Write the page about the version readers see now; a sentence if it can't be, else None.

    The page needs the build that the version was made from. Without it the
    decision stands all the same, so that is no error.
    """
    import duckdb

    from strataflow.build import Build
    from strataflow.project import Project
    from strataflow.report import publish_report

    version = seen_now(home)
    manifest = read_manifest(version)
    try:
        build = Build.load(home, day_of(version), date.fromisoformat(manifest["known_at"]))
        if build.meta["fingerprint"] != manifest["fingerprint"]:
            return f"published/report was not made anew: the build of {version.name} was replaced by another"
        publish_report(home, Project.locate(), version)
    except (StrataflowError, OSError, duckdb.Error) as fault:
        return f"published/report was not made anew: {fault.what if isinstance(fault, StrataflowError) else fault}"
    return None


def versions(home: Home) -> dict[str, Any]:
    """All published versions, oldest day first, with what is known and was decided about each.

    Returns:
        current; versions (day, known_at, version, published_at, customers, rows, bytes, is_current,
        is_of_day, is_restatement, is_held_back, is_pinned, is_superseded, is_unlinked);
        pruned_days. published_at is UTC, and None where no run recorded it.
    """
    marks, current = Marks.of(home), current_version(home)
    published_at = _published_at(home)
    of_day = {version.name for day in published_days(home) if (version := version_of(home, day))}
    linked = {link.resolve().name for folder in link_folders(home) for link in folder.glob("[0-9]*")}
    found = []
    for path in sorted((home.published / "versions").glob("[0-9]*")):
        held = _held(path)
        if held is None:
            continue
        has_day = version_of(home, day_of(path)) is not None
        standing = {
            "published_at": published_at.get(path.name),
            "is_current": path == current,
            "is_of_day": path.name in of_day,
            "is_held_back": path.name in marks.held_back,
            "is_pinned": path.name in marks.pinned,
            "is_superseded": path.name not in linked and has_day,
            "is_unlinked": path.name not in linked and not has_day,
        }
        found.append(held | standing)
    gone = sorted(str(day) for day in marks.pruned if not version_of(home, day))
    return {"current": current.name if current else None, "versions": found, "pruned_days": gone}


def _held(path: Path) -> dict[str, Any] | None:
    """What a version holds; None if it is pruned while we look, for the list takes no lock."""
    try:
        manifest, bytes_held = read_manifest(path), size(path)
    except (InputError, FileNotFoundError):
        if path.exists():
            raise
        return None
    return {
        "day": manifest["as_of"],
        "known_at": manifest["known_at"],
        "version": path.name,
        "customers": manifest["tables"].get("customer_segments", {}).get("rows"),
        "rows": sum(table["rows"] for table in manifest["tables"].values()),
        "bytes": bytes_held,
        "is_restatement": manifest["known_at"] != manifest["as_of"],
    }


def size(version: Path) -> int:
    """Bytes of all files of a version."""
    return sum(path.stat().st_size for path in version.rglob("*") if path.is_file())


def print_versions(told: dict[str, Any], console: Console) -> None:
    """Print what :func:`versions` found for people."""
    from strataflow.summary import table

    shown = table(f"Published: {len(told['versions'])} versions")
    for column in ("day", "version", "published (UTC)"):
        shown.add_column(column)
    for column in ("customers", "rows", "MB"):
        shown.add_column(column, justify="right")
    shown.add_column("")
    for entry in told["versions"]:
        shown.add_row(
            entry["day"],
            entry["version"],
            (entry["published_at"] or "not recorded")[:19].replace("T", " "),
            f"{entry['customers'] or 0:,}",
            f"{entry['rows']:,}",
            f"{entry['bytes'] / 1e6:,.1f}",
            ", ".join(_said(entry)),
        )
    console.print(shown)
    if told["pruned_days"]:
        days = told["pruned_days"]
        console.print(f"Pruned, kept in published/history: {len(days)} days, {days[0]} to {days[-1]}", highlight=False)


def print_led(led: Led, todo: list[str], console: Console) -> None:
    """Print what readers saw, what they see, and what comes next."""
    lines = [f"Readers saw {led.before.name}", f"They see    {led.after.name}"]
    if led.before == led.after:
        lines = [f"Readers see {led.after.name}, as before"]
    if led.held_back:
        lines.append(f"Held back   {', '.join(led.held_back)}")
    console.print("\n".join([*lines, *todo]), highlight=False, markup=False, soft_wrap=True)


def what_next(command: str, led: Led) -> list[str]:
    """What whoever took a day back does next, as sentences."""
    if command == "withdraw":
        return ["published/history drops the day with the next run, or now: strataflow history"]
    if led.before == led.after:
        return []
    left, seen = day_of(led.before), day_of(led.after)
    if left < seen:
        return [f"{seen} is followed again"]
    return [
        f"Mend what was wrong with {left} and run it again; other content is followed, the same is not",
        f"Readers of published/days/{left} still find it; take it away with: strataflow withdraw {left}",
        f"To undo this: strataflow rollback --to {left}",
    ]


def _decide(home: Home, before: Path, marks: Marks) -> Led:
    """Write a decision down, then lead readers by it."""
    decided = marks.save(home)
    switched = follow_newest_day(home)
    return Led(before, seen_now(home), tuple(sorted(marks.held_back)), decided or switched)


def _day_before(home: Home, current: Path, marks: Marks) -> date:
    days = published_days(home)
    earlier = [day for day in days if day < day_of(current) and _name(home, day) not in marks.held_back]
    if not earlier:
        raise UsageError(
            f"there is no published day before {day_of(current)} to roll back to",
            where=str(home.published / "days"),
            todo=f"published days: {', '.join(map(str, days))}; mend {day_of(current)} and run it again",
        )
    return earlier[-1]


def _published(home: Home, day: date) -> Path:
    version = version_of(home, day)
    if version is None:
        days = published_days(home)
        raise UsageError(
            f"{day} is not published",
            where=str(home.published / "days"),
            todo=f"published days: {days[0]} to {days[-1]}, see strataflow versions" if days else "strataflow versions",
        )
    return version


def _name(home: Home, day: date) -> str:
    version = version_of(home, day)
    return version.name if version else ""


def _version_named(home: Home, named: str) -> str:
    try:
        return _published(home, date.fromisoformat(named)).name
    except ValueError:
        pass
    names = [path.name for path in (home.published / "versions").glob("[0-9]*")]
    if named not in names:
        raise UsageError(
            f"there is no version {named}", where=str(home.published / "versions"), todo="see strataflow versions"
        )
    return named


def _published_at(home: Home) -> dict[str, str]:
    """When each version was first published, by the run log (UTC, ISO 8601)."""
    found: dict[str, str] = {}
    for record in runlog.records(home):
        for step in record["steps"]:
            if step["name"] == "publish" and step["outcome"] != "failed":
                found.setdefault(step["detail"]["version"], step["started_at"])
    return found


def _said(entry: dict[str, Any]) -> list[str]:
    said = [("current", entry["is_current"]), (f"restated, known at {entry['known_at']}", entry["is_restatement"])]
    said += [
        (word, entry[f"is_{word.replace(' ', '_')}"]) for word in ("held back", "pinned", "superseded", "unlinked")
    ]
    return [word for word, holds in said if holds]
