"""Lifetime totals kept between days, so that a day's cost follows the day and not the history.

A build that finds the totals of an earlier day adds what came since; one that finds
none adds up the whole ledger. The results are the same. What is kept is named by a
digest of everything it was made from, so that totals of other data or other rules are
simply not found, and it can be removed at any time.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

from strataflow.durable import sync
from strataflow.home import Home
from strataflow.lake import Received
from strataflow.sqltext import quoted

TOTALS = ("order_totals", "interaction_totals", "consents")

# A week's news are a small part of a day's work, writing everyone's totals is a large one.
DAYS_BETWEEN = 7

# Enough for a daily run and for a backfill of another time beside it.
KEPT = 4


@dataclass(frozen=True)
class KeptTotals:
    """Totals of what was received and dated up to ``through``, below ``path``."""

    path: Path
    through: date

    def dbt_var(self) -> dict[str, str]:
        """As the models take it."""
        return {"path": str(self.path), "through": str(self.through)}


def kept(home: Home, known: Received, as_of: date, rules: str) -> KeptTotals | None:
    """The newest totals on file that a build of ``as_of`` can start from, None where there are none.

    Args:
        rules: digest of the rules that totals depend on.
    """
    for day, path in sorted(_on_file(home), reverse=True):
        if day <= min(as_of, known.known_at) and path.name == name_of(day, known, rules):
            return KeptTotals(path, day)
    return None


def keep(home: Home, known: Received, as_of: date, rules: str, database: Path) -> None:
    """Keep the totals in a build's ``database`` if it is an ordinary day's and the last ones are a week old."""
    import duckdb

    if known.known_at != as_of:
        return
    last = kept(home, known, as_of, rules)
    if last is not None and as_of - last.through < timedelta(days=DAYS_BETWEEN):
        return
    folder = home.state / "totals" / name_of(as_of, known, rules)
    aside = folder.with_name(f".{folder.name}")
    shutil.rmtree(aside, ignore_errors=True)
    with duckdb.connect(str(database), read_only=True) as connection:
        for table in TOTALS:
            target = aside / table / f"{table}.parquet"
            target.parent.mkdir(parents=True)
            connection.execute(
                f"copy (from int_customer_{table}) to {quoted(str(target))} (format parquet, compression zstd)"
            )
            sync(target)
    os.replace(aside, folder)
    _remove_oldest(home)


def name_of(day: date, known: Received, rules: str) -> str:
    """The name of what was made from everything received up to ``day`` by ``rules``: the day and a digest."""
    days = [f"{each} {digest}" for each, digest in sorted(known.digests().items()) if each <= day]
    return f"{day}-{hashlib.sha256(chr(10).join([rules, *days]).encode()).hexdigest()[:16]}"


def _on_file(home: Home) -> list[tuple[date, Path]]:
    return [(date.fromisoformat(path.name[:10]), path) for path in (home.state / "totals").glob("[0-9]*-*-*-*")]


def _remove_oldest(home: Home) -> None:
    by_age = sorted((path for _, path in _on_file(home)), key=lambda path: path.stat().st_mtime_ns)
    for path in by_age[:-KEPT]:
        shutil.rmtree(path)
    for path in (home.state / "totals").glob(".*"):
        shutil.rmtree(path)
