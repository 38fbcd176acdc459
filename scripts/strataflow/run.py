"""The steps of a day in their order, each recorded in the run's log.

Every step is a function of the home, the rules and dates alone; this module
only arranges and records them. The command line and whoever calls from Python
go through here. The caller holds the home's writer lock.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from strataflow.errors import UsageError
from strataflow.home import Home
from strataflow.project import Project
from strataflow.publish import Published, current_version, damage, leading_version, publish, read_manifest, version_of

if TYPE_CHECKING:
    from strataflow.build import Build
    from strataflow.history.refresh import Refreshed
    from strataflow.landing import LandingReport
    from strataflow.postgres import Followed
    from strataflow.retention import Pruning
    from strataflow.runlog import RunLog
    from strataflow.scorecard import Scorecard
    from strataflow.sources import Sources
    from strataflow.validate import GateReport

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Deployment:
    """One shop's pipeline: where it writes, by which rules, from which sources, and what computes it.

    ``engine`` is None where ``$STRATAFLOW_ENGINE`` decides (:func:`strataflow.engines.chosen`).
    ``keep_days`` is None where published versions are kept for good (:mod:`strataflow.retention`).
    """

    home: Home
    project: Project
    sources: Sources
    engine: str | None = None
    keep_days: int | None = None

    @classmethod
    def at(
        cls,
        home: str | os.PathLike[str] | None,
        sources: str | os.PathLike[str] | None,
        engine: str | None = None,
    ) -> Deployment:
        """The deployment of a home and a folder of sources (default: ``$STRATAFLOW_SOURCES``).

        Raises:
            UsageError: a folder isn't given or can't be used.
        """
        from strataflow.retention import keep_days_setting
        from strataflow.sources import load_sources

        folder = sources or os.environ.get("STRATAFLOW_SOURCES")
        if not folder:
            raise UsageError("no sources are set", todo="give --sources DIR or set STRATAFLOW_SOURCES")
        project = Project.locate()
        return cls(Home.at(home), project, load_sources(Path(folder), project), engine, keep_days_setting())


@dataclass(frozen=True)
class Steps:
    """The steps of one run: what they work on, where they are recorded, who watches."""

    deployment: Deployment
    log: RunLog
    progress: Progress | None = None

    def land(
        self, first: date, last: date, tables: list[str] | None = None, *, refuse_gaps: bool = False
    ) -> LandingReport:
        """Land the days from ``first`` to ``last``, both included.

        Args:
            refuse_gaps: land nothing if a source lacks days between those it has landed and
                ``first``, as after a mistyped year. A scheduler, which may bring days in any
                order, leaves it to the build to wait for them.

        Raises:
            InputError: a delivery is missing or broken, nothing of it landed; or see ``refuse_gaps``.
        """
        from strataflow.days import refuse_gap_before
        from strataflow.landing import land

        at = self.deployment
        with self.log.step("land") as step:
            if refuse_gaps:
                asked = [one.name for one in at.sources.sources if tables is None or one.table in tables]
                refuse_gap_before(at.home, asked, first)
            report = land(at.home, at.project, at.sources, first, last, tables=tables, progress=self.progress)
            step.rows = report.rows_read
            step.outcome = "ok" if report.changed else "unchanged"
            step.inputs = [f"sources/{one.name}" for one in at.sources.sources if not tables or one.table in tables]
            step.outputs = self._landed(tables)
            step.detail = {"notes": list(report.notes)}
        return report

    def check_landed(self, day: date, tables: list[str] | None = None, since: date | None = None) -> GateReport:
        """Gate 1 on a landed day, or on all days since one, as after a bulk landing.

        Raises:
            GateFailed: a critical expectation does not hold.
        """
        from strataflow.validate import validate_landed

        at = self.deployment
        with self.log.step("gate 1") as step:
            report = validate_landed(at.home, at.project, at.sources, day, tables=tables, since=since)
            step.inputs = self._landed(tables)
            step.detail = _passed(report)
        return report

    def build(self, day: date, known_at: date | None = None) -> Build:
        """Build the day's tables, or take up a finished build of the very same inputs, rules and code.

        Raises:
            InputError: nothing has been landed by then, or a day before it is missing.
            StepFailed: a model or a data test failed.
        """
        from strataflow.build import build
        from strataflow.days import refuse_gaps
        from strataflow.tags import inbox

        at = self.deployment
        with self.log.step("build") as step:
            known = known_at or day
            inbox.refuse_unlanded(at.home, known)
            sources = inbox.including(at.home, at.sources).sources
            begun = [source.name for source in sources if source.begins is None or source.begins <= known]
            refuse_gaps(at.home, begun, known)
            made = self._finished_build(day, known_at)
            if made is None:
                made = build(
                    at.home, at.project, at.sources.shop, day, known_at, engine=at.engine, progress=self.progress
                )
            else:
                step.outcome = "unchanged"
            step.rows = made.meta["tables"].get("customer_segments")
            step.detail = {"build_id": made.meta["build_id"], "engine": made.meta["engine"]}
            step.inputs, step.outputs = self._landed(None), _tables("build", made.meta["published"])
        return made

    def check_built(self, build: Build) -> GateReport:
        """Gate 2 on a build.

        Raises:
            UsageError: the build is of other rules, code or data than those now in force.
            GateFailed: a critical expectation does not hold.
        """
        from strataflow.validate import validate_built

        with self.log.step("gate 2") as step:
            self._refuse_outdated(build)
            step.inputs = _tables("build", build.meta["published"])
            report = validate_built(self.deployment.home, self.deployment.project, build)
            step.detail = _passed(report)
        return report

    def publish(self, build: Build) -> Published:
        """Make a build that passed gate 2 what readers see.

        Raises:
            UsageError: the build is of other rules, code or data than those now in force.
            GateFailed: this build did not pass.
        """
        with self.log.step("publish") as step:
            self._refuse_outdated(build)
            done = publish(self.deployment.home, build)
            step.rows = sum(table["rows"] for table in done.manifest["tables"].values())
            step.outcome = "ok" if done.changed else "unchanged"
            step.detail = {"version": done.version}
            step.inputs, step.outputs = (_tables(where, done.manifest["tables"]) for where in ("build", "published"))
        return done

    def publish_to_postgres(self, dsn: str, day: date) -> Followed:
        """Bring a database in line with what is published, and load ``day`` if it lacks it.

        Raises:
            UsageError: ``day`` is not published, or a table has changed in a way that breaks readers.
            InputError: the server can't be reached.
            StepFailed: the server refused something; its readers see what they saw before.
        """
        from strataflow import postgres

        with self.log.step(postgres.STEP) as step:
            done = postgres.follow(self.deployment.home, dsn, days=[day], keep_days=postgres.keep_days_setting())
            postgres.record(step, done)
        return done

    def history(self) -> Refreshed:
        """Snapshots, intervals, moves and causes of all published days, brought up to date.

        Raises:
            StepFailed: the moves of a day can't be explained from the data; names the day.
        """
        from strataflow.history.refresh import refresh

        at = self.deployment
        with self.log.step("history") as step:
            done = refresh(at.home, at.project, at.sources.shop)
            step.outcome = "ok" if done.days else "unchanged"
            waiting = ", ".join(str(day) for day in done.waiting)
            notes = [f"the moves of {waiting} wait until run again under today's rules and data"] if waiting else []
            step.detail = {"days": [str(day) for day in done.days], "notes": notes}
            step.inputs, step.outputs = ["published/customer_segments"], ["published/history"]
        return done

    def report(self) -> bool:
        """The page about what readers see now, at ``published/report``; False where it is there already."""
        from strataflow.report import publish_report

        at = self.deployment
        version = current_version(at.home)
        if version is None:
            return False
        with self.log.step("report") as step:
            written = publish_report(at.home, at.project, version)
            step.outcome = "ok" if written else "unchanged"
            step.detail = {"version": version.name}
            step.inputs, step.outputs = _tables("published", read_manifest(version)["tables"]), ["published/report"]
        return written

    def prune(self, day: date) -> Pruning | None:
        """Remove versions that are past keeping, but none of ``day``; None where all are kept."""
        from strataflow.retention import prune

        at = self.deployment
        if at.keep_days is None:
            return None
        with self.log.step("prune") as step:
            done = prune(at.home, at.keep_days, spare=day)
            step.outcome = "ok" if done.removed else "unchanged"
            step.detail = done.as_dict()
        return done

    def scorecard(self, day: date) -> Scorecard:
        """The scorecard of the whole months up to ``day``, at ``published/scorecard``.

        Raises:
            UsageError: no whole month lies before ``day``.
            InputError: a day before the last month's end is missing.
            StepFailed: a model failed.
        """
        from strataflow.days import refuse_gaps
        from strataflow.scorecard import scorecard
        from strataflow.scorecard.states import last_month_end

        at = self.deployment
        with self.log.step("scorecard") as step:
            refuse_gaps(at.home, [source.name for source in at.sources.sources], last_month_end(day))
            made = scorecard(at.home, at.project, at.sources.shop, day, progress=self.progress)
            step.rows = sum(made.manifest["rows"].values())
            step.outcome = "ok" if made.changed else "unchanged"
            step.detail = {"month_ends": len(made.manifest["month_ends"])}
        return made

    def day(
        self, day: date, *, first: date | None = None, known_at: date | None = None, skip_land: bool = False
    ) -> Published:
        """The whole daily job for ``day``: land, gate 1, build, gate 2, publish, history, report, prune.

        When what has landed, the rules and the code are those of the version
        already published, nothing is built and that version is returned with
        ``changed`` False; history is made whole if a killed run left it behind.

        Args:
            first: land the days from here to ``day`` (history in bulk) instead of ``day`` alone.
            known_at: count what was received up to this day instead of up to ``day``.
            skip_land: take what has landed before.
        """
        if not skip_land:
            self.land(first or day, day, refuse_gaps=first is None)
        standing = self.standing(day, known_at)
        if standing is not None:
            self.history()
            self.log.ends_as("unchanged")
            return standing
        self.check_landed(day, since=first)
        build = self.build(day, known_at)
        self.check_built(build)
        done = self.publish(build)
        self.history()
        self.report()
        self.prune(day)
        return done

    def standing(self, day: date, known_at: date | None = None) -> Published | None:
        """The published version of ``day`` if a new run could only make it again, else None."""
        from strataflow.build import fingerprint

        at = self.deployment
        version = version_of(at.home, day, known_at)
        if version is None or current_version(at.home) != leading_version(at.home):
            return None
        manifest = read_manifest(version)
        if damage(version, manifest, thorough=False):
            return None
        if manifest["fingerprint"] != fingerprint(at.home, at.project, at.sources.shop, day, known_at):
            return None
        return Published(path=version, manifest=manifest, changed=False, is_current=current_version(at.home) == version)

    def _landed(self, tables: list[str] | None) -> list[str]:
        """Tables of the lake that the shop's sources feed, or those of them that are named."""
        fed = {source.table for source in self.deployment.sources.sources}
        return _tables("lake", fed & set(tables) if tables else fed)

    def _finished_build(self, day: date, known_at: date | None) -> Build | None:
        """The build left by a run that ended before publishing, if it is still the right one."""
        from strataflow.build import Build

        try:
            made = Build.load(self.deployment.home, day, known_at)
        except UsageError:
            return None
        return made if self._is_in_force(made) else None

    def _is_in_force(self, build: Build) -> bool:
        """Whether building again would be from the very same data, rules and code."""
        from strataflow.build import fingerprint

        at = self.deployment
        now = fingerprint(at.home, at.project, at.sources.shop, build.as_of, build.known_at)
        return build.meta["fingerprint"] == now

    def _refuse_outdated(self, build: Build) -> None:
        if self._is_in_force(build):
            return
        known = "" if build.known_at == build.as_of else f" --known-at {build.known_at}"
        raise UsageError(
            "this build is of other rules or data than those now in force",
            where=str(build.path),
            todo=f"build again: strataflow build --date {build.as_of}{known}",
        )


def most_recent_landed_day(home: Home) -> date:
    """The latest day that any source has landed.

    Raises:
        UsageError: nothing has landed yet.
    """
    days = [path.stem for path in home.landings.glob("*/*.json")]
    if not days:
        raise UsageError(
            "nothing has been landed yet, so there is no day to default to",
            where=str(home.root),
            todo="strataflow land --date YYYY-MM-DD",
        )
    return date.fromisoformat(max(days))


def _tables(where: str, names: Iterable[str]) -> list[str]:
    """Tables as the log names what a step read or wrote."""
    return [f"{where}/{name}" for name in sorted(names)]


def _passed(report: GateReport) -> dict[str, Any]:
    """What the log keeps of a gate; a gate that did not pass ends the run."""
    report.raise_if_failed()
    return {"expectations": len(report.expectations), "warnings": [str(warning) for warning in report.warnings]}
