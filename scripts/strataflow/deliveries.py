"""Which files make up a day of a source, and whether they have landed before.

A landing is a function of files, mapping and the landings before it. This
module finds the files, takes their fingerprints and compares them with what
the manifests of earlier landings say; it reads no row.
"""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from strataflow import __version__
from strataflow.durable import sha256
from strataflow.errors import InputError
from strataflow.privacy import pseudonyms
from strataflow.rawfiles import Delivered
from strataflow.reading import empty_file

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from strataflow.home import Home
    from strataflow.project import Table
    from strataflow.sources import Shop, Source

    Same = Callable[[dict[str, Any], Sequence[Delivered]], bool]
    Report = Callable[[int, int], None]

SCHEMA_VERSION = 2
REPLACING = ".replacing"


@dataclass(frozen=True)
class Plan:
    """What is to be done for one day of a source.

    ``action`` is ``land``; ``unchanged`` where the very same has landed
    before; ``kept`` where what landed before must stay; ``same_snapshot``
    where the day's only news is that nothing is new since ``unchanged_since``.
    """

    day: date
    files: tuple[Delivered, ...]
    action: str = "land"
    unchanged_since: date | None = None
    takes_earlier: bool = False
    takes_undated: bool = False


@dataclass
class Past:
    """Manifests of the days a source has landed, read when asked for.

    A manifest that was being replaced when a landing was killed counts: it
    tells what its day was, not that the day is whole.
    """

    home: Home
    source: str
    _read: dict[date, dict[str, Any]] = field(default_factory=dict)

    @cached_property
    def days(self) -> tuple[date, ...]:
        """Days landed, in order."""
        folder = self.home.landings / self.source
        names = {path.name.split(".")[0] for path in folder.glob("*.json*")}
        return tuple(sorted(date.fromisoformat(name) for name in names))

    def manifest(self, day: date) -> dict[str, Any] | None:
        """What the landing of ``day`` said, or None if there was none."""
        if day not in self._read:
            path = self.home.landing(self.source, day)
            found = next((p for p in (path, path.with_name(path.name + REPLACING)) if p.exists()), None)
            try:
                self._read[day] = json.loads(found.read_bytes()) if found else {}
            except ValueError:
                self._read[day] = {}
        return self._read[day] or None

    def is_whole(self, day: date) -> bool:
        """Whether the files of ``day`` are there and are those its manifest names."""
        manifest = self.manifest(day)
        if manifest is None or not self.home.landing(self.source, day).exists():
            return False
        promised = {
            self.home.partition(manifest["table"], day, self.source): manifest["partition_sha256"],
            self.home.quarantined(day, self.source): manifest["quarantine_sha256"],
        }
        return all(
            (path.exists() and sha256(path) == digest) if digest else not path.exists()
            for path, digest in promised.items()
        )


def identity(source: Source, table: Table, shop: Shop, rates: dict[str, date]) -> dict[str, Any]:
    """What decides, beside the files, what a day yields; part of the manifest.

    ``pseudonym_key`` identifies the key that contact data was replaced with, None where there was
    none; ``mapping_sha256`` covers the source's description, the shop's clock and
    currency, the canonical table, and which currencies have a rate from when on.

    Raises:
        UsageError: the source has contact data and there is no key to replace it.
    """
    from hashlib import sha256 as digest

    columns = [[c.name, c.data_type, c.required, c.default, c.derived, c.pseudonym, *c.allowed] for c in table.columns]
    key = pseudonyms.key_for(source, table, shop)
    said = [
        source.definition_sha256,
        shop.time_zone,
        shop.currency,
        shop.phone_country_code,
        columns,
        list(table.key),
        table.event_time,
        {currency: str(first) for currency, first in rates.items()},
    ]
    return {
        "schema_version": SCHEMA_VERSION,
        "package_version": __version__,
        "pseudonym_key": pseudonyms.key_id(key) if key else None,
        "mapping_sha256": digest(json.dumps(said, ensure_ascii=False).encode()).hexdigest(),
    }


def days_between(first: date, last: date) -> tuple[date, ...]:
    """All days from ``first`` to ``last``, both included."""
    return tuple(first + timedelta(days=n) for n in range((last - first).days + 1))


def delivered_lookups(source: Source) -> dict[str, Delivered]:
    """The files of a source's lookups, by lookup.

    Raises:
        InputError: one is missing.
    """
    found = {}
    for name in source.lookups:
        path = source.lookup_file(name)
        if not path.is_file():
            raise InputError(
                f"source {source.name}: the file of the lookup {name} is missing",
                where=str(path),
                todo=f"have it delivered, or correct lookups.{name}.path in {source.defined_in.name}",
            )
        found[name] = fingerprint(source, path, None)
    return found


def plan_days(
    home: Home,
    source: Source,
    days: Sequence[date],
    same: Same,
    progress: Report | None = None,
) -> list[Plan]:
    """What is to be done for each of ``days``.

    Args:
        home: where earlier landings lie.
        source: the source.
        days: without gaps, in order.
        same: whether a manifest tells of the very same files, mapping and limits.
        progress: told how many files of how many have been fingerprinted.

    Raises:
        InputError: a file is missing where that is an error, empty, or a folder.
    """
    past = Past(home, source.name)
    if source.kind == "dated":
        return _plan_dated(source, days, past, same, progress)
    files = _present(source, {None: source.files_of()}, progress)[None]
    if source.kind == "split":
        return _plan_split(files, days, past, same)
    return _plan_snapshot(files, days, past, same)


def fingerprint(source: Source, path: Path, day: date | None) -> Delivered:
    """A delivered file with its size and digest.

    Raises:
        InputError: it can't be read.
    """
    try:
        size, digest = path.stat().st_size, sha256(path)
    except OSError as error:
        raise InputError(f"the file can't be read: {error.strerror}", where=str(path)) from error
    return Delivered(path, path.relative_to(source.root()).as_posix(), day, size, digest)


# -- the three ways to a day


def _plan_dated(
    source: Source,
    days: Sequence[date],
    past: Past,
    same: Same,
    progress: Report | None,
) -> list[Plan]:
    found = _present(source, {day: source.files_of(day) for day in days}, progress)
    plans = []
    for day in days:
        manifest = past.manifest(day)
        known = manifest is not None and same(manifest, found[day]) and past.is_whole(day)
        plans.append(Plan(day, found[day], "unchanged" if known else "land"))
    return plans


def _plan_split(
    files: tuple[Delivered, ...],
    days: Sequence[date],
    past: Past,
    same: Same,
) -> list[Plan]:
    """The first day of a history landed in bulk takes what is dated before it, the newest day what has no date.

    A day that took such rows takes them again when it is landed again, so
    that landing a day twice is the same.
    """
    plans = []
    for day in days:
        manifest = past.manifest(day)
        told = manifest or {}
        opens = day == days[0] and not any(other < day for other in past.days)
        newest = day == days[-1] and not any(other > day for other in past.days)
        earlier = opens and (len(days) > 1 or told.get("takes_earlier", False))
        undated = newest or told.get("takes_undated", False)
        known = (
            manifest is not None
            and (told.get("takes_earlier"), told.get("takes_undated")) == (earlier, undated)
            and same(manifest, files)
            and past.is_whole(day)
        )
        plans.append(Plan(day, files, "unchanged" if known else "land", None, earlier, undated))
    # A row lands once: of the days to be landed together, the last one takes the undated.
    taking = [plan.day for plan in plans if plan.action == "land" and plan.takes_undated]
    return [replace(plan, takes_undated=False) if plan.day in taking[:-1] else plan for plan in plans]


def _plan_snapshot(
    files: tuple[Delivered, ...],
    days: Sequence[date],
    past: Past,
    same: Same,
) -> list[Plan]:
    """A snapshot lands on the first day, and again on each day on which its content is new.

    On a day before the newest one landed, what was received then stays: the
    file of today can't tell what it held that day.
    """
    plans = []
    before = _last_before(past, days[0])
    since = _content_since(past, before, files, same)
    for day in days:
        manifest = past.manifest(day)
        is_past = any(other > day for other in past.days)
        if manifest is not None and is_past and not _same_files(manifest, files) and past.is_whole(day):
            plans.append(Plan(day, (), "kept"))
            since = _content_since(past, day, files, same)
            continue
        action = "land" if since is None else "same_snapshot"
        if manifest is not None and same(manifest, files) and past.is_whole(day):
            told = manifest.get("unchanged_since")
            if told == (None if since is None else str(since)):
                action = "unchanged"
        plans.append(Plan(day, tuple(replace(file, day=day) for file in files), action, since))
        since = since or day
    return plans


def _last_before(past: Past, day: date) -> date | None:
    return max((other for other in past.days if other < day), default=None)


def _content_since(past: Past, day: date | None, files: Sequence[Delivered], same: Same) -> date | None:
    """The day from which the snapshot has been what it is, if the landing of ``day`` saw the same content."""
    manifest = past.manifest(day) if day else None
    if manifest is None or not same(manifest, files):
        return None
    return date.fromisoformat(manifest.get("unchanged_since") or manifest["received_date"])


def _same_files(manifest: dict[str, Any], files: Sequence[Delivered]) -> bool:
    return [(file["path"], file["sha256"]) for file in manifest["files"]] == [(f.name, f.sha256) for f in files]


def _present(
    source: Source,
    paths: dict[date | None, list[Path]],
    progress: Report | None,
) -> dict[date | None, tuple[Delivered, ...]]:
    """Fingerprints of the files found, or an error that names all days without one."""
    missing = [day for day, found in paths.items() if not found]
    if missing and source.files.if_missing == "error":
        days = "" if missing == [None] else f" of {_few([str(day) for day in missing])}"
        raise InputError(
            f"source {source.name}: the file{days} is missing",
            where=str(source.root() / source.pattern_of(missing[0])),
            todo="have it delivered, or, if such a day is normal, set files.if_missing: empty "
            f"in {source.defined_in.name}",
        )
    todo = [(path, day) for day, found in paths.items() for path in found]
    for path, _ in todo:
        if path.stat().st_size == 0 and source.files.if_empty == "error":
            raise empty_file(path)
    files: dict[date | None, list[Delivered]] = {day: [] for day in paths}
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        prints = pool.map(lambda item: fingerprint(source, *item), todo)
        for done, file in enumerate(prints, 1):
            files[file.day].append(file)
            if progress:
                progress(done, len(todo))
    return {day: tuple(found) for day, found in files.items()}


def _few(names: list[str]) -> str:
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"  # noqa: PLR2004
