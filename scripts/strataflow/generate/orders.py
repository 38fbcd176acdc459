"""Which orders were placed: when, by whom, for how much.

Orders are numbered in the order in which they were placed, so that an order's
number is its position in every column.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from strataflow.errors import UsageError
from strataflow.generate.campaigns import Campaigns
from strataflow.generate.customers import CHANNELS, Pace, hour_tables, share_out, trait
from strataflow.generate.plan import DAY, Calendar, Plan
from strataflow.generate.randomness import (
    CUSTOMER_CHUNK,
    Columns,
    bernoulli,
    chunks,
    concatenated,
    mapped,
    sort_order,
    stream,
    taken,
)

ORDER_SPREAD = 0.45
DISCOUNTED_SHARE = 0.12
DISCOUNT_PERCENT = (5, 31)  # from, to below
COUPON_SHARE = 0.10
TRUE_TO_CHANNEL = 0.8
LEAST_CENTS = 500
MOST_CENTS = 1_000_000_000
# However many orders of a day are certain already, repeat orders get this share of what it draws.
LEAST_REPEAT_SHARE = 0.25


def certain_orders(plan: Plan, customers: Columns) -> np.ndarray:
    """Customers (numbers, ascending) whose one certain order falls into the history."""
    return np.flatnonzero(customers["first_day"] < plan.days).astype(np.int32)


def draw_orders(
    plan: Plan, calendar: Calendar, customers: Columns, campaigns: Campaigns, pool: ThreadPoolExecutor
) -> tuple[Columns, Pace]:
    """Draw exactly ``plan.orders`` orders.

    Returns:
        Columns customer, moment (local second), channel, campaign (-1 for none) and amount, discount,
        coupon (cents); and the pace at which repeat orders were spread over the days.

    Raises:
        UsageError: the orders wanted and the customers drawn don't fit together.
    """
    firsts = certain_orders(plan, customers)
    pace = _repeat_pace(plan, calendar, customers, firsts, campaigns)
    repeats = plan.orders - len(firsts) - sum(len(part["day"]) for part in campaigns.reactions)
    if repeats > 0 and not pace.expected.any():
        raise UsageError(
            f"none of the {plan.customers:,} customers drawn orders twice, so {plan.orders:,} orders can't be met",
            todo="ask for more customers or take another seed",
        )
    counts = share_out(repeats, pace.expected, CUSTOMER_CHUNK, stream(plan.seed, "orders"))

    def one_chunk(piece: tuple[int, int, int]) -> Columns:
        number, low, high = piece
        draw = stream(plan.seed, "orders", number)
        first = firsts[np.searchsorted(firsts, low) : np.searchsorted(firsts, high)]
        repeating = low + _repeated(draw, counts[number], pace.expected[low:high])
        reacting = campaigns.reactions[number]
        customer = np.concatenate([first, repeating, reacting["customer"]])
        campaign = np.full(len(customer), -1, dtype=np.int16)
        campaign[len(first) + len(repeating) :] = reacting["campaign"]
        day = np.concatenate([customers["first_day"][first], pace.moments(repeating, draw), reacting["day"]])
        second = _seconds(draw, customers, customer)
        second[: len(first)] = customers["first_second"][first]
        moment = (day * DAY + second).astype(np.int32)
        placed = {"customer": customer, "moment": moment, "campaign": campaign}
        return {**placed, **_values(draw, customers, placed)}

    parts = mapped(pool, one_chunk, chunks(plan.customers, CUSTOMER_CHUNK))
    orders = concatenated(parts)
    parts.clear()
    return taken(orders, sort_order(orders["moment"]), pool), pace


def _repeat_pace(plan: Plan, calendar: Calendar, customers: Columns, firsts: np.ndarray, campaigns: Campaigns) -> Pace:
    """Repeat orders fill each day up to what its season draws."""
    wanted = calendar.pull / calendar.pull.sum() * plan.orders
    certain = np.bincount(customers["first_day"][firsts], minlength=plan.days)
    for part in campaigns.reactions:
        certain = certain + np.bincount(part["day"], minlength=plan.days)
    wanted = np.maximum(wanted - certain, LEAST_REPEAT_SHARE * wanted)
    return Pace(customers["begin"], customers["end"], customers["rate"], wanted)


def _repeated(draw: np.random.Generator, total: int, expected: np.ndarray) -> np.ndarray:
    """Positions in ``expected``, each repeated as often as it has orders (int32)."""
    if not total:
        return np.empty(0, dtype=np.int32)
    counts = draw.multinomial(total, expected / expected.sum())
    return np.repeat(np.arange(len(expected), dtype=np.int32), counts)


def _seconds(draw: np.random.Generator, customers: Columns, customer: np.ndarray) -> np.ndarray:
    office = trait("office").astype(np.uint8)[customers["behaviour"][customer]]
    return hour_tables()[office, draw.integers(0, 65_536, len(customer), dtype=np.uint16)]


def _values(draw: np.random.Generator, customers: Columns, placed: Columns) -> Columns:
    """Channel and amounts of orders; amounts are whole cents."""
    customer = placed["customer"]
    count = len(customer)
    size = np.exp(customers["log_spend"][customer] + ORDER_SPREAD * draw.standard_normal(count))
    gross = np.clip(np.rint(size), LEAST_CENTS, MOST_CENTS).astype(np.int32)
    discount = np.zeros(count, dtype=np.int32)
    reduced = bernoulli(draw, count, DISCOUNTED_SHARE)
    percent = draw.integers(*DISCOUNT_PERCENT, len(reduced), dtype=np.int32)
    discount[reduced] = (gross[reduced].astype(np.int64) * percent // 100).astype(np.int32)
    coupon = np.where(placed["campaign"] >= 0, (gross * COUPON_SHARE).astype(np.int32) // 100 * 100 + 100, 0)
    channel = customers["channel"][customer]
    elsewhere = bernoulli(draw, count, 1 - TRUE_TO_CHANNEL)
    channel[elsewhere] = draw.integers(0, len(CHANNELS), len(elsewhere), dtype=np.uint8)
    return {
        "channel": channel,
        "amount": gross - discount - coupon.astype(np.int32),
        "discount": discount,
        "coupon": coupon.astype(np.int32),
    }
