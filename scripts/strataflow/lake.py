"""What has been received, day by day, as the landing manifests tell it.

A build is a function of the days received up to a date. This module turns the
manifests into that function's argument: which tables there are, and a digest
per day that changes when, and only when, a day's content does.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import date

from strataflow.errors import InputError
from strataflow.home import Home


@dataclass(frozen=True)
class LandedDay:
    """One source's delivery of one day: ``sha256`` is None where no row landed."""

    source: str
    table: str
    day: date
    rows: int
    sha256: str | None


@dataclass(frozen=True)
class Received:
    """All deliveries received up to and including ``known_at``."""

    known_at: date
    deliveries: tuple[LandedDay, ...]

    @property
    def tables(self) -> list[str]:
        """Canonical tables with at least one row, by name."""
        return sorted({delivery.table for delivery in self.deliveries if delivery.sha256})

    @property
    def first(self) -> date:
        """The first day anything was received."""
        return min(delivery.day for delivery in self.deliveries)

    @property
    def last(self) -> date:
        """The last day anything was received."""
        return max(delivery.day for delivery in self.deliveries)

    def by(self, day: date) -> Received:
        """What of it had been received by an earlier day."""
        return Received(day, tuple(delivery for delivery in self.deliveries if delivery.day <= day))

    def digests(self) -> dict[date, str]:
        """A hex digest of what each day holds, over all tables; days without a row are left out."""
        by_day: dict[date, list[str]] = {}
        for delivery in self.deliveries:
            if delivery.sha256:
                by_day.setdefault(delivery.day, []).append(f"{delivery.table}/{delivery.source}={delivery.sha256}")
        return {day: _digest("\n".join(sorted(parts))) for day, parts in by_day.items()}

    def digest(self) -> str:
        """A hex digest of everything received."""
        return _digest("\n".join(f"{day} {digest}" for day, digest in sorted(self.digests().items())))


def received(home: Home, known_at: date) -> Received:
    """Everything landed in ``home`` up to and including ``known_at``.

    Raises:
        InputError: nothing has landed by then, or a manifest can't be read.
    """
    deliveries = []
    for path in sorted(home.landings.glob("*/*.json")):
        if path.stem > str(known_at):
            continue
        try:
            manifest = json.loads(path.read_bytes())
            deliveries.append(
                LandedDay(
                    source=manifest["source"],
                    table=manifest["table"],
                    day=date.fromisoformat(manifest["received_date"]),
                    rows=manifest["rows_landed"],
                    sha256=manifest["partition_sha256"],
                )
            )
        except (ValueError, KeyError, TypeError) as broken:
            raise InputError(
                f"a landing manifest can't be read: {broken!r}",
                where=str(path),
                todo="remove the file and land that day again",
            ) from broken
    if not deliveries:
        raise InputError(
            f"nothing has been landed up to {known_at}",
            where=str(home.landings),
            todo=f"strataflow land --date {known_at}",
        )
    return Received(known_at, tuple(deliveries))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
