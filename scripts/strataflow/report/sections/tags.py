
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


