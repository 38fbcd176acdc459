"""The RFM classes: how large they are, what they bring, which scores make them, and who moved between them."""

from __future__ import annotations

from decimal import Decimal

from strataflow.report import charts, facts, history
from strataflow.report.blocks import Cell, Figure, Figures, Note, Part, Section, Table
from strataflow.report.facts import Headline, Row
from strataflow.report.sections.subject import Overview, Subject, beside, customers_in, figure, kind_of, section
from strataflow.report.words import (
    NOTHING,
    Both,
    amounts,
    count,
    day,
    name_of,
    percent,
    say,
    say_if_known,
    share,
    signed,
)

LARGEST_MOVES = 10


def changes(subject: Subject, overview: Overview) -> Section:
    """Who came to and left each class since the last published day."""
    if overview.earlier is None:
        return section("changes", None, [Note(say("notes.no_earlier_day"))])
    found = history.moves(subject.connection, overview.earlier)
    moved = [row for row in found if row["class_then"] != row["class_now"]]
    lead = say(
        "leads.changes",
        day=day(overview.earlier.day),
        new=count(customers_in(row for row in found if row["class_then"] is None)),
        moved=count(
            customers_in(row for row in moved if row["class_then"] is not None and row["class_now"] is not None)
        ),
    )
    per_class = [_class_changes(each, found) for each in overview.classes]
    table = Table(
        "changes",
        say("page.numbers"),
        subject.columns("class", "before joined left now net"),
        [
            [
                name_of(row),
                *(count(row[key]) for key in ("before", "joined", "left", "now")),
                signed(row["now"] - row["before"]),
            ]
            for row in per_class
        ],
        folded=True,
    )
    if not moved:
        return section("changes", lead, [Note(say("notes.nobody_moved")), table])
    rows = [
        {**row, "name": name_of(row), "direction": direction, "customers": row[direction] * sign}
        for row in per_class
        for direction, sign in (("joined", 1), ("left", -1))
    ]
    return section("changes", lead, [beside(subject, ("changes", rows, charts.changes, "changes_note")), table])


def _class_changes(each: Row, moves: list[Row]) -> Row:
    key = each["rfm_class"]
    then = [row for row in moves if row["class_then"] == key]
    now = [row for row in moves if row["class_now"] == key]
    return {
        "name_en": each["name_en"], "name_zh": each["name_zh"], "position": each["position"],
        "before": customers_in(then), "now": customers_in(now),
        "joined": customers_in(row for row in now if row["class_then"] != key),
        "left": customers_in(row for row in then if row["class_now"] != key),
    }  # fmt: skip


def classes(subject: Subject, overview: Overview) -> Section:
    """How many customers each class has and what it brings."""
    now = overview.now
    if not now.customers:
        return section("classes", None, [Note(say("notes.no_customers"))])
    rows = [
        {
            **row,
            "name": name_of(row),
            "kind": kind_of(row),
            "customer_share": share(row["customers"], now.customers),
            "revenue_share": share(row["revenue"], now.revenue),
        }
        for row in overview.classes
    ]
    sizes, revenues = _bars(rows, "customers", "customer_share"), _bars(rows, "revenue", "revenue_share")
    figures = beside(
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
    return section("classes", _classes_lead(rows, now), [figures, table])


def _bars(rows: list[Row], measure: str, fraction: str) -> list[Row]:
    kept = ("name", "position", "kind", measure)
    return [{**{column: row[column] for column in kept}, "share": row[fraction] or Decimal(0)} for row in rows]


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
        return section("scores", None, [Note(say("notes.no_orders"))])
    rows = [{**row, "revenue_per_customer": row["revenue"] / row["customers"]} for row in found]
    for measure in ("customers", "revenue_per_customer"):
        largest = max(row[measure] for row in rows)
        for row in rows:
            row[f"{measure}_is_dark"] = row[measure] > largest * Decimal("0.68")
    cutoffs = facts.cutoffs(subject.connection)
    highest = tuple(len(cutoffs[measure]["cutoffs"]) + 1 for measure in ("recency", "frequency"))
    best = [row for row in rows if (row["recency_score"], row["frequency_score"]) == highest]
    revenue = sum((row["revenue"] for row in best), Decimal(0))
    lead = (
        say("leads.scores", best=count(customers_in(best)), share=percent(share(revenue, overview.now.revenue)))
        if best
        else None
    )
    customers = charts.score_map("customers", charts.COUNT, highest)
    revenue = charts.score_map("revenue_per_customer", charts.MONEY, highest)
    figures = [
        figure(subject, "score_customers", rows, customers, "score_note"),
        Figure(
            subject.chart("score_revenue", rows, revenue),
            say("charts.score_revenue", currency=subject.currency),
            say("charts.score_revenue_note"),
        ),
    ]
    return section("scores", lead, [Figures(figures, across=2), _cutoff_table(subject, cutoffs)])


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
    if limits[place - 1] == limits[place]:
        return Both(NOTHING, NOTHING)
    return say("words.between", low=shown[place - 1], high=shown[place])


def flow(subject: Subject, overview: Overview) -> Section:
    """Where the customers of each class of about a month ago are today."""
    earlier = history.month_earlier(subject.connection, subject.home, subject.as_of)
    if earlier is None:
        return section("flow", None, [Note(say("notes.no_month_earlier"))])
    found = history.moves(subject.connection, earlier)
    known = [row for row in found if row["class_then"] is not None]
    stayed = customers_in(row for row in known if row["class_then"] == row["class_now"])
    moves = [row for row in known if row["class_now"] not in (None, row["class_then"])]
    lead = say(
        "leads.flow",
        day=day(earlier.day),
        customers=count(customers_in(known)),
        stayed=percent(share(stayed, customers_in(known))),
        moved=count(customers_in(moves)),
        new=count(customers_in(row for row in found if row["class_then"] is None)),
    )
    title = say("charts.flow", then=day(earlier.day), now=day(subject.as_of))
    chart = subject.chart("flow", _flow_rows(found, overview.classes), charts.flow)
    figure = Figure(chart, title, say("charts.flow_note", then=day(earlier.day)))
    return section("flow", lead, [Figures([figure]), *_largest_moves(subject, moves, overview.classes)])


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


def _numbered(row: Row) -> Both:
    return Both(f"{row['position']} {row['name_en']}", f"{row['position']} {row['name_zh']}")


def _dashed(text: Both) -> Both:
    return Both(f"{NOTHING} {text.en}", f"{NOTHING} {text.zh}")
