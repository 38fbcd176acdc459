"""What an order of days can break: a build that lacks an earlier day, a version that an earlier day came after.

A scheduler may bring days in any order. Results hold for what was received up
to a day, so a day must not be built before those before it are there, and what
was published without them has to be named.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta
from typing import TYPE_CHECKING

from strataflow.errors import InputError
from strataflow.lake import Received, received
from strataflow.publish import published_days, read_manifest, version_of

if TYPE_CHECKING:
    from strataflow.home import Home


def refuse_gaps(home: Home, sources: Iterable[str], day: date) -> None:
    """Raise unless each source has landed on every day from its first one to ``day``.

    Args:
        sources: names of the sources that the shop has.

    Raises:
        InputError: a day is missing; names source and days.
    """
    for source in sources:
        landed = {date.fromisoformat(path.stem) for path in home.landing(source, day).parent.glob("*.json")}
        first = min(landed, default=day)
        expected = (first + timedelta(days=n) for n in range((day - first).days + 1))
        missing = [one for one in expected if one not in landed]
        if missing:
            raise _gap(home, source, missing, day)


def refuse_gap_before(home: Home, sources: Iterable[str], day: date) -> None:
    """Raise unless landing ``day`` would join up with what each source has landed before it.

    A source that has landed on no day before ``day`` may begin there.

    Raises:
        InputError: days between the last landed one before ``day`` and ``day`` are missing.
    """
    for source in sources:
        landed = (date.fromisoformat(path.stem) for path in home.landing(source, day).parent.glob("*.json"))
        last = max((one for one in landed if one < day), default=None)
        missing = [] if last is None else [last + timedelta(days=n) for n in range(1, (day - last).days)]
        if missing:
            raise _gap(home, source, missing, day)


def _gap(home: Home, source: str, missing: list[date], day: date) -> InputError:
    return InputError(
        f"{source} has not landed on {len(missing)} of the days up to {day}; the first is {missing[0]}",
        where=str(home.landings / source),
        todo=f"land them: strataflow land --from {missing[0]} --date {missing[-1]}, or a backfill",
    )


def stale_days(home: Home, day: date) -> list[date]:
    """Published days after ``day`` whose version was made from other data than what is now in the lake."""
    versions = {other: version_of(home, other) for other in published_days(home) if other > day}
    manifests = {other: read_manifest(version) for other, version in versions.items() if version}
    if not manifests:
        return []
    known_at = {other: date.fromisoformat(manifest["known_at"]) for other, manifest in manifests.items()}
    everything = received(home, max(known_at.values())).deliveries
    stale = []
    for other, manifest in manifests.items():
        known = tuple(delivery for delivery in everything if delivery.day <= known_at[other])
        if manifest["inputs"]["sha256"] != Received(known_at[other], known).digest():
            stale.append(other)
    return stale
