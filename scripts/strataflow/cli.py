"""The command ``strataflow``: each step of the daily run without a scheduler.

A thin layer: it reads options, holds the writer's lock, keeps the run's log
and shows the result. Exit codes: 0 done, 1 a failed gate, bad data or a fault,
2 a call or setting that can't be carried out, 130 interrupted.
"""

from __future__ import annotations

import errno
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from strataflow import __version__
from strataflow.crm.command import deliver_command
from strataflow.engines import ENGINES
from strataflow.errors import StrataflowError, UsageError
from strataflow.generate import generate_command
from strataflow.screen import Screen
from strataflow.tags.command import lint_command, profile_command, tags_group
from strataflow.tags.statement_commands import COMMANDS as STATEMENT_COMMANDS

if TYPE_CHECKING:
    from rich.console import Console

    from strataflow.home import Home
    from strataflow.privacy.erase import Erasure
    from strataflow.publish import Published
    from strataflow.run import Deployment, Steps
    from strataflow.runlog import Step
    from strataflow.serving import Led

INTERRUPTED = 130
# Faults of the disk that need a person but no traceback: what to say, what to do.
UNUSABLE = {
    errno.ENOSPC: ("the disk is full; what was published before stands", "free some space there, then run it again"),
    errno.EDQUOT: ("the disk quota is used up; what was published before stands", "raise it, then run it again"),
    errno.EACCES: ("this user may not read or write there", "give this user the rights, or choose another folder"),
    errno.EROFS: ("that disk is mounted read-only", "mount it for writing, or choose another --home"),
    errno.ENOTDIR: ("a part of that path is a file, not a folder", "give a path that leads through folders only"),
}
Command = TypeVar("Command", bound=Callable[..., Any])


class Day(click.ParamType):
    """A plain date, YYYY-MM-DD."""

    name = "YYYY-MM-DD"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> date:
        """The date that ``value`` names."""
        if isinstance(value, date):
            return value
        try:
            day = date.fromisoformat(value)
        except ValueError:
            day = None
        # Weeks and dates without hyphens are ISO dates too, but nobody here means them.
        if day is None or str(day) != value:
            self.fail(f"{value!r} is no date; write it as 2017-12-31", param, ctx)
        return day


class Names(click.ParamType):
    """Names separated by commas."""

    name = "NAME,NAME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[str]:  # noqa: ARG002
        """The names as a list."""
        return value if isinstance(value, list) else [name.strip() for name in value.split(",") if name.strip()]


def _keep(context: click.Context, option: click.Parameter, value: Any) -> None:
    """Options that every command has may stand before or after the command's name."""
    if value:
        context.find_root().obj[option.name] = value


def shared(command: Command) -> Command:
    """Give a command the options that all of them have."""
    for name, said in (
        ("--verbose", "Also show what libraries log."),
        ("--quiet", "Only the result and errors."),
        ("--json", "Print one JSON document, also for errors; logs go to stderr."),
    ):
        option = click.option(name, is_flag=True, is_eager=True, expose_value=False, callback=_keep, help=said)
        command = option(command)
    return command


def location(command: Command) -> Command:
    """Give a command the options that say which deployment it works on."""
    sources = click.option(
        "--sources",
        type=click.Path(file_okay=False, path_type=Path),
        help="Folder with shop.yml and the source descriptions.  [default: $STRATAFLOW_SOURCES]",
    )
    home = click.option(
        "--home",
        type=click.Path(file_okay=False, path_type=Path),
        help="Folder that holds lake, builds and published.  [default: $STRATAFLOW_HOME]",
    )
    return home(sources(command))


def waiting(command: Command) -> Command:
    """Give a command that writes the option to wait for its turn."""
    return click.option(
        "--wait",
        type=click.FloatRange(min=0),
        default=0,
        metavar="SECONDS",
        help="Wait so long for another run on this home to end.  [default: don't wait]",
    )(command)


def on_a_version(command: Command) -> Command:
    """Give a command that decides about a published version what it needs, with the version's name as ``named``."""
    for option in (click.pass_obj, shared, waiting, location, click.argument("named", metavar="VERSION|DATE")):
        command = option(command)
    return command


def computing(command: Command) -> Command:
    """Give a command that builds the option to choose what computes the tables."""
    return click.option(
        "--engine",
        type=click.Choice(list(ENGINES)),
        help="What computes the tables; the result is the same.  [default: $STRATAFLOW_ENGINE, else duckdb]",
    )(command)


recent_date = click.option("--date", "day", type=Day(), help="The day.  [default: the most recent landed day]")
required_date = click.option(
    "--date", "day", type=Day(), required=True, help="The day. Never guessed from the clock, so it must be given."
)
bulk_from = click.option("--from", "first", type=Day(), help="Land all days from here to --date, e.g. the history.")
known_at = click.option(
    "--known-at", type=Day(), help="Count what was received up to this day (a restatement).  [default: --date]"
)
some_tables = click.option("--tables", type=Names(), help="Only sources that feed these tables, e.g. interactions.")


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
Examples:
  strataflow run --from 2017-01-01 --date 2017-12-30    history in bulk, then segments of its last day
  strataflow run --date 2017-12-31                      one more day
  strataflow status                                     where this home stands, and what is missing

\b
Set STRATAFLOW_HOME and STRATAFLOW_SOURCES once, or give --home and --sources each time.
Exit codes: 0 done, 1 failed gate or bad data, 2 usage, 130 interrupted.
""",
)
@shared
@click.version_option(__version__, message="%(prog)s %(version)s")
def cli() -> None:
    """From a shop's orders and interactions to customer segments, once a day, repeatably."""


@cli.command(
    epilog="""\b
Examples:
  strataflow run --date 2017-12-31
  strataflow run --from 2017-01-01 --date 2017-12-31    land the whole year first
  strataflow run --skip-land --date 2017-12-31          after an edit of the rules
"""
)
@required_date
@bulk_from
@known_at
@click.option("--skip-land", is_flag=True, help="Take what has landed before.")
@computing
@location
@waiting
@shared
@click.pass_obj
def run(obj: dict[str, Any], day: date, first: date | None, known_at: date | None, skip_land: bool, **at: Any) -> None:
    """Land, check, build, check and publish a day.

    The whole daily job. A day that is published already and to which nothing has changed is left as it is.
    """
    from strataflow import summary

    _in_order(first, day)
    parameters = {"from": first, "known_at": known_at, "skip_land": skip_land}
    with _recorded(obj, "run", day, parameters, **at) as steps:
        done = steps.day(day, first=first, known_at=known_at, skip_land=skip_land)
        deployment = steps.deployment
    document = summary.collect(deployment.home, done.path, first=first or day)
    _show_published(obj, "run", done, document)


@cli.command(
    epilog="""\b
Examples:
  strataflow land --date 2017-12-31
  strataflow land --from 2017-01-01 --date 2017-12-30 --tables orders,order_lines
"""
)
@required_date
@bulk_from
@some_tables
@location
@waiting
@shared
@click.pass_obj
def land(obj: dict[str, Any], day: date, first: date | None, tables: list[str] | None, **at: Any) -> None:
    """Bring a day's deliveries into the lake.

    Refused rows go to quarantine with their reason.

    Landing a day again replaces it; the same files give the same bytes.
    """
    from strataflow import summary

    _in_order(first, day)
    with _recorded(obj, "land", day, {"from": first, "tables": tables}, **at) as steps:
        report = steps.land(first or day, day, tables, refuse_gaps=first is None)
        home = steps.deployment.home
    if not report.changed:
        _screen(obj).say("All of this had landed before from the very same files; nothing has changed.")
    landed = summary.landed(home, first or day, day, tables)
    document = {"ok": True, "command": "land", "changed": report.changed, "notes": report.notes, **landed}
    _screen(obj).result(document, lambda console: summary.print_landed(landed, console))


@cli.command(
    epilog="""\b
Examples:
  strataflow validate
  strataflow validate --gate landed --date 2017-12-31 --tables orders,order_lines
"""
)
@click.option(
    "--gate",
    type=click.Choice(["landed", "built", "both"]),
    default="both",
    show_default=True,
    help="landed: gate 1 on the received day; built: gate 2 on the built tables.",
)
@recent_date
@known_at
@some_tables
@location
@waiting
@shared
@click.pass_obj
def validate(
    obj: dict[str, Any], gate: str, day: date | None, known_at: date | None, tables: list[str] | None, **at: Any
) -> None:
    """Check the landed day, the built tables, or both.

    A failed gate ends with exit code 1. Its report names the expectation and the rows.
    """
    from strataflow import summary
    from strataflow.build import Build

    with _recorded(obj, "validate", day, {"gate": gate, "known_at": known_at, "tables": tables}, **at) as steps:
        home, day = steps.deployment.home, date.fromisoformat(steps.log.record["as_of"])
        if gate != "built":
            steps.check_landed(day, tables)
        if gate != "landed":
            steps.check_built(Build.load(home, day, known_at))
    wanted = ("landed", "built") if gate == "both" else (gate,)
    found = [*summary.gates(home, day), *(summary.gates(home, day, known_at) if known_at else ())]
    reports = [report for report in found if report["gate"] in wanted]
    document = {"ok": True, "command": "validate", "date": str(day), "gates": reports}
    _screen(obj).result(document, lambda console: summary.print_gates(reports, console, f"Gates of {day}"))


@cli.command(
    epilog="""\b
Examples:
  strataflow build                                      the most recent landed day
  strataflow build --date 2017-12-31 --known-at 2018-01-31
"""
)
@recent_date
@known_at
@computing
@location
@waiting
@shared
@click.pass_obj
def build(obj: dict[str, Any], day: date | None, known_at: date | None, **at: Any) -> None:
    """Compute all tables as of a day with dbt.

    They lie in a DuckDB file of their own; nothing is published. Shows the classes, stages and
    tiers, so that an edit of a rule can be looked at before anyone else sees it.
    """
    from strataflow import summary

    with _recorded(obj, "build", day, {"known_at": known_at}, **at) as steps:
        made = steps.build(date.fromisoformat(steps.log.record["as_of"]), known_at)
    holds = summary.of_build(made)
    document = {"ok": True, "command": "build", **made.meta, **holds}
    _screen(obj).result(document, lambda console: summary.print_build(holds, console))


@cli.command(
    epilog="""\b
Examples:
  strataflow publish                                    the checked build of the most recent landed day
  strataflow publish --to postgres                      bring the database in line with what is published
  strataflow publish --to postgres --from 2017-12-01    and load the days since then
"""
)
@recent_date
@known_at
@click.option(
    "--to",
    type=click.Choice(["files", "postgres"]),
    default="files",
    show_default=True,
    help="files: below published/. postgres: what is published there, copied into a database.",
)
@click.option("--dsn", metavar="DSN|CONNECTION", help="The database.  [default: $STRATAFLOW_POSTGRES_DSN]")
@click.option("--schema", help="Its schema.  [default: $STRATAFLOW_POSTGRES_SCHEMA, else strataflow]")
@click.option("--from", "first", type=Day(), help="For postgres: load all published days from here on.")
@location
@waiting
@shared
@click.pass_obj
def publish(obj: dict[str, Any], day: date | None, known_at: date | None, to: str, **more: Any) -> None:
    """Make a checked build what readers see, or bring a database in line with that.

    Only a build that passed gate 2 is published, in one atomic step. A database follows the home: days
    it lacks or has in another version, and which day is current; see docs/postgres.md.
    """
    from strataflow import summary
    from strataflow.build import Build

    given = {name: more.pop(name) for name in ("dsn", "schema", "first")}
    if to == "postgres":
        if known_at:
            raise UsageError("a restatement is not published to a database", todo="leave --known-at away")
        _publish_to_postgres(obj, day, given, more)
        return
    if any(given.values()):
        raise UsageError("--dsn, --schema and --from are for a database", todo="add --to postgres")
    with _recorded(obj, "publish", day, {"known_at": known_at}, **more) as steps:
        home, day = steps.deployment.home, date.fromisoformat(steps.log.record["as_of"])
        done = steps.publish(Build.load(home, day, known_at))
    _show_published(obj, "publish", done, summary.collect(home, done.path, first=day))


def _publish_to_postgres(obj: dict[str, Any], day: date | None, given: dict[str, Any], at: dict[str, Any]) -> None:
    from strataflow import postgres

    dsn = postgres.dsn_of(given["dsn"])
    if dsn is None:
        raise UsageError("no database is named", todo=f"give --dsn or set {postgres.SETTING}")
    with _deciding(obj, postgres.STEP, {"date": day, "from": given["first"], "schema": given["schema"]}, **at) as (
        home,
        step,
    ):
        done = postgres.follow(
            home,
            dsn,
            layout=postgres.layout_of(given["schema"]),
            days=[day] if day else [],
            since=given["first"],
            keep_days=postgres.keep_days_setting(),
        )
        postgres.record(step, done)
    document = {"ok": True, "command": "publish", "to": "postgres", **done.as_dict()}
    _screen(obj).result(document, lambda console: postgres.print_followed(done, console))


@cli.command(
    epilog="""\b
Examples:
  strataflow scorecard                                  the months up to the most recent landed day
  strataflow scorecard --date 2017-12-31
"""
)
@recent_date
@location
@waiting
@shared
@click.pass_obj
def scorecard(obj: dict[str, Any], day: date | None, **at: Any) -> None:
    """Tell month by month whether the segmentation works.

    Moves on the ladders, the customer base, lifetime value, the top 20%, retention by class, what a
    class earned after it was assigned, and what treating customers changed against the holdout.
    Published as published/scorecard; made anew only if data, rules or code have changed.
    """
    from strataflow.scorecard.told import collect, render

    with _recorded(obj, "scorecard", day, {}, **at) as steps:
        made = steps.scorecard(date.fromisoformat(steps.log.record["as_of"]))
    document = {"ok": True, "command": "scorecard", "changed": made.changed, **collect(made.path, made.manifest)}
    _screen(obj).result(document, lambda console: render(document, console))


@cli.command(
    epilog="""\b
Examples:
  strataflow diff                                       the edited rules beside what readers see
  strataflow diff --against 2017-12-30 --html preview.html
"""
)
@click.option(
    "--against",
    metavar="DATE|VERSION",
    help="The published day or version to compare with.  [default: what published/current shows]",
)
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path), help="Also write a page, one file.")
@location
@shared
@click.pass_obj
def diff(obj: dict[str, Any], against: str | None, html: Path | None, home: Path | None, sources: Path | None) -> None:
    """Tell who would move if the rules were published as they are now.

    Builds the working tree's seeds, vars and models beside a published version, for the same day
    and data, and compares the two: customers and revenue by from and to, the largest movers, tags
    gained and lost. Publishes nothing and leaves what the home keeps as it is. Moves are no error.
    """
    from strataflow.home import Home
    from strataflow.preview import preview, published, write_page
    from strataflow.preview.told import render
    from strataflow.project import Project
    from strataflow.sources import load_sources

    screen = _screen(obj)
    screen.log_to_stderr()
    at, project = Home.at(home), Project.locate()
    obj["home"] = at
    shop = load_sources(sources, project).shop if sources else None
    with screen.progress() as progress:
        found = preview(at, project, published(at, against), shop, progress=progress)
    if html:
        found["page"] = str(write_page(found, html))
    screen.result({"ok": True, "command": "diff", **found}, lambda console: render(found, console))
    if html:
        screen.say(f"page: {html}")


@cli.command()
@location
@waiting
@shared
@click.pass_obj
def history(obj: dict[str, Any], **at: Any) -> None:
    """Bring snapshots, intervals, moves and their causes up to what is published.

    `run` does this after publishing; alone it is for a home whose history was removed, or a day
    that waited for its rules. Says so if nothing is to be done.
    """
    with _recorded(obj, "history", None, {}, **at) as steps:
        done = steps.history()
    document = {
        "ok": True,
        "command": "history",
        "path": str(done.path) if done.path else None,
        "days": [str(day) for day in done.days],
        "waiting": [str(day) for day in done.waiting],
    }
    said = f"History of {len(done.days)} days written" if done.days else "Nothing to do"
    _screen(obj).result(
        document, lambda console: console.print(f"{said}: {done.path}", highlight=False, soft_wrap=True)
    )


@cli.command(
    epilog="""\b
Examples:
  strataflow run --skip-land --date 2017-11-30 --known-at 2017-12-31
  strataflow compare 2017-11-30
"""
)
@click.argument("day", type=Day(), metavar="DATE")
@click.option("--known-at", type=Day(), help="Which restatement.  [default: the latest there is]")
@location
@shared
@click.pass_obj
def compare(obj: dict[str, Any], day: date, known_at: date | None, home: Path | None, **_: Any) -> None:
    """Tell what was said of a day then and what is known of it now.

    Customers by class, stage and tier from one to the other, totals, and the largest differences,
    between the version of DATE and its restatement.
    """
    from strataflow.history import compare as comparing
    from strataflow.home import Home

    told = comparing.compare(Home.at(home), day, known_at)
    _screen(obj).result({"ok": True, "command": "compare", **told}, lambda console: comparing.render(told, console))


@cli.command(
    epilog="""\b
Examples:
  strataflow stability                                  what the settings in force have spared, by month
  strataflow stability --dwell rfm_class=7 --margin recency_days=2 --margin activity_days=3
"""
)
@click.option("--dwell", multiple=True, metavar="ATTRIBUTE=DAYS", help="Try: a changed value holds so many days.")
@click.option("--margin", multiple=True, metavar="MARGIN=NUMBER", help="Try: how far past a boundary moves count.")
@click.option("--by", type=click.Choice(["day", "month"]), default="month", show_default=True)
@location
@shared
@click.pass_obj
def stability(
    obj: dict[str, Any], dwell: tuple[str, ...], margin: tuple[str, ...], by: str, home: Path | None, **_: Any
) -> None:
    """Tell how many moves the settings of stability spare.

    Without options, those that the days were published with. With --dwell and --margin, what other
    settings would have spared on all published days; nothing is written.
    """
    from strataflow.history import spared
    from strataflow.home import Home

    told = spared.spared(Home.at(home), spared.settings_given(dwell, margin), by=by)
    _screen(obj).result({"ok": True, "command": "stability", **told}, lambda console: spared.render(told, console))


@cli.command(
    epilog="""\b
Examples:
  strataflow rollback                                   to the published day before the current one
  strataflow rollback --to 2017-12-29                   to that day; the same again changes nothing
"""
)
@click.option("--to", type=Day(), help="The day readers are to see.  [default: the one before the current]")
@location
@waiting
@shared
@click.pass_obj
def rollback(obj: dict[str, Any], to: date | None, **at: Any) -> None:
    """Lead readers back to an earlier published day.

    published/current and current.duckdb switch in one step. The versions of later days are held back:
    publishing the same content again does not undo it; repaired content or a newer day is followed.
    """
    from strataflow import serving

    with _deciding(obj, "rollback", {"to": to}, **at) as (home, step):
        led = serving.rollback(home, to)
        note = serving.follow_with_page(home)
        _record_led(step, led, note)
    _show_led(obj, "rollback", led, note)


@cli.command(epilog="\b\nExample:\n  strataflow withdraw 2017-12-31")
@click.argument("day", type=Day(), metavar="DATE")
@location
@waiting
@shared
@click.pass_obj
def withdraw(obj: dict[str, Any], day: date, **at: Any) -> None:
    """Take away a published day that should never have been.

    published/days/DATE goes and current follows the newest day that is left. The version is kept
    aside until it is pruned.
    """
    from strataflow import serving

    with _deciding(obj, "withdraw", {"day": day}, **at) as (home, step):
        led = serving.withdraw(home, day)
        note = serving.follow_with_page(home)
        _record_led(step, led, note)
    _show_led(obj, "withdraw", led, note)


@cli.command()
@location
@shared
@click.pass_obj
def versions(obj: dict[str, Any], home: Path | None, **_: Any) -> None:
    """List what is published, version by version.

    Day, when it was published, rows, and which is current, held back, pinned, superseded or a
    restatement. Takes no lock.
    """
    from strataflow import serving
    from strataflow.home import Home

    told = serving.versions(Home.at(home))
    _screen(obj).result(
        {"ok": True, "command": "versions", **told}, lambda console: serving.print_versions(told, console)
    )


@cli.command(epilog="\b\nExample:\n  strataflow catalogue --output docs/catalogue.md")
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), help="Write the page there.  [default: print]"
)
@shared
@click.pass_obj
def catalogue(obj: dict[str, Any], output: Path | None, **_: Any) -> None:
    """Describe every published table, metric and reader on one Markdown page, from the dbt project."""
    from strataflow import catalogue
    from strataflow.project import Project

    page = catalogue.catalogue(Project.locate())
    if output:
        output.write_text(page, encoding="utf-8")
    told = {"path": str(output)} if output else {"page": page}
    _say(obj, f"wrote {output}" if output else page, command="catalogue", **told)


@cli.command()
@on_a_version
def pin(obj: dict[str, Any], named: str, **at: Any) -> None:
    """Keep a version whatever its age.

    A DATE stands for the version that day has now.
    """
    from strataflow import serving

    with _deciding(obj, "pin", {"named": named}, **at) as (home, step):
        name, changed = serving.pin(home, named)
        step.outcome, step.detail = "ok" if changed else "unchanged", {"version": name}
    said = f"{name} is pinned" if changed else f"{name} was pinned already"
    _say(obj, said, command="pin", changed=changed, version=name)


@cli.command()
@on_a_version
def unpin(obj: dict[str, Any], named: str, **at: Any) -> None:
    """Let a pinned version be pruned again.

    A DATE stands for all pinned versions of that day.
    """
    from strataflow import serving

    with _deciding(obj, "unpin", {"named": named}, **at) as (home, step):
        names = serving.unpin(home, named)
        step.detail = {"versions": names}
    _say(obj, f"No longer pinned: {', '.join(names)}", command="unpin", changed=True, versions=names)


@cli.command(
    epilog="""\b
Examples:
  strataflow prune --keep-days 90 --dry-run
  STRATAFLOW_KEEP_DAYS=90 strataflow prune
"""
)
@click.option(
    "--keep-days",
    type=click.IntRange(min=1),
    help="Days before the current one to keep.  [default: $STRATAFLOW_KEEP_DAYS]",
)
@click.option("--dry-run", is_flag=True, help="Say what would go; remove nothing.")
@location
@waiting
@shared
@click.pass_obj
def prune(obj: dict[str, Any], keep_days: int | None, dry_run: bool, **at: Any) -> None:
    """Remove published versions that are past keeping.

    Those of days more than so many before the current day, and superseded ones. Never the current
    one, a pinned one, or one that readers were just led away from. History keeps the days that go.
    """
    from strataflow import retention
    from strataflow.home import Home

    days = keep_days or retention.keep_days_setting()
    if days is None:
        raise UsageError("no number of days is set", todo=f"give --keep-days N or set {retention.SETTING}")
    if dry_run:
        found = retention.planned(Home.at(at["home"]), days)
    else:
        with _deciding(obj, "prune", {"keep_days": days}, **at) as (home, step):
            found = retention.prune(home, days)
            step.outcome, step.detail = "ok" if found.removed else "unchanged", found.as_dict()
    document = {"ok": True, "command": "prune", "changed": bool(found.removed) and not dry_run, **found.as_dict()}
    _screen(obj).result(
        document | {"dry_run": dry_run}, lambda console: retention.print_pruning(found, console, is_dry=dry_run)
    )


@cli.command(
    epilog="""\b
Examples:
  strataflow erase --customer-id C0012345 --reason "ticket 4711" --dry-run
  strataflow erase --from-file - --reason "ticket 4711"      ids from standard input, one a line
"""
)
@click.option("--customer-id", "named", multiple=True, help="Who, as in the tables; may be given many times.")
@click.option("--from-file", type=click.File(encoding="utf-8"), help="A file with an id per line; - is standard input.")
@click.option("--reason", help="Kept in the proof; must not name the person.")
@click.option("--dsn", help="The PostgreSQL database that follows this home.  [default: $STRATAFLOW_POSTGRES_DSN]")
@click.option("--dry-run", is_flag=True, help="Say where they are named; erase nothing.")
@location
@waiting
@shared
@click.pass_obj
def erase(
    obj: dict[str, Any],
    named: tuple[str, ...],
    from_file: Iterable[str] | None,
    reason: str | None,
    dsn: str | None,
    dry_run: bool,
    **at: Any,
) -> None:
    """Erase customers from everything this home holds.

    Lake, quarantine, ledgers, published versions, history, pages, gates and logs; builds are removed.
    Later landings leave them out. It can't be undone. Killed in between: give the same ids again.
    """
    from strataflow.privacy.told import print_erasure, print_places

    ids = [*named, *(line.strip() for line in from_file or ())]
    if dry_run:
        from strataflow.home import Home
        from strataflow.privacy.erase import places

        found = places(Home.at(at["home"]), ids)
        document = {"ok": True, "command": "erase", "changed": False, "dry_run": True, "files": found}
        _screen(obj).result(document, lambda console: print_places(found, console))
        return
    erasure = _erase(obj, ids, reason, dsn, **at)
    document = {"ok": True, "command": "erase", "changed": True, **erasure.proof, "proof": str(erasure.path)}
    _screen(obj).result(document, lambda console: print_erasure(erasure, console))


def _erase(
    obj: dict[str, Any],
    ids: list[str],
    reason: str | None,
    dsn: str | None,
    *,
    home: Path | None,
    wait: float,
    **_: Any,
) -> Erasure:
    from strataflow.home import Home
    from strataflow.postgres import dsn_of
    from strataflow.privacy.erase import erase
    from strataflow.run import most_recent_landed_day
    from strataflow.runlog import RunLog

    screen = _screen(obj)
    screen.log_to_stderr()
    obj["home"] = at = Home.at(home)
    with at.writing(wait), screen.progress() as progress:
        log = RunLog.start(at, "erase", most_recent_landed_day(at), {"customers": len(set(ids))})
        with log.closing(), log.step("erase") as step:
            erased_at, database = log.record["started_at"], dsn_of(dsn)
            done = erase(at, ids, erased_at=erased_at, reason=reason, dsn=database, progress=progress)
            step.rows, step.detail = sum(done.proof["rows"].values()), {"proof": done.path.name}
    return done


@cli.command()
@click.argument("kind", type=click.Choice(["id", "phone", "email", "name", "wechat"]))
@click.option("--sources", type=click.Path(file_okay=False, path_type=Path), help="Folder with the shop's shop.yml.")
@shared
@click.pass_obj
def pseudonym(obj: dict[str, Any], kind: str, sources: Path | None) -> None:
    """Tell the pseudonym that landing gives to a value.

    The value is asked for, or read from standard input, so that it stays out of the shell's history.
    """
    from strataflow.privacy.pseudonyms import SETTING, key_in_force, pseudonym_of
    from strataflow.sources import load_shop

    key = key_in_force()
    if key is None:
        raise UsageError(f"{SETTING} is not set", todo="set it to the key with which the home was landed")
    folder = sources or os.environ.get("STRATAFLOW_SOURCES")
    code = load_shop(Path(folder) / "shop.yml").phone_country_code if folder else None
    asked = sys.stdin.isatty()
    value = click.prompt(kind, hide_input=True, err=True) if asked else sys.stdin.readline().rstrip("\r\n")
    found = pseudonym_of(kind, value, key, code)
    if found is None:
        raise UsageError(f"that is no {kind}", todo="write it as the shop does")
    document = {"ok": True, "command": "pseudonym", "kind": kind, "pseudonym": found}
    _screen(obj).result(document, lambda console: console.print(found, highlight=False))


@cli.command()
@click.option("--date", "day", type=Day(), help="Look at this day.  [default: the most recent landed day]")
@location
@shared
@click.pass_obj
def status(obj: dict[str, Any], day: date | None, home: Path | None, sources: Path | None) -> None:
    """Tell what has landed, what is published, what lacks.

    Landed days and gaps per source, builds, gates, published versions, the last runs, and what
    the next run is missing. Takes no lock; can be asked at any time.
    """
    from strataflow import status as state_of
    from strataflow.home import Home
    from strataflow.sources import load_sources

    folder = sources or os.environ.get("STRATAFLOW_SOURCES")
    state = state_of.collect(Home.at(home), load_sources(folder) if folder else None, day)
    _screen(obj).result({"ok": True, "command": "status", **state}, lambda console: state_of.render(state, console))


@cli.command(
    epilog="""\b
Examples:
  strataflow runs --limit 50                            rows, seconds, peak memory, gates and versions per step
  strataflow runs --output logs                         all runs as logs/runs.parquet and logs/run_steps.parquet
"""
)
@click.option("--date", "day", type=Day(), help="Only runs for this day.")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="The last so many.")
@click.option("--output", type=click.Path(file_okay=False, path_type=Path), help="Write all runs there as Parquet.")
@location
@shared
@click.pass_obj
def runs(obj: dict[str, Any], day: date | None, limit: int, output: Path | None, home: Path | None, **_: Any) -> None:
    """Tell what was run, step by step, and how it ended.

    From the logs below runs/; takes no lock and changes nothing.
    """
    from strataflow import runs as logs
    from strataflow.home import Home

    at = Home.at(home)
    found, written = logs.latest(at, limit, day), logs.write(at, output) if output else []
    document = {"ok": True, "command": "runs", "runs": found, "files": [str(path) for path in written]}
    _screen(obj).result(document, lambda console: logs.render(found, console))
    for path in written:
        _screen(obj).say(str(path))


@cli.command()
@click.option("--date", "day", type=Day(), help="The published day.  [default: what published/current shows]")
@location
@shared
@click.pass_obj
def summary(obj: dict[str, Any], day: date | None, home: Path | None, **_: Any) -> None:
    """Tell again what a published day holds.

    Rows received, customers per class, stage and tier, gates, files and how to open them.
    """
    from strataflow import summary as told
    from strataflow.home import Home
    from strataflow.publish import current_version, version_of

    at = Home.at(home)
    version = version_of(at, day) if day else current_version(at)
    if version is None:
        raise UsageError(
            f"{day} is not published" if day else "nothing is published yet",
            where=str(at.published),
            todo="strataflow run --date YYYY-MM-DD",
        )
    document = told.collect(at, version)
    _screen(obj).result({"ok": True, "command": "summary", **document}, lambda console: told.render(document, console))


@cli.command(
    epilog="""\b
Examples:
  strataflow explain c0000007
  strataflow explain c0000007 --date 2017-12-31 --lang zh
  strataflow explain c0000007 --json
"""
)
@click.argument("customer")
@click.option("--date", "day", type=Day(), help="The published day.  [default: what published/current shows]")
@click.option("--lang", type=click.Choice(["en", "zh"]), default="en", show_default=True, help="Language.")
@location
@shared
@click.pass_obj
def explain(obj: dict[str, Any], customer: str, day: date | None, lang: str, home: Path | None, **_: Any) -> None:
    """Tell why a customer is where they are.

    Class, tier and stages with the numbers and cut-offs that decided, how far the next ones are, every
    tag with its evidence or author, tags that lost and why, what to expect. Reads what is published.
    """
    from strataflow import explain as explaining
    from strataflow.home import Home

    found = explaining.explain(Home.at(home), customer, day)
    document = {"ok": True, "command": "explain", **found, "sentences": explaining.sentences(found, lang)}
    _screen(obj).result(document, lambda console: explaining.render(found, console, lang))


@cli.group()
@shared
def sources() -> None:
    """Work on the descriptions of what a shop delivers."""


@sources.command(
    epilog="""\b
Examples:
  strataflow sources check scripts/sources/complete_journey/transactions.yml
  strataflow sources check shop/orders.yml --rows 100000 --date 2017-12-31
"""
)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--rows", type=click.IntRange(min=1), default=1000, show_default=True, help="Rows to look at.")
@click.option("--date", "day", type=Day(), help="Whose file to look at.  [default: the first by name]")
@shared
@click.pass_obj
def check(obj: dict[str, Any], file: Path, rows: int, day: date | None) -> None:
    """Tell in plain words what a description yields.

    FILE is the description (YAML), with shop.yml beside it. Its first rows are read, mapped and
    judged as landing would; nothing is kept. Ends with 1 if a day like these rows would be refused.
    """
    from strataflow.check import check_source
    from strataflow.project import Project

    found = check_source(Project.locate(), file, rows, day)
    lines = "\n".join(found.lines())
    document = {"ok": found.is_good, "command": "sources check", **found.as_dict()}
    if not found.is_good:
        verdict = {"kind": "input", "what": found.lines()[-1], "where": str(file), "todo": "see `refusals`"}
        document["error"] = verdict
    _screen(obj).result(document, lambda console: console.print(lines, highlight=False, markup=False, soft_wrap=True))
    if not found.is_good:
        raise click.exceptions.Exit(1)


cli.add_command(shared(deliver_command))
cli.add_command(shared(generate_command))
cli.add_command(shared(tags_group))
shared(lint_command)
shared(profile_command)
for statement_command in STATEMENT_COMMANDS:
    shared(location(statement_command))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    screen = Screen(json="--json" in given)
    if screen.json:
        with screen.keeping_stdout_clean():
            code = _run(given, screen)
    else:
        code = _run(given, screen)
    if arguments is None:
        _leave(code)
    sys.exit(code)


def _leave(code: int) -> NoReturn:
    """End the process at once, everything said.

    Taking the interpreter apart while DuckDB's SQLAlchemy dialect still holds types prints a
    screen of warnings about leaks to stderr, after the error that the reader looks for. What
    multiprocessing keeps outside of the process (dbt's locks) is given back first, or its watcher warns.
    """
    logging.shutdown()
    if "multiprocessing.util" in sys.modules:
        sys.modules["multiprocessing.util"]._exit_function()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


def _run(arguments: list[str], screen: Screen) -> int:
    obj: dict[str, Any] = {"screen": screen}
    try:
        return cli.main(arguments, prog_name="strataflow", standalone_mode=False, obj=obj) or 0
    except click.UsageError as fault:
        return _fail(screen, _from_click(fault), UsageError.exit_code)
    except StrataflowError as fault:
        from strataflow.runlog import describe

        return _fail(screen, describe(fault), fault.exit_code)
    except (click.Abort, KeyboardInterrupt):
        told = {
            "kind": "interrupted",
            "what": "interrupted; nothing was left half done",
            "where": None,
            "todo": "run it again",
        }
        return _fail(screen, told, INTERRUPTED)
    except BrokenPipeError:
        # Whoever read our output has seen enough; there is nobody left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except Exception as fault:  # noqa: BLE001  the last line of defence: name it, keep it, exit
        return _fail(screen, _unforeseen(fault, obj), 1)


def _fail(screen: Screen, error: dict[str, Any], code: int) -> int:
    if screen.json:
        screen.result({"ok": False, "error": error}, lambda _: None)
    lines = [f"Error: {error['what']}"]
    lines += [f"  {label}: {error[key]}" for label, key in (("where", "where"), ("what to do", "todo")) if error[key]]
    print("\n".join(lines), file=sys.stderr)
    return code


def _from_click(fault: click.UsageError) -> dict[str, Any]:
    command = fault.ctx.command_path if fault.ctx else "strataflow"
    return {"kind": "usage", "what": fault.format_message(), "where": command, "todo": f"see {command} --help"}


def _unforeseen(fault: Exception, obj: dict[str, Any]) -> dict[str, Any]:
    from strataflow.runlog import describe, keep_traceback

    told = describe(fault)
    home: Home | None = obj.get("home")
    if isinstance(fault, OSError) and fault.errno in UNUSABLE:
        said, todo = UNUSABLE[fault.errno]
        where = fault.filename or (home.root if home else None)
        return told | {"kind": "disk", "what": said, "where": where and os.fsdecode(where), "todo": todo}
    if obj.get("verbose") or home is None:
        import traceback

        traceback.print_exception(fault)
    if home is not None:
        try:
            told["where"] = str(keep_traceback(fault, home.root / "runs"))
        except OSError as unwritable:
            told["todo"] = f"its traceback could not be kept ({unwritable}); --verbose prints it"
        else:
            told["todo"] = "the traceback is in the file named above; running again is safe"
    return told


def _screen(obj: dict[str, Any]) -> Screen:
    """The screen with the options given, wherever they stood in the call."""
    screen: Screen = obj["screen"]
    screen.quiet, screen.verbose = bool(obj.get("quiet")), bool(obj.get("verbose"))
    return screen


def _say(obj: dict[str, Any], said: str, **told: Any) -> None:
    """Show what a command came to: a sentence or page for people, ``told`` as JSON for programs."""
    document = {"ok": True, **told}
    _screen(obj).result(document, lambda console: console.print(said, markup=False, highlight=False, soft_wrap=True))


@contextmanager
def _recorded(
    obj: dict[str, Any],
    command: str,
    day: date | None,
    parameters: dict[str, Any],
    *,
    home: Path | None,
    sources: Path | None,
    wait: float,
    engine: str | None = None,
) -> Iterator[Steps]:
    """The steps of a command that writes: with the lock held, the log kept, progress shown."""
    from strataflow.run import Deployment, Steps, most_recent_landed_day
    from strataflow.runlog import RunLog

    screen = _screen(obj)
    screen.log_to_stderr()
    deployment = Deployment.at(home, sources, engine)
    obj["home"] = deployment.home
    with deployment.home.writing(wait):
        as_of = day or most_recent_landed_day(deployment.home)
        log = RunLog.start(deployment.home, command, as_of, _plain(deployment, parameters))
        with log.closing(), screen.progress() as progress:
            yield Steps(deployment, log, progress)
        for step in log.record["steps"]:
            for note in step["detail"].get("notes", ()):
                screen.say(note)


@contextmanager
def _deciding(
    obj: dict[str, Any], command: str, parameters: dict[str, Any], *, home: Path | None, wait: float, **_: Any
) -> Iterator[tuple[Home, Step]]:
    """A decision about what is published: with the lock held and the log kept, under the day readers see."""
    from strataflow.home import Home
    from strataflow.publish import day_of
    from strataflow.runlog import RunLog
    from strataflow.serving import seen_now

    screen = _screen(obj)
    screen.log_to_stderr()
    obj["home"] = at = Home.at(home)
    seen_now(at)
    with at.writing(wait):
        given = {name: value for name, value in parameters.items() if value is not None}
        log = RunLog.start(at, command, day_of(seen_now(at)), given)
        with log.closing():
            with log.step(command) as step:
                yield at, step
            if step.outcome == "unchanged":
                log.ends_as("unchanged")


def _record_led(step: Step, led: Led, note: str | None) -> None:
    step.outcome = "ok" if led.changed else "unchanged"
    step.detail = {
        "before": led.before.name,
        "after": led.after.name,
        "held_back": list(led.held_back),
        "notes": [note] if note else [],
    }


def _show_led(obj: dict[str, Any], command: str, led: Led, note: str | None) -> None:
    from strataflow.serving import print_led, what_next

    todo = [*what_next(command, led), *([note] if note else [])]
    document = {
        "ok": True,
        "command": command,
        "changed": led.changed,
        "before": led.before.name,
        "after": led.after.name,
        "held_back": list(led.held_back),
        "todo": todo,
    }
    _screen(obj).result(document, lambda console: print_led(led, todo, console))


def _plain(deployment: Deployment, parameters: dict[str, Any]) -> dict[str, Any]:
    """Run parameters as the log keeps them."""
    given = {name: value for name, value in parameters.items() if value not in (None, False)}
    return {**given, "sources": str(deployment.sources.directory)}


def _show_published(obj: dict[str, Any], command: str, done: Published, document: dict[str, Any]) -> None:
    from strataflow.summary import render

    def show(console: Console) -> None:
        if not done.changed:
            console.print(
                f"{done.as_of} is published already as {done.version} and nothing has changed.",
                highlight=False,
                soft_wrap=True,
            )
        render(document, console)

    document = {"ok": True, "command": command, "outcome": "published" if done.changed else "unchanged", **document}
    _screen(obj).result(document, show)


def _in_order(first: date | None, last: date) -> None:
    if first and first > last:
        raise UsageError(f"--from {first} lies after --date {last}", todo="give the earlier day as --from")


if __name__ == "__main__":
    main()
