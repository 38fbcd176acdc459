"""What is in the baskets, and which products really belong together.

Products are drawn by popularity (Zipf) and by the customer's favourite
category. On top of that a few pairs are planted: whoever has the first
product takes the second with a known probability. From the tables the draws
come from, and the basket sizes drawn, the lift that a pair must show follows
exactly, up to chance:

    P(A and B) = P0(A and B) + q (P(A) - P0(A and B)),   P(B) = P0(B) + q (P(A) - P0(A and B))

with P0 the probabilities before planting and q the probability planted;
lift = P(A and B) / (P(A) P(B)).
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from strataflow.generate.customers import trait
from strataflow.generate.orders import DISCOUNT_PERCENT, DISCOUNTED_SHARE
from strataflow.generate.plan import Plan
from strataflow.generate.randomness import Columns, bernoulli, chunks, concatenated, mapped, stream

CATEGORIES = (
    "bags",
    "books",
    "coffee",
    "cosmetics",
    "dairy",
    "electronics",
    "fruit",
    "garden",
    "kitchen",
    "music",
    "pets",
    "shoes",
    "snacks",
    "sports",
    "stationery",
    "toys",
)
BRANDS = ("Aoki", "Brava", "Corvo", "Danlu", "Elster", "Fenix")
PRODUCTS = 30 * len(CATEGORIES)
ZIPF = 0.8
FAVOURITE_SHARE = 0.5
MOST_ITEMS = 20
MEAN_FURTHER_ITEMS = 1.6
USUAL_ORDER_CENTS = 12_000
PAIRS = 8
ORDER_CHUNK = 250_000
LEVELS = 65_536


@dataclass(frozen=True)
class Catalogue:
    """All products, and how they are chosen.

    Attributes:
        category: category number of each product.
        brand: brand number of each product.
        price: list price of each product (cents).
        popular: product by 16-bit random number, whatever the category.
        favoured: product by (category, 16-bit random number).
        category_edges: running shares of the categories as favourites.
        pairs: shape (pairs, 2): product A, product B.
        added: probability q with which B follows A.
    """

    category: np.ndarray
    brand: np.ndarray
    price: np.ndarray
    popular: np.ndarray
    favoured: np.ndarray
    category_edges: np.ndarray
    pairs: np.ndarray
    added: np.ndarray

    def favourites(self, customers: Columns) -> np.ndarray:
        """Favourite category (number) of each customer."""
        level = (customers["favourite"] + 0.5) / LEVELS * self.category_edges[-1]
        return np.searchsorted(self.category_edges, level).astype(np.uint8)


def draw_catalogue(plan: Plan) -> Catalogue:
    """Draw products, prices, popularity and the pairs that belong together."""
    draw = stream(plan.seed, "catalogue")
    ranking = draw.permutation(PRODUCTS)
    weight = np.empty(PRODUCTS)
    weight[ranking] = np.arange(1, PRODUCTS + 1) ** -ZIPF
    category = (np.arange(PRODUCTS) % len(CATEGORIES)).astype(np.uint8)
    in_category = [np.where(category == number, weight, 0) for number in range(len(CATEGORIES))]
    return Catalogue(
        category=category,
        brand=draw.integers(0, len(BRANDS), PRODUCTS, dtype=np.uint8),
        price=np.clip(np.rint(np.exp(np.log(3500) + 0.8 * draw.standard_normal(PRODUCTS))), 300, 90_000).astype(
            np.int32
        ),
        popular=_lookup(weight),
        favoured=np.stack([_lookup(weights) for weights in in_category]),
        category_edges=np.cumsum([weights.sum() for weights in in_category]),
        pairs=_choose_pairs(ranking, category),
        added=draw.uniform(0.15, 0.5, PAIRS),
    )


def _lookup(weight: np.ndarray) -> np.ndarray:
    edges = np.cumsum(weight)
    levels = (np.arange(LEVELS) + 0.5) / LEVELS * edges[-1]
    return np.searchsorted(edges, levels).astype(np.int16)


def _choose_pairs(ranking: np.ndarray, category: np.ndarray) -> np.ndarray:
    """Fairly popular products A, each with a less popular B of another category; no product twice."""
    leaders = ranking[6 : 6 + 4 * PAIRS : 4]
    followers = list(ranking[40 : 40 + 4 * PAIRS])
    pairs = []
    for leader in leaders:
        follower = next(product for product in followers if category[product] != category[leader])
        followers.remove(follower)
        pairs.append((leader, follower))
    return np.array(pairs, dtype=np.int16)


def draw_baskets(
    plan: Plan, catalogue: Catalogue, customers: Columns, orders: Columns, pool: ThreadPoolExecutor
) -> tuple[Columns, Columns]:
    """Fill each order's basket, and set the order's amounts to the sums of its lines.

    Args:
        plan: the shop's parameters.
        catalogue: as from ``draw_catalogue``.
        customers: as from ``draw_customers``.
        orders: as from ``draw_orders``; its amount, discount and coupon are replaced in place.
        pool: threads to work in.

    Returns:
        The lines: product, quantity, and amount, discount and coupon in cents, ordered by order; and
        ``first``, the position of each order's first line with one more for the end. Beside them the
        truth about the pairs (see ``_pair_truth``).
    """
    favourite = catalogue.favourites(customers)

    def one_chunk(piece: tuple[int, int, int]) -> tuple[Columns, np.ndarray, np.ndarray]:
        number, low, high = piece
        draw = stream(plan.seed, "baskets", number)
        customer = orders["customer"][low:high]
        items, histogram = _items(draw, catalogue, favourite[customer], customers["log_spend"][customer])
        items = _plant(draw, catalogue, items, high - low)
        behaviour = customers["behaviour"][customer]
        lines = _priced(draw, catalogue, items, behaviour, orders["campaign"][low:high] >= 0)
        for name in ("amount", "discount", "coupon"):
            sums = np.bincount(lines["order"], lines[name], high - low)
            orders[name][low:high] = sums.astype(np.int32)
        return lines, histogram, _pair_counts(catalogue, lines, high - low)

    parts = mapped(pool, one_chunk, chunks(plan.orders, ORDER_CHUNK))
    histogram = sum(part[1] for part in parts)
    counts = sum(part[2] for part in parts)
    sizes = np.concatenate([np.bincount(part[0].pop("order")) for part in parts])
    lines = concatenated(part[0] for part in parts)
    lines["first"] = np.concatenate([[0], np.cumsum(sizes)])
    return lines, _pair_truth(plan, catalogue, histogram, counts)


def _items(
    draw: np.random.Generator, catalogue: Catalogue, favourite: np.ndarray, log_spend: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Items drawn for each order, as ``order * PRODUCTS + product``; and orders by (favourite, items)."""
    mean = np.clip(MEAN_FURTHER_ITEMS * np.exp(log_spend) / USUAL_ORDER_CENTS, 0.3, 10)
    count = np.minimum(1 + draw.poisson(mean), MOST_ITEMS)
    order = np.repeat(np.arange(len(count), dtype=np.int64), count)
    level = draw.integers(0, LEVELS, len(order), dtype=np.uint16)
    favoured = draw.random(len(order), dtype=np.float32) < FAVOURITE_SHARE
    product = np.where(favoured, catalogue.favoured[favourite[order], level], catalogue.popular[level])
    cell = favourite.astype(np.int64) * (MOST_ITEMS + 1) + count
    histogram = np.bincount(cell, minlength=len(CATEGORIES) * (MOST_ITEMS + 1))
    return order * PRODUCTS + product, histogram.reshape(len(CATEGORIES), MOST_ITEMS + 1)


def _plant(draw: np.random.Generator, catalogue: Catalogue, items: np.ndarray, orders: int) -> np.ndarray:
    """Add each pair's B to a share of the baskets that hold A and not yet B."""
    product = items % PRODUCTS
    added = [items]
    for (leader, follower), share in zip(catalogue.pairs, catalogue.added, strict=True):
        holds = np.zeros((2, orders), dtype=bool)
        holds[0, items[product == leader] // PRODUCTS] = True
        holds[1, items[product == follower] // PRODUCTS] = True
        ready = np.flatnonzero(holds[0] & ~holds[1])
        added.append(ready[bernoulli(draw, len(ready), share)] * PRODUCTS + follower)
    return np.concatenate(added)


def _priced(
    draw: np.random.Generator,
    catalogue: Catalogue,
    items: np.ndarray,
    behaviour: np.ndarray,
    with_coupon: np.ndarray,
) -> Columns:
    """One line per product of an order, with quantity and amounts (cents)."""
    line, quantity = np.unique(items, return_counts=True)
    order, product = line // PRODUCTS, line % PRODUCTS
    office = trait("office")[behaviour[order]]
    quantity = np.where(office, quantity * draw.integers(1, 5, len(line)), quantity)
    gross = catalogue.price[product] * quantity
    percent = np.zeros(len(behaviour), dtype=np.int64)
    reduced = bernoulli(draw, len(behaviour), DISCOUNTED_SHARE)
    percent[reduced] = draw.integers(*DISCOUNT_PERCENT, len(reduced))
    discount = gross * percent[order] // 100
    is_first = np.concatenate([[True], order[1:] != order[:-1]])
    coupon = np.where(is_first & with_coupon[order], gross // 5, 0)
    return {
        "order": order.astype(np.int32),
        "product": product.astype(np.int16),
        "quantity": quantity.astype(np.int16),
        "amount": (gross - discount - coupon).astype(np.int32),
        "discount": discount.astype(np.int32),
        "coupon": coupon.astype(np.int32),
    }


def _pair_counts(catalogue: Catalogue, lines: Columns, orders: int) -> np.ndarray:
    """Baskets with A, with B, with both: shape (pairs, 3)."""
    counts = np.zeros((PAIRS, 3), dtype=np.int64)
    for number, (leader, follower) in enumerate(catalogue.pairs):
        holds = np.zeros((2, orders), dtype=bool)
        holds[0, lines["order"][lines["product"] == leader]] = True
        holds[1, lines["order"][lines["product"] == follower]] = True
        counts[number] = holds[0].sum(), holds[1].sum(), (holds[0] & holds[1]).sum()
    return counts


def _pair_truth(plan: Plan, catalogue: Catalogue, histogram: np.ndarray, counts: np.ndarray) -> Columns:
    """Per pair: product_a, product_b, added_probability, expected_lift, and the baskets that were drawn."""
    share = histogram / histogram.sum()
    items = np.arange(histogram.shape[1])
    popular = np.bincount(catalogue.popular, minlength=PRODUCTS) / LEVELS
    favoured = np.stack([np.bincount(row, minlength=PRODUCTS) / LEVELS for row in catalogue.favoured])
    chance = (1 - FAVOURITE_SHARE) * popular + FAVOURITE_SHARE * favoured
    expected = []
    for (leader, follower), added in zip(catalogue.pairs, catalogue.added, strict=True):
        a, b = chance[:, leader, None], chance[:, follower, None]
        has_a = (share * (1 - (1 - a) ** items)).sum()
        has_b = (share * (1 - (1 - b) ** items)).sum()
        by_chance = (share * (1 - (1 - a) ** items - (1 - b) ** items + (1 - a - b) ** items)).sum()
        planted = added * (has_a - by_chance)
        expected.append((by_chance + planted) / (has_a * (has_b + planted)))
    return {
        "product_a": catalogue.pairs[:, 0],
        "product_b": catalogue.pairs[:, 1],
        "added_probability": catalogue.added,
        "expected_lift": np.array(expected),
        "orders": np.full(PAIRS, plan.orders, dtype=np.int64),
        "orders_with_a": counts[:, 0],
        "orders_with_b": counts[:, 1],
        "orders_with_both": counts[:, 2],
    }
