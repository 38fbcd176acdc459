"""The record of a run: what it says when all goes well, when it fails, and when it is killed."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest

from strataflow import runlog, status
from strataflow.errors import GateFailed, InputError, UsageError
from strataflow.home import Home
from strataflow.runlog import RunLog

DAY = date(2017, 12, 31)


@pytest.fixture
def home(tmp_path) -> Home:
    return Home(tmp_path / "home")


def test_a_run_is_recorded_step_by_step(home):
    log = RunLog.start(home, "run", DAY, {"from": date(2017, 1, 1)})
    with log.closing():
        with log.step("land") as step:
            step.rows = 12
        with log.step("publish") as step:
            step.outcome = "unchanged"
    (record,) = runlog.records(home)
    assert record == json.loads((home.root / "runs" / "2017-12-31" / "1.json").read_text(encoding="utf-8"))
    assert (record["run"], record["command"], record["outcome"]) == (1, "run", "ok")
    assert record["parameters"] == {"from": "2017-01-01"}
    assert [(step["name"], step["rows"], step["outcome"]) for step in record["steps"]] == [
        ("land", 12, "ok"),
        ("publish", None, "unchanged"),
    ]
    assert all(step["seconds"] >= 0 and step["peak_memory_bytes"] > 10_000_000 for step in record["steps"])
    assert {"strataflow", "python", "duckdb", "dbt-core"} <= record["versions"].keys()


def test_runs_of_a_day_are_numbered_and_listed_in_the_order_they_started(home):
    for day in (DAY, date(2017, 12, 30), DAY):
        with RunLog.start(home, "build", day, {}).closing():
            pass
    assert [(record["as_of"], record["run"]) for record in runlog.records(home)] == [
        ("2017-12-31", 1),
        ("2017-12-30", 1),
        ("2017-12-31", 2),
    ]
    assert len(runlog.records(home, DAY)) == 2


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (UsageError("no home", where="here", todo="set it"), "usage"),
        (InputError("bad file", where="here", todo="set it"), "input"),
        (GateFailed("not so", where="here", todo="set it"), "gate"),
    ],
)
def test_a_failed_run_says_what_where_and_what_to_do(home, fault, kind):
    log = RunLog.start(home, "run", DAY, {})
    with pytest.raises(type(fault)), log.closing(), log.step("land"):
        raise fault
    (record,) = runlog.records(home)
    assert record["outcome"] == "failed"
    assert record["error"] == {"kind": kind, "what": fault.what, "where": "here", "todo": "set it"}
    assert record["steps"][0]["outcome"] == "failed"


def test_an_unforeseen_fault_is_recorded_and_its_traceback_kept(home):
    log = RunLog.start(home, "run", DAY, {})
    with pytest.raises(ZeroDivisionError) as caught, log.closing():
        _ = 1 / 0
    (record,) = runlog.records(home)
    assert record["error"]["kind"] == "unexpected"
    assert "ZeroDivisionError" in record["error"]["what"]
    path = runlog.keep_traceback(caught.value, home.root / "runs")
    assert "_ = 1 / 0" in path.read_text(encoding="utf-8")


def test_an_interrupted_run_is_recorded_as_such(home):
    log = RunLog.start(home, "run", DAY, {})
    with pytest.raises(KeyboardInterrupt), log.closing(), log.step("build"):
        raise KeyboardInterrupt
    assert runlog.records(home)[0]["outcome"] == "interrupted"


KILLED = """
import os, signal, sys
from datetime import date
from pathlib import Path
from strataflow.home import Home
from strataflow.runlog import RunLog
log = RunLog.start(Home(Path(sys.argv[1])), "run", date(2017, 12, 31), {})
with log.closing(), log.step("build"):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_run_is_told_from_one_that_still_works(home):
    package = Path(runlog.__file__).parents[1]
    subprocess.run([sys.executable, "-c", KILLED, home.root], env={"PYTHONPATH": str(package)}, check=False)
    log = RunLog.start(home, "validate", DAY, {})
    with log.closing(), log.step("gate 1"):
        runs = status.collect(home)["runs"]
    assert [(run["command"], run["outcome"], run["step"]) for run in runs] == [
        ("run", "killed", "build"),
        ("validate", "running", "gate 1"),
    ]
