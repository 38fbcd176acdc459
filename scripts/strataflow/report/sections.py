"""The sections of the page: which numbers are told together, and what they say today.

Each function makes one section from the small results of ``facts``, ``history``
and ``deliveries``. Where a shop has nothing to show (no order yet, no earlier
version) the section says so instead of showing an empty chart.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from strataflow.report import charts, deliveries, facts, history
from strataflow.report.blocks import (
    Badge, Card, Cards, Cell, Column, Figure, Figures, Meter, Note, Part, Section, Table,
)  # fmt: skip
from strataflow.report.facts import Headline, Row
from strataflow.report.words import (
    NOTHING, Both, amount, amounts, count, day, money, month, name_of, percent, say, say_if_known, share, signed,
)  # fmt: skip

if TYPE_CHECKING:
    import duckdb

    from strataflow.home import Home

LARGEST_MOVES = 10
LADDERS_THAT_BUILD_UP = ("ecommerce", "high_ticket")


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

    def columns(self, text: str, numbers: str) -> list[Column]:
        """Columns of text, then of numbers, by their keys, each of the kind that its text needs."""
        short, wide = {"last_order", "last_day", "last_rows"}, {"why", "action", "meaning", "reasons"}
        kinds = {**dict.fromkeys(short, "short"), **dict.fromkeys(wide, "wide")}
        listed = [(key, kinds.get(key, "text")) for key in text.split()] + [(key, "number") for key in numbers.split()]
        return [self.column(key, kind) for key, kind in listed]


@dataclass(frozen=True)
class Overview:
    """What several sections tell of: the headline now and before, the classes, whether the ledger can be asked."""

    now: Headline
    classes: list[Row]
    before: Headline | None
    earlier: history.EarlierDay | None
    ledger_agrees: bool


def all_sections(subject: Subject) -> list[Section]:
    """Every section of the page, in order."""
    at = subject.connection
    earlier = history.last_published(at, subject.home, subject.as_of)
    overview = Overview(
        now=facts.headline(at),
        classes=facts.classes(at),
        before=history.headline_of(at, earlier) if earlier else None,
        earlier=earlier,
        ledger_agrees=facts.ledger_agrees(at, subject.as_of),
    )
    return [
        today(subject, overview),
        changes(subject, overview),
        classes(subject, overview),
        scores(subject, overview),
        flow(subject, overview),
        lifecycle(subject, overview),
        retention(subject, overview),
        top(subject, overview),
        churn(subject, overview),
        tags(subject, overview),
        *received(subject),
    ]


# ---------------------------------------------------------------- headline


def today(subject: Subject, overview: Overview) -> Section:
    """The headline numbers, each with how it moved since the last published day."""
    now = overview.now
    lead = "today" if now.buyers else "today_no_orders"
    values = {
        "buyers": count(now.buyers),
        "customers": count(now.customers),
        "window": subject.window_days,
        "share": percent(share(now.top_revenue, now.revenue)),
    }
    return _section("today", say(f"leads.{lead}", **values), [Cards(_cards(subject, overview))])


def _cards(subject: Subject, overview: Overview) -> list[Card]:
    now, currency = overview.now, subject.currency
    window = say("cards.window", window=subject.window_days)
    each_buyer, each_order = share(now.revenue, now.buyers), share(now.revenue, now.orders)
    of_revenue = percent(share(now.revenue_of_leavers, now.revenue))
    return [
        _counted(overview, "customers"),
        _counted(overview, "buyers", say("cards.buyers_note", share=percent(share(now.buyers, now.customers))), window),
        _earned(overview, "revenue", currency, say("cards.revenue_note", each=money(each_buyer, currency)), window),
        _counted(overview, "orders", say("cards.orders_note", each=money(each_order, currency)), window),
        _shared(overview, "bought_again", "ever_bought", say("cards.bought_again_note")),
        _shared(overview, "top_revenue", "revenue", say("cards.top_revenue_note", customers=count(now.top_customers))),
        _counted(overview, "likely_to_leave", say("cards.likely_to_leave_note")),
        _earned(overview, "revenue_of_leavers", currency, say("cards.revenue_of_leavers_note", share=of_revenue)),
    ]


def _counted(overview: Overview, measure: str, note: Both | None = None, label: Both | None = None) -> Card:
    """A count, and how many more or fewer they are than on the last published day."""
    now, change = _moved(overview, measure)
    return _card(overview, measure, count(now), note, change, None if change is None else signed(change), label)


def _earned(overview: Overview, measure: str, currency: str, note: Both, label: Both | None = None) -> Card:
    """An amount, and how it moved, written alike."""
    now, change = _moved(overview, measure)
    shown, moved = amounts([now, change])
    sign = "" if change is None or change < 0 else "+" if change else "±"
    card = _card(overview, measure, shown, note, change, None if change is None else sign + moved, label)
    return replace(card, unit=currency)


def _shared(overview: Overview, part: str, whole: str, note: Both) -> Card:
    """A share, and how many points it moved."""
    days = [each for each in (overview.now, overview.before) if each]
    shares = [share(getattr(each, part), getattr(each, whole)) for each in days]
    change = None if None in shares or len(shares) < len(("now", "before")) else round((shares[0] - shares[1]) * 100, 2)
    text = None
    if change is not None:
        text = say("cards.points", change=f"{change:+}".replace("-", "−") if change else "±0")
    return _card(overview, part, percent(shares[0]), note, change, text)


def _moved(overview: Overview, measure: str) -> tuple[Any, Any]:
    """A headline number, and its change since the last published day if there is one."""
    now = getattr(overview.now, measure)
    return now, None if overview.before is None else now - getattr(overview.before, measure)


def _card(
    overview: Overview, key: str, value: str, note: Both | None,
    change: Decimal | int | None, words: str | Both | None, label: Both | None = None,
) -> Card:  # fmt: skip
    title = say(f"cards.{key}")
    return Card(
        key=key,
        label=_joined([title, label], ", ", "，") if label else title,
        value=value,
        note=note,
        change=words,
        since=say("cards.since", day=str(overview.earlier.day)) if overview.earlier and words else None,
        direction="up" if change and change > 0 else "down" if change and change < 0 else "none",
    )


# ---------------------------------------------------------------- classes


def changes(subject: Subject, overview: Overview) -> Section:
    """Who came to and left each class since the last published day."""
    if overview.earlier is None:
        return _section("changes", None, [Note(say("notes.no_earlier_day"))])
    found = history.moves(subject.connection, overview.earlier)
    moved = [row for row in found if row["class_then"] != row["class_now"]]
    lead = say(
        "leads.changes",
        day=day(overview.earlier.day),
        new=count(_sum(row for row in found if row["class_then"] is None)),
        moved=count(_sum(row for row in moved if row["class_then"] is not None and row["class_now"] is not None)),
    )
    per_class = [_class_changes(each, found) for each in overview.classes]
    table = Table(
        "changes",
        say("page.numbers"),
        subject.columns("class", "before joined left now net"),
        [
            [name_of(row), *(count(row[key]) for key in ("before", "joined", "left", "now")), signed(row["now"] - row["before"])]
            for row in per_class
        ],
        folded=True,
    )
    if not moved:
        return _section("changes", lead, [Note(say("notes.nobody_moved")), table])
    rows = [
        {**row, "name": name_of(row), "direction": direction, "customers": row[direction] * sign}
        for row in per_class
        for direction, sign in (("joined", 1), ("left", -1))
    ]
    return _section("changes", lead, [_figures(subject, ("changes", rows, charts.changes, "changes_note")), table])


def _class_changes(each: Row, moves: list[Row]) -> Row:
    key = each["rfm_class"]
    then = [row for row in moves if row["class_then"] == key]
    now = [row for row in moves if row["class_now"] == key]
    return {
        "name_en": each["name_en"], "name_zh": each["name_zh"], "position": each["position"],
        "before": _sum(then), "now": _sum(now),
        "joined": _sum(row for row in now if row["class_then"] != key),
        "left": _sum(row for row in then if row["class_now"] != key),
    }  # fmt: skip


def classes(subject: Subject, overview: Overview) -> Section:
    """How many customers each class has and what it brings."""
    now = overview.now
    rows = [
        {
            **row,
            "name": name_of(row),
            "kind": _kind(row),
            "customer_share": share(row["customers"], now.customers),
            "revenue_share": share(row["revenue"], now.revenue),
        }
        for row in overview.classes
    ]
    sizes = [{**row, "share": row["customer_share"] or Decimal(0)} for row in rows]
    revenues = [{**row, "share": row["revenue_share"] or Decimal(0)} for row in rows]
    figures = _figures(
        subject,
        ("class_customers", sizes, charts.class_bars("customers", "axis.customers", charts.COUNT), "class_bars_note"),
        ("class_revenue", revenues, charts.class_bars("revenue", "axis.revenue", charts.MONEY), "class_bars_note"),
    )
    table = Table(
        "classes",
        say("tables.classes"),
        subject.columns("class", "customers share revenue revenue_share revenue_each orders"),
        _class_cells(rows, now),
    )
    return _section("classes", _classes_lead(rows, now), [figures, table])


def _classes_lead(rows: list[Row], now: Headline) -> Both | None:
    if not now.customers:
        return None
    largest = max(rows, key=lambda row: row["customers"])
    values = {"largest": largest["name"], "customers": percent(largest["customer_share"])}
    if not now.revenue:
        return say("leads.classes_no_revenue", **values)
    richest = max(rows, key=lambda row: row["revenue"])
    if richest is largest:
        return say("leads.classes_same", revenue=percent(richest["revenue_share"]), **values)
    return say("leads.classes", richest=richest["name"], revenue=percent(richest["revenue_share"]), **values)


def _class_cells(rows: list[Row], now: Headline) -> list[list[Cell]]:
    total = {
        "name": say("words.all"), "customers": now.customers, "customer_share": share(now.customers, now.customers),
        "revenue": now.revenue, "revenue_share": share(now.revenue, now.revenue), "orders": now.orders,
    }  # fmt: skip
    listed = [*rows, total]
    revenue = amounts(row["revenue"] for row in listed)
    each = amounts(share(row["revenue"], row["customers"]) for row in listed)
    return [
        [row["name"], count(row["customers"]), percent(row["customer_share"]), revenue[place],
         percent(row["revenue_share"]), each[place], count(row["orders"])]
        for place, row in enumerate(listed)
    ]  # fmt: skip


def scores(subject: Subject, overview: Overview) -> Section:
    """Recency score × frequency score, and what each score means."""
    found = facts.scores(subject.connection)
    if not found:
        return _section("scores", None, [Note(say("notes.no_orders"))])
    rows = [{**row, "revenue_per_customer": row["revenue"] / row["customers"]} for row in found]
    for measure in ("customers", "revenue_per_customer"):
        largest = max(row[measure] for row in rows)
        for row in rows:
            row[f"{measure}_is_dark"] = row[measure] > largest * Decimal("0.68")
    cutoffs = facts.cutoffs(subject.connection)
    highest = tuple(len(cutoffs[measure]["cutoffs"]) + 1 for measure in ("recency", "frequency"))
    best = [row for row in rows if (row["recency_score"], row["frequency_score"]) == highest]
    lead = say(
        "leads.scores",
        best=count(_sum(best)),
        share=percent(share(sum((row["revenue"] for row in best), Decimal(0)), overview.now.revenue)),
    )
    figures = _figures(
        subject,
        ("score_customers", rows, charts.score_map("customers", charts.COUNT, highest), "score_note"),
        ("score_revenue", rows, charts.score_map("revenue_per_customer", charts.MONEY, highest), "score_revenue_note"),
    )
    return _section("scores", lead, [figures, _cutoff_table(subject, cutoffs)])


def _cutoff_table(subject: Subject, cutoffs: dict[str, Row]) -> Table:
    measures = ("recency", "frequency", "monetary")
    scored = cutoffs["recency"]
    number = max(len(cutoffs[measure]["cutoffs"]) for measure in measures) + 1
    rows = []
    for score in range(number, 0, -1):
        cells: list[Cell] = [str(score)]
        for measure in measures:
            limits = cutoffs[measure]["cutoffs"]
            # fewer days since the last order score higher
            place = len(limits) + 1 - score if measure == "recency" else score - 1
            cells.append(_range(limits, place) if 0 <= place <= len(limits) else NOTHING)
        rows.append(cells)
    note = say(
        "tables.cutoffs_note",
        rule=say_if_known("high_rules", scored["high_rule"]),
        customers=count(scored["scored_customers"]),
    )
    return Table("cutoffs", say("tables.cutoffs"), subject.columns("score", "recency frequency monetary"), rows, note)


def _range(limits: list[Decimal], place: int) -> Both:
    """The values that lie between two neighbouring cut-offs."""
    shown = [f"{limit:,.2f}".removesuffix(".00") for limit in limits]
    if not limits:
        return Both(NOTHING, NOTHING)
    if place == 0:
        return say("words.at_most", value=shown[0])
    if place == len(limits):
        return say("words.over", value=shown[-1])
    return say("words.between", low=shown[place - 1], high=shown[place])


def flow(subject: Subject, overview: Overview) -> Section:
    """Where the customers of each class of about a month ago are today."""
    earlier = history.month_earlier(subject.connection, subject.home, subject.as_of)
    if earlier is None:
        return _section("flow", None, [Note(say("notes.no_month_earlier"))])
    found = history.moves(subject.connection, earlier)
    known = [row for row in found if row["class_then"] is not None]
    stayed = _sum(row for row in known if row["class_then"] == row["class_now"])
    moves = [row for row in known if row["class_now"] not in (None, row["class_then"])]
    lead = say(
        "leads.flow",
        day=day(earlier.day),
        customers=count(_sum(known)),
        stayed=percent(share(stayed, _sum(known))),
        moved=count(_sum(moves)),
        new=count(_sum(row for row in found if row["class_then"] is None)),
    )
    title = say("charts.flow", then=day(earlier.day), now=day(subject.as_of))
    chart = subject.chart("flow", _flow_rows(found, overview.classes), charts.flow)
    figure = Figure(chart, title, say("charts.flow_note", then=day(earlier.day)))
    return _section("flow", lead, [Figures([figure]), *_largest_moves(subject, moves, overview.classes)])


def _flow_rows(found: list[Row], every_class: list[Row]) -> list[Row]:
    """One row per pair of classes that occurs, with the share of its row; ends carry a number to tell them by."""
    ends = {row["rfm_class"]: (row["position"], _numbered(row)) for row in every_class}
    from_ends = {**ends, None: (0, _dashed(say("words.not_known")))}
    to_ends = {**ends, None: (len(ends) + 1, _dashed(say("words.gone")))}
    totals: dict[str | None, int] = {}
    for row in found:
        totals[row["class_then"]] = totals.get(row["class_then"], 0) + row["customers"]
    return [
        {
            "then": from_ends[row["class_then"]][1],
            "from_position": from_ends[row["class_then"]][0],
            "now": to_ends[row["class_now"]][1],
            "to_position": to_ends[row["class_now"]][0],
            "stays": row["class_then"] == row["class_now"],
            "customers": row["customers"],
            "share": share(row["customers"], totals[row["class_then"]]),
            "percent": percent(share(row["customers"], totals[row["class_then"]]), 0).rstrip("%"),
        }
        for row in found
        if row["class_then"] in from_ends and row["class_now"] in to_ends
    ]


def _largest_moves(subject: Subject, moves: list[Row], every_class: list[Row]) -> list[Part]:
    if not moves:
        return [Note(say("notes.nobody_moved"))]
    names = {row["rfm_class"]: name_of(row) for row in every_class}
    largest = sorted(moves, key=lambda row: (-row["customers"], row["class_then"], row["class_now"]))[:LARGEST_MOVES]
    revenue = amounts(row["revenue"] for row in largest)
    rows = [
        [names[row["class_then"]], names[row["class_now"]], count(row["customers"]), revenue[place]]
        for place, row in enumerate(largest)
    ]
    return [Table("moves", say("tables.moves"), subject.columns("from to", "customers revenue_today"), rows)]


# ---------------------------------------------------------------- lifecycle


def lifecycle(subject: Subject, overview: Overview) -> Section:
    """The three ladders: how far customers got, and where they stand."""
    now = overview.now
    lead = say("leads.lifecycle", again=percent(share(now.bought_again, now.ever_bought))) if now.ever_bought else None
    ladders = {ladder: _reached(stages) for ladder, stages in facts.stages(subject.connection).items()}
    figures = []
    for ladder, stages in ladders.items():
        builds_up = ladder in LADDERS_THAT_BUILD_UP
        chart = subject.chart(f"ladder_{ladder}", _ladder_rows(stages, now.customers, builds_up=builds_up), charts.ladder)
        note = say("charts.ladder_note" if builds_up else "charts.ladder_activity_note")
        figures.append(Figure(chart, say(f"charts.ladder_{ladder}"), note))
    rows = [_stage_cells(ladder, stage, now.customers) for ladder, stages in ladders.items() for stage in stages]
    columns = subject.columns("ladder stage", "here share reached of_previous")
    return _section("lifecycle", lead, [Figures(figures, across=3), Table("stages", say("tables.stages"), columns, rows, folded=True)])


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
        return _section("retention", None, [Note(say("notes.no_orders"))])
    if not overview.ledger_agrees:
        return _section("retention", None, [Note(say("notes.ledger_moved_on"))])
    found = facts.cohorts(subject.connection, subject.as_of)
    this_month = subject.as_of.replace(day=1)
    sizes = {row["cohort"]: row["customers"] for row in found if row["months_since"] == 0}
    cells = _cohort_cells(found, sizes, this_month)
    if not cells:
        return _section("retention", None, [Note(say("notes.no_later_month"))])
    next_month = [row for row in cells if row["months_since"] == 1]
    lead = say("leads.retention", share=percent(share(_sum(next_month), sum(row["size"] for row in next_month))))
    notes = [say("charts.cohorts_note")]
    if _month_after(subject.as_of) - subject.as_of != _ONE_DAY:
        notes.append(say("charts.cohorts_unfinished", month=month(this_month)))
    first = facts.first_order_month(subject.connection)
    if first in sizes:
        notes.append(say("charts.cohorts_first", month=month(first)))
    figure = Figure(subject.chart("cohorts", cells, charts.cohorts), say("charts.cohorts"), _joined(notes))
    return _section("retention", lead, [Figures([figure]), _cohort_table(subject, cells, sizes)])


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


# ---------------------------------------------------------------- value and risk


def top(subject: Subject, overview: Overview) -> Section:
    """How much of the revenue the best customers bring."""
    now = overview.now
    if not now.revenue:
        return _section("top", None, [Note(say("notes.no_orders_in_window"))])
    points = facts.concentration(subject.connection, list(range(1, 101)))
    rows = [{"percent": 0, "buyers": Decimal(0), "revenue": Decimal(0), "is_top": False, "label": ""}]
    for point in points:
        is_top = point["percent"] == facts.TOP_SHARE
        fraction = share(point["revenue"], now.revenue)
        rows.append(
            {
                "percent": point["percent"],
                "buyers": share(point["customers"], now.buyers),
                "revenue": fraction,
                "is_top": is_top,
                "label": f"{facts.TOP_SHARE}% → {percent(fraction)}" if is_top else "",
            }
        )
    lead = say(
        "leads.top",
        customers=count(now.top_customers),
        revenue=money(now.top_revenue, subject.currency),
        share=percent(share(now.top_revenue, now.revenue)),
    )
    figures = _figures(subject, ("concentration", rows, charts.concentration, "concentration_note"))
    tiers = facts.tiers(subject.connection)
    revenue = amounts(row["revenue"] for row in tiers)
    cells = [
        [name_of(row), count(row["customers"]), percent(share(row["customers"], now.customers)),
         revenue[place], percent(share(row["revenue"], now.revenue))]
        for place, row in enumerate(tiers)
    ]  # fmt: skip
    columns = subject.columns("tier", "customers share revenue revenue_share")
    return _section("top", lead, [figures, Table("tiers", say("tables.tiers"), columns, cells)])


def churn(subject: Subject, overview: Overview) -> Section:
    """Who may leave: how probabilities spread, whether forecasts held, and the customers to call first."""
    now = overview.now
    if not now.ever_bought:
        return _section("churn", None, [Note(say("notes.no_orders"))])
    lead = say(
        "leads.churn",
        customers=count(now.likely_to_leave),
        horizon=subject.horizon_days,
        revenue=money(now.revenue_of_leavers, subject.currency),
        share=percent(share(now.revenue_of_leavers, now.revenue)),
    )
    spread = [{**row, "name": name_of(row), "kind": _kind(row)} for row in facts.churn_by_class(subject.connection)]
    tenths = [
        {**row, "range": f"{row['tenth'] * 10}–{row['tenth'] * 10 + 10}", "kind": _kind(row),
         "kind_name": say(f"words.kind_{_kind(row)}")}
        for row in facts.churn_histogram(subject.connection)
    ]  # fmt: skip
    figures = [
        _figure(subject, "churn_spread", spread, charts.churn_spread, "churn_spread_note"),
        Figure(
            subject.chart("churn_histogram", tenths, charts.churn_histogram),
            say("charts.churn_histogram"),
            say("charts.churn_histogram_note", horizon=subject.horizon_days),
        ),
    ]
    return _section("churn", lead, [Figures(figures, across=2), *_calibration(subject, overview), *_at_risk(subject)])


def _calibration(subject: Subject, overview: Overview) -> list[Part]:
    """Forecasts whose horizon is over, against what happened."""
    horizon = subject.horizon_days
    earlier = history.forecast_due(subject.connection, subject.home, subject.as_of, horizon)
    if earlier is None:
        return [Note(say("notes.no_forecast_due", horizon=horizon))]
    if not overview.ledger_agrees:
        return [Note(say("notes.ledger_moved_on"))]
    rows = [
        {**row, "predicted": round(row["predicted"], 6), "actual": share(row["stayed_away"], row["customers"])}
        for row in history.calibration(subject.connection, earlier, horizon)
    ]
    if not rows:
        return [Note(say("notes.no_forecast_due", horizon=horizon))]
    chart = subject.chart("calibration", rows, charts.calibration)
    title = say("charts.calibration", day=day(earlier.day))
    cells = [
        [f"{row['tenth'] * 10}–{row['tenth'] * 10 + 10}%", count(row["customers"]), percent(row["predicted"]), percent(row["actual"])]
        for row in rows
    ]
    columns = [
        subject.column("probability"), subject.column("customers", kind="number"),
        Column(say("axis.predicted"), kind="number"), Column(say("axis.stayed_away"), kind="number"),
    ]  # fmt: skip
    return [
        Figures([Figure(chart, title, say("charts.calibration_note", horizon=horizon))]),
        Table("calibration", say("page.numbers"), columns, cells, folded=True),
    ]


def _at_risk(subject: Subject) -> list[Part]:
    found = facts.at_risk(subject.connection)
    if not found:
        return [Note(say("notes.nobody_at_risk"))]
    revenue, loss = (amounts(row[column] for row in found) for column in ("monetary", "expected_loss"))
    rows = [
        [
            row["customer_id"],
            Both(row["name_en"] or row["rfm_class"], row["name_zh"] or row["rfm_class"]),
            _short(row["last_order_date"]),
            _reasons(row["reasons"]),
            Both(row["suggested_action"] or NOTHING, row["suggested_action_zh"] or row["suggested_action"] or NOTHING),
            percent(row["churn_probability"]),
            revenue[place],
            loss[place],
        ]
        for place, row in enumerate(found)
    ]
    columns = subject.columns("customer class last_order why action", "probability monetary loss")
    return [Table("at_risk", say("tables.at_risk"), columns, rows, say("tables.at_risk_note"))]


def _reasons(text: str | None) -> Both:
    """``code: words; code: words`` in both languages; words of a code that is not known stay as they are."""
    found = [reason.partition(": ")[::2] for reason in (text or "").split("; ") if reason]
    if not found:
        return Both(NOTHING, NOTHING)
    return _joined([_reason(code, words) for code, words in found], "; ", "；")


def _reason(code: str, words: str) -> Both:
    numbers = dict(zip(("first", "second"), re.findall(r"\d[\d.,]*\d|\d", words), strict=False))
    try:
        return say(f"reason_words.{code}", words=words, **numbers)
    except KeyError:
        name = say_if_known("reasons", code)
        return Both(*(f"{name.within(each)}: {words}" if words else name.within(each) for each in ("en", "zh")))


# ---------------------------------------------------------------- tags


def tags(subject: Subject, overview: Overview) -> Section:
    """How many customers each tag and group of tags reaches."""
    found = facts.tags(subject.connection)
    total, customers = _sum(found), overview.now.customers
    if not total:
        return _section("tags", None, [Note(say("notes.no_tags"))])
    lead = say(
        "leads.tags",
        tags=count(total), customers=count(customers), each=f"{total / customers:.1f}",
        used=count(sum(1 for row in found if row["customers"])), known=count(len(found)),
    )  # fmt: skip
    groups = _tag_groups(subject, found, customers)
    table = Table(
        "tags",
        say("tables.tags"),
        [subject.column("group"), subject.column("tag"), subject.column("customers", kind="number"), subject.column("coverage")],
        [[say_if_known("tag_groups", row["tag_group"]), name_of(row), count(row["customers"]), _meter(row, customers)] for row in found],
        folded=True,
    )  # fmt: skip
    parts: list[Part] = [_figures(subject, ("tag_groups", groups, charts.tag_groups, "tag_groups_note"))]
    values = _tag_values(subject, customers)
    return _section("tags", lead, [*parts, *([Figures(values, across=2)] if values else []), table])


def _tag_groups(subject: Subject, found: list[Row], customers: int) -> list[Row]:
    """Coverage per group; in a group whose tags exclude each other the tags' customers simply add up."""
    by_group: dict[str, list[Row]] = {}
    for row in found:
        by_group.setdefault(row["tag_group"], []).append(row)
    rows = []
    for position, (group, members) in enumerate(by_group.items()):
        exclusive = all(row["is_exclusive"] for row in members)
        reached = _sum(members) if exclusive else facts.tagged_customers(subject.connection, group)
        rows.append(
            {
                "name": say_if_known("tag_groups", group),
                "position": position,
                "need": "mandatory" if all(row["is_mandatory"] for row in members) else "optional",
                "customers": reached,
                "share": share(reached, customers),
            }
        )
    return rows


def _tag_values(subject: Subject, customers: int) -> list[Figure]:
    by_tag: dict[str, list[Row]] = {}
    for row in facts.tag_values(subject.connection):
        by_tag.setdefault(row["tag_id"], []).append(row)
    figures = []
    for number, found in enumerate(by_tag.values()):
        rows = [
            {"value": row["tag_value"], "position": position, "customers": row["customers"], "share": share(row["customers"], customers)}
            for position, row in enumerate(found)
        ]
        chart = subject.chart(f"tag_values_{number}", rows, charts.value_bars)
        note = say("charts.tag_values_note", different=count(found[0]["different"]))
        figures.append(Figure(chart, say("charts.tag_values", tag=name_of(found[0])), note))
    return figures


def _meter(row: Row, customers: int) -> Meter:
    fraction = share(row["customers"], customers) or Decimal(0)
    return Meter(fraction, percent(fraction))


# ---------------------------------------------------------------- data


def received(subject: Subject) -> list[Section]:
    """Data quality and freshness: what was delivered, refused and judged, and how far the data reach."""
    sources = deliveries.histories(subject.home, subject.known_at)
    return [quality(subject, sources), freshness(subject, sources)]


def quality(subject: Subject, sources: list[deliveries.SourceHistory]) -> Section:
    """Rows landed and refused per source, and what the gates found."""
    if not sources:
        return _section("quality", None, [Note(say("notes.no_landings")), *_gates(subject)])
    lead = say(
        "leads.quality",
        landed=count(sum(each.rows_landed for each in sources)),
        refused=count(sum(each.rows_quarantined for each in sources)),
        sources=count(len(sources)),
    )
    days = deliveries.calendar_days(subject.known_at)
    calendar = Figure(
        subject.chart("landing_calendar", _calendar_rows(sources, days), charts.landing_calendar(days)),
        say("charts.landing_calendar", days=len(days)),
        say("charts.landing_calendar_note"),
    )
    rows = [
        [
            each.source, each.table, _code_counts(each), count(len(each.deliveries)), count(each.rows_landed),
            count(each.rows_quarantined), percent(share(each.rows_quarantined, each.rows_landed + each.rows_quarantined)),
        ]
        for each in sources
    ]  # fmt: skip
    columns = subject.columns("source feeds reasons", "days landed refused refused_share")
    table = Table("sources", say("tables.sources"), columns, rows)
    return _section("quality", lead, [Figures([calendar]), *_refused(subject, sources), table, *_gates(subject)])


def _calendar_rows(sources: list[deliveries.SourceHistory], days: list[date]) -> list[Row]:
    rows = []
    for each in sources:
        shown = {landing.day: landing for landing in each.deliveries if landing.day >= days[0]}
        most = max((landing.rows_landed for landing in shown.values()), default=0)
        for each_day in days:
            landing = shown.get(each_day)
            landed = landing.rows_landed if landing else 0
            rows.append(
                {
                    "source": each.source,
                    "day": each_day,
                    "state": "missing" if landing is None else "rows" if landed else "empty",
                    "fill": landed / most if landed else 1,
                    "landed": landed,
                    "quarantined": landing.rows_quarantined if landing else 0,
                }
            )
    return rows


def _refused(subject: Subject, sources: list[deliveries.SourceHistory]) -> list[Part]:
    rows = [
        {"source": each.source, "reason": say_if_known("quarantine", code), "rows": number}
        for each in sources
        for code, number in sorted(each.reasons.items())
        if number
    ]
    if not rows:
        return [Note(say("notes.nothing_refused"))]
    rows.sort(key=lambda row: (-row["rows"], row["source"], row["reason"].en))
    for position, row in enumerate(rows):
        row["position"] = position
        row["name"] = Both(*(f"{row['source']}: {row['reason'].within(each)}" for each in ("en", "zh")))
    return [_figures(subject, ("refused_rows", rows, charts.refused_rows, "refused_rows_note"))]


def _code_counts(source: deliveries.SourceHistory) -> Both:
    counted = [
        Both(*(f"{say_if_known('quarantine', code).within(each)} {count(number)}" for each in ("en", "zh")))
        for code, number in sorted(source.reasons.items())
        if number
    ]
    return _joined(counted, ", ", "，") if counted else Both(NOTHING, NOTHING)


def _gates(subject: Subject) -> list[Part]:
    """The gates' findings; what does not hold comes first."""
    parts: list[Part] = []
    for number, report in enumerate(_gate_reports(subject)):
        expectations = report.get("expectations", [])
        held = [each for each in expectations if each.get("success", True)]
        title = say(
            "tables.gates",
            gate=say_if_known("gates", report["gate"]), held=count(len(held)), all=count(len(expectations)),
        )  # fmt: skip
        ordered = sorted(expectations, key=lambda each: (each.get("success", True), each.get("severity") != "critical"))
        columns = subject.columns("expectation table outcome found meaning", "")
        rows = [_judgement_cells(each) for each in ordered]
        parts.append(Table(f"gate_{number}", title, columns, rows, folded=len(held) == len(expectations)))
    return parts or [Note(say("notes.no_gates"))]


def _gate_reports(subject: Subject) -> list[Mapping[str, Any]]:
    return deliveries.gate_reports(subject.home, subject.as_of, subject.build_id, subject.gate)


def _judgement_cells(judgement: Mapping[str, Any]) -> list[Cell]:
    if judgement.get("success", True):
        badge = Badge(say("words.holds"), "good")
    elif judgement.get("severity") == "warning":
        badge = Badge(say("words.warning"), "warning")
    else:
        badge = Badge(say("words.failed"), "bad")
    failing, observed = judgement.get("unexpected_count"), judgement.get("observed")
    found: Cell = say("words.rows", rows=count(failing)) if failing is not None else _observed(observed)
    name = str(judgement.get("name", "")).replace("_", " ")
    return [name, str(judgement.get("table", "")), badge, found, str(judgement.get("why", ""))]


def _observed(value: object) -> str:
    if value is None:
        return NOTHING
    return f"{value:,}" if isinstance(value, (int, float)) and not isinstance(value, bool) else str(value)


def freshness(subject: Subject, sources: list[deliveries.SourceHistory]) -> Section:
    """How far each source reaches, measured against the day up to which data count."""
    if not sources:
        return _section("freshness", None, [Note(say("notes.no_landings"))])
    known_at = subject.known_at
    late = [each for each in sources if each.last_landing < known_at]
    values = {"day": day(known_at), "late": count(len(late)), "sources": count(len(sources))}
    lead = say("leads.freshness_behind" if late else "leads.freshness_current", **values)
    rows = [
        [
            each.source,
            _short(each.last_landing),
            _behind((known_at - each.last_landing).days),
            _short(each.last_rows.day if each.last_rows else None),
            count(each.last_rows.rows_landed if each.last_rows else None),
        ]
        for each in sources
    ]
    columns = [*subject.columns("source last_day state last_rows", "rows")]
    events = facts.last_events(subject.connection)
    seen = say("words.last_order_seen", order=day(events["last_order_date"]), activity=day(events["last_activity_date"]))
    return _section("freshness", lead, [Table("freshness", say("tables.freshness"), columns, rows, seen)])


def _behind(days: int) -> Badge:
    return Badge(say("words.behind", days=days), "warning") if days else Badge(say("words.current"), "good")


# ---------------------------------------------------------------- parts

_ONE_DAY = date.resolution


def _section(key: str, lead: Both | None, parts: Sequence[Part]) -> Section:
    return Section(key, say(f"sections.{key}"), lead, tuple(parts))


def _figure(subject: Subject, key: str, rows: Sequence[Row], draw: charts.Draw, note: str) -> Figure:
    return Figure(subject.chart(key, rows, draw), say(f"charts.{key}"), say(f"charts.{note}"))


def _figures(subject: Subject, *each: tuple[str, Sequence[Row], charts.Draw, str]) -> Figures:
    return Figures([_figure(subject, *one) for one in each], across=min(2, len(each)))


def _sum(rows: Any) -> int:
    return sum(row["customers"] for row in rows)


def _kind(row: Row) -> str:
    """Whether a class is important, general, or that of customers without an order."""
    if row.get("has_ordered") is False:
        return "none"
    return "important" if row["is_important"] else "general"


def _numbered(row: Row) -> Both:
    return Both(f"{row['position']} {row['name_en']}", f"{row['position']} {row['name_zh']}")


def _dashed(text: Both) -> Both:
    return Both(f"{NOTHING} {text.en}", f"{NOTHING} {text.zh}")


def _short(value: date | None) -> str:
    return NOTHING if value is None else str(value)


def _joined(texts: Sequence[Both], english: str = " ", chinese: str = "") -> Both:
    return Both(english.join(text.en for text in texts), chinese.join(text.zh for text in texts))


def _months_between(earlier: date, later: date) -> int:
    return (later.year - earlier.year) * 12 + later.month - earlier.month


def _month_after(value: date) -> date:
    return date(value.year + value.month // 12, value.month % 12 + 1, 1)
