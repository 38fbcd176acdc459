"""What shop is asked for, and the calendar it lives by.

A size names customers and a daily volume, not a total: a history of another
length then has the same days, only more or fewer of them, which is what a test
of growth needs.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

from strataflow.errors import UsageError

USUAL_DAYS = 1096
USUAL_START = date(2023, 1, 1)
# Customers who register in the course of the usual history; the rest are there on its first day.
USUAL_ARRIVALS = 0.65
SIZES = {
    # customers, orders and interactions in the usual history
    "S": (20_000, 200_000, 400_000),
    "M": (200_000, 2_000_000, 4_000_000),
    "L": (2_000_000, 20_000_000, 40_000_000),
}
LEVELS = ("orders", "lines")
FORMATS = ("parquet", "csv", "csv.gz")
DAY = 86_400
# Local seconds of any moment must fit 31 bits.
MOST_DAYS = 12_000

WEEKDAY_PULL = (0.95, 0.93, 0.95, 0.98, 1.08, 1.20, 1.10)
# Shopping holidays: (month, first day, last day, factor).
HOLIDAYS = ((6, 16, 18, 1.4), (11, 9, 12, 1.8), (12, 10, 12, 1.3))
CONSUMER_HOURS = (5, 3, 2, 1, 1, 2, 6, 14, 24, 34, 42, 48, 55, 46, 40, 40, 42, 46, 56, 72, 86, 80, 52, 20)
OFFICE_HOURS = (0, 0, 0, 0, 0, 0, 1, 4, 30, 80, 90, 70, 20, 40, 85, 85, 70, 40, 10, 4, 2, 1, 0, 0)
SENDING_HOURS = (0, 0, 0, 0, 0, 0, 0, 0, 5, 60, 80, 20, 5, 2, 2, 10, 20, 20, 10, 2, 0, 0, 0, 0)


@dataclass(frozen=True)
class Plan:
    """All parameters of one shop; equal plans give equal bytes.

    Attributes:
        customers: number of customers.
        orders: distinct good orders.
        interactions: distinct good interactions.
        days: length of the history.
        start: first business day.
        seed: seed of all randomness.
        level: ``orders`` or ``lines``.
        file_format: ``parquet``, ``csv`` or ``csv.gz``.
        dirt: broken rows per good row.
        founders: share of customers registered before ``start``.
        time_zone: IANA zone of the business day.
        currency: ISO 4217 code.
        late: share of rows delivered after their business day.
        refunds: share of orders refunded later, a third of them in full.
        corrections: share of orders whose amount a later version changes.
        cancellations: share of orders first delivered as pending, later as cancelled.
        repeated: share of rows delivered twice in one file.
        redelivered: share of rows delivered again, unchanged, on a later day.
    """

    customers: int
    orders: int
    interactions: int
    days: int
    start: date
    seed: int
    level: str
    file_format: str
    dirt: float
    founders: float
    time_zone: str
    currency: str
    late: float = 0.01
    refunds: float = 0.03
    corrections: float = 0.005
    cancellations: float = 0.01
    repeated: float = 0.001
    redelivered: float = 0.002

    @property
    def has_lines(self) -> bool:
        """Whether baskets are drawn and delivered line by line."""
        return self.level == "lines"

    def as_dict(self) -> dict[str, Any]:
        """The parameters as plain values."""
        return {**asdict(self), "start": str(self.start)}


def make_plan(
    *,
    size: str,
    customers: int | None,
    orders: int | None,
    interactions: int | None,
    days: int,
    start: date | None,
    founders: float | None,
    **rest: Any,
) -> Plan:
    """Fill in what a size implies, and refuse what can't be drawn.

    Raises:
        UsageError: a value is unknown or out of range.
    """
    if size not in SIZES:
        raise UsageError(f"unknown size {size!r}", todo=f"take one of {', '.join(SIZES)}")
    if not 1 <= days <= MOST_DAYS:
        raise UsageError(f"a history of {days:,} days can't be drawn", todo=f"take 1 to {MOST_DAYS:,} days")
    usual_customers, usual_orders, usual_interactions = SIZES[size]
    share = days / USUAL_DAYS
    plan = Plan(
        customers=usual_customers if customers is None else customers,
        orders=round(usual_orders * share) if orders is None else orders,
        interactions=round(usual_interactions * share) if interactions is None else interactions,
        days=days,
        start=start or USUAL_START,
        founders=max(0.05, 1 - USUAL_ARRIVALS * share) if founders is None else founders,
        **rest,
    )
    _check(plan)
    return plan


def _check(plan: Plan) -> None:
    limits = {
        "customers": (1, 80_000_000),
        "orders": (1, 500_000_000),
        "interactions": (0, 1_000_000_000),
        "dirt": (0, 0.2),
        "founders": (0, 1),
        "seed": (0, 2**63),
    }
    for name, (least, most) in limits.items():
        value = getattr(plan, name)
        if not least <= value <= most:
            raise UsageError(f"{name} is {value:,}", todo=f"give a value from {least:,} to {most:,}")
    for name, allowed in (("level", LEVELS), ("file_format", FORMATS)):
        if getattr(plan, name) not in allowed:
            raise UsageError(f"unknown {name} {getattr(plan, name)!r}", todo=f"take one of {', '.join(allowed)}")
    try:
        ZoneInfo(plan.time_zone)
    except (OSError, ValueError, KeyError) as unknown:
        raise UsageError(
            f"unknown time zone {plan.time_zone!r}", todo="give an IANA name such as Asia/Shanghai"
        ) from unknown


class Calendar:
    """The days of a history: dates, pull of the season, and what UTC instant a local moment is.

    Moments inside the package are seconds since the first local midnight, 86,400 to every day.
    Only on writing do they become UTC, so days with a change of the clock keep their date.
    """

    def __init__(self, plan: Plan) -> None:
        self.days = plan.days
        self.start = plan.start
        self.dates = [plan.start + timedelta(days=n) for n in range(plan.days)]
        zone = ZoneInfo(plan.time_zone)
        self._before = _DAYS_BEFORE
        first = plan.start - timedelta(days=self._before)
        midnights = [first + timedelta(days=n) for n in range(self._before + plan.days + 1)]
        self._midnight_utc = np.array([_instant(day, zone) for day in midnights], dtype=np.int64)
        self._day_length = np.diff(self._midnight_utc)
        self.pull = np.array([season_pull(day) for day in self.dates])

    def utc(self, moments: np.ndarray) -> np.ndarray:
        """UTC seconds since 1970 (int64) of local moments."""
        day = moments // DAY + self._before
        second = np.minimum(moments % DAY, self._day_length.take(day) - 1)
        return self._midnight_utc.take(day) + second

    def epoch_days(self, days: np.ndarray) -> np.ndarray:
        """Days since 1970 (int32) of day numbers of this history."""
        return (days + (self.start - date(1970, 1, 1)).days).astype(np.int32)


# How long before the first day a founder may have registered.
_DAYS_BEFORE = 730


def _instant(day: date, zone: ZoneInfo) -> int:
    local_midnight = datetime(day.year, day.month, day.day, tzinfo=zone)
    return int(local_midnight.astimezone(UTC).timestamp())


def season_pull(day: date) -> float:
    """How strongly a day draws orders, about 1: weekday, time of year, shopping holidays."""
    yearly = 1 + 0.12 * math.cos(2 * math.pi * (day.timetuple().tm_yday - 340) / 365.25)
    holiday = 1.0
    for month, first, last, factor in HOLIDAYS:
        if day.month == month and first <= day.day <= last:
            holiday = factor
    return WEEKDAY_PULL[day.weekday()] * yearly * holiday


def second_table(hour_weights: tuple[int, ...]) -> np.ndarray:
    """65,536 seconds of the day (int32), as dense in each hour as its weight: draw one by a 16-bit number."""
    edges = np.concatenate([[0.0], np.cumsum(hour_weights, dtype=np.float64)])
    levels = (np.arange(65_536) + 0.5) / 65_536 * edges[-1]
    return np.interp(levels, edges, np.arange(25) * 3600.0).astype(np.int32)


def founding_days() -> int:
    """How many days before the first one a founder may have registered."""
    return _DAYS_BEFORE
