"""What a page is put together from: sections of cards, charts, tables and notes.

They say what is shown; ``templates/page.html`` alone says how.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import ClassVar

from strataflow.report.charts import Chart
from strataflow.report.words import Both

Text = str | Both


@dataclass(frozen=True)
class Badge:
    """A word with a colour; ``tone`` is good, warning, bad or plain."""

    text: Text
    tone: str = "plain"


@dataclass(frozen=True)
class Meter:
    """A share, as a bar behind its number."""

    fraction: Decimal
    text: str


Cell = Text | Badge | Meter


@dataclass(frozen=True)
class Card:
    """One headline number. ``change`` says how it moved ``since`` when, ``direction`` is up, down or none."""

    key: str
    label: Text
    value: str
    unit: str = ""
    note: Text | None = None
    change: Text | None = None
    since: Text | None = None
    direction: str = "none"


@dataclass(frozen=True)
class Column:
    """A column's title. ``kind``: text, a number (to the right), or short text that stays on one line."""

    title: Text
    kind: str = "text"


@dataclass(frozen=True)
class Cards:
    """Headline numbers side by side."""

    cards: Sequence[Card]
    kind: ClassVar[str] = "cards"


@dataclass(frozen=True)
class Table:
    """Rows of cells, the first of which names the row. ``folded``: shown on demand."""

    key: str
    title: Text
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    note: Text | None = None
    folded: bool = False
    kind: ClassVar[str] = "table"


@dataclass(frozen=True)
class Figure:
    """A chart with its title and how to read it."""

    chart: Chart
    title: Text
    note: Text | None = None


@dataclass(frozen=True)
class Figures:
    """Charts beside each other where there is room, ``across`` of them."""

    figures: Sequence[Figure]
    across: int = 1
    kind: ClassVar[str] = "figures"


@dataclass(frozen=True)
class Note:
    """A sentence that stands where there is nothing to show, or what a reader must know."""

    text: Text
    kind: ClassVar[str] = "note"


Part = Cards | Table | Figures | Note


@dataclass(frozen=True)
class Section:
    """A part of the page with a title and one sentence that says what it shows today."""

    key: str
    title: Both
    lead: Both | None
    parts: Sequence[Part] = field(default_factory=tuple)

    @property
    def charts(self) -> list[Chart]:
        """All charts of the section."""
        return [figure.chart for part in self.parts if isinstance(part, Figures) for figure in part.figures]
