"""Finding the tag that a text means, on a day: surely, or not at all."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta

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
class Meaning:
    """What a text says during a period; ``value`` is None where it names a tag alone."""

    tag_id: str
    value: str | None
    period: Period


@dataclass(frozen=True)
class _Meaning:
    tag_id: str
    spelling: str
    period: Period


class Vocabulary:
    """All words for all tags: ids, names in both languages, aliases."""

    def __init__(self, rows: Rows) -> None:
        tags = {tag.tag_id: tag.period for tag in rows.tags}
        self._with_value = {tag.tag_id for tag in rows.tags if tag.value_kind == "value"}
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
        return cls.of(read(project))

    @classmethod
    def of(cls, rows: Rows) -> Vocabulary:
        """The vocabulary that the rows of the two seeds make.

        Raises:
            UsageError: as :meth:`load`.
        """
        found = problems(rows)
        if found:
            raise refused(found)
        return cls(rows)

    def match(self, text: str, on: date) -> str | None:
        """The tag_id that the text means on a day; None if nothing is written so, however near it comes."""
        meant = {meaning.tag_id for meaning in self._meanings.get(fold(text), ()) if meaning.period.holds(on)}
        return meant.pop() if len(meant) == 1 else None

    def meanings(self, text: str) -> tuple[Meaning, ...]:
        """All that the text says on some day, in order of days; on no day two things.

        The whole text is looked up first. If nobody ever meant anything by it, and it holds a colon or an
        equals sign, what stands before the first of them is looked up among the tags with a value, and what
        follows is the value, as typed.
        """
        found = self._periods(fold(text))
        if found:
            return tuple(Meaning(tag_id, None, period) for tag_id, period in found)
        name, value = split(text)
        if not value:
            return ()
        named = [(tag_id, period) for tag_id, period in self._periods(fold(name)) if tag_id in self._with_value]
        return tuple(Meaning(tag_id, value, period) for tag_id, period in named)

    def understand(self, text: str, on: date) -> Meaning | None:
        """What the text says on a day, None if nothing is written so."""
        return next((meaning for meaning in self.meanings(text) if meaning.period.holds(on)), None)

    def needs_value(self, tag_id: str) -> bool:
        """Whether the tag says something only together with a value."""
        return tag_id in self._with_value

    def _periods(self, word: str) -> list[tuple[str, Period]]:
        """The tags a folded word means, each with its periods, joined where they meet."""
        joined: list[tuple[str, Period]] = []
        known = self._meanings.get(word, ())
        for meaning in sorted(known, key=lambda one: (one.tag_id, one.period.first, one.period.last)):
            tag_id, period = meaning.tag_id, meaning.period
            if joined and joined[-1][0] == tag_id and _meet(joined[-1][1], period):
                period = Period(joined[-1][1].first, max(joined.pop()[1].last, period.last))
            joined.append((tag_id, period))
        return sorted(joined, key=lambda one: (one[1].first, one[0]))

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
        least = -1.0
        for word, meaning in self._words(on):
            matcher.set_seq1(word)
            # Bounds of the likeness cost a fraction of it; the small change is for rounding.
            if min(matcher.real_quick_ratio(), matcher.quick_ratio()) < least - 1e-3:
                continue
            found = Nearest(meaning.tag_id, round(matcher.ratio(), 4), meaning.spelling)
            if meaning.tag_id not in best or found.score > best[meaning.tag_id].score:
                best[meaning.tag_id] = found
                scores = sorted((near.score for near in best.values()), reverse=True)
                least = scores[count - 1] if len(scores) >= count else least
        return sorted(best.values(), key=lambda near: (-near.score, near.tag_id))[:count]

    def _words(self, on: date | None) -> Iterable[tuple[str, _Meaning]]:
        for word, meanings in self._meanings.items():
            for meaning in meanings:
                if on is None or meaning.period.holds(on):
                    yield word, meaning

    def _add(self, text: str, tag_id: str, period: Period) -> None:
        self._meanings.setdefault(fold(text), []).append(_Meaning(tag_id, text, period))


def split(text: str) -> tuple[str, str]:
    """The name and the value in a text such as ``region: Berlin`` or ``地区＝柏林``; no value without such a sign.

    The sign is the first colon or equals sign of any width; blanks around both parts go.
    """
    for place, character in enumerate(text):
        if unicodedata.normalize("NFKC", character) in (":", "="):
            value = text[place + 1 :].strip()
            return text[:place].strip(), value if fold(value) else ""
    return text, ""


def _meet(earlier: Period, later: Period) -> bool:
    """Whether the later period begins in the earlier one or on the day after it."""
    return earlier.last == date.max or later.first <= earlier.last + timedelta(days=1)
