"""A backfill through Airflow, from the command to the last published day: ``python -m bench.backfill``.

The history before lands and is published first and isn't counted. Then both ingest DAGs
are backfilled under a real scheduler, as dags/README.md tells a person to do it, and
the clock runs until the consumer has published every day. The tasks' own times say
what bounds it: tasks that write to the home take turns, so their sum is a floor.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from strataflow.embedded import CONSUMER, PRODUCERS
from strataflow.home import Home
from strataflow.local_airflow import DAGS, LocalAirflow
from strataflow.project import Project
from strataflow.screen import Screen

TARGET_SECONDS = 360
SECONDS_BETWEEN_LOOKS = 1.0
SECONDS_AT_MOST = 3600


def prepare(home: Home, sources: Path, first: date, last: date) -> None:
    """Land the days from ``first`` to ``last`` in one go and publish the last, as the backfill finds a home."""
    from strataflow.run import Deployment, Steps
    from strataflow.runlog import RunLog

    deployment = Deployment.at(home.root, sources)
    with home.writing():
        log = RunLog.start(home, "run", last, {"from": str(first)})
        with log.closing():
            Steps(deployment, log).day(last, first=first)


def backfill(airflow: LocalAirflow, days: list[date]) -> float:
    """Backfill both producers and return the seconds until the consumer has ended for every day.

    Raises:
        SystemExit: a run failed, or it takes longer than an hour.
    """
    started = time.monotonic()
    span = ("--from-date", str(days[0]), "--to-date", f"{days[-1]}T23:59", "--max-active-runs", "2")
    with ThreadPoolExecutor() as both:
        list(both.map(lambda dag: airflow.command("backfill", "create", "--dag-id", dag, *span), PRODUCERS))
    left = set(days)
    while left and time.monotonic() - started < SECONDS_AT_MOST:
        airflow.check_alive()
        for day in sorted(left):
            states = [run["state"] for run in airflow.runs(CONSUMER, day)]
            if "failed" in states:
                sys.exit(f"the run of {day} failed; see {airflow.root / 'logs'}")
            if "success" not in states:
                break
            left.discard(day)
        time.sleep(SECONDS_BETWEEN_LOOKS)
    if left:
        sys.exit(f"not done after {SECONDS_AT_MOST} seconds: {len(left)} days are left")
    return time.monotonic() - started


def task_times(airflow: LocalAirflow, days: list[date]) -> dict[str, list[float]]:
    """Seconds that each task ran, one figure per day, by ``<dag>.<task>``."""
    times: dict[str, list[float]] = {}
    for dag in DAGS:
        for day in days:
            for run in airflow.runs(dag, day):
                for task in airflow.tasks(dag, run["dag_run_id"]):
                    times.setdefault(f"{dag}.{task['task_id']}", []).append(_seconds(task))
    return times


def _seconds(task: dict[str, Any]) -> float:
    start, end = (datetime.fromisoformat(task[name]) for name in ("start_date", "end_date"))
    return (end - start).total_seconds()


@click.command()
@click.option("--sources", type=click.Path(file_okay=False, path_type=Path), help="[default: Complete Journey]")
@click.option(
    "--home", type=click.Path(file_okay=False, path_type=Path), help="An empty folder.  [default: thrown away]"
)
@click.option("--from", "first", default="2017-01-01", show_default=True, help="First day of the history.")
@click.option("--date", "last", default="2017-12-31", show_default=True, help="Last day of the backfill.")
@click.option("--days", "count", default=30, show_default=True, help="Days to backfill.")
@click.option("--at-once", default=3, show_default=True, help="Days that segment_customers works on side by side.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option("--told", type=click.Path(dir_okay=False, path_type=Path), help="Also write that document to this file.")
def main(
    sources: Path | None,
    home: Path | None,
    first: str,
    last: str,
    count: int,
    at_once: int,
    as_json: bool,
    told: Path | None,
) -> None:
    """Measure a backfill of the last days of a shop."""
    project = Project.locate()
    chosen = (sources or project.sources / "complete_journey").resolve()
    end = date.fromisoformat(last)
    days = [end - timedelta(days=n) for n in reversed(range(count))]
    os.environ["STRATAFLOW_DAYS_AT_ONCE"] = str(at_once)
    with TemporaryDirectory(prefix="backfill-") as thrown_away:
        at = Home.at(home or thrown_away)
        prepare(at, chosen, date.fromisoformat(first), days[0] - timedelta(days=1))
        load_before = os.getloadavg()[0]
        with LocalAirflow(at, project, chosen, last_day=end) as airflow:
            seconds = backfill(airflow, days)
            times = task_times(airflow, days)
    found = {
        "days": count,
        "days_at_once": at_once,
        "seconds": round(seconds, 1),
        "seconds_per_day": round(seconds / count, 1),
        "target_seconds": TARGET_SECONDS * count / 30,
        "cores": os.cpu_count(),
        "load_before": round(load_before, 1),
        "load_after": round(os.getloadavg()[0], 1),
        "tasks": {
            name: {"median": round(statistics.median(each), 2), "sum": round(sum(each), 1)}
            for name, each in sorted(times.items())
        },
    }
    if told:
        told.write_text(json.dumps(found), encoding="utf-8")
    Screen(json=as_json).result(found, lambda console: console.print(_lines(found), highlight=False, markup=False))


def _lines(found: dict[str, Any]) -> str:
    rows = [f"  {name:<34}{each['median']:>8.2f} s{each['sum']:>9.1f} s" for name, each in found["tasks"].items()]
    summary = (
        f"{found['days']} days in {found['seconds']} s, {found['seconds_per_day']} s a day "
        f"(target {found['target_seconds']:.0f} s; {found['cores']} cores, load {found['load_before']} before, "
        f"{found['load_after']} after)"
    )
    return "\n".join([summary, f"  {'task':<34}{'median':>10}{'sum':>11}", *rows])


if __name__ == "__main__":
    main()
