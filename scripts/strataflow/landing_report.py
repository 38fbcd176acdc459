"""What a landing did, told to whoever called it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datetime import date


@dataclass(frozen=True)
class Landing:
    """What became of one day of one source.

    ``status`` is ``landed``, ``unchanged`` (the very same had landed before)
    or ``kept`` (an earlier day of a snapshot, whose content can't be had any
    more, stays as it was received).
    """

    source: str
    table: str
    day: date
    status: str
    manifest: dict[str, Any]


@dataclass(frozen=True)
class LandingReport:
    """What a landing did, for all its sources and days."""

    first: date
    last: date
    landings: tuple[Landing, ...]
    notes: tuple[str, ...] = ()

    @property
    def rows_read(self) -> int:
        """Rows of the days and sources asked for, landed or refused."""
        return sum(landing.manifest["rows_read"] for landing in self.landings)

    @property
    def rows_landed(self) -> int:
        """Rows now in the lake."""
        return sum(landing.manifest["rows_landed"] for landing in self.landings)

    @property
    def rows_quarantined(self) -> int:
        """Rows refused, each kept with its reason."""
        return sum(landing.manifest["rows_quarantined"] for landing in self.landings)

    @property
    def rows_erased(self) -> int:
        """Rows of customers who were erased, of which nothing is kept."""
        return sum(landing.manifest.get("rows_erased", 0) for landing in self.landings)

    @property
    def reasons(self) -> dict[str, int]:
        """Refused rows by reason code, most frequent first."""
        counts: Counter[str] = Counter()
        for landing in self.landings:
            counts.update(landing.manifest["reasons"])
        return dict(counts.most_common())

    @property
    def changed(self) -> bool:
        """Whether anything in the lake is new."""
        return any(landing.status == "landed" for landing in self.landings)

    def as_dict(self) -> dict[str, Any]:
        """The report for machines: totals, and per source its days by status, rows and reasons."""
        return {
            "first": str(self.first),
            "last": str(self.last),
            "rows_read": self.rows_read,
            "rows_landed": self.rows_landed,
            "rows_quarantined": self.rows_quarantined,
            "rows_erased": self.rows_erased,
            "reasons": self.reasons,
            "sources": [self._of_source(name) for name in dict.fromkeys(one.source for one in self.landings)],
            "notes": list(self.notes),
        }

    def _of_source(self, name: str) -> dict[str, Any]:
        mine = [landing for landing in self.landings if landing.source == name]
        part = LandingReport(self.first, self.last, tuple(mine))
        return {
            "source": name,
            "table": mine[0].table,
            "days": dict(Counter(landing.status for landing in mine)),
            "rows_read": part.rows_read,
            "rows_landed": part.rows_landed,
            "rows_quarantined": part.rows_quarantined,
            "rows_erased": part.rows_erased,
            "reasons": part.reasons,
        }
