"""What the seeds of rules must not say: words that nothing has, so that a tag would silently be nobody's.

A misspelt class, kind of interaction or hour band is no error to SQL: its join finds nothing, and the tag stands in
the dictionary without a customer. It shows here, before a build, by file and line.
"""

from __future__ import annotations

from collections.abc import Iterator

from strataflow.tags.seeds import Problem, Rows, SeedRow

# Columns of customer_segments that a tag may restate: the seed, the column of it and the ladder that list their values.
RESTATED = {
    "rfm_class": ("rfm_classes", "rfm_class", None),
    "ecommerce_stage": ("lifecycle_stages", "stage", "ecommerce"),
    "high_ticket_stage": ("lifecycle_stages", "stage", "high_ticket"),
    "activity_stage": ("lifecycle_stages", "stage", "activity"),
    "value_tier": ("value_tiers", "value_tier", None),
}
_HOURS = "hours_"


def problems(rows: Rows) -> Iterator[Problem]:
    """All problems of the rules, and of what the dictionary says a tag restates."""
    yield from _restating_nothing(rows)
    yield from _unknown_kinds(rows)
    yield from _windows_too_long(rows)
    yield from _bands_without_tag(rows)


def _restating_nothing(rows: Rows) -> Iterator[Problem]:
    """A class, stage or tier that a tag restates is one that customers can have."""
    for tag in rows.tags:
        if not tag.agrees_with and not tag.agrees_value:
            continue
        known = _values(rows, tag.agrees_with) if tag.agrees_with in RESTATED else None
        if known is None:
            what = f"agrees_with is {tag.agrees_with!r}, no column that a tag can restate"
            todo = f"write one of {', '.join(RESTATED)}, or leave agrees_with and agrees_value empty"
            yield Problem(rows.tag_file, tag.line, "restates_nothing", what, todo)
        elif known and tag.agrees_value not in known:
            what = f"{tag.agrees_with} is never {tag.agrees_value!r}, so that nobody could have the tag"
            todo = f"write one of {', '.join(known)} as agrees_value"
            yield Problem(rows.tag_file, tag.line, "restates_nothing", what, todo)


def _values(rows: Rows, column: str) -> list[str]:
    seed, name, ladder = RESTATED[column]
    listed = (row.cells for row in rows.seeds.get(seed, ()))
    return [cells.get(name, "") for cells in listed if ladder is None or cells.get("ladder") == ladder]


def _unknown_kinds(rows: Rows) -> Iterator[Problem]:
    """A kind of interaction that a rule counts is one that interactions can have."""
    known = {row.cells.get("kind") for row in rows.seeds.get("interaction_kinds", ())}
    counted = [(row, row.cells.get("kind", "")) for row in rows.seeds.get("interaction_tags", ())]
    counted += [
        (row, row.cells.get("subject", ""))
        for row in rows.seeds.get("need_types", ())
        if row.cells.get("subject_type") == "interaction"
    ]
    for row, kind in counted:
        if known and kind not in known:
            what = f"{kind!r} is no kind of interaction, so that nothing is counted"
            todo = "write it as in the seed interaction_kinds, or add the kind there first"
            yield Problem(row.file, row.line, "unknown_kind", what, todo)


def _windows_too_long(rows: Rows) -> Iterator[Problem]:
    """A rule looks no further back than the day's build reads interactions."""
    for row in rows.seeds.get("interaction_tags", ()):
        days = _whole(row, "window_days")
        if days is None or days < 1:
            what = f"window_days is {row.cells.get('window_days')!r}"
            yield Problem(row.file, row.line, "unreadable_cell", what, "write a whole number of days, 1 or more")
        elif rows.longest_window is not None and days > rows.longest_window:
            what = f"window_days is {days}, and interactions are read for {rows.longest_window} days"
            todo = "shorten it, or raise engagement_window_days or rfm_window_days in dbt_project.yml"
            yield Problem(row.file, row.line, "window_too_long", what, todo)


def _whole(row: SeedRow, column: str) -> int | None:
    text = row.cells.get(column, "").strip()
    return int(text) if text.isdecimal() else None


def _bands_without_tag(rows: Rows) -> Iterator[Problem]:
    """Each band of hours has its tag, as the model puts the word together from the band's name."""
    known, told = {tag.tag_id for tag in rows.tags}, set()
    for row in rows.seeds.get("hour_bands", ()):
        tag_id = f"{_HOURS}{row.cells.get('hour_band', '')}"
        if tag_id not in known and tag_id not in told:
            told.add(tag_id)
            what = f"customers of this band of hours get the tag {tag_id}, which the dictionary lacks"
            yield Problem(row.file, row.line, "unknown_tag", what, "correct the band, or add the tag first")
