"""What customers did besides ordering, and what reached them.

Interactions are numbered in the order in which they happened. Some follow from
campaigns, invitations and orders; the rest is browsing, spread over customers
and days like the orders are.
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
    EVENT_CHUNK,
    Columns,
    chunks,
    concatenated,
    mapped,
    sort_order,
    stream,
    taken,
)

KINDS = (
    "page_view",
    "article_read",
    "form_submitted",
    "campaign_received",
    "coupon_redeemed",
    "review_posted",
    "shared",
    "invited",
    "enquiry",
    "introduced",
    "quote_received",
    "contact",
)
PAGE_VIEW, RECEIVED, REDEEMED, REVIEW, SHARED, INVITED = (
    KINDS.index(kind)
    for kind in ("page_view", "campaign_received", "coupon_redeemed", "review_posted", "shared", "invited")
)
NOTHING = -1

# Parts of all interactions that lead up to or follow orders.
VIEWS_BEFORE_ORDERS = 0.24
REVIEWS = 0.015
SHARES = 0.01
# Invitations nobody followed, for each one that brought a customer.
VAIN_INVITATIONS = 2
# Browsing goes on for a while after the last order.
LINGERING_DAYS = 45

BROWSING = {
    # kind: part of browsing by (consumers, business customers)
    "page_view": (0.800, 0.520),
    "article_read": (0.110, 0.140),
    "form_submitted": (0.015, 0.050),
    "shared": (0.012, 0.002),
    "enquiry": (0.030, 0.110),
    "introduced": (0.008, 0.050),
    "quote_received": (0.005, 0.088),
    "contact": (0.020, 0.040),
}


def draw_interactions(
    plan: Plan,
    calendar: Calendar,
    customers: Columns,
    orders: Columns,
    campaigns: Campaigns,
    products: int,
    pool: ThreadPoolExecutor,
) -> Columns:
    """Draw exactly ``plan.interactions`` interactions.

    Args:
        plan: the shop's parameters.
        calendar: its days.
        customers: as from ``draw_customers``.
        orders: as from ``draw_orders``.
        campaigns: as from ``draw_campaigns``.
        products: how many products there are to look at; 0 leaves views without one.
        pool: threads to work in.

    Returns:
        Columns customer, moment (local second), kind, channel, campaign (-1 for none) and detail: the
        coupon's cents, the number of the customer brought in, the product viewed, or -1.

    Raises:
        UsageError: there are more interactions by necessity than were asked for.
    """
    parts = [
        _receipts(campaigns),
        _redemptions(orders),
        _invitations(plan, customers),
        *_around_orders(plan, orders, products, pool),
    ]
    browsing = plan.interactions - sum(len(part["customer"]) for part in parts)
    if browsing < 0:
        raise UsageError(
            f"{plan.interactions:,} interactions are too few for {plan.orders:,} orders",
            todo="ask for more interactions, or for 0 to have a shop without an interaction log",
        )
    parts += _browsing(plan, calendar, customers, browsing, products, pool)
    interactions = concatenated(parts)
    parts.clear()
    return taken(interactions, sort_order(interactions["moment"]), pool)


def _table(customer: np.ndarray, moment: np.ndarray, kind: int | np.ndarray, **given: np.ndarray | int) -> Columns:
    """Columns of interactions, with nothing in those not given."""
    count = len(customer)
    whole = {"channel": (np.uint8, 0), "campaign": (np.int16, NOTHING), "detail": (np.int32, NOTHING)}
    table = {
        "customer": customer.astype(np.int32, copy=False),
        "moment": moment.astype(np.int32, copy=False),
        "kind": np.broadcast_to(np.asarray(kind, dtype=np.uint8), count),
    }
    for name, (kind_of_number, nothing) in whole.items():
        value = np.asarray(given.get(name, nothing)).astype(kind_of_number, copy=False)
        table[name] = np.broadcast_to(value, count)
    return table


def _receipts(campaigns: Campaigns) -> Columns:
    receipts = campaigns.receipts
    # Campaigns go out by app and by wechat in turn.
    channel = np.where(receipts["campaign"] % 2, CHANNELS.index("wechat"), CHANNELS.index("app"))
    return _table(receipts["customer"], receipts["moment"], RECEIVED, campaign=receipts["campaign"], channel=channel)


def _redemptions(orders: Columns) -> Columns:
    redeemed = np.flatnonzero(orders["campaign"] >= 0)
    return _table(
        orders["customer"][redeemed],
        orders["moment"][redeemed],
        REDEEMED,
        channel=orders["channel"][redeemed],
        campaign=orders["campaign"][redeemed],
        detail=orders["coupon"][redeemed],
    )


def referrals(customers: Columns) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Who was brought in by whom: numbers of the referrer and the newcomer, and the moment of the invitation."""
    newcomer = np.flatnonzero(customers["referrer"] >= 0).astype(np.int32)
    referrer = customers["referrer"][newcomer]
    registered = customers["registered"]
    # An invitation is followed within five days, and nobody invites before being there.
    lead = 600 + (newcomer.astype(np.int64) * 2_654_435_761 % (5 * DAY))
    between = (registered[referrer].astype(np.int64) + registered[newcomer]) // 2
    moment = np.maximum(registered[newcomer] - lead, between)
    # Who comes in the first days was still invited in them: the log begins with the history.
    moment = np.where(moment < 0, registered[newcomer] // 2, moment)
    return referrer, newcomer, moment.astype(np.int32)


def _invitations(plan: Plan, customers: Columns) -> Columns:
    """Invitations that brought somebody, and more that did not."""
    draw = stream(plan.seed, "invitations")
    referrer, newcomer, moment = referrals(customers)
    vain = len(referrer) * VAIN_INVITATIONS
    inviter = referrer[draw.integers(0, max(len(referrer), 1), vain)]
    earliest = np.maximum(customers["registered"][inviter], 0)
    later = earliest + (draw.random(vain) * (plan.days * DAY - earliest)).astype(np.int32)
    wechat = CHANNELS.index("wechat")
    return concatenated(
        [
            _table(referrer, moment, INVITED, channel=wechat, detail=newcomer),
            _table(inviter, later, INVITED, channel=wechat),
        ]
    )


def _around_orders(plan: Plan, orders: Columns, products: int, pool: ThreadPoolExecutor) -> list[Columns]:
    """Pages looked at before orders, reviews and recommendations after them."""
    last = plan.days * DAY - 1

    def views(piece: tuple[int, int, int]) -> Columns:
        draw = stream(plan.seed, "views", piece[0])
        order = draw.integers(0, plan.orders, piece[2] - piece[1], dtype=np.int32)
        before = (draw.standard_exponential(len(order), dtype=np.float32) * 1500).astype(np.int32) + 20
        moment = np.maximum(orders["moment"][order] - before, 0)
        product = draw.integers(0, products, len(order), dtype=np.int32) if products else NOTHING
        return _table(orders["customer"][order], moment, PAGE_VIEW, channel=orders["channel"][order], detail=product)

    def after(kind: int, share: float) -> Columns:
        draw = stream(plan.seed, "after orders", kind)
        order = draw.integers(0, plan.orders, round(share * plan.interactions), dtype=np.int32)
        placed = orders["moment"][order]
        wait = draw.random(len(order)) * np.minimum(20 * DAY, last - placed)
        return _table(orders["customer"][order], placed + wait.astype(np.int32), kind, channel=CHANNELS.index("app"))

    pieces = chunks(round(VIEWS_BEFORE_ORDERS * plan.interactions), EVENT_CHUNK)
    return [*mapped(pool, views, pieces), after(REVIEW, REVIEWS), after(SHARED, SHARES)]


def _browsing(
    plan: Plan,
    calendar: Calendar,
    customers: Columns,
    total: int,
    products: int,
    pool: ThreadPoolExecutor,
) -> list[Columns]:
    """``total`` interactions of customers between registration and a while after their last order."""
    begin = np.maximum(customers["registered"] // DAY, 0)
    weight = trait("browsing")[customers["behaviour"]].astype(np.float64)
    wanted = calendar.pull / calendar.pull.sum() * total
    pace = Pace(begin, customers["end"] + LINGERING_DAYS, weight, wanted)
    counts = share_out(total, pace.expected, CUSTOMER_CHUNK, stream(plan.seed, "browsing"))
    kinds = browsing_kinds()

    def one_chunk(piece: tuple[int, int, int]) -> Columns:
        number, low, high = piece
        draw = stream(plan.seed, "browsing", number)
        expected = pace.expected[low:high]
        count = draw.multinomial(counts[number], expected / expected.sum()) if counts[number] else 0
        customer = np.repeat(np.arange(low, high, dtype=np.int32), count)
        office = trait("office").astype(np.uint8)[customers["behaviour"][customer]]
        second = hour_tables()[office, draw.integers(0, 65_536, len(customer), dtype=np.uint16)]
        moment = pace.moments(customer, draw) * DAY + second
        # Nobody acts before registering; on the first day that takes a later moment.
        moment = np.maximum(moment, customers["registered"][customer])
        kind = kinds[office, draw.integers(0, 65_536, len(customer), dtype=np.uint16)]
        detail = np.full(len(customer), NOTHING, dtype=np.int32)
        if products:
            viewed = draw.integers(0, products, len(customer), dtype=np.int32)
            detail = np.where(kind == PAGE_VIEW, viewed, NOTHING)
        return _table(customer, moment, kind, channel=customers["channel"][customer], detail=detail)

    return mapped(pool, one_chunk, chunks(plan.customers, CUSTOMER_CHUNK))


def browsing_kinds() -> np.ndarray:
    """Kind by (office or not, 16-bit random number): shape (2, 65536), uint8."""
    levels = (np.arange(65_536) + 0.5) / 65_536
    codes = np.array([KINDS.index(kind) for kind in BROWSING], dtype=np.uint8)
    shares = np.array(list(BROWSING.values())).T
    edges = np.cumsum(shares / shares.sum(axis=1, keepdims=True), axis=1)
    return np.stack([codes[np.searchsorted(edge, levels).clip(max=len(codes) - 1)] for edge in edges])
