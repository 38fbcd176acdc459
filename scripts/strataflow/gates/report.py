"""What a gate found, for the person who has to act and for the step that publishes.

The report is a file without a clock in it: the same data, rules and history
give the same bytes. Rows that fail are kept beside it, up to a limit.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from strataflow.errors import GateFailed

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Judgement:
    """One expectation and whether it holds.

    Attributes:
        name: the expectation's name.
        suite: the file it stands in, without ending.
        table: what it is about.
        severity: ``critical`` or ``warning``.
        success: whether it holds.
        observed: the value it was judged by.
        unexpected_count: failing rows; None where it is not about rows.
        sample: the first failing rows, by the columns that name them.
        rows_file: where the failing rows are kept, relative to the report.
        why: what goes wrong when it does not hold.
        todo: what to do then.
    """

    name: str
    suite: str
    table: str
    severity: str
    success: bool
    observed: str | int | float | None
    unexpected_count: int | None
    sample: tuple[dict[str, str | None], ...]
    rows_file: str | None
    why: str
    todo: str

    def __str__(self) -> str:
        """The finding in one line."""
        if self.success:
            return f"{self.name}: holds"
        first = ", ".join(f"{name}={value}" for name, value in (self.sample or ({},))[0].items())
        return f"{self.name}: {self.extent}" + (f", first {first}" if first else "")

    @property
    def extent(self) -> str:
        """How much does not hold, in words."""
        if self.unexpected_count is None:
            return f"found {self.observed}"
        return "1 row" if self.unexpected_count == 1 else f"{self.unexpected_count:,} rows"


@dataclass(frozen=True)
class GateReport:
    """The outcome of one gate.

    Attributes:
        gate: ``landed`` or ``built``.
        day: the day judged; of a bulk landing the last one.
        since: the first day judged; ``day`` unless many were judged together.
        tables: canonical tables judged, None for the built ones.
        build_id: the build judged, None for gate 1.
        expectations: one per expectation, in the order of suites and files.
        notes: what a reader should know, such as a comparison that had nothing to compare with.
        path: the report's file.
        docs: the page in the Data Docs.
    """

    gate: str
    day: date
    since: date
    path: Path
    docs: Path
    expectations: tuple[Judgement, ...]
    tables: tuple[str, ...] | None = None
    build_id: str | None = None
    notes: tuple[str, ...] = field(default=())

    @property
    def passed(self) -> bool:
        """Whether every critical expectation holds."""
        return not self.failures

    @property
    def failures(self) -> tuple[Judgement, ...]:
        """Critical expectations that do not hold."""
        return self._not_holding("critical")

    @property
    def warnings(self) -> tuple[Judgement, ...]:
        """Expectations of severity warning that do not hold."""
        return self._not_holding("warning")

    def raise_if_failed(self) -> GateReport:
        """Return this report if it passed.

        Raises:
            GateFailed: a critical expectation does not hold; the error names
                each with its count, its file of rows and what to do.
        """
        if self.passed:
            return self
        found = [f"{failure}{self._kept(failure)}\n      {failure.todo}" for failure in self.failures]
        raise GateFailed(
            f"gate {self.gate} stopped {self.day}: {len(found)} of {len(self.expectations)} expectations "
            "do not hold\n    " + "\n    ".join(found),
            where=str(self.path),
            todo=f"mend the data or the rule, then run the day again; the same as a page: {self.docs}",
        )

    def summary_lines(self) -> list[str]:
        """The outcome in a few lines for a terminal or a log."""
        span = str(self.day) if self.since == self.day else f"{self.since} to {self.day}"
        held = sum(judgement.success for judgement in self.expectations)
        verdict = "passed" if self.passed else "FAILED"
        lines = [f"gate {self.gate} {span}: {verdict}, {held} of {len(self.expectations)} expectations hold"]
        lines += [f"  failed  {failure}{self._kept(failure)}" for failure in self.failures]
        lines += [f"  warning {warning}{self._kept(warning)}" for warning in self.warnings]
        return lines + [f"  note    {note}" for note in self.notes]

    def content(self) -> dict[str, Any]:
        """The report as it is written to ``report.json``."""
        return {
            "schema_version": SCHEMA_VERSION,
            "gate": self.gate,
            "day": str(self.day),
            "since": str(self.since),
            "tables": None if self.tables is None else list(self.tables),
            "build_id": self.build_id,
            "passed": self.passed,
            "warnings": [str(warning) for warning in self.warnings],
            "notes": list(self.notes),
            "expectations": [asdict(judgement) for judgement in self.expectations],
        }

    def _not_holding(self, severity: str) -> tuple[Judgement, ...]:
        return tuple(found for found in self.expectations if found.severity == severity and not found.success)

    def _kept(self, judgement: Judgement) -> str:
        return f"; rows in {self.path.parent / judgement.rows_file}" if judgement.rows_file else ""
