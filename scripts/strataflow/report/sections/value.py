"""Value and risk: how revenue concentrates, who may leave, and whether the forecasts held."""

from __future__ import annotations

from decimal import Decimal

from strataflow.report import charts, facts, history
from strataflow.report.blocks import Column, Figure, Figures, Note, Part, Section, Table
from strataflow.report.sections.subject import Overview, Subject, beside, figure, kind_of, section
from strataflow.report.words import (
    NOTHING,
    Both,
    amounts,
    count,
    day,
    money,
    name_of,
    percent,
    reasons,
    say,
    share,
    short_day,
)  # fmt: skip


def top(subject: Subject, overview: Overview) -> Section:
    """How much of the revenue the best customers bring."""
    now = overview.now
    if not now.revenue:
        return section("top", None, [Note(say("notes.no_orders_in_window"))])
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
    figures = beside(subject, ("concentration", rows, charts.concentration, "concentration_note"))
    tiers = facts.tiers(subject.connection)
    revenue = amounts(row["revenue"] for row in tiers)
    cells = [
        [name_of(row), count(row["customers"]), percent(share(row["customers"], now.customers)),
         revenue[place], percent(share(row["revenue"], now.revenue))]
        for place, row in enumerate(tiers)
    ]  # fmt: skip
    columns = subject.columns("tier", "customers share revenue revenue_share")
    return section("top", lead, [figures, Table("tiers", say("tables.tiers"), columns, cells)])


def churn(subject: Subject, overview: Overview) -> Section:
    """Who may leave: how probabilities spread, whether forecasts held, and the customers to call first."""
    now = overview.now
    if not now.ever_bought:
        return section("churn", None, [Note(say("notes.no_orders"))])
    lead = say(
        "leads.churn" if now.likely_to_leave else "leads.churn_none",
        customers=count(now.likely_to_leave),
        horizon=subject.horizon_days,
        revenue=money(now.revenue_of_leavers, subject.currency),
        share=percent(share(now.revenue_of_leavers, now.revenue)),
    )
    spread = [{**row, "name": name_of(row), "kind": kind_of(row)} for row in facts.churn_by_class(subject.connection)]
    tenths = [
        {**row, "range": f"{row['tenth'] * 10}–{row['tenth'] * 10 + 10}", "kind": kind_of(row),
         "kind_name": say(f"words.kind_{kind_of(row)}")}
        for row in facts.churn_histogram(subject.connection)
    ]  # fmt: skip
    figures = [
        figure(subject, "churn_spread", spread, charts.churn_spread, "churn_spread_note"),
        Figure(
            subject.chart("churn_histogram", tenths, charts.churn_histogram),
            say("charts.churn_histogram"),
            say("charts.churn_histogram_note", horizon=subject.horizon_days),
        ),
    ]
    return section("churn", lead, [Figures(figures, across=2), *_calibration(subject, overview), *_at_risk(subject)])


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
        [
            f"{row['tenth'] * 10}–{row['tenth'] * 10 + 10}%",
            count(row["customers"]),
            percent(row["predicted"]),
            percent(row["actual"]),
        ]
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
            loss[place],
            percent(row["churn_probability"]),
            revenue[place],
            Both(row["name_en"] or row["rfm_class"], row["name_zh"] or row["rfm_class"]),
            short_day(row["last_order_date"]),
            reasons(row["reasons"]),
            Both(row["suggested_action"] or NOTHING, row["suggested_action_zh"] or row["suggested_action"] or NOTHING),
        ]
        for place, row in enumerate(found)
    ]
    columns = subject.columns("customer", "loss probability monetary", "class last_order why action")
    return [Table("at_risk", say("tables.at_risk"), columns, rows, say("tables.at_risk_note"))]
