"""Draws a whole shop and writes it: the steps in their order, and what holds them together."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from strataflow.errors import UsageError
from strataflow.generate import deliveries as d
from strataflow.generate import files, truth
from strataflow.generate.baskets import PRODUCTS, Catalogue, draw_baskets, draw_catalogue
from strataflow.generate.campaigns import Campaigns, draw_campaigns
from strataflow.generate.customers import Pace, draw_customers
from strataflow.generate.deliveries import Deliveries, deliver_interactions, deliver_orders
from strataflow.generate.descriptions import write_descriptions
from strataflow.generate.interactions import draw_interactions
from strataflow.generate.orders import certain_orders, draw_orders
from strataflow.generate.plan import Calendar, Plan
from strataflow.generate.randomness import Columns
from strataflow.generate.texts import Ids

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Generated:
    """What was written.

    Attributes:
        target: the folder.
        plan: the parameters.
        tables: per table of daily files: files, rows, refused_rows, and rows by reason and by fault.
        drawn: how many customers, orders, interactions, campaigns, referrals, … there are.
    """

    target: Path
    plan: Plan
    tables: dict[str, dict[str, Any]]
    drawn: dict[str, int]

    def as_dict(self) -> dict[str, Any]:
        """Everything but the place, as plain values; the content of ``generated.json``."""
        return {"parameters": self.plan.as_dict(), "drawn": self.drawn, "tables": self.tables}


@dataclass(frozen=True)
class _Work:
    """What every step needs."""

    plan: Plan
    calendar: Calendar
    folder: Path
    press: files.Press
    pool: ThreadPoolExecutor
    progress: Progress

    def write_days(self, table: str, write_day: Callable[[int], files.Notes]) -> list[files.Notes]:
        """Write all days of one table in parallel."""
        (self.press.data / table).mkdir(parents=True)
        notes = []
        for done, note in enumerate(self.pool.map(write_day, range(self.plan.days)), 1):
            notes.append(note)
            self.progress(f"write {table}", done, self.plan.days)
        return notes


def write_shop(target: Path, plan: Plan, *, threads: int | None = None, progress: Progress | None = None) -> Generated:
    """Draw a shop and write it; ``target`` appears only when it is complete.

    Raises:
        UsageError: ``target`` isn't empty, or the plan's numbers can't be met together.
    """
    target = Path(target).expanduser().resolve()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError("the target is not empty", where=str(target), todo="name a new folder, or empty this one")
    with _staged(target) as folder, ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool:
        calendar = Calendar(plan)
        press = files.Press(plan=plan, calendar=calendar, data=folder / "data", ids=Ids())
        for name in ("sources", "data", "truth"):
            (folder / name).mkdir()
        work = _Work(plan, calendar, folder, press, pool, progress or _silent)
        generated = Generated(target, plan, *_draw_and_write(work))
        write_descriptions(folder / "sources", plan)
        text = json.dumps(generated.as_dict(), indent=2, ensure_ascii=False) + "\n"
        (folder / "generated.json").write_text(text, encoding="utf-8")
    return generated


@contextmanager
def _staged(target: Path) -> Iterator[Path]:
    """A folder beside ``target`` that takes its name at the end; a broken run leaves no half shop there."""
    folder = target.with_name(f".{target.name}.unfinished")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
        if target.exists():
            target.rmdir()
        folder.rename(target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _silent(step: str, done: int, total: int) -> None:
    """Report nothing."""


def _draw_and_write(work: _Work) -> tuple[dict[str, dict[str, Any]], dict[str, int]]:
    plan = work.plan
    work.progress("draw customers", 0, 1)
    customers = draw_customers(plan, work.calendar)
    spare = plan.orders - len(certain_orders(plan, customers))
    campaigns = draw_campaigns(plan, customers, spare, work.pool)
    work.progress("draw customers", 1, 1)
    notes = {"customers": work.write_days("customers", files.customer_files(work.press, customers))}
    work.progress("draw orders", 0, 1)
    orders, pace = draw_orders(plan, work.calendar, customers, campaigns, work.pool)
    catalogue, lines = _baskets(work, customers, orders)
    delivered = deliver_orders(plan, orders, lines, work.pool)
    work.progress("draw orders", 1, 1)
    table = "order_lines" if plan.has_lines else "orders"
    notes[table] = work.write_days(table, files.order_files(work.press, orders, lines, delivered))
    _write_order_truth(work, customers, orders, delivered, pace, catalogue)
    drawn = {
        "customers": plan.customers,
        "orders": plan.orders,
        "orders_caused_by_campaigns": sum(len(part["day"]) for part in campaigns.reactions),
        "order_lines": len(lines["product"]) if lines else 0,
        "interactions": plan.interactions,
        "campaigns": len(campaigns.first) if plan.interactions else 0,
        "referrals": int(np.count_nonzero(customers["referrer"] >= 0)),
    }
    del delivered, lines
    interactions = None
    if plan.interactions:
        interactions, notes["interactions"] = _interactions(work, customers, orders, campaigns)
    truth.write_days(work.folder / "truth", work.press, orders, interactions, pace)
    truth.write_notes(work.folder / "truth", work.press, notes)
    return {name: _summary(of_days) for name, of_days in notes.items()}, drawn


def _baskets(work: _Work, customers: Columns, orders: Columns) -> tuple[Catalogue | None, Columns | None]:
    if not work.plan.has_lines:
        return None, None
    catalogue = draw_catalogue(work.plan)
    lines, pairs = draw_baskets(work.plan, catalogue, customers, orders, work.pool)
    files.product_file(work.press, catalogue)
    truth.write_affinities(work.folder / "truth", pairs)
    return catalogue, lines


def _write_order_truth(
    work: _Work,
    customers: Columns,
    orders: Columns,
    delivered: Deliveries,
    pace: Pace,
    catalogue: Catalogue | None,
) -> None:
    folder = work.folder / "truth"
    work.progress("write truth", 0, 1)
    both = [
        work.pool.submit(truth.write_orders, folder, work.press, orders, delivered.final),
        work.pool.submit(
            truth.write_customers, folder, work.press, customers, orders, delivered.final, pace, catalogue
        ),
    ]
    for written in both:
        written.result()
    work.progress("write truth", 1, 1)


def _interactions(
    work: _Work, customers: Columns, orders: Columns, campaigns: Campaigns
) -> tuple[Columns, list[files.Notes]]:
    work.progress("draw interactions", 0, 1)
    truth.write_referrals(work.folder / "truth", work.press, customers)
    truth.write_campaigns(work.folder / "truth", work.press, campaigns)
    products = PRODUCTS if work.plan.has_lines else 0
    interactions = draw_interactions(work.plan, work.calendar, customers, orders, campaigns, products, work.pool)
    delivered = deliver_interactions(work.plan, interactions, work.pool)
    work.progress("draw interactions", 1, 1)
    write_day = files.interaction_files(work.press, interactions, delivered)
    return interactions, work.write_days("interactions", write_day)


def _summary(notes: list[files.Notes]) -> dict[str, Any]:
    reasons = sum(note.reasons for note in notes)
    faults = sum(np.bincount(note.fault, minlength=len(d.FAULTS)) for note in notes)
    return {
        "files": len(notes),
        "rows": sum(note.rows for note in notes),
        "refused_rows": int(faults[truth.refused_faults()].sum()),
        "reasons": {name: int(count) for name, count in zip(d.REASONS, reasons, strict=True) if count},
        "faults": {name: int(count) for name, count in zip(d.FAULTS, faults, strict=True) if name and count},
    }
