"""Orders that come late, change, or vanish and come again: the ledger stays exact, only what they touch is redone."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import duckdb
import pytest

from past_worlds import SHOP, HandWorld, PastHome, ago
from strataflow import ledger
from strataflow.build import build
from strataflow.rules import ledger_rules_hash
from worlds import World, latest_orders, write_lake

VALID = {"completed", "paid"}


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """Two months of a small shop; the days are built one after the other by the first test."""
    world = HandWorld()
    refunded = world.order("ann", 90, 100)
    corrected = world.order("ben", 88, 50)
    world.order("cid", 85, 70)
    world.order("dan", 75, 30, received=70)
    world.order("ann", 90, 100, received=30, name=refunded, refunded_amount=Decimal(40))
    world.order("eve", 30, 20)
    world.order("ben", 88, 55, received=20, name=corrected)
    past = PastHome(tmp_path_factory.mktemp("late"), world.world)
    past.world = world.world
    return past


def kept(past: PastHome) -> ledger.Kept:
    return ledger.kept(past.home, ledger_rules_hash(past.project, SHOP.currency))


def files(past: PastHome) -> dict[str, int]:
    """The kept files of the order ledger and the inode of each: a file written anew has another."""
    folder = past.home.state / "order_ledger"
    return {name: (folder / name).stat().st_ino for _, _, name in kept(past).segments}


def rows(past: PastHome, day: date) -> list[tuple]:
    listed = [str(past.home.state / "order_ledger" / name) for name in files(past)]
    return duckdb.execute(
        "select customer_id, order_date, received_date, net_amount from read_parquet(?) where received_date <= ?"
        " order by all",
        [listed, day],
    ).fetchall()


def net_of_latest_versions(world: World, day: date) -> Decimal:
    latest = latest_orders(world, day).values()
    return sum((order["net"] for order in latest if order["status"] in VALID and order["net"] > 0), Decimal(0))


def test_a_late_order_a_refund_and_a_correction_add_only_their_own_rows(shop):
    expected = [
        (ago(80), {"ann", "ben", "cid"}, Decimal(220)),
        (ago(70), {"dan"}, Decimal(250)),  # ordered five days before it came
        (ago(30), {"ann", "eve"}, Decimal(230)),  # 40 of 100 given back after two months, and an order of 20
        (ago(20), {"ben"}, Decimal(235)),  # 50 should have been 55
    ]
    before: dict[str, int] = {}
    for day, touched, net in expected:
        build(shop.home, shop.project, SHOP, day)
        after = files(shop)
        (added,) = set(after) - set(before)
        assert {name: after[name] for name in before} == before
        path = shop.home.state / "order_ledger" / added
        assert {who for (who,) in duckdb.sql(f"select distinct customer_id from '{path}'").fetchall()} == touched
        assert sum(row[3] for row in rows(shop, day)) == net == net_of_latest_versions(shop.world, day)
        before = after


def test_a_past_day_needs_no_ledger_of_its_own(shop):
    before = files(shop)
    build(shop.home, shop.project, SHOP, ago(70))
    assert files(shop) == before
    assert sum(row[3] for row in rows(shop, ago(70))) == net_of_latest_versions(shop.world, ago(70))


def test_a_delivery_that_vanishes_and_comes_again_is_worked_through_from_its_day_on(shop):
    day = ago(20)
    whole, before = rows(shop, day), files(shop)
    without = World(orders=[row for row in shop.world.orders if row["received_date"] != ago(30)])
    write_lake(shop.home, shop.project, without)
    for manifest in shop.home.landings.glob(f"*/{ago(30)}.json"):
        manifest.unlink()

    build(shop.home, shop.project, SHOP, day)

    assert sum(row[3] for row in rows(shop, day)) == net_of_latest_versions(without, day) == Decimal(255)
    early = {name for first, last, name in kept(shop).segments if last <= ago(70)}
    assert len(early) == 2
    assert {name: files(shop)[name] for name in early} == {name: before[name] for name in early}

    write_lake(shop.home, shop.project, shop.world)
    build(shop.home, shop.project, SHOP, day)

    assert rows(shop, day) == whole
    assert {name: files(shop)[name] for name in early} == {name: before[name] for name in early}


def test_the_same_delivery_again_costs_nothing(shop):
    before = files(shop)
    write_lake(shop.home, shop.project, shop.world)
    build(shop.home, shop.project, SHOP, ago(20))
    assert files(shop) == before
