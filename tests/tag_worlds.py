"""Automatic tags of a random world in plain Python, from their definitions in docs/metrics.md and not from the SQL.

The rules that ship as seeds and vars are read, everything that decides is written down again.
"""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from strataflow.rules import variables
from worlds import interactions_counted, latest_orders

if TYPE_CHECKING:
    from strataflow.project import Project
    from worlds import World

# Groups whose tags the worlds can have, without those that restate a class, stage or tier.
GROUPS = (
    "order_status", "coupon_sensitivity", "price_sensitivity", "active_days", "active_hours", "customer_type",
    "need_type", "interaction_behaviour", "social_behaviour", "region",
)  # fmt: skip
VALID = ("completed", "paid")

Tags = set[tuple[str, str]]
Orders = dict[str, list[dict[str, Any]]]


def expected_tags(world: World, project: Project, customers: list[str], as_of: date, known_at: date) -> Tags:
    """Customer and tag_id of all tags of :data:`GROUPS`.

    Args:
        customers: all known ones, as of the day.
    """
    rules = variables(project)
    orders = _orders(world, as_of, known_at)
    window = {
        person: [order for order in own if (as_of - order["order_date"]).days < rules["rfm_window_days"]]
        for person, own in orders.items()
    }
    interactions = interactions_counted(world, as_of, known_at)
    tags = {(person, "has_ordered" if orders.get(person) else "never_ordered") for person in customers}
    tags |= _habits(window, rules, project) | _types(window, rules)
    tags |= _interaction_tags(interactions, project, as_of) | _needs(interactions, rules, project, as_of)
    return tags | _regions(world, as_of, known_at)


def _seed(project: Project, name: str) -> list[dict[str, str]]:
    with (project.dbt / "seeds" / f"{name}.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _orders(world: World, as_of: date, known_at: date) -> Orders:
    by_customer: Orders = defaultdict(list)
    for order in latest_orders(world, known_at).values():
        if order["order_date"] <= as_of and order["status"] in VALID and order["net"] > 0:
            by_customer[order["customer_id"]].append(order)
    return by_customer


def _saved(orders: list[dict[str, Any]]) -> Decimal:
    return max(sum((order["discount_amount"] + order["coupon_amount"] for order in orders), Decimal(0)), Decimal(0))


def _net(orders: list[dict[str, Any]]) -> Decimal:
    return sum((order["net"] for order in orders), Decimal(0))


def _points(part: Decimal, whole: Decimal) -> int:
    """Hundredths of a percent, rounded down."""
    return int(1_000_000 * part) // int(100 * whole)


def _peers(window: Orders, rules: dict[str, Any]) -> list[list[dict[str, Any]]]:
    return [own for own in window.values() if len(own) >= rules["habit_min_orders"]]


def _habits(window: Orders, rules: dict[str, Any], project: Project) -> Tags:
    bands = {int(row["hour"]): row["hour_band"] for row in _seed(project, "hour_bands")}
    peers = _peers(window, rules)
    saved_by_all = sum((_saved(own) for own in peers), Decimal(0))
    paid_by_all = sum((_net(own) for own in peers), Decimal(0))
    tags: Tags = set()
    for person, own in window.items():
        count = len(own)
        if count < rules["habit_min_orders"]:
            continue
        coupons = sum(1 for order in own if order["coupon_amount"] > 0)
        lover, user = (coupons >= Decimal(str(rules[f"coupon_{kind}_share"])) * count for kind in ("lover", "user"))
        tags.add((person, "coupon_lover" if lover else "coupon_user" if user else "coupon_indifferent"))
        weekend = sum(1 for order in own if order["order_date"].isoweekday() > 5)
        often = weekend >= Decimal(str(rules["habit_share"])) * count
        seldom = count - weekend >= Decimal(str(rules["weekday_share"])) * count
        tags.add((person, "weekend_shopper" if often else "weekday_shopper" if seldom else "days_mixed"))
        hours = Counter(bands[order["order_hour"]] for order in own)
        band, most = min(hours.items(), key=lambda each: (-each[1], each[0]))
        tags.add((person, f"hours_{band}" if most >= Decimal(str(rules["habit_share"])) * count else "hours_mixed"))
        points_of_all = _points(saved_by_all, paid_by_all + saved_by_all)
        if points_of_all:
            points = _points(_saved(own), _net(own) + _saved(own))
            high = points >= Decimal(str(rules["price_sensitive_ratio"])) * points_of_all
            low = points <= Decimal(str(rules["price_insensitive_ratio"])) * points_of_all
            tags.add((person, "price_sensitive" if high else "price_insensitive" if low else "price_average"))
    return tags


def _types(window: Orders, rules: dict[str, Any]) -> Tags:
    """The worlds' shops neither say what a customer is nor deliver lines: two questions, which must agree."""
    peers = [order for own in _peers(window, rules) for order in own]
    if not peers:
        return set()
    usual = Decimal(int(100 * _net(peers)) // len(peers)) / 100
    tags: Tags = set()
    for person, own in window.items():
        if len(own) < rules["customer_type_min_orders"] or usual <= 0:
            continue
        large = _net(own) >= rules["b2b_order_size_ratio"] * usual * len(own)
        start, end = rules["office_hours_start"], rules["office_hours_end"]
        at_work = [
            order for order in own if order["order_date"].isoweekday() < 6 and start <= order["order_hour"] < end
        ]
        office = len(at_work) >= Decimal(str(rules["b2b_office_share"])) * len(own)
        if large == office:
            tags.add((person, "customer_2b" if large else "customer_2c"))
    return tags


def _interaction_tags(interactions: list[dict[str, Any]], project: Project, as_of: date) -> Tags:
    counts: Counter[tuple[str, str]] = Counter()
    least = {}
    for rule in _seed(project, "interaction_tags"):
        least[rule["tag_id"]] = int(rule["min_count"])
        for row in interactions:
            recent = (as_of - row["interaction_date"]).days < int(rule["window_days"])
            brought = rule["names_referred_customer"] == "false" or row.get("referred_customer_id")
            if row["kind"] == rule["kind"] and recent and brought:
                counts[row["customer_id"], rule["tag_id"]] += 1
    return {(person, tag) for (person, tag), count in counts.items() if count >= least[tag]}


def _needs(interactions: list[dict[str, Any]], rules: dict[str, Any], project: Project, as_of: date) -> Tags:
    weights = {row["subject"]: row for row in _seed(project, "need_types") if row["subject_type"] == "interaction"}
    own: dict[str, Counter[str]] = defaultdict(Counter)
    everybody: Counter[str] = Counter()
    for row in interactions:
        need = weights.get(row["kind"])
        if need and (as_of - row["interaction_date"]).days < rules["rfm_window_days"]:
            own[row["customer_id"]][need["tag_id"]] += int(need["weight"])
            everybody[need["tag_id"]] += int(need["weight"])
    tags: Tags = set()
    for person, occasions in own.items():
        candidates = []
        for need, count in occasions.items():
            points, usual = (
                (20_000 * part + whole) // (2 * whole)
                for part, whole in ((count, occasions.total()), (everybody[need], everybody.total()))
            )
            apart = points >= Decimal(str(rules["need_ratio"])) * usual
            most = count >= Decimal(str(rules["need_share"])) * occasions.total()
            if count >= rules["need_min_occasions"] and (apart or most):
                candidates.append((not apart, -(10_000 * points // usual) if apart else 0, -count, need))
        if candidates:
            tags.add((person, min(candidates)[-1]))
    return tags


def _regions(world: World, as_of: date, known_at: date) -> Tags:
    newest: dict[str, dict[str, Any]] = {}
    for row in sorted(world.customers, key=lambda row: row["received_date"]):
        registered = row["registered_at"].date() if row["registered_at"] else row["received_date"]
        if row["received_date"] <= known_at and registered <= as_of:
            newest[row["customer_id"]] = row
    return {(person, "region") for person, row in newest.items() if row["region"]}
