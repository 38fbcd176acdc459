"""Tags: how many customers each tag and group of tags reaches, and which values are frequent."""

from __future__ import annotations

from decimal import Decimal

from strataflow.report import charts, facts
from strataflow.report.blocks import Figure, Figures, Meter, Note, Part, Section, Table
from strataflow.report.facts import Row
from strataflow.report.sections.subject import Overview, Subject, beside, customers_in, section
from strataflow.report.words import Both, count, name_of, percent, say, say_if_known, share


def tags(subject: Subject, overview: Overview) -> Section:
    """How many customers each tag and group of tags reaches."""
    found = facts.tags(subject.connection)
    total, customers = customers_in(found), overview.now.customers
    if not total:
        return section("tags", None, [Note(say("notes.no_tags"))])
    lead = say(
        "leads.tags",
        tags=count(total), each=f"{total / customers:.1f}",
        used=count(sum(1 for row in found if row["customers"])), known=count(len(found)),
    )  # fmt: skip
    groups = _tag_groups(subject, found, customers)
    listed = [[_group(row), name_of(row), count(row["customers"]), _meter(row, customers)] for row in found]
    columns = [*subject.columns("group tag", "customers"), subject.column("coverage")]
    table = Table("tags", say("tables.tags"), columns, listed, folded=True)
    parts: list[Part] = [beside(subject, ("tag_groups", groups, charts.tag_groups, "tag_groups_note"))]
    values = _tag_values(subject, customers)
    return section("tags", lead, [*parts, *([Figures(values, across=2)] if values else []), table])


def _tag_groups(subject: Subject, found: list[Row], customers: int) -> list[Row]:
    """Coverage per group; in a group whose tags exclude each other the tags' customers simply add up."""
    by_group: dict[str, list[Row]] = {}
    for row in found:
        by_group.setdefault(row["tag_group"], []).append(row)
    rows = []
    for position, (group, members) in enumerate(by_group.items()):
        exclusive = all(row["is_exclusive"] for row in members)
        reached = customers_in(members) if exclusive else facts.tagged_customers(subject.connection, group)
        rows.append(
            {
                "name": _group(members[0]),
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
            {
                "value": row["tag_value"],
                "position": position,
                "customers": row["customers"],
                "share": share(row["customers"], customers),
            }
            for position, row in enumerate(found)
        ]
        chart = subject.chart(f"tag_values_{number}", rows, charts.value_bars)
        note = say("charts.tag_values_note", different=count(found[0]["different"]))
        figures.append(Figure(chart, say("charts.tag_values", tag=name_of(found[0])), note))
    return figures


def _group(row: Row) -> Both:
    return say_if_known("tag_groups", row["tag_group"])


def _meter(row: Row, customers: int) -> Meter:
    fraction = share(row["customers"], customers) or Decimal(0)
    return Meter(fraction, percent(fraction))
