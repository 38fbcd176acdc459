"""Worlds written by hand, order by order, and their days published without files or gates."""

from __future__ import annotations

import shutil
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Self

import duckdb

from publishing import pass_gate
from strataflow.build import build
from strataflow.history.refresh import current_history, refresh
from strataflow.home import Home
from strataflow.project import Project
from strataflow.publish import publish
from strataflow.sources import Shop
from worlds import World, write_lake

SHOP = Shop(name="by hand", time_zone="UTC", currency="USD")
DAY = date(2024, 6, 30)
EVE = DAY - timedelta(days=1)


def ago(days: int) -> date:
    """So many days before the day that the worlds are about."""
    return DAY - timedelta(days=days)


def edit_vars(project: Project, rules: dict[str, str]) -> None:
    """Give vars of one line each other values in ``dbt_project.yml``."""
    path = project.dbt / "dbt_project.yml"
    lines = path.read_text(encoding="utf-8").splitlines()
    for name, value in rules.items():
        (place,) = [number for number, line in enumerate(lines) if line.startswith(f"  {name}:")]
        lines[place] = f"  {name}: {value}"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


class HandWorld:
    """A world to which one says who did what, how many days ago, and when it was received."""

    def __init__(self) -> None:
        self.world = World()

    def order(
        self, who: str, days: int, amount: float, *, received: int | None = None, name: str | None = None, **more: Any
    ) -> str:
        """An order dated ``days`` ago, received the same day unless said; the same name again is a new version."""
        number = name or f"order-{len(self.world.orders)}"
        self.world.orders.append(
            {
                "order_id": number,
                "customer_id": who,
                "ordered_at": datetime.combine(ago(days), time(12)),
                "order_date": ago(days),
                "status": "completed",
                "amount": Decimal(str(amount)),
                "refunded_amount": Decimal(0),
                "received_date": ago(days if received is None else received),
                **more,
            }
        )
        return number

    def orders(self, who: str, days: list[int], amount: float) -> None:
        """Several orders of the same amount."""
        for one in days:
            self.order(who, one, amount)

    def does(self, who: str, kind: str, days: int, *, received: int | None = None) -> None:
        """An interaction dated ``days`` ago."""
        self.world.interactions.append(
            {
                "interaction_id": f"interaction-{len(self.world.interactions)}",
                "customer_id": who,
                "occurred_at": datetime.combine(ago(days), time(12)),
                "interaction_date": ago(days),
                "kind": kind,
                "received_date": ago(days if received is None else received),
            }
        )

    def is_tagged(self, who: str, tag: str, days: int) -> None:
        """A manual tag, said and received ``days`` ago."""
        self.world.manual_tags.append(
            {
                "customer_id": who,
                "tag": tag,
                "tagged_by": "li",
                "tagged_at": datetime.combine(ago(days), time(12)),
                "tagged_date": ago(days),
                "received_date": ago(days),
            }
        )

    def registers(self, who: str, days: int) -> None:
        """A registration ``days`` ago, delivered that day."""
        registered = datetime.combine(ago(days), time(12))
        self.world.customers.append({"customer_id": who, "registered_at": registered, "received_date": ago(days)})


class PastHome:
    """A home whose lake is a world and whose rules may be edited between days."""

    def __init__(self, folder: Path, world: World, **rules: str) -> None:
        self.home, self.project = Home(folder / "home"), Project.locate()
        self._take_rules(folder)
        self.edit(**rules)
        write_lake(self.home, self.project, world)

    def copied_to(self, folder: Path) -> Self:
        """The same past elsewhere, for a test that changes it; the rules are the same files until they are edited."""
        shutil.copytree(self.home.root, folder / "home", symlinks=True)
        copy = object.__new__(type(self))
        copy.home, copy.project = Home(folder / "home"), self.project
        return copy

    def edit(self, **rules: str) -> None:
        """Give vars other values, as an analyst does in dbt_project.yml."""
        folder = self.home.root.parent
        if self.project.root.parent != folder:
            self._take_rules(folder)
        edit_vars(self.project, rules)

    def _take_rules(self, folder: Path) -> None:
        left_out = shutil.ignore_patterns("target", "logs")
        shutil.copytree(self.project.dbt, folder / "rules" / "dbt_project", ignore=left_out)
        (folder / "rules" / "expectations").mkdir()
        self.project = Project(folder / "rules")

    def publish(self, day: date, known_at: date | None = None) -> None:
        """Build a day and publish it, its gate taken as passed."""
        made = build(self.home, self.project, SHOP, day, known_at)
        pass_gate(self.home, day, made.meta["build_id"], known_at=known_at)
        publish(self.home, made)

    def refresh(self) -> Any:
        """Bring history up to date."""
        return refresh(self.home, self.project, SHOP)

    def rows(self, table: str, what: str = "*", where: str = "true") -> list[tuple]:
        """Rows of a history table."""
        files = current_history(self.home) / table / "**" / "*.parquet"
        with duckdb.connect() as connection:
            return connection.execute(
                f"select {what} from read_parquet('{files}', hive_partitioning = false) where {where} order by all"
            ).fetchall()
