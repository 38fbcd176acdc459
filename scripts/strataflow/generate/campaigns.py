"""Campaigns: who received them, and who ordered because of it.

A reaction is an order that would not be there without the campaign. The
receivers are drawn by lot, so comparing them with the rest of the customers
shows the planted effect.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from strataflow.errors import UsageError
from strataflow.generate.customers import trait
from strataflow.generate.plan import DAY, SENDING_HOURS, Plan, second_table
from strataflow.generate.randomness import (
    CUSTOMER_CHUNK,
    Columns,
    chunks,
    concatenated,
    geometric_days,
    mapped,
    stream,
)

CAMPAIGN_DAYS = 14
RECEIPT_SHARE = 0.28  # of all interactions
MOST_REACTION_DAYS = 13
# No more reactions than this share of the orders left after the first ones.
REACTION_LIMIT = 0.3


@dataclass(frozen=True)
class Campaigns:
    """All campaigns of a shop.

    Attributes:
        first: first day of each campaign's sending.
        end: day after the last.
        strength: factor on the customers' readiness to answer.
        receipts: columns customer, moment, campaign.
        reactions: columns customer, day, campaign (orders caused), a part for each chunk of customers.
    """

    first: np.ndarray
    end: np.ndarray
    strength: np.ndarray
    receipts: Columns
    reactions: list[Columns]


def draw_campaigns(plan: Plan, customers: Columns, spare_orders: int, pool: ThreadPoolExecutor) -> Campaigns:
    """Draw campaigns, their receipts and the reactions to them.

    Args:
        plan: the shop's parameters.
        customers: as from ``draw_customers``.
        spare_orders: orders beyond the certain first ones; bounds the reactions.
        pool: threads to work in.
    """
    first = np.arange(0, plan.days, CAMPAIGN_DAYS, dtype=np.int32)
    end = np.minimum(first + CAMPAIGN_DAYS, plan.days).astype(np.int32)
    strength = stream(plan.seed, "campaigns").uniform(0.5, 1.5, len(first))
    registered_day = customers["registered"] // DAY
    known = np.searchsorted(registered_day, first, side="left")
    wanted = RECEIPT_SHARE * plan.interactions * (end - first) / plan.days
    share = np.minimum(np.divide(wanted, known, out=np.zeros(len(first)), where=known > 0), 0.9)
    readiness = _readiness(plan, strength, spare_orders)

    def one_chunk(piece: tuple[int, int, int]) -> tuple[Columns, Columns]:
        number, low, high = piece
        draw = stream(plan.seed, "receipts", number)
        lot = draw.integers(0, 65_536, (len(first), high - low), dtype=np.uint16)
        member = np.arange(low, high) < known[:, None]
        campaign, customer = np.nonzero((lot < (share * 65_536)[:, None]) & member)
        customer = (customer + low).astype(np.int32)
        receipts = _receipts(draw, customer, campaign.astype(np.int16), first, end)
        return receipts, _reactions(plan, draw, customers, receipts, readiness)

    parts = mapped(pool, one_chunk, chunks(plan.customers, CUSTOMER_CHUNK))
    return Campaigns(
        first=first,
        end=end,
        strength=strength,
        receipts=concatenated(receipts for receipts, _ in parts),
        reactions=_at_most([reactions for _, reactions in parts], spare_orders),
    )


def _readiness(plan: Plan, strength: np.ndarray, spare_orders: int) -> np.ndarray:
    """Probability that a receipt leads to an order, by (behaviour, campaign)."""
    if spare_orders < 0:
        raise UsageError(
            f"{plan.orders:,} orders are too few for {plan.customers:,} customers over {plan.days:,} days: "
            f"their first orders alone are {plan.orders - spare_orders:,}",
            todo="ask for more orders, fewer customers or more days",
        )
    likeliest = trait("coupon").max() * strength.max() * RECEIPT_SHARE * plan.interactions
    damping = min(1.0, REACTION_LIMIT * spare_orders / likeliest) if likeliest else 0.0
    return np.outer(trait("coupon"), strength) * damping


def _receipts(
    draw: np.random.Generator, customer: np.ndarray, campaign: np.ndarray, first: np.ndarray, end: np.ndarray
) -> Columns:
    length = (end - first)[campaign]
    day = first[campaign] + (draw.random(len(customer)) * length).astype(np.int32)
    second = second_table(SENDING_HOURS)[draw.integers(0, 65_536, len(customer), dtype=np.uint16)]
    return {"customer": customer, "moment": (day * DAY + second).astype(np.int32), "campaign": campaign}


def _reactions(
    plan: Plan, draw: np.random.Generator, customers: Columns, receipts: Columns, readiness: np.ndarray
) -> Columns:
    customer, campaign = receipts["customer"], receipts["campaign"]
    received_day = receipts["moment"] // DAY
    day = received_day + 1 + geometric_days(draw, len(customer), 3, MOST_REACTION_DAYS - 1)
    answers = draw.random(len(customer)) < readiness[customers["behaviour"][customer], campaign]
    answers &= (customers["begin"][customer] <= received_day) & (day < customers["end"][customer])
    answers &= day < plan.days
    return {
        "customer": customer[answers],
        "day": day[answers].astype(np.int32),
        "campaign": campaign[answers],
    }


def _at_most(parts: list[Columns], most: int) -> list[Columns]:
    """The first ``most`` reactions: by chance there may be more of them than orders to spare in a tiny shop."""
    kept = []
    for part in parts:
        kept.append({name: values[:most] for name, values in part.items()})
        most -= len(kept[-1]["day"])
    return kept
