"""Tells people that a task failed or a day is late.

A failure nobody hears of is found by a reader who trusts yesterday's list. An
alert is one JSON object: it always goes into ``alerts.jsonl`` of the home and
into the log, and, where ``STRATAFLOW_ALERT_URL`` is set, to that address. Its
field ``text`` is what most chat tools show of an incoming webhook.
"""

from __future__ import annotations

import json
import logging
import os
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

ALERT_URL = "STRATAFLOW_ALERT_URL"
SECONDS_TO_ANSWER = 10


def task_failed(context: Mapping[str, Any]) -> None:
    """Airflow's ``on_failure_callback``: the task has failed and won't be tried again.

    Args:
        context: Airflow's context of the failed task; its exception is named in the alert.
    """
    instance = context["task_instance"]
    fault = context.get("exception")
    _alert(
        {
            "kind": "task_failed",
            "text": f"{instance.dag_id}: {instance.task_id} failed for {_day(context)} "
            f"at try {instance.try_number}\n{fault}",
            "dag": instance.dag_id,
            "task": instance.task_id,
            "day": _day(context),
            "run": instance.run_id,
            "error": type(fault).__name__ if fault else None,
            "log": getattr(instance, "log_url", None),
        }
    )


def day_late(context: Mapping[str, Any], minutes: int) -> None:
    """Airflow's deadline callback: a run has not ended within its minutes.

    Args:
        context: what Airflow knows of the run, as plain JSON values.
        minutes: the time the run had from being queued.
    """
    run = context.get("dag_run") or {}
    dag = run.get("dag_id")
    day = run.get("partition_key") or (run.get("conf") or {}).get("date")
    _alert(
        {
            "kind": "day_late",
            "text": f"{dag}: the run for {day} has not ended {minutes} minutes after it was queued",
            "dag": dag,
            "task": None,
            "day": day,
            "run": run.get("dag_run_id") or run.get("run_id"),
            "error": None,
            "log": None,
        }
    )


def _day(context: Mapping[str, Any]) -> str | None:
    asked = (context.get("params") or {}).get("date")
    return asked or context["dag_run"].partition_key


def _alert(alert: dict[str, Any]) -> None:
    log.error("ALERT %s", alert["text"])
    line = json.dumps(alert, ensure_ascii=False)
    home = os.environ.get("STRATAFLOW_HOME")
    if home:
        with (Path(home).expanduser() / "alerts.jsonl").open("a", encoding="utf-8") as kept:
            kept.write(line + "\n")
    url = os.environ.get(ALERT_URL)
    if url:
        _post(url, line)


def _post(url: str, body: str) -> None:
    """Send, and only log what goes wrong: an alert must not hide the fault it reports."""
    if not url.startswith(("http://", "https://")):
        log.error("%s is not an http(s) address; the alert was not sent", ALERT_URL)
        return
    request = urllib.request.Request(  # noqa: S310 - the scheme is checked above
        url, data=body.encode(), headers={"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=SECONDS_TO_ANSWER):  # noqa: S310
            return
    except (urllib.error.URLError, OSError) as fault:
        log.error("the alert was not delivered to %s: %s", ALERT_URL, fault)  # noqa: TRY400
