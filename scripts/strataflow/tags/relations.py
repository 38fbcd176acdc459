"""Which tags go together and which can't, worked out from the dictionary once, so that SQL only joins.

The dictionary names direct implications and contradictions. What follows from
them over several steps is a closure, which the engines' SQL has no common word
for; over a vocabulary it is a few thousand pairs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from itertools import product

from strataflow.tags.seeds import Rows, Tag

IMPLIES, EXCLUDES = "implies", "excludes"


@dataclass(frozen=True)
class Relation:
    """One tag brings along another (``implies``), or can't stand beside it (``excludes``, in both directions)."""

    tag_id: str
    relation: str
    other_tag_id: str


def relations(rows: Rows, on: date) -> list[Relation]:
    """All relations between the tags in use on a day, in order of their names.

    A tag implies what its implied tags imply. Two tags exclude each other if they, or any two of what they
    bring along, are different tags of one exclusive group or contradict each other.
    """
    tags = {tag.tag_id: tag for tag in rows.tags if tag.period.holds(on)}
    brings = {tag_id: _brought_along(tags, tag_id) for tag_id in tags}
    brought_by: dict[str, set[str]] = {tag_id: {tag_id} for tag_id in tags}
    for tag_id, others in brings.items():
        for other in others:
            brought_by[other].add(tag_id)
    found = {Relation(tag_id, IMPLIES, other) for tag_id, others in brings.items() for other in others}
    for one, other in _clashes(tags):
        found |= {Relation(*pair) for pair in product(brought_by[one], (EXCLUDES,), brought_by[other])}
    return sorted(found, key=lambda one: (one.tag_id, one.relation, one.other_tag_id))


def _brought_along(tags: dict[str, Tag], tag_id: str) -> set[str]:
    found: set[str] = set()
    waiting = [tag_id]
    while waiting:
        for name in tags[waiting.pop()].implies:
            if name in tags and name not in found:
                found.add(name)
                waiting.append(name)
    return found


def _clashes(tags: dict[str, Tag]) -> Iterator[tuple[str, str]]:
    """Pairs that can't meet by themselves, in both directions."""
    for one, other in product(tags.values(), tags.values()):
        if one is other:
            continue
        same_group = one.is_exclusive and one.tag_group == other.tag_group
        if same_group or other.tag_id in one.contradicts or one.tag_id in other.contradicts:
            yield one.tag_id, other.tag_id
