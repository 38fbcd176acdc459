"""Who the customers are: behaviour, arrival, departure, rhythm and spending, and who brought whom.

The model is the one the literature on repeat buying uses (Pareto/NBD, after
Schmittlein, Morrison and Colombo 1987): each customer buys at a rate of their
own, gamma distributed, and leaves after a time of their own, exponential with
a gamma distributed rate, so that lives have a heavy tail. Spending is
lognormal, between customers and between one customer's orders. Seven kinds of
behaviour with their own parameters are mixed, because one law for all gives
neither a shop's many one-time buyers nor its few very good customers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from strataflow.generate.plan import (
    CONSUMER_HOURS,
    DAY,
    OFFICE_HOURS,
    Calendar,
    Plan,
    founding_days,
    second_table,
)
from strataflow.generate.randomness import Columns, bernoulli, geometric_days, stream

NEVER = 1 << 24  # a day number beyond any history


@dataclass(frozen=True)
class Behaviour:
    """How one kind of customer behaves.

    Attributes:
        name: key in the truth.
        share: part of all customers.
        buys: whether they order at all.
        repeats: whether they order again.
        rate: mean orders a year relative to the other kinds.
        rate_shape: gamma shape of the rate between customers (smaller: more unequal).
        life_days: mean time as a customer.
        order_size: median amount of an order (whole currency units).
        coupon: probability to answer a campaign with an order.
        browsing: interactions a day relative to the other kinds.
        sociability: how likely they are to invite others.
        office: whether they act in office hours.
    """

    name: str
    share: float
    buys: bool = True
    repeats: bool = True
    rate: float = 0
    rate_shape: float = 1
    life_days: float = 1
    order_size: float = 120
    coupon: float = 0
    browsing: float = 1
    sociability: float = 1
    office: bool = False


BEHAVIOURS = (
    Behaviour("browser", 0.12, buys=False, repeats=False, life_days=120, browsing=2.0, sociability=0.5),
    Behaviour("one_time", 0.28, repeats=False, life_days=60, browsing=0.6, sociability=0.5),
    Behaviour("occasional", 0.30, rate=1, rate_shape=1.2, life_days=700, coupon=0.08),
    Behaviour("bargain_hunter", 0.12, rate=1.5, rate_shape=1.5, life_days=600, order_size=80, coupon=0.35),
    Behaviour("regular", 0.13, rate=4, rate_shape=2, life_days=1100, coupon=0.12, browsing=2, sociability=2),
    Behaviour(
        "loyal", 0.03, rate=10, rate_shape=2, life_days=2000, order_size=150, coupon=0.10,
        browsing=6, sociability=6,
    ),
    Behaviour(
        "business", 0.02, rate=1.2, rate_shape=1.2, life_days=1500, order_size=900, coupon=0.01,
        browsing=1.5, office=True,
    ),
)  # fmt: skip

CHANNELS = ("web", "app", "shop", "wechat")
SOURCE_CHANNELS = ("search", "advert", "shop", "wechat", "event", "referral")
REFERRAL = SOURCE_CHANNELS.index("referral")
REGIONS = ("north", "east", "south", "central", "southwest", "northwest", "northeast", "abroad")
INDUSTRIES = ("retail", "catering", "education", "construction", "health", "logistics")

CHANNEL_WEIGHTS = (0.35, 0.30, 0.20, 0.15)
SOURCE_WEIGHTS = (0.35, 0.25, 0.20, 0.15, 0.05)
REGION_WEIGHTS = (0.16, 0.28, 0.22, 0.13, 0.09, 0.05, 0.05, 0.02)
INDUSTRY_WEIGHTS = (0.30, 0.20, 0.15, 0.15, 0.10, 0.10)

DROPOUT_SHAPE = 2.0
SPEND_SPREAD = 0.5
REFERRED_SHARE = 0.06
TALK_SHAPE = 0.2
SAME_DAY_SHARE = 0.6
MEAN_DAYS_TO_FIRST_ORDER = 6
MOVING_SHARE = 0.02
FOUNDERS_LAST_ORDER_DAYS = 365


def trait(name: str) -> np.ndarray:
    """One attribute of all behaviours, to be looked up by behaviour number."""
    return np.array([getattr(behaviour, name) for behaviour in BEHAVIOURS])


def draw_customers(plan: Plan, calendar: Calendar) -> Columns:
    """Draw all customers, numbered in the order in which they registered.

    Returns:
        Columns of ``plan.customers`` rows:
        behaviour, channel, region, source, industry, favourite (small numbers);
        registered (local second, negative before the history);
        begin and end (the days on which repeat orders are possible: after the first order, before leaving);
        first_day (day of the one order that is certain, ``NEVER`` if none is);
        first_second (its second of the day);
        rate (orders, relative), dropout (per day), log_spend (log of the median order in cents);
        referrer (customer number, -1 if none); moves_day and new_region.
    """
    count = plan.customers
    registered_day = _registration_days(plan, calendar)
    behaviour = _choices(plan, "behaviour", trait("share"), count)
    certain = _first_orders(plan, registered_day, behaviour)
    lives = _lives(plan, registered_day, behaviour, certain["first_day"])
    source = _choices(plan, "source", SOURCE_WEIGHTS, count)
    referrer = _referrers(plan, registered_day, behaviour)
    source[referrer >= 0] = REFERRAL
    return {
        "behaviour": behaviour,
        "channel": _choices(plan, "channel", CHANNEL_WEIGHTS, count),
        "region": _choices(plan, "region", REGION_WEIGHTS, count),
        "industry": _choices(plan, "industry", INDUSTRY_WEIGHTS, count),
        "favourite": stream(plan.seed, "favourite").integers(0, 65_536, count, dtype=np.uint16),
        "source": source,
        "referrer": referrer,
        **certain,
        **lives,
        **_moves(plan, registered_day),
    }


def _choices(plan: Plan, name: str, weights: tuple[float, ...] | np.ndarray, count: int) -> np.ndarray:
    edges = np.cumsum(np.asarray(weights, dtype=np.float64))
    levels = stream(plan.seed, "choice", name).random(count) * edges[-1]
    return np.minimum(np.searchsorted(edges, levels, side="right"), len(edges) - 1).astype(np.uint8)


def _registration_days(plan: Plan, calendar: Calendar) -> np.ndarray:
    """Day of registration of each customer, ascending; founders before day 0."""
    draw = stream(plan.seed, "registration")
    founders = round(plan.customers * plan.founders)
    before = draw.integers(-founding_days(), 0, founders, dtype=np.int32)
    edges = np.cumsum(calendar.pull)
    levels = draw.random(plan.customers - founders) * edges[-1]
    after = np.minimum(np.searchsorted(edges, levels, side="right"), plan.days - 1).astype(np.int32)
    days = np.concatenate([before, after])
    days.sort()
    return days


def _first_orders(plan: Plan, registered_day: np.ndarray, behaviour: np.ndarray) -> Columns:
    """The one order that is certain: of newcomers who buy soon after they registered, and of those who buy once."""
    draw = stream(plan.seed, "first order")
    count = plan.customers
    later = 1 + geometric_days(draw, count, MEAN_DAYS_TO_FIRST_ORDER, 20 * MEAN_DAYS_TO_FIRST_ORDER)
    lag = np.where(draw.random(count) < SAME_DAY_SHARE, 0, later)
    somewhere = draw.integers(0, FOUNDERS_LAST_ORDER_DAYS, count, dtype=np.int32)
    founder = registered_day < 0
    buys, repeats = trait("buys")[behaviour], trait("repeats")[behaviour]
    first_day = np.where(founder, somewhere, registered_day + lag).astype(np.int32)
    first_day[~buys | (founder & repeats)] = NEVER
    second = _seconds(draw, behaviour, count)
    # Who orders on the day of registration registers up to half an hour before.
    minutes_before = draw.integers(60, 1800, count, dtype=np.int32)
    same_day = first_day == registered_day
    registered_second = np.where(same_day, np.maximum(second - minutes_before, 0), _seconds(draw, behaviour, count))
    return {
        "registered": (registered_day * DAY + registered_second).astype(np.int32),
        "first_day": first_day,
        "first_second": second,
    }


def _seconds(draw: np.random.Generator, behaviour: np.ndarray, count: int) -> np.ndarray:
    """A second of the day in the customer's own hours (int32)."""
    return hour_tables()[trait("office").astype(np.uint8)[behaviour], draw.integers(0, 65_536, count, dtype=np.uint16)]


def hour_tables() -> np.ndarray:
    """Seconds of the day by (office hours or not, 16-bit random number): shape (2, 65536), int32."""
    return np.stack([second_table(CONSUMER_HOURS), second_table(OFFICE_HOURS)])


def _lives(plan: Plan, registered_day: np.ndarray, behaviour: np.ndarray, first_day: np.ndarray) -> Columns:
    """When each customer begins and ends, and how fast and how much they buy meanwhile."""
    draw = stream(plan.seed, "lives")
    count = plan.customers
    dropout = draw.standard_gamma(DROPOUT_SHAPE, count) / (
        DROPOUT_SHAPE * trait("life_days")[behaviour] * (1 - 1 / DROPOUT_SHAPE)
    )
    life = np.minimum(draw.standard_exponential(count) / dropout, NEVER // 4)
    shape = trait("rate_shape")[behaviour]
    rate = draw.standard_gamma(shape, count) / shape * trait("rate")[behaviour]
    log_spend = np.log(trait("order_size")[behaviour] * 100) + SPEND_SPREAD * draw.standard_normal(count)
    buys, repeats = trait("buys")[behaviour], trait("repeats")[behaviour]
    begin = np.where(first_day < NEVER, first_day + 1, np.maximum(registered_day, 0)).astype(np.int32)
    end = begin + np.where(repeats | ~buys, 1 + life.astype(np.int32), 0).astype(np.int32)
    return {"begin": begin, "end": end, "rate": rate, "dropout": dropout, "log_spend": log_spend}


def _referrers(plan: Plan, registered_day: np.ndarray, behaviour: np.ndarray) -> np.ndarray:
    """Who brought each newcomer (customer number, -1 for nobody): someone registered on an earlier day."""
    draw = stream(plan.seed, "referrers")
    referrer = np.full(plan.customers, -1, dtype=np.int32)
    newcomers = int(np.count_nonzero(registered_day >= 0))
    if newcomers == 0 or plan.interactions == 0:
        return referrer
    share = min(REFERRED_SHARE, 0.01 * plan.interactions / newcomers)
    chosen = plan.customers - newcomers + bernoulli(draw, newcomers, share)
    earlier = np.searchsorted(registered_day, registered_day[chosen], side="left")
    chosen, earlier = chosen[earlier > 0], earlier[earlier > 0]
    # A few customers bring many: talkativeness is very unequal, even among those of one behaviour.
    talk = np.cumsum(trait("sociability")[behaviour] * draw.standard_gamma(TALK_SHAPE, plan.customers))
    levels = draw.random(len(chosen)) * talk[earlier - 1]
    referrer[chosen] = np.minimum(np.searchsorted(talk, levels, side="right"), earlier - 1)
    return referrer


def _moves(plan: Plan, registered_day: np.ndarray) -> Columns:
    """Customers who move to another region some day: delivered again with the new one."""
    draw = stream(plan.seed, "moves")
    count = plan.customers
    movers = bernoulli(draw, count, MOVING_SHARE)
    first = np.maximum(registered_day[movers], 0) + 1
    day = (first + np.floor(draw.random(len(movers)) * 900)).astype(np.int32)
    moves_day = np.full(count, NEVER, dtype=np.int32)
    moves_day[movers] = day
    return {
        "moves_day": moves_day,
        "new_region": draw.integers(0, len(REGIONS), count, dtype=np.uint8),
    }


class Pace:
    """Spreads a known number of events over customers and days.

    Every customer present on a day gets events in proportion to their weight, and every day gets the
    number it should have. With ``pace(t) = wanted(t) / (sum of weights present on t)`` and its running
    sum, a customer's expected count is the weight times the difference of that sum over their stay, and
    the moments of their events are uniform in it. Both totals then come out as planned.

    Args:
        begin: first day of each customer's stay.
        end: first day after it.
        weight: the customer's weight, 0 for who takes no part.
        wanted: events wanted on each day of the history.
    """

    def __init__(self, begin: np.ndarray, end: np.ndarray, weight: np.ndarray, wanted: np.ndarray) -> None:
        days = len(wanted)
        self.begin, self.end = np.clip(begin, 0, days), np.clip(end, 0, days)
        self.end = np.maximum(self.begin, self.end)
        change = np.bincount(self.begin, weight, days + 1) - np.bincount(self.end, weight, days + 1)
        present = np.cumsum(change)[:days]
        self.of_day = np.divide(wanted, present, out=np.zeros(days), where=present > 1e-9 * weight.max(initial=0))
        self.sums = np.concatenate([[0.0], np.cumsum(self.of_day)])
        self.expected = weight * (self.sums[self.end] - self.sums[self.begin])

    def moments(self, customers: np.ndarray, draw: np.random.Generator) -> np.ndarray:
        """A day (int32) for one event of each of ``customers`` (repeated as often as they have events)."""
        low, high = self.sums[self.begin[customers]], self.sums[self.end[customers]]
        levels = low + draw.random(len(customers)) * (high - low)
        day = np.searchsorted(self.sums, levels, side="right").astype(np.int32) - 1
        return np.clip(day, self.begin[customers], self.end[customers] - 1)


def share_out(total: int, expected: np.ndarray, size: int, draw: np.random.Generator) -> list[int]:
    """Split ``total`` over consecutive chunks of ``size`` in proportion to their sum of ``expected``."""
    sums = np.add.reduceat(expected, np.arange(0, len(expected), size))
    if total and not sums.sum() > 0:
        return [0] * len(sums)
    return draw.multinomial(total, sums / sums.sum()).tolist() if total else [0] * len(sums)
