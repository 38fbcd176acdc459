"""The headline numbers, and how each moved since the last published day."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

from strataflow.report.blocks import Card, Cards, Section
from strataflow.report.sections.subject import Overview, Subject, section
from strataflow.report.words import Both, amounts, count, joined, money, percent, say, share, signed


def today(subject: Subject, overview: Overview) -> Section:
    """The headline numbers, each with how it moved since the last published day."""
    now = overview.now
    lead = "today" if now.buyers else "today_no_orders"
    values = {
        "buyers": count(now.buyers),
        "customers": count(now.customers),
        "window": subject.window_days,
        "share": percent(share(now.top_revenue, now.revenue)),
    }
    return section("today", say(f"leads.{lead}", **values), [Cards(_cards(subject, overview))])


def _cards(subject: Subject, overview: Overview) -> list[Card]:
    now, currency = overview.now, subject.currency
    window = say("cards.window", window=subject.window_days)
    each_buyer, each_order = share(now.revenue, now.buyers), share(now.revenue, now.orders)
    of_revenue = percent(share(now.revenue_of_leavers, now.revenue))
    notes = {
        "buyers": _note("buyers", now.customers, share=percent(share(now.buyers, now.customers))),
        "revenue": _note("revenue", now.buyers, each=money(each_buyer, currency)),
        "orders": _note("orders", now.orders, each=money(each_order, currency)),
        "top_revenue": _note("top_revenue", now.revenue, customers=count(now.top_customers)),
        "revenue_of_leavers": _note("revenue_of_leavers", now.revenue and now.likely_to_leave, share=of_revenue),
    }
    return [
        _counted(overview, "customers"),
        _counted(overview, "buyers", notes["buyers"], window),
        _earned(overview, "revenue", currency, notes["revenue"], window),
        _counted(overview, "orders", notes["orders"], window),
        _shared(overview, "bought_again", "ever_bought", say("cards.bought_again_note")),
        _shared(overview, "top_revenue", "revenue", notes["top_revenue"]),
        _counted(overview, "likely_to_leave", say("cards.likely_to_leave_note")),
        _earned(overview, "revenue_of_leavers", currency, notes["revenue_of_leavers"]),
    ]


def _note(key: str, of_whom: Decimal | int, **values: str) -> Both | None:
    """What stands below a headline number, unless there is nothing that it could speak of."""
    return say(f"cards.{key}_note", **values) if of_whom else None


def _counted(overview: Overview, measure: str, note: Both | None = None, label: Both | None = None) -> Card:
    """A count, and how many more or fewer they are than on the last published day."""
    now, change = _moved(overview, measure)
    return _card(overview, measure, count(now), note, change, None if change is None else signed(change), label)


def _earned(overview: Overview, measure: str, currency: str, note: Both | None, label: Both | None = None) -> Card:
    """An amount, and how it moved, written alike."""
    now, change = _moved(overview, measure)
    shown, moved = amounts([now, change])
    sign = "" if change is None or change < 0 else "+" if change else "±"
    card = _card(overview, measure, shown, note, change, None if change is None else sign + moved, label)
    return replace(card, unit=currency)


def _shared(overview: Overview, part: str, whole: str, note: Both | None) -> Card:
    """A share, and how many points it moved."""
    days = [each for each in (overview.now, overview.before) if each]
    shares = [share(getattr(each, part), getattr(each, whole)) for each in days]
    change = None if None in shares or len(shares) < len(("now", "before")) else round((shares[0] - shares[1]) * 100, 2)
    text = None
    if change is not None:
        text = say("cards.points", change=f"{change:+}".replace("-", "−") if change else "±0")
    return _card(overview, part, percent(shares[0]), note, change, text)


def _moved(overview: Overview, measure: str) -> tuple[Any, Any]:
    """A headline number, and its change since the last published day if there is one."""
    now = getattr(overview.now, measure)
    return now, None if overview.before is None else now - getattr(overview.before, measure)


def _card(
    overview: Overview, key: str, value: str, note: Both | None,
    change: Decimal | int | None, words: str | Both | None, label: Both | None = None,
) -> Card:  # fmt: skip
    title = say(f"cards.{key}")
    return Card(
        key=key,
        label=joined([title, label], ", ", "，") if label else title,
        value=value,
        note=note,
        change=words,
        since=say("cards.since", day=str(overview.earlier.day)) if overview.earlier and words else None,
        direction="up" if change and change > 0 else "down" if change and change < 0 else "none",
    )
