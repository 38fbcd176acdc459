"""A shop whose customers stand everywhere, and the models run again after the orders that an explanation names.

The models are compiled once; a day is then their SQL over a lake of a few files. Limits
can be held: cut-offs, means and the bounds of the tiers are then those of another day.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from strataflow.home import Home
from strataflow.project import Project
from worlds import CompiledModels, World, write_lake

PROJECT = Project.locate()
DAY = date(2024, 10, 15)
MORROW = DAY + timedelta(days=1)
WINDOW_DAYS = 365
CENT = Decimal("0.01")
LIMITS = ("int_rfm_cutoffs_computed", "int_rfm_means_computed", "int_value_tiers_bounded")
_SOME_DAY = "1999-12-31"

Row = dict[str, Any]


def order(customer: str, day: date, amount: Decimal, number: int = 0) -> Row:
    """One order, received on its day or, if that is past, on DAY."""
    return {
        "order_id": f"{customer}/{day}/{number}",
        "customer_id": customer,
        "ordered_at": datetime.combine(day, time(12)),
        "order_date": day,
        "order_hour": 12,
        "amount": amount,
        "received_date": max(day, DAY),
    }


def orders_named(row: Row, day: date) -> list[Row]:
    """The orders that a row of customer_explanations says lead to the next class, all on one day."""
    count, amount = row["next_rfm_class_orders"], row["next_rfm_class_amount"] or CENT
    amounts = [CENT] * (count - 1) + [max(CENT, amount - CENT * (count - 1))] if count else []
    return [order(row["customer_id"], day, each, 100 + number) for number, each in enumerate(amounts)]


def shop_of_all_kinds(customers: int = 300, *, some_leave_tomorrow: bool = False) -> World:
    """Buyers of every rhythm and purse, some long gone, some who never bought; no order leaves the window tomorrow.

    Args:
        some_leave_tomorrow: every seventh buyer has an order, and every fourteenth another that
            was cancelled, on the first day of the window.
    """
    rng = random.Random(20241015)  # noqa: S311 (the same shop every time, no secrets)
    world = World()
    for number in range(customers):
        person = f"c{number:03}"
        if number % 10 == 0:
            _onlooker(world, person, number)
            continue
        last = DAY - timedelta(days=rng.choice([0, 3, 9, 20, 40, 75, 130, 200, 300, 410]))
        usual = rng.choice([8, 15, 40, 90])
        for back in range(rng.choice([1, 1, 2, 2, 3, 4, 6, 9])):
            day = last - timedelta(days=back * rng.choice([6, 17, 31]))
            if day != DAY - timedelta(days=WINDOW_DAYS - 1):
                cents = Decimal(rng.randrange(usual * 50, usual * 150)) / 100
                world.orders.append(order(person, day, cents, back))
        if some_leave_tomorrow and number % 7 == 0:
            oldest = DAY - timedelta(days=WINDOW_DAYS - 1)
            world.orders.append(order(person, oldest, Decimal(12), 50))
            if number % 14 == 0:
                world.orders.append(order(person, oldest, Decimal(7), 51) | {"status": "cancelled"})
    return world


def _onlooker(world: World, person: str, number: int) -> None:
    kind = ("page_view", "campaign_received", "quote_received")[number // 10 % 3]
    for count in range(1 + number % 4):
        seen = DAY - timedelta(days=number % 120 + count)
        world.interactions.append(
            {
                "interaction_id": f"{person}/{count}", "customer_id": person, "kind": kind,
                "occurred_at": datetime.combine(seen, time(9)), "interaction_date": seen, "received_date": DAY,
            }
        )  # fmt: skip
    registered = datetime.combine(DAY - timedelta(days=number % 200), time(8))
    world.customers.append({"customer_id": person, "registered_at": registered, "received_date": DAY})


@dataclass(frozen=True)
class Again:
    """The models, to be run for any day of a shop."""

    home: Home
    models: CompiledModels

    @classmethod
    def compiled(cls, folder: Path) -> Again:
        """Compile the project for a home in ``folder``."""
        home = Home(folder / "home")
        run_vars = {
            "as_of": _SOME_DAY, "known_at": _SOME_DAY, "lake": str(home.lake), "state": str(home.state),
            "landed_tables": ["orders", "interactions", "customers"], "ledger_through": None,
        }  # fmt: skip
        return cls(home, CompiledModels(PROJECT, folder / "target", run_vars))

    def on(
        self, day: date, world: World, more: Iterable[Row] = (), *, tables: dict[str, str], held: bool = False
    ) -> dict[str, list[Row]]:
        """Rows of tables on a day of a shop to which orders were added, by table.

        Args:
            tables: columns to sort by, by table.
            held: with the limits that :meth:`hold` kept.
        """
        write_lake(self.home, PROJECT, World([*world.orders, *more], world.interactions, world.customers))
        found = {}
        with self._of(day, held=held).run(tables) as connection:
            for table, key in tables.items():
                cursor = connection.execute(f"from {table} order by {key}")
                names = [column[0] for column in cursor.description]
                found[table] = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
        return found

    def hold(self, world: World) -> None:
        """Keep the limits of DAY."""
        write_lake(self.home, PROJECT, world)
        with self._of(DAY, held=False).run(LIMITS) as connection:
            for name in LIMITS:
                connection.execute(f"copy (from {name}) to '{self._kept(name)}' (format parquet)")

    def _kept(self, name: str) -> Path:
        return self.home.root.parent / f"{name}.parquet"

    def _of(self, day: date, *, held: bool) -> CompiledModels:
        kept = {name: f"from read_parquet('{self._kept(name)}')" for name in LIMITS} if held else {}
        return self.models.filled({_SOME_DAY: day}, kept)
