"""Insights kept for the week they were computed for, so that the other days of the week need not read the history.

Habits, products that go together and who brings whom change slowly. They are computed
inside the first build that needs them, as of the last Sunday before its day and from
what had been received by then, as the churn model is trained; which build that is makes
no difference. What is kept is named by a digest of everything it was made from, so that
insights of other data or other rules are simply not found, and it can be removed at any
time.
"""

from __future__ import annotations

import os
import shutil
from datetime import date
from pathlib import Path

from strataflow.durable import sync
from strataflow.errors import InputError
from strataflow.home import Home
from strataflow.lake import received
from strataflow.prediction.training import training_day
from strataflow.sqltext import quoted
from strataflow.totals import name_of

# What is kept -> the table of a build that it is taken from.
INSIGHTS = {
    "purchase_habit": "purchase_habit",
    "hook_products": "hook_products",
    "product_affinities": "product_affinities",
    "customer_products_owned": "int_customer_products_owned",
    "next_best_ranked": "int_next_best_ranked",
    "referral_metrics": "referral_metrics",
    "advocates": "int_advocates_measured",
}

# Of the day that reads them, not of the week.
_OF_THE_DAY = "as_of_date"

# Enough for a daily run and for a backfill of another time beside it.
KEPT = 4


def folder(home: Home, as_of: date, rules: str) -> Path | None:
    """Where the insights for a build of ``as_of`` are kept or would be; None where nothing had been received.

    Args:
        rules: digest of the rules that insights depend on.
    """
    day = training_day(as_of)
    try:
        known = received(home, day)
    except InputError:
        return None
    return home.state / "insights" / name_of(day, known, rules)


def kept(place: Path | None) -> Path | None:
    """``place`` if the week's insights lie there, whole."""
    return place if place is not None and place.is_dir() else None


def keep(place: Path | None, database: Path) -> None:
    """Keep the insights that a build computed in ``database``, unless they lie there already."""
    import duckdb

    if place is None or place.is_dir():
        return
    aside = place.with_name(f".{place.name}")
    shutil.rmtree(aside, ignore_errors=True)
    with duckdb.connect(str(database), read_only=True) as connection:
        for name, table in INSIGHTS.items():
            target = aside / name / f"{name}.parquet"
            target.parent.mkdir(parents=True)
            columns = f"columns(lambda name: name <> {quoted(_OF_THE_DAY)})"
            connection.execute(
                f"copy (select {columns} from {table}) to {quoted(str(target))} (format parquet, compression zstd)"
            )
            sync(target)
    os.replace(aside, place)
    _remove_oldest(place.parent)


def _remove_oldest(store: Path) -> None:
    by_age = sorted(store.glob("[0-9]*-*-*-*"), key=lambda path: path.stat().st_mtime_ns)
    for path in by_age[:-KEPT]:
        shutil.rmtree(path)
    for path in store.glob(".*"):
        shutil.rmtree(path)
