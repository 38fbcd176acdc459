"""What a vocabulary must not say: every rule, over the rows of the two seeds.

It costs milliseconds, so it runs before every build: a word with two meanings
would otherwise be found months later, in lists that lack people.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import combinations

from strataflow.errors import UsageError
from strataflow.project import Project
from strataflow.tags import rule_lint
from strataflow.tags.profile import outdated
from strataflow.tags.seeds import Alias, Period, Problem, Rows, Tag, read
from strataflow.tags.spelling import fold

_ALWAYS = Period()


def lint(project: Project) -> list[Problem]:
    """All problems of the project's vocabulary, in the order of files and lines; empty if there are none.

    Raises:
        UsageError: a seed is missing, is not UTF-8, or lacks a column.
    """
    rows = read(project)
    return [*problems(rows), *outdated(project, rows)]


def problems(rows: Rows) -> list[Problem]:
    """As :func:`lint`, for rows that have been read."""
    rules = (
        _duplicate_ids,
        _unknown_tags,
        _spellings_of_two_tags,
        _implication_cycles,
        _contradictions_of_itself,
        _implied_contradictions,
        _groups_at_odds,
        _groups_without_default,
        _expired_targets,
        rule_lint.problems,
    )
    found = [*rows.problems, *(problem for rule in rules for problem in rule(rows))]
    order = list(dict.fromkeys([rows.tag_file, rows.alias_file, *(problem.file for problem in found)]))
    return sorted(found, key=lambda problem: (order.index(problem.file), problem.line, problem.rule, problem.what))


def refused(found: list[Problem]) -> UsageError:
    """The error that names every problem."""
    lines = "".join(f"\n    {problem}" for problem in found)
    some = "a problem" if len(found) == 1 else f"{len(found)} problems"
    return UsageError(
        f"the tag vocabulary has {some}:{lines}",
        where=", ".join(sorted({f"{problem.file}:{problem.line}" for problem in found})),
        todo="mend these rows, see that `strataflow tags lint` finds nothing, then run it again",
    )


def _duplicate_ids(rows: Rows) -> Iterator[Problem]:
    first: dict[str, Tag] = {}
    for tag in rows.tags:
        known = first.setdefault(tag.tag_id, tag)
        if known is not tag:
            what = f"{tag.tag_id} stands in line {known.line} already"
            yield Problem(rows.tag_file, tag.line, "duplicate_id", what, "keep one of the rows, or give this tag an id")


def _unknown_tags(rows: Rows) -> Iterator[Problem]:
    known = {tag.tag_id for tag in rows.tags}
    named = [(rows.tag_file, tag.line, "implies", other) for tag in rows.tags for other in tag.implies]
    named += [(rows.tag_file, tag.line, "contradicts", other) for tag in rows.tags for other in tag.contradicts]
    named += [(rows.alias_file, alias.line, "tag_id", alias.tag_id) for alias in rows.aliases if alias.tag_id]
    named += [(rule.file, rule.line, rule.column, rule.tag_id) for rule in rows.named]
    for file, line, column, other in named:
        if other not in known:
            what = f"{column} names {other!r}, which is no tag_id of the dictionary"
            yield Problem(file, line, "unknown_tag", what, "correct it, or add the tag first")


@dataclass(frozen=True)
class _Spelling:
    """A text that stands for a tag, with the row it comes from."""

    file: str
    line: int
    kind: str  # tag_id, name_en, name_zh or alias
    text: str
    tag_id: str
    period: Period


def _spellings(rows: Rows) -> Iterator[_Spelling]:
    """All of them, ids first, then names, then aliases: a problem is told where the later one stands."""
    for kind in ("tag_id", "name_en", "name_zh"):
        for tag in rows.tags:
            # An id stays taken when its tag is no longer used, as rows of the past go on naming it.
            period = _ALWAYS if kind == "tag_id" else tag.period
            yield _Spelling(rows.tag_file, tag.line, kind, getattr(tag, kind), tag.tag_id, period)
    for alias in rows.aliases:
        yield _Spelling(rows.alias_file, alias.line, "alias", alias.alias, alias.tag_id, alias.period)


def _spellings_of_two_tags(rows: Rows) -> Iterator[Problem]:
    by_word: dict[str, list[_Spelling]] = {}
    for spelling in _spellings(rows):
        word = fold(spelling.text)
        if not word:
            continue
        alike = by_word.setdefault(word, [])
        others: dict[str, _Spelling] = {}
        for one in alike:
            if one.tag_id != spelling.tag_id and one.period.overlaps(spelling.period):
                others.setdefault(one.tag_id, one)
        for other in others.values():
            yield _told_twice(spelling, other)
        alike.append(spelling)


def _told_twice(spelling: _Spelling, other: _Spelling) -> Problem:
    rule = "name_of_two_tags"
    todo = "decide which tag it means, and rename the other"
    if spelling.kind == "alias":
        rule = "alias_of_two_tags" if other.kind == "alias" else "alias_is_a_name_of_another_tag"
        todo = "decide which tag it means, and remove the alias from the other"
        if other.kind != "alias":
            todo = "remove the alias, or rename the other tag"
    what = (
        f"{spelling.kind} {spelling.text!r} of {spelling.tag_id} is also "
        f"{other.kind} {other.text!r} of {other.tag_id} ({other.file}:{other.line}) on the same days"
    )
    return Problem(spelling.file, spelling.line, rule, what, todo)


def _implied(tags: dict[str, Tag], tag: Tag) -> set[str]:
    """All that comes along with a tag, itself only if it leads back to itself."""
    found: set[str] = set()
    waiting = list(tag.implies)
    while waiting:
        name = waiting.pop()
        if name in tags and name not in found:
            found.add(name)
            waiting.extend(tags[name].implies)
    return found


def _implication_cycles(rows: Rows) -> Iterator[Problem]:
    """Each cycle once, where its first tag stands."""
    tags, told = _by_id(rows), set()
    for tag in tags.values():
        implied = _implied(tags, tag)
        if tag.tag_id in told or tag.tag_id not in implied:
            continue
        members = {name for name in implied if tag.tag_id in _implied(tags, tags[name])}
        told |= members
        others = " and ".join(name for name in tags if name in members - {tag.tag_id}) or "itself"
        what = f"{tag.tag_id} implies {others}, and the other way round"
        todo = "leave out one of the implications; two tags that always stand together are one tag and an alias"
        yield Problem(rows.tag_file, tag.line, "implication_cycle", what, todo)


def _contradictions_of_itself(rows: Rows) -> Iterator[Problem]:
    for tag in rows.tags:
        if tag.tag_id in tag.contradicts:
            what = f"{tag.tag_id} contradicts itself, so that nobody could have it"
            yield Problem(rows.tag_file, tag.line, "contradicts_itself", what, "take it out of contradicts")


def _implied_contradictions(rows: Rows) -> Iterator[Problem]:
    """Tags that bring along what can't stand together, told of the tag where it comes in and not of all above it."""
    tags = _by_id(rows)
    clashes = {tag.tag_id: set(_clashes(tags, {tag.tag_id, *_implied(tags, tag)})) for tag in tags.values()}
    for tag in tags.values():
        from_below = {clash for name in _implied(tags, tag) - {tag.tag_id} for clash in clashes[name]}
        for one, other in sorted(clashes[tag.tag_id] - from_below):
            what = f"{tag.tag_id} implies what can't stand together: {one} and {other} exclude each other"
            todo = "take one out of implies, or correct contradicts or is_exclusive"
            yield Problem(rows.tag_file, tag.line, "implied_contradiction", what, todo)


def _clashes(tags: dict[str, Tag], together: Iterable[str]) -> Iterator[tuple[str, str]]:
    for one, other in combinations(sorted(together), 2):
        first, second = tags[one], tags[other]
        exclusive = first.tag_group == second.tag_group and first.is_exclusive and second.is_exclusive
        if exclusive or other in first.contradicts or one in second.contradicts:
            yield one, other


def _groups(rows: Rows) -> dict[str, list[Tag]]:
    groups: dict[str, list[Tag]] = {}
    for tag in rows.tags:
        groups.setdefault(tag.tag_group, []).append(tag)
    return groups


def _groups_at_odds(rows: Rows) -> Iterator[Problem]:
    """What holds for a group stands on each of its rows, and must be the same there."""
    for group, tags in _groups(rows).items():
        for column in ("is_exclusive", "is_mandatory"):
            for tag in tags[1:]:
                if getattr(tag, column) != getattr(tags[0], column):
                    what = f"{column} of {tag.tag_id} differs from line {tags[0].line}, of the same group {group}"
                    yield Problem(rows.tag_file, tag.line, "group_at_odds", what, f"let the group agree on {column}")


def _groups_without_default(rows: Rows) -> Iterator[Problem]:
    """A mandatory group has one default on every day on which any of its tags is used; no group ever has two."""
    for group, tags in _groups(rows).items():
        for day in _turns(tags):
            in_force = [tag for tag in tags if tag.period.holds(day)]
            defaults = [tag for tag in in_force if tag.is_default]
            since = "" if day == date.min else f" from {day} on"
            if len(defaults) > 1:
                names = " and ".join(tag.tag_id for tag in defaults)
                what = f"group {group} has more than one default{since}: {names}"
                yield Problem(rows.tag_file, defaults[1].line, "two_defaults", what, "keep is_default on one of them")
                break
            if in_force and not defaults and any(tag.is_mandatory for tag in in_force):
                what = f"group {group} is mandatory and has no default{since}"
                todo = "set is_default on the tag for those whom no other fits"
                yield Problem(rows.tag_file, in_force[0].line, "mandatory_without_default", what, todo)
                break


def _turns(tags: list[Tag]) -> list[date]:
    """The days on which the set of tags in force may change."""
    days = {tag.period.first for tag in tags}
    days |= {tag.period.last + timedelta(days=1) for tag in tags if tag.period.last < date.max}
    return sorted(days)


def _expired_targets(rows: Rows) -> Iterator[Problem]:
    tags = _by_id(rows)
    for tag in tags.values():
        for other in (tags[name] for name in tag.implies if name in tags):
            if not other.period.covers(tag.period):
                what = f"{tag.tag_id} is valid {tag.period} and implies {other.tag_id}, which is valid {other.period}"
                todo = "end it with the tag it implies, or take that out of implies"
                yield Problem(rows.tag_file, tag.line, "expired_target", what, todo)
    for alias in rows.aliases:
        target = tags.get(alias.tag_id)
        if target and _outlives(alias, target):
            what = f"alias {alias.alias!r} is valid {alias.period} and {target.tag_id} {target.period}"
            todo = "end it with its tag (valid_to), or let it mean another tag"
            yield Problem(rows.alias_file, alias.line, "expired_target", what, todo)


def _outlives(alias: Alias, tag: Tag) -> bool:
    """Whether it goes on after its tag, or never meets it; that it may be there before does no harm."""
    return alias.period.last > tag.period.last or not alias.period.overlaps(tag.period)


def _by_id(rows: Rows) -> dict[str, Tag]:
    """The first row of each id, in the order of the file."""
    found: dict[str, Tag] = {}
    for tag in rows.tags:
        found.setdefault(tag.tag_id, tag)
    return found
