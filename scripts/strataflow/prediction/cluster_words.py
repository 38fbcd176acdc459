"""What a group of customers is called: the words for what sets it apart from the mean customer.

Which measures groups are made of, and the words for much and little of each, are rows of
the seed ``cluster_measures`` that an analyst edits. The name follows from the numbers, so
equal groups are called alike on every day and in both languages.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from strataflow.errors import UsageError

if TYPE_CHECKING:
    from strataflow.project import Project

SEED_FILE = "cluster_measures.csv"

# Columns of the customer's features that groups can be made of; each has a column in behaviour_clusters.
MEASURES = (
    "silence_days", "order_days", "order_value", "tenure_days", "discount_share", "refund_share", "engagement",
)  # fmt: skip

SCALES = ("log", "plain")

# A measure is worth a word from half a standard deviation on; three words can be kept in mind.
WORTH_A_WORD = 0.5
WORDS = 3

ORDINARY = ("ordinary", "普通")


@dataclass(frozen=True)
class Words:
    """The measures groups are made of, in the order of the seed.

    Attributes:
        is_log: per measure whether its logarithm is taken.
        much: per measure the words for much of it, English and Chinese; ``little`` for little of it.
    """

    is_log: Mapping[str, bool]
    much: Mapping[str, tuple[str, str]]
    little: Mapping[str, tuple[str, str]]

    @classmethod
    def load(cls, project: Project) -> Words:
        """The rows of the seed.

        Raises:
            UsageError: a row names a measure or scale that there is not, names one twice, or lacks a word.
        """
        path = project.dbt / "seeds" / SEED_FILE
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        for number, row in enumerate(rows, start=2):
            fault = _fault(row, [one["measure"] for one in rows[: number - 2]])
            if fault:
                raise UsageError(fault, where=f"{path}, line {number}", todo="docs/prediction.md#clusters")
        return cls(
            {row["measure"]: row["scale"] == "log" for row in rows},
            {row["measure"]: (row["much_en"], row["much_zh"]) for row in rows},
            {row["measure"]: (row["little_en"], row["little_zh"]) for row in rows},
        )


def names(centres: Sequence[Mapping[str, float]], words: Words) -> list[tuple[str, str]]:
    """English and Chinese name of each group.

    A name is made of the measures in which the group is furthest from the mean customer,
    told in the order of the seed, so that it does not change with the order of near ties.
    Groups that would share one get further words until they differ, and a number where all
    words are the same.

    Args:
        centres: per group its standardised centre by measure.
    """
    ranked = [_ranked(centre, words) for centre in centres]
    lengths = [min(WORDS, sum(abs(away) >= WORTH_A_WORD for away in centre.values())) for centre in centres]
    ordinary = [not length for length in lengths]
    while True:
        said = [
            (*((ORDINARY,) if plain else ()), *(word for _, word in sorted(one[:length])))
            for plain, one, length in zip(ordinary, ranked, lengths, strict=True)
        ]
        alike = [n for n, one in enumerate(ranked) if said.count(said[n]) > 1 and lengths[n] < len(one)]
        if not alike:
            return _numbered([(", ".join(en for en, _ in one), "、".join(zh for _, zh in one)) for one in said])
        for n in alike:
            lengths[n] += 1


def _ranked(centre: Mapping[str, float], words: Words) -> list[tuple[int, tuple[str, str]]]:
    """Place in the seed and words of each measure, the one furthest from the mean customer first."""
    places = [(place, name) for place, name in enumerate(words.is_log) if name in centre]
    places.sort(key=lambda one: -abs(round(centre[one[1]], 6)))
    return [(place, words.much[name] if centre[name] > 0 else words.little[name]) for place, name in places]


def _numbered(names_of_all: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Names, with a number behind each that an earlier group has already in one of the languages."""
    given: list[tuple[str, str]] = []
    for en, zh in names_of_all:
        number, name = 1, (en, zh)
        while any(name[0] == other[0] or name[1] == other[1] for other in given):
            number += 1
            name = (f"{en} ({number})", f"{zh}（{number}）")
        given.append(name)
    return given


def _fault(row: Mapping[str, str], earlier: Sequence[str]) -> str | None:
    measure = row.get("measure")
    if measure not in MEASURES:
        return f"{measure!r} is no measure of customers; there are {', '.join(MEASURES)}"
    if measure in earlier:
        return f"{measure} stands there twice"
    if row.get("scale") not in SCALES:
        return f"the scale of {measure} is {row.get('scale')!r}; it must be one of {', '.join(SCALES)}"
    lacking = [name for name in ("much_en", "much_zh", "little_en", "little_zh") if not (row.get(name) or "").strip()]
    return f"{measure} lacks {', '.join(lacking)}" if lacking else None
