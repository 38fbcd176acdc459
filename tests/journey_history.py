"""The last days of Complete Journey, one by one, and why its households moved on each.

The step itself refuses a day whose causes don't add up to its moves or whose chains don't end at
what was published. This scenario counts once more from the published files, without the step's code,
and prints the causes day by day:

    PYTHONPATH=scripts:tests python tests/journey_history.py --days 60
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb

from publishing import pass_gate
from strataflow.build import build
from strataflow.history.refresh import current_history, refresh
from strataflow.home import Home
from strataflow.landing import land
from strataflow.project import Project
from strataflow.publish import publish, version_of
from strataflow.sources import load_sources

FIRST, LAST = date(2017, 1, 1), date(2017, 12, 31)
ATTRIBUTES = ("rfm_class", "ecommerce_stage", "high_ticket_stage", "activity_stage", "value_tier")


def run_days(home: Home, days: int) -> Iterator[tuple[date, float]]:
    """Land the year, then publish its last ``days`` days and the one before them; each day with its step's seconds.

    A build counts what was received by its day, so what lies in the lake from later days is nothing to it.
    """
    project = Project.locate()
    sources = load_sources(project.root / "scripts" / "sources" / "complete_journey", project)
    land(home, project, sources, FIRST, LAST)
    for number in range(days + 1):
        day = LAST - timedelta(days=days - number)
        made = build(home, project, sources.shop, day)
        pass_gate(home, day, made.meta["build_id"])
        publish(home, made)
        started = time.perf_counter()
        refresh(home, project, sources.shop)
        yield day, time.perf_counter() - started


def causes_and_moves(home: Home, day: date) -> tuple[dict[str, int], int]:
    """Moves of a day by cause as history tells them, and all moves counted from the two published days."""
    before, today = (_segments(home, one) for one in (day - timedelta(days=1), day))
    told = current_history(home) / f"segment_transitions/as_of_date={day}/segment_transitions.parquet"
    differs = " + ".join(f"cast(a.{name} is distinct from b.{name} as integer)" for name in ATTRIBUTES)
    with duckdb.connect() as connection:
        by_cause = connection.execute(f"select cause, count(*) from '{told}' group by cause order by cause").fetchall()
        (moves,) = connection.execute(
            f"select coalesce(sum({differs}), 0) from '{before}' as a full join '{today}' as b using (customer_id)"
        ).fetchone()
    return dict(by_cause), moves


def _segments(home: Home, day: date) -> Path:
    return version_of(home, day) / "customer_segments" / f"as_of_date={day}" / "customer_segments.parquet"


def main() -> int:
    """Run the days and print the causes; the exit code tells whether all of them add up."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=60)
    parser.add_argument("--told", type=Path, help="Also write what was found to this file, as JSON.")
    wrong, total = 0, dict[str, int]()
    given = parser.parse_args()
    with TemporaryDirectory() as folder:
        home = Home(Path(folder) / "home")
        for day, seconds in run_days(home, given.days):
            if day == LAST - timedelta(days=given.days):
                continue
            causes, moves = causes_and_moves(home, day)
            wrong += sum(causes.values()) != moves
            total = {cause: total.get(cause, 0) + causes.get(cause, 0) for cause in {*total, *causes}}
            told = ", ".join(f"{cause} {count}" for cause, count in causes.items())
            print(f"{day}  {moves} moves in {seconds:.1f} s: {told}", flush=True)
    print(f"{given.days - wrong} of {given.days} days add up; in all " + str(dict(sorted(total.items()))))
    if given.told:
        told = {"days": given.days, "add_up": given.days - wrong, "moves": dict(sorted(total.items()))}
        given.told.write_text(json.dumps(told), encoding="utf-8")
    return 1 if wrong else 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # taking the interpreter apart prints a screen of warnings from the DuckDB dialect
