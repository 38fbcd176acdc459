"""The lifecycle: how far customers got on the ladders, and who comes back month after month."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

from strataflow.report import charts, facts
from strataflow.report.blocks import Cell, Column, Figure, Figures, Note, Section, Table
from strataflow.report.facts import Row
from strataflow.report.sections.subject import Overview, Subject, customers_in, section
from strataflow.report.words import NOTHING, Both, count, joined, month, name_of, percent, say, say_if_known, share

# On these ladders who stands on a step has passed the ones before; activity only tells how long ago.
LADDERS_THAT_BUILD_UP = ("ecommerce", "high_ticket")


def lifecycle(subject: Subject, overview: Overview) -> Section:
    """The three ladders: how far customers got, and where they stand."""
    now = overview.now
    if not now.customers:
        return section("lifecycle", None, [Note(say("notes.no_customers"))])
    lead = say("leads.lifecycle", again=percent(share(now.bought_again, now.ever_bought))) if now.ever_bought else None
    ladders = {ladder: _reached(stages) for ladder, stages in facts.stages(subject.connection).items()}
    figures = []
    for ladder, stages in ladders.items():
        builds_up = ladder in LADDERS_THAT_BUILD_UP
        chart = subject.chart(
            f"ladder_{ladder}", _ladder_rows(stages, now.customers, builds_up=builds_up), charts.ladder
        )
        note = say("charts.ladder_note" if builds_up else "charts.ladder_activity_note")
        figures.append(Figure(chart, say(f"charts.ladder_{ladder}"), note))
    rows = [_stage_cells(ladder, stage, now.customers) for ladder, stages in ladders.items() for stage in stages]
    columns = subject.columns("ladder stage", "here share reached of_previous")
    return section(
        "lifecycle",
        lead,
        [Figures(figures, across=3), Table("stages", say("tables.stages"), columns, rows, folded=True)],
    )


def _reached(stages: list[Row]) -> list[Row]:
    """Add to each stage how many stand there or further up, and that number's value one step earlier."""
    added, further = [], 0
    for stage in reversed(stages):
        further += stage["customers"]
        added.append({**stage, "reached": further})
    added.reverse()
    return [{**stage, "previous": added[place - 1]["reached"] if place else None} for place, stage in enumerate(added)]


def _ladder_rows(stages: list[Row], customers: int, *, builds_up: bool) -> list[Row]:
    series = ("reached", "now") if builds_up else ("now",)
    return [
        {
            "name": name_of(stage),
            "position": stage["position"],
            "series": each,
            "is_furthest": each == series[0],
            "customers": number,
            "share": share(number, customers) or Decimal(0),
        }
        for stage in stages
        for each in series
        for number in [stage["reached" if each == "reached" else "customers"]]
    ]


def _stage_cells(ladder: str, stage: Row, customers: int) -> list[Cell]:
    cells: list[Cell] = [
        say_if_known("ladders", ladder), name_of(stage),
        count(stage["customers"]), percent(share(stage["customers"], customers)),
    ]  # fmt: skip
    if ladder not in LADDERS_THAT_BUILD_UP:
        return [*cells, NOTHING, NOTHING]
    previous = stage["previous"]
    return [*cells, count(stage["reached"]), percent(share(stage["reached"], previous)) if previous else NOTHING]


def retention(subject: Subject, overview: Overview) -> Section:
    """Which part of each month's new customers ordered again in the months after."""
    if not overview.now.ever_bought:
        return section("retention", None, [Note(say("notes.no_orders"))])
    if not overview.ledger_agrees:
        return section("retention", None, [Note(say("notes.ledger_moved_on"))])
    found = facts.cohorts(subject.connection, subject.as_of)
    this_month = subject.as_of.replace(day=1)
    sizes = {row["cohort"]: row["customers"] for row in found if row["months_since"] == 0}
    cells = _cohort_cells(found, sizes, this_month)
    if not cells:
        return section("retention", None, [Note(say("notes.no_later_month"))])
    next_month = [row for row in cells if row["months_since"] == 1]
    lead = say(
        "leads.retention", share=percent(share(customers_in(next_month), sum(row["size"] for row in next_month)))
    )
    notes = [say("charts.cohorts_note")]
    if subject.as_of + date.resolution != _month_after(subject.as_of):
        notes.append(say("charts.cohorts_unfinished", month=month(this_month)))
    first = facts.first_order_month(subject.connection)
    if first in sizes:
        notes.append(say("charts.cohorts_first", month=month(first)))
    figure = Figure(subject.chart("cohorts", cells, charts.cohorts), say("charts.cohorts"), joined(notes))
    return section("retention", lead, [Figures([figure]), _cohort_table(subject, cells, sizes)])


def _cohort_cells(found: list[Row], sizes: dict[date, int], this_month: date) -> list[Row]:
    """One row per cohort and later month that has begun; months in which nobody came back are zero."""
    known = {(row["cohort"], row["months_since"]): row["customers"] for row in found}
    cells = []
    for position, (cohort, size) in enumerate(sorted(sizes.items())):
        name = Both(*(f"{month(cohort).within(each)} ({count(size)})" for each in ("en", "zh")))
        for months_since in range(1, _months_between(cohort, this_month) + 1):
            customers = known.get((cohort, months_since), 0)
            fraction = share(customers, size)
            cells.append(
                {
                    "cohort": name, "month": cohort, "position": position, "months_since": months_since,
                    "size": size, "customers": customers, "share": fraction,
                    "percent": percent(fraction, 0).rstrip("%"),
                }
            )  # fmt: skip
    return cells


def _cohort_table(subject: Subject, cells: list[Row], sizes: dict[date, int]) -> Table:
    longest = max(cell["months_since"] for cell in cells)
    by_place = {(cell["month"], cell["months_since"]): count(cell["customers"]) for cell in cells}
    rows = [
        [month(cohort), count(size), *(by_place.get((cohort, since), "") for since in range(1, longest + 1))]
        for cohort, size in sorted(sizes.items())
    ]
    columns = [Column(say("axis.cohort")), subject.column("customers", kind="number")]
    columns += [Column(f"+{since}", kind="number") for since in range(1, longest + 1)]
    return Table("cohorts", say("page.numbers"), columns, rows, folded=True)


def _months_between(earlier: date, later: date) -> int:
    return (later.year - earlier.year) * 12 + later.month - earlier.month


def _month_after(value: date) -> date:
    return date(value.year + value.month // 12, value.month % 12 + 1, 1)
