"""What the page says, in English and Chinese, and how it writes numbers.

Both languages are on the page at once and a switch shows one of them, so every
text is a pair. The sentences stand in ``texts.yml``, where someone who speaks
the language can mend them without reading Python.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from functools import cache
from html import escape
from pathlib import Path
from types import MappingProxyType
from typing import Any

from strataflow import yamltext

LANGUAGES = ("en", "zh")
TEXTS = Path(__file__).parent / "texts.yml"
# What stands where there is no value.
NOTHING = "–"
_CENTS_BELOW = 10_000
# Written out, because strftime follows the locale of the machine.
_MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip


@dataclass(frozen=True)
class Both:
    """One text in English and Chinese; written into a page it is escaped and both are there."""

    en: str
    zh: str

    def __html__(self) -> str:
        """Markup that shows the language chosen on the page; text that is equal in both stands once."""
        if self.en == self.zh:
            return escape(self.en)
        return f'<span lang="en">{escape(self.en)}</span><span lang="zh-Hans">{escape(self.zh)}</span>'

    def within(self, language: str) -> str:
        """The text in one language."""
        return self.en if language == "en" else self.zh


def name_of(row: Mapping[str, Any]) -> Both:
    """The name that a seed gives in its columns ``name_en`` and ``name_zh``."""
    return Both(str(row["name_en"]), str(row["name_zh"]))


@cache
def texts() -> Mapping[str, Both]:
    """All texts of the page by key, as ``section.text``."""
    content = yamltext.load(TEXTS.read_text(encoding="utf-8"))
    return MappingProxyType(
        {f"{section}.{key}": Both(**pair) for section, pairs in content.items() for key, pair in pairs.items()}
    )


def say(key: str, **values: object) -> Both:
    """The text of ``key`` with its ``{places}`` filled in.

    Args:
        values: numbers and text as they are to stand, or :class:`Both` to stand in each language as it says.

    Raises:
        KeyError: there is no such text, or a place is left empty.
    """
    text = texts()[key]
    return Both(*(_filled(text.within(language), language, values) for language in LANGUAGES))


def say_if_known(group: str, key: str) -> Both:
    """The text of ``group.key``, else the key itself with blanks for underscores (an analyst's own word)."""
    words = str(key).replace("_", " ")
    return texts().get(f"{group}.{key}", Both(words, words))


def reasons(text: str | None) -> Both:
    """``code: words; code: words``, as churn_risk has them; words of a code that is not known stay as they are."""
    found = [reason.partition(": ")[::2] for reason in (text or "").split("; ") if reason]
    if not found:
        return Both(NOTHING, NOTHING)
    return joined([_reason(code, words) for code, words in found], "; ", "；")


def _reason(code: str, words: str) -> Both:
    numbers = dict(zip(("first", "second"), re.findall(r"\d[\d.,]*\d|\d", words), strict=False))
    try:
        return say(f"reason_words.{code}", words=words, **numbers)
    except KeyError:
        name = say_if_known("reasons", code)
        return Both(*(f"{name.within(each)}: {words}" if words else name.within(each) for each in LANGUAGES))


def _filled(text: str, language: str, values: Mapping[str, object]) -> str:
    plain = {name: value.within(language) if isinstance(value, Both) else value for name, value in values.items()}
    return text.format_map(plain)


def joined(texts: Iterable[Both], english: str = " ", chinese: str = "") -> Both:
    """Several texts as one, with what stands between them in each language."""
    listed = list(texts)
    return Both(english.join(text.en for text in listed), chinese.join(text.zh for text in listed))


def count(number: int | None) -> str:
    """1234 as ``1,234``."""
    return NOTHING if number is None else f"{number:,}"


def signed(number: int) -> str:
    """A change: ``+3``, ``−3``, ``±0``."""
    return f"{'+' if number > 0 else '−' if number < 0 else '±'}{abs(number):,}"


def amount(value: Decimal | None) -> str:
    """Money without its currency; cents only where the amount is small."""
    return amounts([value])[0]


def amounts(values: Iterable[Decimal | None]) -> list[str]:
    """A column of money; cents only where all amounts are small, so that a column looks alike."""
    listed = list(values)
    largest = max((abs(value) for value in listed if value is not None), default=Decimal(0))
    step = Decimal("0.01") if largest < _CENTS_BELOW else Decimal(1)
    return [NOTHING if value is None else f"{rounded(value, step):,}".replace("-", "−") for value in listed]


def money(value: Decimal | None, currency: str) -> str:
    """Money with its currency, ``1,234.50 EUR``."""
    return NOTHING if value is None else f"{amount(value)} {currency}"


def share(part: Decimal | int, whole: Decimal | int) -> Decimal | None:
    """``part`` of ``whole`` as an exact fraction; None of nothing."""
    return Decimal(part) / Decimal(whole) if whole else None


def percent(fraction: Decimal | float | None, digits: int = 1) -> str:
    """0.1234 as ``12.3%``; what is not quite all or none never reads as if it were."""
    if fraction is None:
        return NOTHING
    exact, whole = Decimal(str(fraction)) * 100, Decimal(100)
    step = Decimal(1).scaleb(-digits)
    shown = rounded(exact, step)
    if shown == 0 and exact > 0:
        return f"<{step}%"
    if shown == whole and exact < whole:
        return f">{whole - step}%"
    return f"{shown:,}%".replace("-", "−")


def day(value: date | None) -> Both:
    """A date as each language writes it."""
    if value is None:
        return Both(NOTHING, NOTHING)
    return Both(f"{value.day} {_MONTHS[value.month - 1]} {value.year}", f"{value.year}年{value.month}月{value.day}日")


def short_day(value: date | None) -> str:
    """A date for a table, ``2024-01-31``."""
    return NOTHING if value is None else str(value)


def month(value: date) -> Both:
    """A month as each language writes it."""
    return Both(f"{_MONTHS[value.month - 1][:3]} {value.year}", f"{value.year}年{value.month}月")


def rounded(value: Decimal, step: Decimal) -> Decimal:
    """``value`` to a multiple of ``step`` as people round, halves away from zero."""
    return value.quantize(step, rounding=ROUND_HALF_UP)
