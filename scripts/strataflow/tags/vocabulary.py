"""Finding the tag that a text means, on a day: surely, or not at all."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

from strataflow.project import Project
from strataflow.tags.lint import problems, refused
from strataflow.tags.seeds import Period, Rows, read
from strataflow.tags.spelling import fold


@dataclass(frozen=True)
class Nearest:
    """A tag that a text may have meant.

    Attributes:
        score: likeness from 0 to 1; 1 is the very word.
        spelling: the tag's id, name or alias that is so near, as it is written in the seed.
    """

    tag_id: str
    score: float
    spelling: str


@dataclass(frozen=True)
class _Meaning:
    tag_id: str
    spelling: str
    period: Period


class Vocabulary:
    """All words for all tags: ids, names in both languages, aliases."""

    def __init__(self, rows: Rows) -> None:
        tags = {tag.tag_id: tag.period for tag in rows.tags}
        self._meanings: dict[str, list[_Meaning]] = {}
        for tag in rows.tags:
            for text in (tag.tag_id, tag.name_en, tag.name_zh):
                self._add(text, tag.tag_id, tag.period)
        for alias in rows.aliases:
            target = tags[alias.tag_id]
            both = Period(max(alias.period.first, target.first), min(alias.period.last, target.last))
            self._add(alias.alias, alias.tag_id, both)

    @classmethod
    def load(cls, project: Project) -> Vocabulary:
        """The project's vocabulary.

        Raises:
            UsageError: a seed can't be read, or the vocabulary has problems (:func:`strataflow.tags.lint`);
                the message names the rows.
        """
        rows = read(project)
        found = problems(rows)
        if found:
            raise refused(found)
        return cls(rows)

    def match(self, text: str, on: date) -> str | None:
        """The tag_id that the text means on a day; None if nothing is written so, however near it comes."""
        meant = {meaning.tag_id for meaning in self._meanings.get(fold(text), ()) if meaning.period.holds(on)}
        return meant.pop() if len(meant) == 1 else None

    def nearest(self, text: str, count: int = 3, *, on: date | None = None) -> list[Nearest]:
        """The tags that come nearest to a text, the best first, ties by tag_id: for a person to choose from.

        Likeness is Ratcliff and Obershelp's (:class:`difflib.SequenceMatcher`) of the folded texts, rounded
        to four digits; a tag counts with its nearest spelling.

        Args:
            on: leave out what is not in use on that day.
        """
        from difflib import SequenceMatcher

        matcher = SequenceMatcher(autojunk=False)
        matcher.set_seq2(fold(text))
        best: dict[str, Nearest] = {}
        for word, meaning in self._words(on):
            matcher.set_seq1(word)
            found = Nearest(meaning.tag_id, round(matcher.ratio(), 4), meaning.spelling)
            if meaning.tag_id not in best or found.score > best[meaning.tag_id].score:
                best[meaning.tag_id] = found
        return sorted(best.values(), key=lambda near: (-near.score, near.tag_id))[:count]

    def _words(self, on: date | None) -> Iterable[tuple[str, _Meaning]]:
        for word, meanings in self._meanings.items():
            for meaning in meanings:
                if on is None or meaning.period.holds(on):
                    yield word, meaning

    def _add(self, text: str, tag_id: str, period: Period) -> None:
        self._meanings.setdefault(fold(text), []).append(_Meaning(tag_id, text, period))
