"""Random shops through the whole pipeline: day by day, and again in any other way; not a byte may differ.

`replay` delivers a random world as files and runs it day by day. Then it takes the last days back and
makes them again by backfill, in a random order: in the same home, whose ledgers reach further than the
days, and in an empty one. What is published, history included, must be the same bytes each time.

The tests take a few worlds. More of them, as a scenario of its own:

    PYTHONPATH=scripts:tests python tests/whole_worlds.py --worlds 50
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import shutil
import sys
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from past_worlds import edit_vars
from strataflow.history.refresh import current_history
from strataflow.home import Home
from strataflow.project import Project
from strataflow.publish import published_days
from strataflow.run import Deployment, Steps
from strataflow.runlog import RunLog
from strataflow.sources import load_sources
from worlds import START, World, random_world, say_tags

DAYS, LAST_DAYS = 42, 3
# What is told of stability hangs on all days before, so it is the first to show an order of days that matters.
STEADIED = {
    "stability_min_dwell_days": "{rfm_class: 2, ecommerce_stage: 2}",
    "stability_margin": "{recency_days: 1, monetary_share: 0.1, mean_score: 0.1, value_tier_share: 0.1}",
}
COLUMNS = {
    "orders": ("order_id", "customer_id", "ordered_at", "status", "amount", "refunded_amount", "is_adjustment"),
    "interactions": ("interaction_id", "customer_id", "occurred_at", "kind"),
    "customers": ("customer_id", "registered_at", "region"),
    "manual_tags": ("customer_id", "tag", "tagged_by", "tagged_at", "reason", "expires_at", "action"),
}


def steadied_rules(folder: Path) -> Project:
    """A copy of the project with the settings of stability on."""
    for name in ("dbt_project", "expectations"):
        source = Project.locate().root / name
        shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("target", "logs"))
    project = Project(folder)
    edit_vars(project, STEADIED)
    return project


def replay(seed: int, folder: Path, project: Project) -> list[str]:
    """Run a random world in three ways; what differs between them, as sentences.

    Args:
        folder: empty; holds the shop's files and the homes afterwards.
        project: the rules to run by.
    """
    rng = random.Random(seed)  # noqa: S311 (the same worlds every time, no secrets)
    world = random_world(seed, DAYS)
    while not (world.orders and world.interactions):
        world = random_world(rng.randrange(1 << 30), DAYS)
    say_tags(world, seed, DAYS)
    last = [START + timedelta(days=DAYS - LAST_DAYS + number) for number in range(LAST_DAYS)]
    world.orders += [_order_of_its_own(day) for day in last]
    sources = deliver(rng, world, folder / "shop")
    daily = Home(folder / "daily")
    _land(daily, project, sources, START, last[0] - timedelta(days=1))
    for day in last:
        _land(daily, project, sources, day, day)
        _make(daily, project, sources, day)
    expected = readable(daily)
    shutil.rmtree(daily.published)
    shutil.rmtree(daily.builds)
    _backfill(daily, project, sources, rng.sample(last, len(last)))
    empty = Home(folder / "empty")
    _land(empty, project, sources, START, last[-1])
    _backfill(empty, project, sources, rng.sample(last, len(last)))
    ways = {"backfill": daily, "an empty home": empty}
    return [told for way, home in ways.items() for told in _differences(seed, way, expected, readable(home))]


def _order_of_its_own(day: date) -> dict[str, Any]:
    """A day that brings nothing but corrections of old orders is stopped by gate 1, as it should be."""
    return {
        "order_id": f"of-{day}",
        "customer_id": "regular",
        "ordered_at": datetime.combine(day, time(12)),
        "order_date": day,
        "status": "completed",
        "amount": Decimal("12.50"),
        "refunded_amount": Decimal(0),
        "received_date": day,
    }


def deliver(rng: random.Random, world: World, folder: Path) -> Path:
    """Write a world as daily files with their descriptions; some rows stand in their file twice."""
    folder.mkdir(parents=True)
    (folder / "shop.yml").write_text("name: random shop\ntime_zone: UTC\ncurrency: USD\n", encoding="utf-8")
    for table, columns in COLUMNS.items():
        mapped = "\n".join(f"  {column}: {column}" for column in columns)
        (folder / f"{table}.yml").write_text(
            f"name: {table}\ntable: {table}\ndescription: Random {table}.\n"
            "format: {type: csv, date_formats: ['%Y-%m-%d %H:%M:%S', '%Y-%m-%d']}\n"
            f"files: {{root: delivered, path: '{table}_{{date}}.csv', if_empty: empty}}\n"
            f"limits: {{max_quarantine_ratio: 1.0}}\ncolumns:\n{mapped}\n",
            encoding="utf-8",
        )
        rows = world.tables().get(table, [])
        for number in range(DAYS + 1):
            day = START + timedelta(days=number)
            delivered = [row for row in rows if row["received_date"] == day]
            _write(folder / "delivered" / f"{table}_{day}.csv", columns, delivered, rng)
    return folder


def readable(home: Home) -> dict[str, bytes]:
    """Every promised byte that readers come to: the days' versions and the history, by path as readers see it."""
    found = {}
    history = current_history(home)
    folders = {f"days/{day}": home.published / "days" / str(day) for day in published_days(home)}
    for name, folder in (folders | ({"history": history} if history else {})).items():
        found[name] = folder.resolve().name.encode()
        for path in sorted(folder.resolve().rglob("*")):
            if path.is_file() and path.suffix != ".duckdb":
                found[f"{name}/{path.relative_to(folder.resolve())}"] = path.read_bytes()
    return found


def _write(path: Path, columns: tuple[str, ...], rows: list[dict[str, Any]], rng: random.Random) -> None:
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for row in rows:
            defaults = {"is_adjustment": False, "status": "completed", "refunded_amount": 0}
            cells = [row.get(column, defaults.get(column)) for column in columns]
            for _ in range(2 if rng.random() < 0.05 else 1):
                writer.writerow(["" if cell is None else cell for cell in cells])


def _land(home: Home, project: Project, sources: Path, first: date, last: date) -> None:
    _steps(home, project, sources, last).land(first, last)


def _make(home: Home, project: Project, sources: Path, day: date) -> None:
    """What the scheduler does with a landed day."""
    steps = _steps(home, project, sources, day)
    steps.check_landed(day)
    build = steps.build(day)
    steps.check_built(build)
    steps.publish(build)
    steps.history()


def _backfill(home: Home, project: Project, sources: Path, days: list[date]) -> None:
    for day in days:
        _make(home, project, sources, day)


def _steps(home: Home, project: Project, sources: Path, day: date) -> Steps:
    deployment = Deployment(home, project, load_sources(sources, project))
    return Steps(deployment, RunLog.start(home, "replay", day, {}))


def _differences(seed: int, way: str, expected: dict[str, bytes], found: dict[str, bytes]) -> list[str]:
    return [
        f"world {seed}, {way}: {path} differs"
        for path in sorted({*expected, *found})
        if expected.get(path) != found.get(path)
    ]


def main() -> int:
    """Replay worlds and print what differs; the exit code tells whether anything does."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", type=int, default=50)
    parser.add_argument("--first-seed", type=int, default=1000)
    parser.add_argument("--told", type=Path, help="Also write what was found to this file, as JSON.")
    given = parser.parse_args()
    found: list[str] = []
    failed = 0
    with TemporaryDirectory() as folder:
        project = steadied_rules(Path(folder) / "rules")
        for seed in range(given.first_seed, given.first_seed + given.worlds):
            world = Path(folder) / "world"
            differences = replay(seed, world, project)
            shutil.rmtree(world)
            failed += bool(differences)
            found += differences
            print(f"world {seed}:", "; ".join(differences) or "the same bytes", flush=True)
    print(f"{given.worlds - failed} of {given.worlds} worlds are the same in every way")
    if given.told:
        told = {"worlds": given.worlds, "same": given.worlds - failed, "differences": found}
        given.told.write_text(json.dumps(told), encoding="utf-8")
    return 1 if failed else 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # taking the interpreter apart prints a screen of warnings from the DuckDB dialect
