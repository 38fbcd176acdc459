"""The daily job through the DAGs on one machine: ``make run`` and ``make up``.

Starts a local Airflow, has its scheduler run the same DAGs that a server would
run, tells what they do while they do it, and stops it again. Nothing is left
running, and what is already done is not done again.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from strataflow.errors import StepFailed, StrataflowError, UsageError
from strataflow.home import Home
from strataflow.local_airflow import USER, LocalAirflow
from strataflow.project import Project

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from strataflow.run import Deployment

PRODUCERS = ("ingest_orders", "ingest_interactions")
CONSUMER = "segment_customers"
SECONDS_BETWEEN_LOOKS = 0.5
ENDED = ("success", "failed", "upstream_failed", "skipped", "removed")

Say = Callable[[str], None] if TYPE_CHECKING else Any


@dataclass
class Watch:
    """Follows runs of a local Airflow and tells each task's end once.

    Attributes:
        say: takes a line for the person who waits.
    """

    airflow: LocalAirflow
    say: Say
    _told: set[tuple[str, str, str, int]] = field(default_factory=set)

    def day(self, day: date, since: date | None = None) -> None:
        """Run both ingest DAGs for ``day`` and return when the segments that follow from them are published.

        Args:
            since: land all days from here on in one go.

        Raises:
            StepFailed: a task failed; its error is in the message.
        """
        known = {run["dag_run_id"] for run in self.airflow.runs(CONSUMER, day)}
        conf = {"since": str(since)} if since else {}
        self._until_done(day, [(dag, self.airflow.trigger(dag, day, conf)) for dag in PRODUCERS])
        while not (new := [run for run in self.airflow.runs(CONSUMER, day) if run["dag_run_id"] not in known]):
            self._pause()
        self._until_done(day, [(CONSUMER, run["dag_run_id"]) for run in new])

    def segments(self, day: date) -> None:
        """Run the consumer alone for ``day``.

        Raises:
            StepFailed: a task failed.
        """
        self._until_done(day, [(CONSUMER, self.airflow.trigger(CONSUMER, day))])

    def _until_done(self, day: date, runs: list[tuple[str, str]]) -> None:
        """Return when all ``runs`` (DAG and run id) have succeeded."""
        while runs:
            states = [self.airflow.call("GET", f"/api/v2/dags/{dag}/dagRuns/{run}")["state"] for dag, run in runs]
            tasks = [task for dag, run in runs for task in self.airflow.tasks(dag, run)]
            for task in sorted(tasks, key=lambda task: task["end_date"] or ""):
                self._tell(task, day)
            for (dag, _), state in zip(runs, states, strict=True):
                if state == "failed":
                    raise self._failure(dag, tasks, day)
            runs = [run for run, state in zip(runs, states, strict=True) if state != "success"]
            if runs:
                self._pause()

    def _pause(self) -> None:
        self.airflow.check_alive()
        time.sleep(SECONDS_BETWEEN_LOOKS)

    def _tell(self, task: dict[str, Any], day: date) -> None:
        key = (task["dag_id"], task["dag_run_id"], task["task_id"], task["try_number"])
        if task["state"] not in ENDED or key in self._told:
            return
        self._told.add(key)
        seconds = f"{task['duration']:5.1f} s" if task["duration"] is not None else ""
        self.say(f"  {day}  {task['dag_id']:<20} {task['task_display_name']:<18} {task['state']:<8} {seconds}")

    def _failure(self, dag: str, tasks: list[dict[str, Any]], day: date) -> StepFailed:
        """The failed run as an error, with what the task itself said."""
        failed = [task["task_id"] for task in tasks if task["dag_id"] == dag and task["state"] == "failed"]
        alerts = self.airflow.home.root / "alerts.jsonl"
        said = [json.loads(line) for line in alerts.read_text("utf-8").splitlines()] if alerts.exists() else []
        words = [alert["text"] for alert in said if alert["dag"] == dag and alert["day"] == str(day)]
        return StepFailed(
            f"{dag} failed for {day} in {', '.join(failed) or 'its scheduler'}",
            where=words[-1] if words else str(self.airflow.root / "logs"),
            todo=f"mend the cause and run it again; logs are in {self.airflow.root / 'logs'}",
        )


def run(home: Home, project: Project, sources: Path, first: date, day: date, say: Say) -> Path:
    """Bring ``home`` to ``day`` through the DAGs: the history in one go, then the last day as an increment.

    Days that have landed from the very same files are not landed again, and if nothing at all has
    changed Airflow isn't even started.

    Args:
        first: where the history starts.
        day: the last day.
        say: takes each line of progress.

    Returns:
        The published version's folder.

    Raises:
        UsageError: ``first`` lies after ``day``, or sources can't be used.
        StepFailed: a task failed.
    """
    from strataflow.publish import version_of

    if first > day:
        raise UsageError(f"--from {first} lies after --date {day}")
    deployment = deployment_of(home, project, sources)
    standing = standing_version(deployment, first, day)
    if standing:
        say(f"Nothing to do: {day} is published from these very files, rules and code.")
        return standing
    eve = day - timedelta(days=1)
    lacks_history = first < day and not (has_landed(deployment, first, eve) and version_of(home, eve))
    started = time.monotonic()
    say("Starting Airflow: API server, scheduler, DAG processor")
    with LocalAirflow(home, project, sources, last_day=day) as airflow:
        say(f"  ready after {time.monotonic() - started:.0f} s")
        for left in airflow.abandon_runs():
            say(f"  given up: {left}, which an earlier Airflow left unfinished")
        watch = Watch(airflow, say)
        if lacks_history:
            say(f"History: landing {first} to {eve} in one go")
            watch.day(eve, since=first)
        say(f"Daily increment: {day}")
        watch.day(day)
        if standing_version(deployment, first, day) is None:
            # The partition of an earlier, failed run may have started the segments before this run landed.
            watch.segments(day)
    version = version_of(home, day)
    if version is None:
        raise StepFailed(f"the runs ended but {day} is not published", where=str(home.published))
    return version


def deployment_of(home: Home, project: Project, sources: Path) -> Deployment:
    """Home, rules and sources as one."""
    from strataflow.run import Deployment
    from strataflow.sources import load_sources

    return Deployment(home, project, load_sources(sources, project))


def has_landed(deployment: Deployment, first: date, last: date) -> bool:
    """Whether every source has landed on all days from ``first`` to ``last``, from the files as they are now."""
    from strataflow import landing

    return landing.has_landed(deployment.home, deployment.project, deployment.sources, first, last)


def standing_version(deployment: Deployment, first: date, day: date) -> Path | None:
    """The published version of ``day`` if running everything again could only make it again, else None."""
    from strataflow.run import Steps

    if not has_landed(deployment, first, day):
        return None
    published = Steps(deployment, log=None).standing(day)
    return published.path if published else None


def up(home: Home, project: Project, sources: Path, port: int, last_day: date | None, say: Say) -> None:
    """Run Airflow with its UI until Ctrl-C or SIGTERM.

    Nothing is scheduled before the coming night; the days of the past are asked for in the UI or by a backfill.

    Args:
        last_day: nothing is scheduled for later days, for data that has ended.
    """
    deployment_of(home, project, sources)
    say("Starting Airflow: API server, scheduler, DAG processor")
    local = LocalAirflow(home, project, sources, port=port, last_day=last_day, retries=3)
    with local as airflow, _until_told_to_stop() as told:
        say(f"""
  UI       {airflow.url}
  login    {USER}
  password {airflow.password}
  command  AIRFLOW_HOME={airflow.root} {Path(sys.executable).parent / "airflow"} dags list
  logs     {airflow.root / "logs"}

Ctrl-C stops it.""")
        while not told.wait(1):
            airflow.check_alive()
        say("Stopping Airflow")


@contextmanager
def _until_told_to_stop() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set."""
    told = threading.Event()
    before = {number: signal.signal(number, lambda *_: told.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _day(context: click.Context, parameter: click.Parameter, value: str | None) -> date | None:
    if value is None:
        return None
    try:
        return date.fromisoformat(value)
    except ValueError as wrong:
        raise click.BadParameter(f"{value!r} is no date; write it as 2017-12-31", context, parameter) from wrong


def _location(command: Any) -> Any:
    folder = click.Path(file_okay=False, path_type=Path)
    for name, text in (("--sources", "Folder with shop.yml."), ("--home", "Folder for everything written.")):
        command = click.option(name, type=folder, required=True, help=text)(command)
    return command


@click.group()
def airflow() -> None:
    """The DAGs under a local Airflow: one job with its own scheduler, or the UI."""


@airflow.command("run")
@_location
@click.option("--from", "first", callback=_day, required=True, metavar="DATE", help="First day of the history.")
@click.option("--date", "day", callback=_day, required=True, metavar="DATE", help="The last day, an increment.")
def run_command(home: Path, sources: Path, first: date, day: date) -> None:
    """History in one bulk landing, then one more day, through the DAGs; ends with a summary."""
    from strataflow import summary

    place, project = Home.at(home), Project.locate()
    version = run(place, project, sources.resolve(), first, day, click.echo)
    click.echo(summary.rendered(summary.collect(place, version, first=first)))


@airflow.command("up")
@_location
@click.option("--port", type=click.IntRange(1, 65535), default=8080, show_default=True, help="Where the UI listens.")
@click.option("--until", callback=_day, metavar="DATE", help="Nothing is scheduled for days after this one.")
def up_command(home: Path, sources: Path, port: int, until: date | None) -> None:
    """Airflow with its UI on the loopback address until Ctrl-C."""
    up(Home.at(home), Project.locate(), sources.resolve(), port, until, click.echo)


def main() -> None:
    """Run the command group; an error of ours is told in words, with its exit code."""
    try:
        airflow()
    except StrataflowError as fault:
        click.echo(f"error: {fault}", err=True)
        sys.exit(fault.exit_code)


if __name__ == "__main__":
    main()
