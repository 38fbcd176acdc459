"""An explanation in words, in English or Chinese.

The sentences stand in ``texts.yml``; here they are chosen and filled in. Whoever shows
explanations elsewhere takes :func:`sentences`, so that there is one wording.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from strataflow import yamltext
from strataflow.report import words

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

Row = dict[str, Any]

LANGUAGES = ("en", "zh")
TEXTS = Path(__file__).parent / "texts.yml"
_CENT = Decimal("0.01")
_COMMA = {"en": ", ", "zh": "，"}


@dataclass(frozen=True)
class Speech:
    """One language, and the currency amounts are in."""

    language: str
    currency: str

    def say(self, key: str, **values: object) -> str:
        """The text of ``section.key`` with its places filled in."""
        section, _, name = key.partition(".")
        return _texts()[section][name][self.language].format_map(values)

    def name(self, row: Row) -> str:
        """The name of a class, tier, stage or tag."""
        return row[f"name_{self.language}"]

    def day(self, day: date) -> str:
        """A date as the language writes it."""
        return words.day(day).within(self.language)

    def money(self, amount: Decimal) -> str:
        """An amount to the cent, since a cent may decide."""
        return f"{amount:,.2f} {self.currency}"

    def orders(self, count: int) -> str:
        """So many more orders."""
        return self._more("orders", count)

    def interactions(self, count: int) -> str:
        """So many more interactions."""
        return self._more("interactions", count)

    def days(self, count: int) -> str:
        """So many days."""
        return self._more("days", count)

    def _more(self, what: str, count: int) -> str:
        return self.say(f"{what}.one") if count == 1 else self.say(f"{what}.many", count=f"{count:,}")

    def when(self, as_of: date, by_date: date | None) -> str:
        """From the day after ``as_of`` on, up to a last day if there is one."""
        first = as_of + timedelta(days=1)
        kind = "any" if by_date is None else "on" if by_date == first else "by"
        return self.say(f"when.{kind}", first=self.day(first), last=self.day(by_date) if by_date else "")


@cache
def _texts() -> dict[str, dict[str, dict[str, str]]]:
    return yamltext.load(TEXTS.read_text(encoding="utf-8"))


def sentences(found: Row, language: str = "en") -> dict[str, list[str]]:
    """What an explanation says beside its tables, by section.

    Args:
        found: as :func:`strataflow.explain.explained` gives it.
        language: ``en`` or ``zh``.
    """
    speech = Speech(language, found["currency"])
    return {
        "rfm_class": list(_of_class(speech, found)),
        "value_tier": list(_of_tier(speech, found)),
        "stages": [_of_stage(speech, stage) for stage in found["stages"]],
        "tags": [_why(speech, tag) for tag in found["tags"]],
        "tags_lost": [_why_not(speech, tag) for tag in found["tags_lost"]],
        "prediction": list(_of_prediction(speech, found)),
    }


def render(found: Row, console: Console, language: str = "en") -> None:
    """Print an explanation for people."""
    speech, said = Speech(language, found["currency"]), sentences(found, language)
    console.print()
    console.rule(f"[bold]{speech.say('head.customer', customer=_plain(found['customer_id']), day=found['as_of'])}[/]")
    if found["is_holdout"]:
        _print(console, [speech.say("head.holdout")])
    _title(console, speech.say("titles.rfm_class", name=speech.name(found["rfm_class"])))
    if found["lifetime_orders"]:
        console.print(_measures(speech, found))
    _print(console, said["rfm_class"])
    _title(console, speech.say("titles.value_tier", name=speech.name(found["value_tier"])))
    _print(console, said["value_tier"])
    _title(console, speech.say("titles.stages"))
    rows = zip(found["stages"], said["stages"], strict=True)
    console.print(
        _grid(
            speech,
            ("ladder", "stage", "next"),
            [(speech.say(f"ladders.{stage['ladder']}"), speech.name(stage), text) for stage, text in rows],
        )
    )
    _print_tags(console, speech, found, said)
    _title(console, speech.say("titles.prediction"))
    _print(console, said["prediction"])
    _print(console, ["", *_origin(speech, found)])


def _of_class(speech: Speech, found: Row) -> Iterator[str]:
    measures = {measure["measure"]: measure for measure in found["measures"]}
    following, scored = found["rfm_class"]["next"], bool(found["lifetime_orders"])
    rule = measures["recency"]
    if scored:
        yield speech.say(f"rules.{rule['high_rule']}", score=rule["high_score_at_least"])
    else:
        yield speech.say("rules.no_orders")
    if following:
        yield _next_class(speech, found["as_of"], following)
    else:
        is_top = all(measure["is_high"] for measure in measures.values())
        yield speech.say("rfm_class.top" if is_top else "rfm_class.unreachable")
    if scored and measures["frequency"]["missing"]:
        yield speech.say("rfm_class.frequency_missing", orders=speech.orders(measures["frequency"]["missing"]))
    if scored and measures["monetary"]["missing"]:
        yield speech.say("rfm_class.monetary_missing", amount=speech.money(measures["monetary"]["missing"]))
    if measures["recency"]["lost_date"]:
        lost, days = measures["recency"]["lost_date"], measures["recency"]["lost_in_days"]
        yield speech.say("rfm_class.recency_lost", day=speech.day(lost), days=speech.days(days))


def _next_class(speech: Speech, as_of: date, following: Row) -> str:
    kind = "next_any" if following["amount"] <= _CENT * following["orders"] else "next_amount"
    return speech.say(
        f"rfm_class.{kind}_in_all" if kind == "next_amount" and following["orders"] > 1 else f"rfm_class.{kind}",
        name=speech.name(following),
        orders=speech.orders(following["orders"]),
        amount=speech.money(following["amount"]),
        when=speech.when(as_of, following["by_date"]),
    )


def _of_tier(speech: Speech, found: Row) -> Iterator[str]:
    tier = found["value_tier"]
    yield speech.say("value_tier.why", amount=speech.money(tier["monetary"]))
    if tier["next"] is None:
        yield speech.say("value_tier.top")
        return
    yield speech.say(
        "value_tier.next",
        name=speech.name(tier["next"]),
        amount=speech.money(tier["next"]["amount"]),
        when=speech.when(found["as_of"], tier["next"]["by_date"]),
    )


def _of_stage(speech: Speech, stage: Row) -> str:
    following = stage["next"]
    if stage["ladder"] == "activity":
        return _of_activity(speech, stage)
    if following is None:
        return speech.say("stages.top")
    name = speech.name(following)
    if following.get("interactions") is not None:
        kind = "intent" if following["key"] == "intent" else "any_kind"
        return speech.say(f"stages.{kind}", name=name, interactions=speech.interactions(following["interactions"]))
    return speech.say("stages.orders", name=name, orders=speech.orders(following["orders"]))


def _of_activity(speech: Speech, stage: Row) -> str:
    parts = []
    if stage["next"]:
        parts.append(
            speech.say("stages.without", name=speech.name(stage["next"]), day=speech.day(stage["next"]["date"]))
        )
    if stage["again"]:
        parts.append(speech.say("stages.again", name=speech.name(stage["again"])))
    return _COMMA[speech.language].join(parts)


def _why(speech: Speech, tag: Row) -> str:
    """The evidence of a tag, its author, or both."""
    evidence, author = tag.get("evidence"), tag.get("tagged_by")
    # A manual tag without numbers has its author as evidence; the author is told here in full.
    parts = [evidence] if evidence and not (author and evidence.startswith(f"said by {author}")) else []
    if author:
        parts += _author(speech, tag)
    elif tag.get("since_date"):
        said = "tags.since_or_longer" if tag["may_be_longer"] else "tags.since"
        parts.append(speech.say(said, day=speech.day(tag["since_date"])))
    return _COMMA[speech.language].join(parts)


def _author(speech: Speech, tag: Row) -> Iterator[str]:
    yield speech.say("tags.author", who=tag["tagged_by"])
    if tag.get("tagged_at"):
        yield speech.say("tags.said_at", day=speech.day(tag["tagged_at"].date()))
    if tag.get("since_date"):
        yield speech.say("tags.since", day=speech.day(tag["since_date"]))
    if tag.get("expires_at"):
        yield speech.say("tags.until", day=speech.day(tag["expires_at"]))
    if tag.get("reason"):
        yield f"“{tag['reason']}”"


def _why_not(speech: Speech, tag: Row) -> str:
    against = speech.name(tag["against"]) if tag["against"] else ""
    lost = speech.say(f"lost.{tag['conflict']}", against=against)
    why = _why(speech, tag)
    return f"{lost} ({why})" if why and speech.language == "en" else f"{lost}（{why}）" if why else lost


def _of_prediction(speech: Speech, found: Row) -> Iterator[str]:
    churn, value = found["churn"], found["lifetime_value"]
    if churn is None:
        yield speech.say("prediction.none")
        return
    yield speech.say("prediction.churn", percent=words.percent(churn["probability"]), days=churn["horizon_days"])
    if churn["model"] and churn["model"] != "baseline":
        yield speech.say("prediction.model", model=churn["model"])
    else:
        yield speech.say("prediction.estimate")
    if churn["rank"]:
        reasons = words.reasons(churn["reasons"]).within(speech.language)
        yield speech.say("prediction.rank", rank=f"{churn['rank']:,}", of=f"{churn['of']:,}", reasons=reasons)
    action = churn["suggested_action_zh" if speech.language == "zh" else "suggested_action"]
    if action:
        yield speech.say("prediction.action", action=action)
    if value:
        low, high = value["expected_value_low"], value["expected_value_high"]
        known = low is not None and high is not None
        yield speech.say(
            "prediction.value_between" if known else "prediction.value",
            amount=speech.money(value["expected_value"]),
            days=f"{value['horizon_days']:,}",
            low=speech.money(low) if known else "",
            high=speech.money(high) if known else "",
        )


def _measures(speech: Speech, found: Row) -> Table:
    by_value = found["measures"][0]["high_rule"] == "value_mean"
    mean = "mean_value" if by_value else "mean_score"
    rows = [
        (
            speech.say(f"measures.{measure['measure']}"),
            _value(speech, measure),
            " · ".join(_number(cutoff) for cutoff in measure["cutoffs"]),
            f"{measure['score']}",
            f"{measure[mean]:,.2f}",
            speech.say("words.high" if measure["is_high"] else "words.low"),
        )
        for measure in found["measures"]
    ]
    return _grid(speech, ("measure", "value", "cutoffs", "score", mean, "flag"), rows)


def _value(speech: Speech, measure: Row) -> str:
    if measure["measure"] == "recency":
        return speech.days(measure["value"])
    return speech.money(measure["value"]) if measure["measure"] == "monetary" else f"{measure['value']:,}"


def _number(cutoff: Decimal) -> str:
    """A cut-off as short as it is exact."""
    return f"{cutoff:,.2f}".removesuffix(".00")


def _print_tags(console: Console, speech: Speech, found: Row, said: dict[str, list[str]]) -> None:
    for part in ("tags", "tags_lost"):
        if not found[part]:
            continue
        _title(console, speech.say(f"titles.{part}"))
        rows = [
            (_tag(speech, tag), speech.say(f"words.{tag['source']}"), text)
            for tag, text in zip(found[part], said[part], strict=True)
        ]
        console.print(_grid(speech, ("tag", "source", "why"), rows))


def _tag(speech: Speech, tag: Row) -> str:
    name = speech.name(tag) if tag.get("tag_id") else tag["tag_text"]
    return f"{name}: {tag['tag_value']}" if tag.get("tag_value") else name


def _origin(speech: Speech, found: Row) -> Iterator[str]:
    yield speech.say("head.version", version=found["version"])
    if found["known_at"] != found["as_of"]:
        yield speech.say("head.known_at", day=speech.day(found["known_at"]))


def _grid(speech: Speech, columns: Iterable[str], rows: Iterable[Iterable[str]]) -> Table:
    from strataflow.summary import table

    grid = table("")
    grid.title = None
    for column in columns:
        justify = "right" if column in ("value", "score") else "left"
        # Rich cuts what it would otherwise break in the middle of wide characters, and puts … in their place.
        grid.add_column(speech.say(f"columns.{column}"), justify=justify, overflow="fold")
    for row in rows:
        grid.add_row(*(_plain(cell) for cell in row))
    return grid


def _title(console: Console, text: str) -> None:
    console.print(f"\n[bold]{_plain(text)}[/]", highlight=False)


def _print(console: Console, lines: Iterable[str]) -> None:
    for line in lines:
        console.print(f"  {line}" if line else "", highlight=False, markup=False, soft_wrap=True)


def _plain(text: str) -> str:
    """Text of the data, in which brackets are no markup."""
    from rich.markup import escape

    return escape(text)
