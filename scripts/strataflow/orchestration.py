"""What the three DAGs have in common: their assets, schedule, defaults and the day a run is for.

A DAG file shows which task follows which. What would otherwise be said three
times is said here. Only DAG files import this module, because it needs Airflow.

Settings come from the environment, so that one image serves every shop:

======================================  ==========================================================
``STRATAFLOW_HOME``                     where everything is written
``STRATAFLOW_SOURCES``                  folder with ``shop.yml`` and the source descriptions
``STRATAFLOW_DAILY_AT``                 start of the nightly run in the shop's time zone (02:00)
``STRATAFLOW_LAST_DAY``                 no run is scheduled for later days; for data that has ended
``STRATAFLOW_RETRIES``                  tries after the first one (3)
``STRATAFLOW_DEADLINE_MINUTES``         a run that takes longer raises an alert (180)
``STRATAFLOW_DAYS_AT_ONCE``             days that segment_customers works on side by side (3)
``STRATAFLOW_ALERT_URL``                alerts are also posted there as JSON
``STRATAFLOW_TARGETS``                  YAML file of the systems that are told what changes (none)
``STRATAFLOW_KEEP_DAYS``                published days before the current one that are kept (all)
``STRATAFLOW_POSTGRES_DSN``             a database for BI, or the id of an Airflow connection (none)
``STRATAFLOW_POSTGRES_SCHEMA``          its schema (strataflow)
``STRATAFLOW_POSTGRES_KEEP_DAYS``       days it keeps (as STRATAFLOW_KEEP_DAYS)
``STRATAFLOW_ENGINE``                   what computes the tables: duckdb or spark (duckdb)
``STRATAFLOW_SPARK_MASTER``             the Spark cluster; without it one is started for the build
======================================  ==========================================================
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import yaml
from airflow.sdk import (
    Asset,
    CronPartitionTimetable,
    DeadlineAlert,
    DeadlineReference,
    ExceptionRetryPolicy,
    Param,
    RetryAction,
    RetryRule,
)
from airflow.sdk.definitions.callback import SyncCallback

from strataflow import alerts, yamltext
from strataflow.errors import UsageError

if TYPE_CHECKING:
    from strataflow.run import Deployment, Steps
    from strataflow.sources import Source
    from strataflow.validate import GateReport

OWNER = "data-engineering"
WRITER_POOL = "strataflow_writer"
KEY_FORMAT = "%Y-%m-%d"
SECONDS_TO_WAIT_FOR_THE_LOCK = 600

ORDERS = Asset(
    name="lake_orders",
    uri="strataflow://lake/orders",
    group="lake",
    extra={"holds": "orders, order lines, customers, products and manual tags received on a day, past gate 1"},
)
INTERACTIONS = Asset(
    name="lake_interactions",
    uri="strataflow://lake/interactions",
    group="lake",
    extra={"holds": "interactions received on a day, past gate 1"},
)
PUBLISHED = tuple(
    Asset(name=table, uri=f"strataflow://published/{table}", group="published")
    for table in (
        "customer_segments",
        "customer_tags",
        "manual_tag_outcomes",
        "tag_review_queue",
        "tag_conflicts",
        "customer_explanations",
        "customer_profile",
        "tag_coverage",
        "churn_risk",
        "contact_list",
        "contact_suppressed",
        "customer_lifetime_value",
        "rfm_cutoffs",
        "churn_model_card",
        "purchase_habit",
        "hook_products",
        "product_affinities",
        "next_best_products",
        "referral_metrics",
        "advocates",
    )
)


def nightly() -> CronPartitionTimetable:
    """One run each night for the day that has just ended in the shop's time zone.

    The partition key is that day as a plain date. The first scheduled run is the coming night's;
    days that have passed are asked for by a backfill.

    Raises:
        UsageError: ``STRATAFLOW_DAILY_AT`` is no time, or the shop's time zone can't be read.
    """
    at = os.environ.get("STRATAFLOW_DAILY_AT", "02:00")
    try:
        start = datetime.strptime(at, "%H:%M")  # noqa: DTZ007 - a time of day
    except ValueError as wrong:
        raise UsageError(
            f"{at!r} is no time of day",
            where="STRATAFLOW_DAILY_AT",
            todo="write it as HH:MM, for example 02:00",
        ) from wrong
    return CronPartitionTimetable(
        f"{start.minute} {start.hour} * * *",
        timezone=shop_time_zone(),
        run_offset=-1,
        run_immediately=timedelta(0),
        key_format=KEY_FORMAT,
    )


def last_day() -> datetime | None:
    """The end of scheduling, if the data has ended; runs asked for by hand or backfill are not held back.

    Raises:
        UsageError: ``STRATAFLOW_LAST_DAY`` is no date.
    """
    written = os.environ.get("STRATAFLOW_LAST_DAY")
    if not written:
        return None
    end = _date(written, where="STRATAFLOW_LAST_DAY") + timedelta(days=1)
    return datetime(end.year, end.month, end.day, tzinfo=ZoneInfo(shop_time_zone()))


def shop_time_zone() -> str:
    """The shop's time zone as ``shop.yml`` gives it, the one place it is written.

    Raises:
        UsageError: ``STRATAFLOW_SOURCES`` is not set, or its ``shop.yml`` names no time zone.
    """
    folder = os.environ.get("STRATAFLOW_SOURCES")
    if not folder:
        raise UsageError(
            "no sources are set", where="STRATAFLOW_SOURCES", todo="set it to the folder that holds shop.yml"
        )
    path = Path(folder) / "shop.yml"
    try:
        return ZoneInfo(yamltext.load(path.read_text(encoding="utf-8"))["time_zone"]).key
    except (OSError, yaml.YAMLError, KeyError, TypeError, ZoneInfoNotFoundError) as wrong:
        raise UsageError(
            f"the shop's time zone can't be read: {wrong!r}",
            where=str(path),
            todo="give time_zone an IANA name such as Europe/Berlin",
        ) from wrong


def task_defaults() -> dict[str, Any]:
    """``default_args`` of every DAG.

    A late or half-written delivery and a busy machine mend themselves, so they are tried again,
    each time after a longer wait. A failed gate or a wrong setting gives the same answer again
    and needs a person, so it fails at once.
    """
    needs_a_person = RetryRule(
        exception=["strataflow.errors.GateFailed", "strataflow.errors.UsageError"],
        action=RetryAction.FAIL,
        reason="trying again can't help: the data or a setting has to be mended",
    )
    return {
        "owner": OWNER,
        "retries": int(os.environ.get("STRATAFLOW_RETRIES", "3")),
        "retry_delay": timedelta(minutes=1),
        "retry_exponential_backoff": True,
        "max_retry_delay": timedelta(minutes=30),
        "retry_policy": ExceptionRetryPolicy(rules=[needs_a_person]),
        "execution_timeout": timedelta(hours=3),
        "on_failure_callback": alerts.task_failed,
    }


def deadline() -> DeadlineAlert:
    """Tells people when a run has not ended in its time, counted from being queued."""
    minutes = int(os.environ.get("STRATAFLOW_DEADLINE_MINUTES", "180"))
    return DeadlineAlert(
        name="not ended in time",
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=timedelta(minutes=minutes),
        callback=SyncCallback(alerts.day_late, kwargs={"minutes": minutes}),
    )


def days_at_once() -> int:
    """How many runs of the consumer may be at work: 3 unless set.

    Writing tasks take turns whatever it is. With 3, a backfill builds one day after the other while gate, hand-overs
    and summary of those before go on; a machine then holds a build and a gate in memory at the same time.
    With 1 it does not, and takes longer.

    Raises:
        UsageError: ``STRATAFLOW_DAYS_AT_ONCE`` is no number from 1 on.
    """
    written = os.environ.get("STRATAFLOW_DAYS_AT_ONCE") or "3"
    if not (written.isascii() and written.isdigit() and int(written) > 0):
        raise UsageError(
            f"{written!r} is no number of days", where="STRATAFLOW_DAYS_AT_ONCE", todo="write a whole number from 1 on"
        )
    return int(written)


def has_database() -> bool:
    """Whether the deployment names a database for BI."""
    from strataflow import postgres

    return bool(os.environ.get(postgres.SETTING))


def has_targets() -> bool:
    """Whether the deployment names systems that are told what changes."""
    from strataflow.crm import targets

    return bool(os.environ.get(targets.SETTING))


def date_param() -> Param:
    """The day of a run started by hand."""
    return Param(
        None,
        type=["null", "string"],
        format="date",
        title="Day",
        description="Only for a run started by hand without a partition key: the day, as YYYY-MM-DD.",
    )


def since_param() -> Param:
    """The first day of a bulk landing."""
    return Param(
        None,
        type=["null", "string"],
        format="date",
        title="Land everything since",
        description="Lands all days from this one to the run's day at once, for example a shop's history.",
    )


def day_of(context: Mapping[str, Any]) -> date:
    """The day a run is for: its partition key, or its parameter ``date``.

    Raises:
        UsageError: neither is given, they differ, or it is no date.
    """
    key, asked = context["dag_run"].partition_key, context["params"].get("date")
    if key and asked and key != asked:
        raise UsageError(
            f"the run's partition key is {key} but its parameter date is {asked}",
            todo="give only one of them",
        )
    if not (key or asked):
        raise UsageError(
            "the run has no day", todo="trigger it with a partition key or the parameter date, as YYYY-MM-DD"
        )
    return _date(key or asked, where=f"run {context['dag_run'].run_id}")


def since_of(context: Mapping[str, Any]) -> date:
    """The first day a run lands: its parameter ``since``, else its own day.

    Raises:
        UsageError: ``since`` is no date or lies after the run's day.
    """
    day, asked = day_of(context), context["params"].get("since")
    since = _date(asked, where=f"run {context['dag_run'].run_id}") if asked else day
    if since > day:
        raise UsageError(f"since {since} lies after the run's day {day}", todo="give an earlier day as since")
    return since


def land(context: Mapping[str, Any], *, feeds: str) -> dict[str, Any]:
    """Land the run's day, or all days since the parameter ``since``.

    Args:
        context: Airflow's context of the task.
        feeds: ``interactions`` for the sources of that table, ``orders`` for all others.

    Returns:
        Days and row counts, as the task's result.
    """
    day, since = day_of(context), since_of(context)
    with _steps(context, writes=True) as steps:
        sources = _feeding(steps.deployment, feeds)
        if not sources:
            return {"day": str(day), "note": f"the shop has no source of {feeds}"}
        report = steps.land(since, day, sorted({source.table for source in sources}))
    return {
        "day": str(day),
        "since": str(since),
        "rows_read": report.rows_read,
        "rows_landed": report.rows_landed,
        "rows_quarantined": report.rows_quarantined,
    }


def check_landed(context: Mapping[str, Any], *, feeds: str, asset: Asset) -> dict[str, Any]:
    """Gate 1 on what :func:`land` has landed; if it passes, hand on the day's partition of ``asset``."""
    day, since = day_of(context), since_of(context)
    with _steps(context, writes=False) as steps:
        sources = _feeding(steps.deployment, feeds)
        if sources:
            report = steps.check_landed(day, sorted({source.table for source in sources}), since)
            result = {"day": str(day), **_judged(report)}
        else:
            result = {"day": str(day), "note": f"the shop has no source of {feeds}"}
    _hand_on(context, asset, result)
    return result


def build(context: Mapping[str, Any]) -> dict[str, Any]:
    """Build the tables as of the run's day, once everything received before it is there.

    Raises:
        InputError: a day before the run's has not landed yet; Airflow tries again later.
    """
    day = day_of(context)
    with _steps(context, writes=True) as steps:
        made = steps.build(day)
    return {"day": str(day), "build": made.meta["build_id"], "rows": made.meta["tables"]}


def check_built(context: Mapping[str, Any]) -> dict[str, Any]:
    """Gate 2 on the build of the run's day."""
    from strataflow.build import Build

    day = day_of(context)
    with _steps(context, writes=False) as steps:
        report = steps.check_built(Build.load(steps.deployment.home, day))
    return {"day": str(day), **_judged(report)}


def publish(context: Mapping[str, Any]) -> dict[str, Any]:
    """Publish the build of the run's day and hand on the day's partition of every published table."""
    from strataflow.build import Build

    day = day_of(context)
    with _steps(context, writes=True) as steps:
        done = steps.publish(Build.load(steps.deployment.home, day))
    result = {
        "day": str(day),
        "version": done.version,
        "changed": done.changed,
        "is_current": done.is_current,
    }
    for asset in PUBLISHED:
        _hand_on(context, asset, result | {"rows": done.manifest["tables"][asset.name]["rows"]})
    return result


def publish_to_postgres(context: Mapping[str, Any]) -> dict[str, Any]:
    """Bring the database for BI in line with what is published.

    Raises:
        UsageError: no database is named, or a table has changed in a way that breaks readers of the database.
        InputError: the server can't be reached; Airflow tries again later.
    """
    from strataflow import postgres

    dsn = postgres.dsn_of(None)
    if dsn is None:
        raise _not_set(postgres.SETTING, "no database is named")
    day = day_of(context)
    with _steps(context, writes=True) as steps:
        done = steps.publish_to_postgres(dsn, day)
    return {"day": str(day), **done.as_dict()}


def deliver(context: Mapping[str, Any]) -> dict[str, Any]:
    """Tell other systems what has changed since they acknowledged something last.

    They are told what readers see now, which need not be the run's day. Recorded in a log of its own.

    Raises:
        UsageError: no targets are named, a target is described wrongly or its key is not set.
        StepFailed: a target did not acknowledge; Airflow tries again later and goes on where it stopped.
    """
    from strataflow.crm import targets
    from strataflow.crm.command import deliver_all
    from strataflow.run import Deployment

    if not has_targets():
        raise _not_set(targets.SETTING, "nobody is named to be told")
    done = deliver_all(Deployment.at(None, None).home, targets.load_targets().values())
    return {"day": str(day_of(context)), "targets": [each.as_dict() for each in done]}


def report(context: Mapping[str, Any]) -> dict[str, Any]:
    """Bring history up to date, write the page about the current version and, on a month's last day, the scorecard.

    One task, because each costs a process of its own; all three only tell of what is published. At the
    end versions that are past keeping are removed, if the deployment says how many days it keeps.
    While later days have landed, as in a backfill, page and scorecard are left to the last of
    them: each day's would be replaced within the minute. So is history, if that day is still to be
    published; it then takes in all days at once.
    """
    from strataflow.publish import version_of
    from strataflow.run import most_recent_landed_day
    from strataflow.scorecard import is_due

    day = day_of(context)
    with _steps(context, writes=True) as steps:
        at = steps.deployment
        later = most_recent_landed_day(at.home)
        is_last = later <= day
        history = steps.history() if is_last or version_of(at.home, later) else None
        written = steps.report() if is_last else False
        scored = steps.scorecard(day).path.name if is_last and is_due(at.home, at.project, day) else None
        pruned = steps.prune(day) if history else None
    result = {
        "day": str(day),
        "history": [str(one) for one in history.days] if history else [],
        "waiting": [str(one) for one in history.waiting] if history else [],
        "written": written,
        "scorecard": scored,
        "pruned": list(pruned.removed) if pruned else [],
    }
    return result | ({"note": f"the page is left to the run of {later}"} if later > day else {})


def summarise(context: Mapping[str, Any]) -> dict[str, Any]:
    """Print what the run did, and name later days that were published without this one's data."""
    from strataflow import summary
    from strataflow.days import stale_days
    from strataflow.publish import version_of
    from strataflow.run import Deployment

    day, deployment = day_of(context), Deployment.at(None, None)
    version = version_of(deployment.home, day)
    if version is None:
        raise UsageError(f"{day} is not published", where=str(deployment.home.published))
    print(summary.rendered(summary.collect(deployment.home, version)))
    stale = [str(other) for other in stale_days(deployment.home, day)]
    if stale:
        print(f"Published before this day's data arrived, run them again: {', '.join(stale)}")
    return {"day": str(day), "version": version.name, "stale_days": stale}


@contextmanager
def _steps(context: Mapping[str, Any], *, writes: bool) -> Iterator[Steps]:
    """The steps of the deployment in the environment, recorded in its log.

    Args:
        writes: hold the home's writer lock; the pool keeps Airflow's own tasks apart, the lock
            also keeps them apart from a run on the command line.
    """
    from strataflow.run import Deployment, Steps
    from strataflow.runlog import RunLog

    deployment, instance = Deployment.at(None, None), context["task_instance"]
    with deployment.home.writing(SECONDS_TO_WAIT_FOR_THE_LOCK) if writes else nullcontext():
        log = RunLog.start(
            deployment.home,
            f"{instance.dag_id}.{instance.task_id}",
            day_of(context),
            {"run": instance.run_id, "try": instance.try_number, "since": context["params"].get("since")},
        )
        with log.closing():
            yield Steps(deployment, log)


def _not_set(setting: str, what: str) -> UsageError:
    return UsageError(what, where=setting, todo="set it for the workers as it is set where the DAGs are parsed")


def _feeding(deployment: Deployment, feeds: str) -> list[Source]:
    from strataflow.tags import inbox

    sources = inbox.including(deployment.home, deployment.sources).sources
    return [source for source in sources if (source.table == "interactions") == (feeds == "interactions")]


def _judged(report: GateReport) -> dict[str, Any]:
    return {"expectations": len(report.expectations), "warnings": [str(warning) for warning in report.warnings]}


def _hand_on(context: Mapping[str, Any], asset: Asset, extra: dict[str, Any]) -> None:
    event = context["outlet_events"][asset]
    event.add_partitions(extra["day"])
    event.extra = extra


def _date(written: str, *, where: str) -> date:
    try:
        return date.fromisoformat(written)
    except ValueError as wrong:
        raise UsageError(f"{written!r} is no date", where=where, todo="write it as YYYY-MM-DD") from wrong
