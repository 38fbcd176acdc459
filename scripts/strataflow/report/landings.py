"""What the landing manifests and the gates' reports say, as far as the page tells it.

Both are small JSON files without a clock. A field that an older manifest lacks
counts as unknown, not as zero.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from strataflow.errors import InputError

if TYPE_CHECKING:
    from strataflow.home import Home

CALENDAR_DAYS = 42


@dataclass(frozen=True)
class Delivery:
    """One source's landing of one day."""

    source: str
    table: str
    day: date
    rows_landed: int
    rows_quarantined: int
    reasons: dict[str, int]

    @property
    def rows_read(self) -> int:
        """Rows found in the delivered files."""
        return self.rows_landed + self.rows_quarantined


@dataclass(frozen=True)
class SourceHistory:
    """All landings of one source up to a day, oldest first; never empty."""

    source: str
    deliveries: tuple[Delivery, ...]

    @property
    def table(self) -> str:
        """The canonical table that the source feeds."""
        return self.deliveries[-1].table

    @property
    def last_landing(self) -> date:
        """The last day that was landed, with rows or without."""
        return self.deliveries[-1].day

    @property
    def last_rows(self) -> Delivery | None:
        """The last landing that brought a row."""
        return next((each for each in reversed(self.deliveries) if each.rows_read), None)

    @property
    def rows_landed(self) -> int:
        """Rows landed over all days."""
        return sum(each.rows_landed for each in self.deliveries)

    @property
    def rows_quarantined(self) -> int:
        """Rows refused over all days."""
        return sum(each.rows_quarantined for each in self.deliveries)

    @property
    def reasons(self) -> Counter[str]:
        """Refused rows by reason code."""
        total: Counter[str] = Counter()
        for each in self.deliveries:
            total.update(each.reasons)
        return total


def histories(home: Home, known_at: date) -> list[SourceHistory]:
    """What every source delivered up to and including ``known_at``, by source name.

    Raises:
        InputError: a manifest can't be read.
    """
    by_source: dict[str, list[Delivery]] = {}
    for path in sorted(home.landings.glob("*/*.json")):
        if path.stem <= str(known_at):
            delivery = _delivery(path)
            by_source.setdefault(delivery.source, []).append(delivery)
    return [
        SourceHistory(source, tuple(sorted(found, key=lambda each: each.day)))
        for source, found in sorted(by_source.items())
    ]


def calendar_days(known_at: date) -> list[date]:
    """The days that the calendar of landings shows, oldest first."""
    return [known_at - timedelta(days=back) for back in reversed(range(CALENDAR_DAYS))]


def gate_reports(
    home: Home, as_of: date, build_id: str, built: Mapping[str, Any] | None = None
) -> list[Mapping[str, Any]]:
    """The reports of the gates of a day, gate 1 first; a report about another build is left out.

    Args:
        built: the report of gate 2, where the caller holds it; it stands in for the one on file.

    Raises:
        InputError: a report can't be read.
    """
    on_file = (_json(path) for path in sorted((home.gates / str(as_of)).glob("*/report.json")))
    reports = [report for report in on_file if report.get("build_id") in (None, build_id)]
    if built is not None:
        reports = [*(report for report in reports if report.get("build_id") is None), built]
    return sorted(reports, key=lambda report: (report["gate"] != "landed", report["gate"], report.get("tables") or []))


def _delivery(path: Path) -> Delivery:
    content = _json(path)
    try:
        return Delivery(
            source=content["source"],
            table=content["table"],
            day=date.fromisoformat(content["received_date"]),
            rows_landed=content["rows_landed"],
            rows_quarantined=content.get("rows_quarantined", 0),
            reasons=content.get("reasons", {}),
        )
    except (KeyError, TypeError, ValueError) as fault:
        raise InputError(
            f"a landing manifest can't be understood: {fault!r}", where=str(path), todo="land that day again"
        ) from fault


def _json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as fault:
        raise InputError(
            f"a file that the report tells of can't be read ({fault})",
            where=str(path),
            todo="run the step that wrote it again: strataflow land or strataflow validate",
        ) from fault
