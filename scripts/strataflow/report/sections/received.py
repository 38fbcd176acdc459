"""The data behind the numbers: what was delivered, refused and judged, and how far it reaches."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

from strataflow.report import charts, facts, landings
from strataflow.report.blocks import Badge, Cell, Figure, Figures, Note, Part, Section, Table
from strataflow.report.facts import Row
from strataflow.report.sections.subject import Subject, beside, section
from strataflow.report.words import NOTHING, Both, count, day, joined, percent, say, say_if_known, share, short_day


def received(subject: Subject) -> list[Section]:
    """Data quality and freshness: what was delivered, refused and judged, and how far the data reach."""
    sources = landings.histories(subject.home, subject.known_at)
    return [quality(subject, sources), freshness(subject, sources)]


def quality(subject: Subject, sources: list[landings.SourceHistory]) -> Section:
    """Rows landed and refused per source, and what the gates found."""
    if not sources:
        return section("quality", None, [Note(say("notes.no_landings")), *_gates(subject)])
    lead = say(
        "leads.quality",
        landed=count(sum(each.rows_landed for each in sources)),
        refused=count(sum(each.rows_quarantined for each in sources)),
        sources=count(len(sources)),
    )
    days = landings.calendar_days(subject.known_at)
    calendar = Figure(
        subject.chart("landing_calendar", _calendar_rows(sources, days), charts.landing_calendar(days)),
        say("charts.landing_calendar", days=len(days)),
        say("charts.landing_calendar_note"),
    )
    rows = [
        [
            each.source, count(each.rows_landed), count(each.rows_quarantined),
            percent(share(each.rows_quarantined, each.rows_landed + each.rows_quarantined)),
            count(len(each.deliveries)), each.table, _code_counts(each),
        ]
        for each in sources
    ]  # fmt: skip
    columns = subject.columns("source", "landed refused refused_share days", "feeds reasons")
    table = Table("sources", say("tables.sources"), columns, rows)
    return section("quality", lead, [Figures([calendar]), *_refused(subject, sources), table, *_gates(subject)])


def _calendar_rows(sources: list[landings.SourceHistory], days: list[date]) -> list[Row]:
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


def _refused(subject: Subject, sources: list[landings.SourceHistory]) -> list[Part]:
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
    return [beside(subject, ("refused_rows", rows, charts.refused_rows, "refused_rows_note"))]


def _code_counts(source: landings.SourceHistory) -> Both:
    counted = [
        Both(*(f"{say_if_known('quarantine', code).within(each)} {count(number)}" for each in ("en", "zh")))
        for code, number in sorted(source.reasons.items())
        if number
    ]
    return joined(counted, ", ", "，") if counted else Both(NOTHING, NOTHING)


def _gates(subject: Subject) -> list[Part]:
    """The gates' findings; what does not hold comes first, and a gate whose expectations all hold is folded."""
    parts: list[Part] = []
    for number, report in enumerate(_gate_reports(subject)):
        expectations = report.get("expectations", [])
        held = [each for each in expectations if each.get("success", True)]
        title = say("tables.gates", gate=_gate_name(report), held=count(len(held)), all=count(len(expectations)))
        ordered = sorted(expectations, key=lambda each: (each.get("success", True), each.get("severity") != "critical"))
        parts.append(
            Table(
                key=f"gate_{number}",
                title=title,
                columns=subject.columns("expectation table outcome found meaning", ""),
                rows=[_judgement_cells(each) for each in ordered],
                note="; ".join(report.get("notes", [])) or None,
                folded=len(held) == len(expectations),
            )
        )
    return parts or [Note(say("notes.no_gates"))]


def _gate_name(report: Mapping[str, Any]) -> Both:
    """The gate, and the tables that it judged where it did not judge all."""
    name, tables = say_if_known("gates", report["gate"]), ", ".join(report.get("tables") or [])
    return Both(f"{name.en} ({tables})", f"{name.zh}（{tables}）") if tables else name


def _gate_reports(subject: Subject) -> list[Mapping[str, Any]]:
    return landings.gate_reports(subject.home, subject.as_of, subject.build_id, subject.gate)


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


def freshness(subject: Subject, sources: list[landings.SourceHistory]) -> Section:
    """How far each source reaches, measured against the day up to which data count."""
    if not sources:
        return section("freshness", None, [Note(say("notes.no_landings"))])
    known_at = subject.known_at
    late = [each for each in sources if each.last_landing < known_at]
    values = {"day": day(known_at), "late": count(len(late)), "sources": count(len(sources))}
    lead = say("leads.freshness_behind" if late else "leads.freshness_current", **values)
    rows = [
        [
            each.source,
            _behind((known_at - each.last_landing).days),
            short_day(each.last_landing),
            short_day(each.last_rows.day if each.last_rows else None),
            count(each.last_rows.rows_landed if each.last_rows else None),
        ]
        for each in sources
    ]
    columns = subject.columns("source state last_day last_rows", "rows")
    events = facts.last_events(subject.connection)
    seen = say(
        "words.last_order_seen", order=day(events["last_order_date"]), activity=day(events["last_activity_date"])
    )
    return section("freshness", lead, [Table("freshness", say("tables.freshness"), columns, rows, seen)])


def _behind(days: int) -> Badge:
    return Badge(say("words.behind", days=days), "warning") if days else Badge(say("words.current"), "good")
