"""The logs of runs as tables and for the eye: nothing of a log is lost, and a killed run is called so."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import date
from importlib.metadata import version
from io import StringIO
from pathlib import Path

import duckdb
import pytest
from rich.console import Console

import strataflow
from strataflow import runlog, runs
from strataflow.errors import InputError
from strataflow.home import Home
from strataflow.screen import WIDTH

DAY = date(2017, 12, 31)


@pytest.fixture
def home(tmp_path):
    """A run that went well, one that failed, one that was killed, and a log that nothing was written to."""
    home = Home(tmp_path / "home")
    log = runlog.RunLog.start(home, "run", DAY, {"from": "2017-01-01"})
    with log.closing():
        with log.step("gate 2") as step:
            step.detail = {"expectations": 43, "warnings": ["few rows"]}
        with log.step("publish") as step:
            step.rows, step.detail = 12, {"version": "2017-12-31-abc"}
    failing = runlog.RunLog.start(home, "land", DAY, {})
    with pytest.raises(InputError), failing.closing(), failing.step("land"):
        raise InputError("orders.csv is missing", where="/delivered", todo="deliver it")
    killed = runlog.RunLog.start(home, "build", date(2018, 1, 1), {})
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    killed.record |= {"step": "build", "process": gone.pid}
    killed._save()
    (home.root / "runs" / str(DAY) / "3.json").touch()
    return home


def test_every_run_and_step_is_a_row(home, tmp_path):
    written = runs.write(home, tmp_path / "tables")
    with duckdb.connect() as connection:
        found = connection.execute(
            "select as_of_date, run, command, outcome, unfinished_step, error_kind, error, version, "
            f"parameters ->> '$.from', versions ->> '$.duckdb' from '{written[0]}' order by 1, 2"
        ).fetchall()
        steps = connection.execute(
            "select run, position, step, outcome, rows, expectations, warnings, peak_memory_bytes > 0 "
            f"from '{written[1]}' order by 1, 2"
        ).fetchall()
    library = duckdb.__version__
    assert found == [
        (DAY, 1, "run", "ok", None, None, None, "2017-12-31-abc", "2017-01-01", library),
        (DAY, 2, "land", "failed", None, "input", "orders.csv is missing", None, None, library),
        (date(2018, 1, 1), 1, "build", "killed", "build", None, None, None, None, library),
    ]
    assert steps == [
        (1, 1, "gate 2", "ok", None, 43, 1, True),
        (1, 2, "publish", "ok", 12, None, None, True),
        (2, 1, "land", "failed", None, None, None, True),
    ]


def test_times_are_those_of_the_logs(home):
    (record, *_) = runlog.records(home, DAY)
    with runs.opened(home) as connection:
        found = connection.execute("select started_at::varchar, seconds from runs where run = 1 and command = 'run'")
        started, seconds = found.fetchone()
    assert started[:19] == record["started_at"][:19].replace("T", " ")
    assert seconds == record["seconds"]


def test_a_home_without_runs_has_empty_tables(tmp_path):
    with runs.opened(Home(tmp_path)) as connection:
        assert connection.execute("select count(*) from runs, run_steps").fetchone() == (0,)
    assert runs.latest(Home(tmp_path), 5) == []


def printed(records: list[dict]) -> str:
    console = Console(file=StringIO(), width=WIDTH)
    runs.render(records, console)
    return console.file.getvalue()


def test_what_is_shown_names_rows_memory_gates_and_versions(home):
    shown = printed(runs.latest(home, 10))
    for text in ("killed", "in build", "orders.csv is missing", "43 expectations, 1 only warn", "12", "2017-12-31-abc"):
        assert text in shown
    assert shown.count(f"duckdb {duckdb.__version__}") == 1


def test_nothing_that_is_shown_is_cut_off_and_other_versions_are_told_from_where_they_ran(home):
    records = runs.latest(home, 10)
    records[0]["command"] = "ingest_interactions.check"
    records[0]["steps"][1]["detail"]["version"] = "2017-12-31-90a2b9f8a28c"
    records[1]["versions"] |= {"duckdb": "9.9.9"}
    records[2]["versions"] |= {"duckdb": "9.9.9"}
    lines = [line.strip() for line in printed(records).splitlines()]
    assert "2017-12-31-90a2b9f8a28c" in lines
    assert any(line.startswith("2017-12-31 #1  ingest_interactions.check  ") for line in lines)
    assert [line for line in lines if "duckdb" in line] == [
        f"made by strataflow {strataflow.__version__}, duckdb {duckdb.__version__}, dbt-core {version('dbt-core')}",
        f"2017-12-31 #2 and later: strataflow {strataflow.__version__}, duckdb 9.9.9, dbt-core {version('dbt-core')}",
    ]
    assert max(map(len, lines)) <= WIDTH


def test_the_command_tells_the_last_runs_and_writes_the_tables(home, tmp_path):
    said = subprocess.run(
        [sys.executable, "-m", "strataflow.cli", "runs", "--json", "--limit", "2", "--home", str(home.root),
         "--output", str(tmp_path / "out")],
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(Path(strataflow.__file__).parents[1])},
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    told = json.loads(said.stdout)
    assert [run["outcome"] for run in told["runs"]] == ["failed", "killed"]
    assert {Path(path).name for path in told["files"]} == {path.name for path in (tmp_path / "out").iterdir()}
