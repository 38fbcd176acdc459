"""What a page is about, and the small steps that every section takes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from strataflow.report import charts, history
from strataflow.report.blocks import Column, Figure, Figures, Part, Section
from strataflow.report.facts import Headline, Row
from strataflow.report.words import Both, say

if TYPE_CHECKING:
    import duckdb

    from strataflow.home import Home


@dataclass(frozen=True)
class Subject:
    """What a page is about, and the connection that its numbers come from.

    ``window_days`` and ``horizon_days`` are the rules in force: the RFM window
    and the horizon of the churn probability.
    """

    connection: duckdb.DuckDBPyConnection
    home: Home
    as_of: date
    known_at: date
    build_id: str
    currency: str
    window_days: int
    horizon_days: int
    gate: Mapping[str, Any] | None = None

    def chart(self, key: str, rows: Sequence[Row], draw: charts.Draw) -> charts.Chart:
        """A chart whose money is in the shop's currency."""
        return charts.chart(key, rows, self.currency, draw)

    def column(self, key: str, kind: str = "text") -> Column:
        """A column with its title from the texts."""
        return Column(say(f"columns.{key}", currency=self.currency), kind)

    def columns(self, text: str, numbers: str, more: str = "") -> list[Column]:
        """Columns of text, of numbers, and of more text, by their keys, each of the kind that its text needs.

        What a phone shows without scrolling comes first.
        """
        short, wide = {"last_order", "last_day", "last_rows"}, {"why", "action", "meaning", "reasons"}
        kinds = {**dict.fromkeys(short, "short"), **dict.fromkeys(wide, "wide")} | dict.fromkeys(
            numbers.split(), "number"
        )
        return [self.column(key, kinds.get(key, "text")) for key in f"{text} {numbers} {more}".split()]


@dataclass(frozen=True)
class Overview:
    """What several sections tell of: the headline now and before, the classes, whether the ledger can be asked."""

    now: Headline
    classes: list[Row]
    before: Headline | None
    earlier: history.EarlierDay | None
    ledger_agrees: bool


def section(key: str, lead: Both | None, parts: Sequence[Part]) -> Section:
    """A section with its title from the texts."""
    return Section(key, say(f"sections.{key}"), lead, tuple(parts))


def figure(subject: Subject, key: str, rows: Sequence[Row], draw: charts.Draw, note: str) -> Figure:
    """A chart with its title and its note from the texts."""
    return Figure(subject.chart(key, rows, draw), say(f"charts.{key}"), say(f"charts.{note}"))


def beside(subject: Subject, *each: tuple[str, Sequence[Row], charts.Draw, str]) -> Figures:
    """Charts beside each other, each given as for :func:`figure`."""
    return Figures([figure(subject, *one) for one in each], across=min(2, len(each)))


def customers_in(rows: Iterable[Row]) -> int:
    """Customers of all rows together."""
    return sum(row["customers"] for row in rows)


def kind_of(row: Row) -> str:
    """Whether a class is important, general, or that of customers without an order."""
    if row.get("has_ordered") is False:
        return "none"
    return "important" if row["is_important"] else "general"
