"""What the shop delivers about its orders, day by day: not each order once, on time and right.

Orders come late, come twice, are corrected, cancelled or refunded in a later
file, and some rows are broken. Broken rows are added to the good ones and
carry orders of their own, so the truth about good orders doesn't depend on
them. The later of two deliveries always tells the newer state; a delivery
that is merely repeated repeats the newest one.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from strataflow.generate.plan import DAY, Plan
from strataflow.generate.randomness import (
    Columns,
    bernoulli,
    concatenated,
    geometric_days,
    sort_order,
    stream,
    taken,
)

STATUSES = ("completed", "paid", "pending", "cancelled", "refunded")
COMPLETED, PAID, PENDING, CANCELLED, REFUNDED = range(len(STATUSES))

# What was done to a delivered row: nothing, something landing mends, or something it must refuse.
FAULTS = (
    "",
    "float_id",
    "missing_customer",
    "bad_time",
    "bad_amount",
    "missing_order",
    "missing_kind",
    "negative_quantity",
    "repeated_header",
    "superseded",
)
(
    SOUND,
    FLOAT_ID,
    MISSING_CUSTOMER,
    BAD_TIME,
    BAD_AMOUNT,
    MISSING_ORDER,
    MISSING_KIND,
    NEGATIVE_QUANTITY,
    REPEATED_HEADER,
    SUPERSEDED,
) = range(len(FAULTS))
ORDER_FAULTS = {MISSING_CUSTOMER: 0.4, BAD_TIME: 0.2, BAD_AMOUNT: 0.2, MISSING_ORDER: 0.2}
LINE_FAULTS = {**ORDER_FAULTS, NEGATIVE_QUANTITY: 0.2}
INTERACTION_FAULTS = {MISSING_CUSTOMER: 0.5, BAD_TIME: 0.3, MISSING_KIND: 0.2}

# Why a row is in its file.
REASONS = (
    "placed",
    "late",
    "corrected",
    "cancelled",
    "refunded",
    "returned",
    "repeated",
    "redelivered",
    "broken",
)
(
    ON_TIME,
    LATE,
    CORRECTION,
    CANCELLATION,
    REFUND,
    RETURN,
    REPETITION,
    REDELIVERY,
    BROKEN,
) = range(len(REASONS))

MOST_LATE_DAYS = 7
FULL_REFUND_SHARE = 1 / 3
PAID_SHARE = 0.05


@dataclass(frozen=True)
class Deliveries:
    """Delivered rows in the order of files and lines, and where each ended.

    Attributes:
        rows: columns event (position in the table of orders or interactions), number (of the id), day
            (received), updated (local second), fault, reason; for orders status, amount, refunded (cents).
        first: position of the first row of each day, with one more for the end.
        final: newest delivered state of each good order: status, amount, refunded, versions, day;
            empty for interactions.
    """

    rows: Columns
    first: np.ndarray
    final: Columns

    def of_day(self, day: int) -> slice:
        """The rows of one day's file."""
        return slice(int(self.first[day]), int(self.first[day + 1]))


def deliver_orders(plan: Plan, orders: Columns, lines: Columns | None, pool: ThreadPoolExecutor) -> Deliveries:
    """Turn orders into delivered rows.

    Args:
        plan: the shop's parameters.
        orders: as from ``draw_orders``; positions are order numbers.
        lines: baskets as from ``draw_baskets`` if the shop delivers lines: a partial refund is then the
            return of an order's last line, delivered as a negative line that adds to the order.
        pool: threads to work in.
    """
    draw = stream(plan.seed, "deliveries", "orders")
    base = _arrivals(plan, draw, orders["moment"])
    count = len(base["event"])
    base["amount"] = orders["amount"]
    base["refunded"] = np.zeros(count, dtype=np.int32)
    base["status"] = np.zeros(count, dtype=np.uint8)
    base["status"][bernoulli(draw, count, PAID_SHARE)] = PAID
    changes = _changes(plan, draw, base, lines)
    changed = np.zeros(count, dtype=bool)
    for change in changes:
        changed[change["event"]] = True
    parts = [
        base,
        *changes,
        *_repeats(plan, draw, base, changed),
        _broken(plan, draw, base, ORDER_FAULTS if lines is None else LINE_FAULTS),
    ]
    return _in_files(plan, draw, parts, _final_state(plan, base, changes), pool)


def deliver_interactions(plan: Plan, interactions: Columns, pool: ThreadPoolExecutor) -> Deliveries:
    """Turn interactions into delivered rows: each arrives, a few of them late, twice, or broken."""
    draw = stream(plan.seed, "deliveries", "interactions")
    base = _arrivals(plan, draw, interactions["moment"])
    unchanged = np.zeros(len(base["event"]), dtype=bool)
    parts = [base, *_repeats(plan, draw, base, unchanged), _broken(plan, draw, base, INTERACTION_FAULTS)]
    return _in_files(plan, draw, parts, {}, pool)


def _arrivals(plan: Plan, draw: np.random.Generator, moments: np.ndarray) -> Columns:
    """The first delivery of each event: on its own day, or up to a week later for a few."""
    count = len(moments)
    day = moments // DAY
    reason = np.full(count, ON_TIME, dtype=np.uint8)
    late = bernoulli(draw, count, plan.late)
    late = late[day[late] < plan.days - 1]
    delay = 1 + geometric_days(draw, len(late), 1.5, MOST_LATE_DAYS - 1)
    day[late] = np.minimum(day[late] + delay, plan.days - 1)
    reason[late] = LATE
    numbers = np.arange(count, dtype=np.int32)
    return {"event": numbers, "number": numbers, "day": day, "reason": reason, "updated": moments}


def _changes(plan: Plan, draw: np.random.Generator, base: Columns, lines: Columns | None) -> list[Columns]:
    """Later versions of orders, oldest first: cancellations, corrections, refunds. Marks what will be cancelled."""
    count = len(base["event"])
    fate = draw.random(count, dtype=np.float32)
    cancelled = np.flatnonzero(fate < plan.cancellations)
    base["status"][cancelled] = PENDING
    cancellation = _version(draw, base, cancelled, 1 + geometric_days(draw, len(cancelled), 1, 2), CANCELLATION)
    cancellation["status"][:] = CANCELLED

    corrected = np.flatnonzero((fate >= plan.cancellations) & (fate < plan.cancellations + plan.corrections))
    # Lines of one day can't be told apart by version, so a corrected basket comes on another day.
    wait = geometric_days(draw, len(corrected), 1, 5) + (0 if lines is None else 1)
    correction = _version(draw, base, corrected, wait, CORRECTION)
    correction["amount"] = _corrected_amounts(draw, correction, lines)

    known = {"day": base["day"].copy(), "amount": base["amount"].copy(), "status": base["status"]}
    known["day"][corrected], known["amount"][corrected] = correction["day"], correction["amount"]
    refunded = bernoulli(draw, count, plan.refunds)
    refunded = refunded[fate[refunded] >= plan.cancellations]
    wait = 3 + geometric_days(draw, len(refunded), 6, 27)
    refund = _version(draw, base | known, refunded, wait, REFUND)
    _give_back(draw, refund, lines)
    return [cancellation, correction, refund]


def _version(draw: np.random.Generator, state: Columns, event: np.ndarray, wait: np.ndarray, reason: int) -> Columns:
    """A later delivery of each of ``event``, ``wait`` days after the one in ``state``."""
    moment, day = state["updated"][event], state["day"][event] + wait
    # On the day of the order itself a change follows the order.
    earliest = np.where(day == moment // DAY, moment % DAY, 0)
    second = earliest + (draw.random(len(event)) * (DAY - earliest)).astype(np.int32)
    return {
        "event": event.astype(np.int32),
        "number": event.astype(np.int32),
        "day": day.astype(np.int32),
        "reason": np.full(len(event), reason, dtype=np.uint8),
        "updated": (day * DAY + second).astype(np.int32),
        "amount": state["amount"][event],
        "refunded": np.zeros(len(event), dtype=np.int32),
        "status": state["status"][event],
    }


def _corrected_amounts(draw: np.random.Generator, correction: Columns, lines: Columns | None) -> np.ndarray:
    """New amounts: up to half more or less of the order, or of its first line."""
    amount = correction["amount"]
    part = amount if lines is None else lines["amount"][lines["first"][correction["event"]]]
    return (amount + np.rint(part * draw.uniform(-0.5, 0.5, len(amount)))).astype(np.int32)


def _give_back(draw: np.random.Generator, refund: Columns, lines: Columns | None) -> None:
    """Fill in how much each refund gives back: everything, a part, or the amount of the last line."""
    amount = refund["amount"]
    full = draw.random(len(amount)) < FULL_REFUND_SHARE
    part = np.maximum(np.rint(amount * draw.uniform(0.1, 0.9, len(amount))), 1).astype(np.int32)
    if lines is not None:
        first, end = lines["first"][refund["event"]], lines["first"][refund["event"] + 1]
        full |= end - first == 1
        part = lines["amount"][end - 1]
        refund["reason"][~full] = RETURN
    refund["refunded"][:] = np.where(full, amount, part)
    refund["status"][full] = REFUNDED


def _repeats(plan: Plan, draw: np.random.Generator, base: Columns, changed: np.ndarray) -> list[Columns]:
    """Rows that come twice: once more in the same file, or unchanged on a later day."""
    count = len(base["event"])
    # Two equal lines of a basket are two things bought, so lines are not repeated within a file.
    twice = bernoulli(draw, count, 0 if plan.has_lines and "amount" in base else plan.repeated)
    again = bernoulli(draw, count, plan.redelivered)
    again = again[~changed[again]]
    repetition = {name: values[twice] for name, values in base.items()}
    repetition["reason"][:] = REPETITION
    redelivery = {name: values[again] for name, values in base.items()}
    redelivery["reason"][:] = REDELIVERY
    redelivery["day"] += 1 + geometric_days(draw, len(again), 2, 4)
    return [repetition, redelivery]


def _broken(plan: Plan, draw: np.random.Generator, base: Columns, faults: dict[int, float]) -> Columns:
    """Rows made unusable: like good ones, but with ids of their own and one fault each."""
    count = round(len(base["event"]) * plan.dirt)
    alike = draw.integers(0, max(len(base["event"]), 1), count)
    broken = {name: values[alike] for name, values in base.items()}
    broken["reason"][:] = BROKEN
    broken["number"] = (len(base["event"]) + np.arange(count)).astype(np.int32)
    edges = np.cumsum(list(faults.values()))
    kind = np.searchsorted(edges / edges[-1], draw.random(count), side="right")
    return {**broken, "fault": np.array(list(faults), dtype=np.uint8)[kind]}


def _final_state(plan: Plan, base: Columns, changes: list[Columns]) -> Columns:
    """The newest delivered version of each order."""
    final = {name: base[name].copy() for name in ("status", "amount", "refunded", "day")}
    final["versions"] = np.ones(len(base["event"]), dtype=np.uint8)
    for change in changes:
        here = change["day"] < plan.days
        event = change["event"][here]
        for name in ("status", "amount", "refunded", "day"):
            final[name][event] = change[name][here]
        final["versions"][event] += 1
    return final


def _in_files(
    plan: Plan, draw: np.random.Generator, parts: list[Columns], final: Columns, pool: ThreadPoolExecutor
) -> Deliveries:
    """Put all rows into the order of files (days) and lines (time of day)."""
    for part in parts:
        part.setdefault("fault", np.zeros(len(part["event"]), dtype=np.uint8))
    rows = concatenated(parts)
    parts.clear()
    rows["fault"][_float_ids(plan, draw, rows["fault"])] = FLOAT_ID
    place = rows["day"] * DAY + rows["updated"] % DAY
    order = sort_order(place)
    # What would arrive after the last day never does.
    order = order[: np.count_nonzero(rows["day"] < plan.days)]
    del place
    rows = taken(rows, order, pool)
    if not (final and plan.has_lines):
        _mark_superseded(rows)
    return Deliveries(rows=rows, first=np.searchsorted(rows["day"], np.arange(plan.days + 1)), final=final)


def _mark_superseded(rows: Columns) -> None:
    """Of several rows of one id in one file only the newest counts; the others are marked."""
    again = np.isin(rows["reason"], (REPETITION, CORRECTION))
    suspects = np.zeros(int(rows["number"].max(initial=0)) + 1, dtype=bool)
    suspects[rows["number"][again]] = True
    position = np.flatnonzero(suspects[rows["number"]])
    number, day = rows["number"][position], rows["day"][position]
    order = np.lexsort((position, rows["updated"][position], day, number))
    same = (number[order][1:] == number[order][:-1]) & (day[order][1:] == day[order][:-1])
    rows["fault"][position[order[:-1][same]]] = SUPERSEDED


def _float_ids(plan: Plan, draw: np.random.Generator, fault: np.ndarray) -> np.ndarray:
    """Rows whose customer id comes as 17850.0, as spreadsheets write it."""
    chosen = bernoulli(draw, len(fault), plan.dirt)
    return chosen[fault[chosen] == SOUND]
