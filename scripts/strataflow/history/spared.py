"""How many moves the settings of stability spare, and how many others would.

What the days were published with is read from the history. Other settings are
tried by going through the published days in memory, so that an analyst sees
what they would spare before anyone else sees them in force.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from strataflow.errors import UsageError
from strataflow.history.causes import ATTRIBUTES, PublishedDay, database, find_moves
from strataflow.history.stability import DWELL_VAR, MARGIN_VAR, Fold, Settings
from strataflow.publish import published_days, version_of
from strataflow.sqltext import quoted

if TYPE_CHECKING:
    from rich.console import Console

    from strataflow.home import Home

COLUMNS = ("as_of_date", "attribute", "raw_moves", "stable_moves", "spared", "held_by_dwell", "held_by_margin")
PERIODS = {"day": 10, "month": 7}


def settings_given(dwell: Iterable[str], margin: Iterable[str]) -> Settings | None:
    """Settings from ``NAME=NUMBER`` of the command line; None if there are none.

    Raises:
        UsageError: a name is not known or a number out of range.
    """
    given = {DWELL_VAR: dict(map(_pair, dwell)), MARGIN_VAR: dict(map(_pair, margin))}
    if not any(given.values()):
        return None
    settings = Settings.of(given, where="--dwell, --margin")
    if not settings.attributes:
        raise UsageError("all of these are 0, which steadies nothing", where="--dwell, --margin")
    return settings


def spared(home: Home, settings: Settings | None = None, *, by: str = "month") -> dict[str, Any]:
    """Moves as published and as steadied, by period and attribute.

    Args:
        settings: try these on all published days; by default what the days were published with.
        by: ``day`` or ``month``.

    Returns:
        settings (what was tried; None for those published), from and to (first day, from which moves
        are counted, and last), rows and total: period, attribute, raw_moves, stable_moves, spared, held_by_dwell and
        held_by_margin (customers on the period's last day).

    Raises:
        UsageError: no published day was steadied, or there are fewer than two to try on.
    """
    days = _tried(home, settings) if settings else _published(home)
    rows = _summed(days, lambda row: str(row["as_of_date"])[: PERIODS[by]])
    return {
        "settings": {"min_dwell_days": dict(settings.dwell), "margin": {n: str(v) for n, v in settings.margins.items()}}
        if settings
        else None,
        "by": by,
        "from": str(min(row["previous_as_of_date"] for row in days)),
        "to": str(max(row["as_of_date"] for row in days)),
        "rows": rows,
        "total": _summed(days, lambda _: "all"),
    }


def render(told: dict[str, Any], console: Console) -> None:
    """Print what :func:`spared` returned, for people."""
    from strataflow import summary

    tried = told["settings"]
    named = ", ".join(f"{name} {value}" for part in tried.values() for name, value in part.items()) if tried else ""
    title = f"What {named} would spare" if tried else "What the settings of stability spared"
    grid = summary.table(f"{title}, {told['from']} to {told['to']}")
    for column in (told["by"], "attribute"):
        grid.add_column(column)
    for column in ("raw moves", "stable moves", "spared", "held by dwell", "held by margin"):
        grid.add_column(column, justify="right")
    for row in [*told["rows"], *told["total"]]:
        share = f" ({row['spared'] / row['raw_moves']:.0%})" if row["raw_moves"] else ""
        numbers = (row["raw_moves"], row["stable_moves"], row["spared"], row["held_by_dwell"], row["held_by_margin"])
        first, second, third, *held = (f"{number:,}" for number in numbers)
        grid.add_row(row["period"], row["attribute"], first, second, third + share, *held)
    console.print(grid)


def _published(home: Home) -> list[dict[str, Any]]:
    files = sorted((home.published / "history").resolve().glob("stability_moves/*/*.parquet"))
    if not files:
        raise UsageError(
            "no two published days were steadied: stability is off, or on since the last day only",
            where=f"{home.published / 'history'} ({DWELL_VAR}, {MARGIN_VAR} in dbt_project.yml)",
            todo="strataflow stability --dwell rfm_class=7 --margin recency_days=2 tells what these would spare",
        )
    with database(home.scratch / "stability") as connection:
        listed = ", ".join(quoted(str(path)) for path in files)
        return _rows(connection, f"from read_parquet([{listed}], hive_partitioning = false) order by all")


def _tried(home: Home, settings: Settings) -> list[dict[str, Any]]:
    days = [PublishedDay.at(day, path) for day in published_days(home) if (path := version_of(home, day))]
    if not days[1:]:
        raise UsageError(
            f"moves are counted from one published day to the next; there are {len(days)}",
            where=str(home.published),
            todo="strataflow run --date YYYY-MM-DD for another day",
        )
    found: list[dict[str, Any]] = []
    with database(home.scratch / "stability") as connection:
        fold = Fold(connection, settings)
        fold.begin(days[0])
        for before, today in pairwise(days):
            find_moves(connection, before, today)
            fold.step(before, today)
            found += _rows(connection, "from stability_moves order by all")
    return found


def _summed(days: list[dict[str, Any]], period_of: Any) -> list[dict[str, Any]]:
    """Moves added up, holds as on the last day, by period and attribute."""
    summed: dict[tuple[str, int], dict[str, Any]] = {}
    for row in days:
        key = (period_of(row), ATTRIBUTES.index(row["attribute"]))
        total = summed.setdefault(key, {"period": key[0], "attribute": row["attribute"]})
        for name in ("raw_moves", "stable_moves", "spared"):
            total[name] = total.get(name, 0) + row[name]
        total |= {name: row[name] for name in ("held_by_dwell", "held_by_margin")}
    return [summed[key] for key in sorted(summed)]


def _rows(connection: Any, query: str) -> list[dict[str, Any]]:
    found = connection.execute(query)
    columns = [column[0] for column in found.description]
    return [dict(zip(columns, row, strict=True)) for row in found.fetchall()]


def _pair(text: str) -> tuple[str, str]:
    name, _, number = text.partition("=")
    return name.strip(), number.strip()
