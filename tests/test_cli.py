"""The command line: what it promises scripts (codes, one JSON document) and what a day's run leaves."""

from __future__ import annotations

import errno
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from filelock import FileLock
from rich.cells import cell_len

import strataflow
from commands import call, environment
from publishing import published_bytes
from strataflow import cli, runlog, summary
from strataflow.home import Home
from strataflow.publish import read_manifest

FIRST, EVE, DAY = "2023-01-01", "2023-01-29", "2023-01-30"


def document(done: subprocess.CompletedProcess[str]) -> dict:
    """The one JSON document on standard output."""
    return json.loads(done.stdout)


# ---------------------------------------------------------------- what scripts rely on


def test_help_needs_nothing_heavy():
    code = (
        "import sys; from strataflow.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'duckdb', 'dbt', 'great_expectations', 'pandas', 'airflow', 'rich', 'pydantic'} & set(sys.modules)\n"
        "print('heavy:', sorted(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    assert done.stdout.endswith("heavy: []\n")
    assert "Examples:" in done.stdout


@pytest.mark.parametrize("command", ["run", "land", "validate", "build", "publish", "status"])
def test_every_step_takes_date_home_and_sources(command, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main([command, "--help"])
    assert ended.value.code == 0
    told = capsys.readouterr().out
    assert all(option in told for option in ("--date", "--home", "--sources", "--json", "--quiet", "--verbose"))


def test_version(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"strataflow {strataflow.__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["run"],
        ["run", "--date", "31.12.2017"],
        ["run", "--date", "2024-W01-2"],
        ["run", "--date", "20171231"],
        ["land", "--date", "2017-12-31", "--from", "2018-01-01"],
        ["build", "--no-such-option"],
        ["validate", "--gate", "third"],
    ],
)
@pytest.mark.parametrize("flag", [["--json"], []])
def test_a_wrong_call_ends_with_2_and_says_why(arguments, flag, tmp_path, capfd):
    with pytest.raises(SystemExit) as ended:
        cli.main([*arguments, *flag])
    told = capfd.readouterr()
    assert ended.value.code == 2
    assert told.err.startswith("Error: ")
    if flag:
        assert json.loads(told.out)["ok"] is False
        assert json.loads(told.out)["error"]["kind"] == "usage"
    else:
        assert told.out == ""


def test_json_may_stand_before_or_after_the_command(tmp_path, capfd):
    for arguments in (["--json", "status"], ["status", "--json"]):
        with pytest.raises(SystemExit) as ended:
            cli.main([*arguments, "--home", str(tmp_path / "home")])
        assert ended.value.code == 0
        assert json.loads(capfd.readouterr().out)["command"] == "status"


def test_status_of_an_empty_home_says_how_to_begin_and_creates_nothing(tmp_path, capfd):
    with pytest.raises(SystemExit):
        cli.main(["status", "--home", str(tmp_path / "home")])
    assert "nothing has landed" in capfd.readouterr().out
    assert not (tmp_path / "home").exists()


def test_without_a_home_the_message_names_the_setting(monkeypatch, capfd):
    monkeypatch.delenv("STRATAFLOW_HOME", raising=False)
    with pytest.raises(SystemExit) as ended:
        cli.main(["status"])
    assert ended.value.code == 2
    assert "STRATAFLOW_HOME" in capfd.readouterr().err


def test_what_libraries_print_does_not_reach_the_json(tmp_path, monkeypatch, capfd):
    def noisy(*_: object) -> dict:
        print("a library says hello")
        os.write(1, b"and another one, from C\n")
        return {"landed": []}

    monkeypatch.setattr("strataflow.status.collect", noisy)
    with pytest.raises(SystemExit):
        cli.main(["status", "--json", "--home", str(tmp_path)])
    told = capfd.readouterr()
    assert json.loads(told.out) == {"ok": True, "command": "status", "landed": []}
    assert "a library says hello" in told.err
    assert "and another one, from C" in told.err


def test_an_unforeseen_fault_is_short_and_its_traceback_is_told(shop, tmp_path, monkeypatch, capfd):
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("who divided by nothing?")

    monkeypatch.setattr("strataflow.run.Steps.land", broken)
    home = tmp_path / "home"
    with pytest.raises(SystemExit) as ended:
        cli.main(["land", "--date", DAY, "--home", str(home), "--sources", str(shop), "--json"])
    told = capfd.readouterr()
    error = json.loads(told.out)["error"]
    assert ended.value.code == 1
    assert error["kind"] == "unexpected"
    assert "who divided by nothing?" in error["what"]
    assert "Traceback" not in told.err
    assert "raise ZeroDivisionError" in Path(error["where"]).read_text(encoding="utf-8")
    assert runlog.records(Home(home))[0]["outcome"] == "failed"


def test_a_home_that_leads_through_a_file_is_told_in_a_sentence(shop, tmp_path, capfd):
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit) as ended:
        cli.main(["land", "--date", DAY, "--home", str(tmp_path / "file" / "home"), "--sources", str(shop), "--json"])
    told = capfd.readouterr()
    error = json.loads(told.out)["error"]
    assert (ended.value.code, error["kind"]) == (1, "disk")
    assert str(tmp_path / "file") in error["where"]
    assert error["todo"]
    assert "Traceback" not in told.err


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_disk_that_takes_no_more_is_told_in_a_sentence(number, shop, tmp_path, monkeypatch, capfd):
    def full(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), "/some/file")

    monkeypatch.setattr("strataflow.run.Steps.land", full)
    monkeypatch.setattr("strataflow.runlog.RunLog._finish", full)
    with pytest.raises(SystemExit) as ended:
        cli.main(["land", "--date", DAY, "--home", str(tmp_path), "--sources", str(shop), "--json"])
    error = json.loads(capfd.readouterr().out)["error"]
    assert (ended.value.code, error["kind"], error["where"]) == (1, "disk", "/some/file")


def test_a_traceback_that_can_not_be_kept_hides_nothing(shop, tmp_path, monkeypatch, capfd):
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("who divided by nothing?")

    def no_runs_folder(self: runlog.RunLog, *_: object) -> None:
        shutil.rmtree(self.path.parents[1])
        self.path.parents[1].touch()

    monkeypatch.setattr("strataflow.run.Steps.land", broken)
    monkeypatch.setattr("strataflow.runlog.RunLog._finish", no_runs_folder)
    with pytest.raises(SystemExit) as ended:
        cli.main(["land", "--date", DAY, "--home", str(tmp_path), "--sources", str(shop), "--json"])
    error = json.loads(capfd.readouterr().out)["error"]
    assert ended.value.code == 1
    assert "who divided by nothing?" in error["what"]
    assert "--verbose" in error["todo"]


def test_ctrl_c_is_clean(shop, tmp_path, monkeypatch, capfd):
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("strataflow.run.Steps.land", interrupted)
    home = Home(tmp_path / "home")
    with pytest.raises(SystemExit) as ended:
        cli.main(["land", "--date", DAY, "--home", str(home.root), "--sources", str(shop), "--json"])
    assert ended.value.code == 130
    assert json.loads(capfd.readouterr().out)["error"]["kind"] == "interrupted"
    assert runlog.records(home)[0]["outcome"] == "interrupted"
    with home.writing():
        pass


def test_a_second_writer_is_turned_away_or_waits(shop, tmp_path, capfd):
    home = Home(tmp_path / "home")
    arguments = ["build", "--home", str(home.root), "--sources", str(shop)]
    with home.writing(), pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    assert "another run is writing to this home" in capfd.readouterr().err
    with home.writing(), pytest.raises(SystemExit):
        cli.main([*arguments, "--json"])
    assert json.loads(capfd.readouterr().out)["error"]["kind"] == "busy"
    started = time.monotonic()
    with home.writing(), pytest.raises(SystemExit):
        cli.main([*arguments, "--wait", "0.5"])
    assert time.monotonic() - started >= 0.5


def test_nothing_landed_means_no_day_to_default_to(shop, tmp_path, capfd):
    with pytest.raises(SystemExit) as ended:
        cli.main(["build", "--home", str(tmp_path), "--sources", str(shop)])
    assert ended.value.code == 2
    assert "nothing has been landed yet" in capfd.readouterr().err


# ---------------------------------------------------------------- a shop's days, for real


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder that ``make`` has filled, once for all workers of this test run."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / f"cli-{name}"
    made = Path(f"{folder}.made")
    with FileLock(f"{folder}.lock"):
        if not made.exists():
            make(folder)
            made.touch()
    return folder


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> Path:
    """A small shop of 30 days; its folder of sources."""

    def make(folder: Path) -> None:
        numbers = ("--customers", 150, "--orders", 900, "--interactions", 1500, "--days", 30, "--dirt", 0.02)
        done = call("generate", folder, *numbers, "--quiet")
        assert done.returncode == 0, done.stderr

    return once(tmp_path_factory, "shop", make) / "sources"


@pytest.fixture(scope="module")
def ran(shop, tmp_path_factory) -> Path:
    """A home that has seen the history and one more day, with what the two runs printed beside it."""

    def make(folder: Path) -> None:
        at = ("--home", folder / "home", "--sources", shop)
        history = call("run", "--from", FIRST, "--date", EVE, "--json", *at)
        assert history.returncode == 0, history.stderr + history.stdout
        day = call("run", "--date", DAY, *at)
        assert day.returncode == 0, day.stderr + day.stdout
        assert "leaked" not in history.stderr + day.stderr
        (folder / "history.json").write_text(history.stdout, encoding="utf-8")
        (folder / "day.txt").write_text(day.stdout, encoding="utf-8")

    return once(tmp_path_factory, "ran", make)


@pytest.fixture(scope="module")
def home(ran) -> Home:
    return Home(ran / "home")


def test_run_tells_what_it_did(ran, home, shop):
    told = json.loads((ran / "history.json").read_text(encoding="utf-8"))
    planted = json.loads((shop.parent / "generated.json").read_text(encoding="utf-8"))["tables"]
    assert told["ok"]
    assert told["outcome"] == "published"
    assert told["landed"]["rows_read"] == told["landed"]["rows_landed"] + told["landed"]["rows_quarantined"]
    assert {entry["source"] for entry in told["landed"]["sources"]} == set(planted)
    assert sum(entry["customers"] for entry in told["classes"]) == told["customers"]
    for ladder in told["ladders"].values():
        assert sum(stage["customers"] for stage in ladder) == told["customers"]
    assert sum(tier["customers"] for tier in told["tiers"]) == told["customers"]
    assert {entry["name_zh"] for entry in told["classes"]} >= {"重要价值客户", "未下单"}
    assert [(gate["gate"], gate["passed"]) for gate in told["gates"]] == [("landed", True), ("built", True)]
    assert all((home.published / "versions" / told["version"] / entry["path"]).is_file() for entry in told["files"])


def test_the_summary_can_be_read_at_100_columns_and_its_commands_work(ran, home):
    printed = (ran / "day.txt").read_text(encoding="utf-8")
    lines = printed.splitlines()
    in_tables = lines[: next(n for n, line in enumerate(lines) if line.startswith("Published"))]
    assert max(map(cell_len, in_tables)) <= 100
    assert "Champions" in printed
    assert "重要价值客户" in printed
    commands = [line.split(maxsplit=1)[1] for line in lines if " -c " in line]
    assert len(commands) == 2
    for command in commands:
        words = shlex.split(command)
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "customer_id" in done.stdout
    assert str(home.published / "current" / "churn_risk.csv") in printed
    assert ", 0 KB)" not in printed


def test_a_share_is_rounded_once():
    """505 of 2,469 are 20.4536%: rounded to 20.45% on the way they would read 20.4%."""
    assert summary._percent(summary._share(505, 2469)) == "20.5%"


def test_running_a_published_day_again_changes_nothing_and_says_so(home, shop):
    before = published_bytes(home)
    started = time.monotonic()
    again = call("run", "--date", DAY, "--home", home.root, "--sources", shop, "--json")
    seconds = time.monotonic() - started
    assert again.returncode == 0, again.stderr
    assert document(again)["outcome"] == "unchanged"
    assert published_bytes(home) == before
    in_words = call("run", "--date", DAY, "--home", home.root, "--sources", shop)
    assert f"{DAY} is published already" in in_words.stdout
    record = runlog.records(home)[-1]
    assert record["outcome"] == "unchanged"
    assert [step["name"] for step in record["steps"]] == ["land", "history"]
    assert record["seconds"] < 10
    assert seconds < 20


def test_the_run_log_has_every_step(home):
    record = next(record for record in runlog.records(home) if record["as_of"] == DAY)
    assert [step["name"] for step in record["steps"]] == [
        "land",
        "gate 1",
        "build",
        "gate 2",
        "publish",
        "history",
        "report",
    ]
    assert all(step["outcome"] == "ok" and step["seconds"] > 0 for step in record["steps"])
    assert record["outcome"] == "ok"


def test_status_tells_where_the_home_stands(home, shop):
    state = document(call("status", "--home", home.root, "--sources", shop, "--json"))
    assert state["last_day"] == DAY
    assert {entry["source"] for entry in state["landed"]} == {"orders", "interactions", "customers"}
    assert all(entry["gaps"] == [] and entry["days"] == 30 for entry in state["landed"])
    assert state["missing"] == []
    assert state["published"]["current"].startswith(DAY)
    assert state["published"]["days"] == 2
    assert state["next_day"]["day"] == "2023-01-31"
    assert {one["delivered"] for one in state["next_day"]["sources"]} == {False}
    words = call("status", "--home", home.root, "--sources", shop).stdout
    assert "Last runs" in words
    assert re.search(r"Next day 2023-01-31\n  not delivered yet: \w+, \w+, \w+\n", words)


def test_a_day_is_not_built_while_a_day_before_it_is_missing(home, shop):
    manifest = home.landings / "interactions" / "2023-01-12.json"
    aside = manifest.rename(manifest.with_suffix(".aside"))
    try:
        refused = call("build", "--home", home.root, "--sources", shop, "--date", EVE)
    finally:
        aside.rename(manifest)
    assert refused.returncode == 1
    assert "interactions has not landed on 1 of the days" in refused.stderr
    assert "strataflow land --from 2023-01-12 --date 2023-01-12" in refused.stderr


@pytest.mark.parametrize("command", ["run", "land"])
def test_a_mistyped_year_is_refused_before_anything_lands(command, home, shop):
    refused = call(command, "--date", "2071-01-30", "--home", home.root, "--sources", shop)
    assert refused.returncode == 1
    assert "has not landed on 17531 of the days up to 2071-01-30; the first is 2023-01-31" in refused.stderr
    assert list(home.landings.glob("*/2071-*.json")) == []
    assert list(home.lake.glob("*/received_date=2071-*")) == []


def test_a_build_shows_what_an_edit_did_and_a_query_that_works(home, shop):
    at = ("--date", DAY, "--home", home.root, "--sources", shop)
    in_words = call("build", *at)
    assert in_words.returncode == 0, in_words.stderr
    for shown in ("Champions", "重要价值客户", "revenue", "value tier", "ecommerce", "high_ticket", "activity"):
        assert shown in in_words.stdout
    (query,) = (line for line in in_words.stdout.splitlines() if " -c " in line)
    words = shlex.split(query.partition("query it")[2])
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert "rfm_class" in done.stdout
    made, published = document(call("build", *at, "--json")), document(call("summary", *at[:4], "--json"))
    shared = ("customers", "classes", "ladders", "tiers")
    assert {name: made[name] for name in shared} == {name: published[name] for name in shared}


@pytest.mark.parametrize("arguments", [("validate", "--gate", "built"), ("publish",)])
def test_a_build_of_other_rules_is_neither_judged_nor_published(arguments, home, shop, tmp_path):
    for folder in ("dbt_project", "expectations"):
        shutil.copytree(
            Path(__file__).parents[1] / folder, tmp_path / folder, ignore=shutil.ignore_patterns("target", "logs")
        )
    seed = tmp_path / "dbt_project" / "seeds" / "rfm_classes.csv"
    seed.write_text(seed.read_text(encoding="utf-8").replace("Champions", "Best friends"), encoding="utf-8")
    before = published_bytes(home)
    at = ("--date", DAY, "--home", home.root, "--sources", shop)
    refused = call(*arguments, *at, STRATAFLOW_PROJECT=str(tmp_path))
    assert refused.returncode == 2
    assert "this build is of other rules or data" in refused.stderr
    assert f"strataflow build --date {DAY}" in refused.stderr
    assert published_bytes(home) == before


def test_status_names_gaps_and_what_closes_them(home, shop, tmp_path):
    whole, home = home, Home(tmp_path / "home")
    home.landings.mkdir(parents=True)
    for source in ("orders", "interactions"):
        (home.landings / source).mkdir()
        for manifest in sorted((whole.landings / source).glob("*.json"))[: 30 if source == "orders" else 20]:
            if manifest.stem not in ("2023-01-05", "2023-01-06"):
                (home.landings / source / manifest.name).write_bytes(manifest.read_bytes())
    lacks = {
        lack["what"]: lack["todo"]
        for lack in document(call("status", "--home", home.root, "--sources", shop, "--json"))["missing"]
    }
    assert lacks["orders lacks 2023-01-05 to 2023-01-06"] == "strataflow land --from 2023-01-05 --date 2023-01-06"
    assert "interactions has landed only up to 2023-01-20, not 2023-01-30" in lacks
    assert "customers has never landed" in lacks
    assert lacks["2023-01-30 is not published"] == "strataflow run --skip-land --date 2023-01-30"


def test_summary_tells_a_published_day_again(home, ran):
    told = document(call("summary", "--home", home.root, "--date", EVE, "--json"))
    before = json.loads((ran / "history.json").read_text(encoding="utf-8"))
    assert {name: told[name] for name in ("version", "classes", "ladders", "tiers")} == {
        name: before[name] for name in ("version", "classes", "ladders", "tiers")
    }
    unknown = call("summary", "--home", home.root, "--date", "2022-01-01")
    assert unknown.returncode == 2
    assert "2022-01-01 is not published" in unknown.stderr


def test_sources_check_says_what_a_mapping_yields_and_whether_it_would_land(shop, tmp_path):
    good = call("sources", "check", shop / "orders.yml", "--rows", 50)
    assert good.returncode == 0, good.stderr
    assert "verdict:" in good.stdout
    strict = (shop / "orders.yml").read_text(encoding="utf-8")
    strict = strict.replace("root: ../data", f"root: {shop.parent / 'data'}").replace(
        "amount: amount\n", 'amount: "null"\n'
    )
    (tmp_path / "orders.yml").write_text(strict, encoding="utf-8")
    (tmp_path / "shop.yml").write_bytes((shop / "shop.yml").read_bytes())
    bad = call("sources", "check", tmp_path / "orders.yml", "--json")
    assert bad.returncode == 1
    assert document(bad)["ok"] is False
    assert document(bad)["rows_landed"] == 0
    assert "missing_required" in {refusal["code"] for refusal in document(bad)["refusals"]}


# ---------------------------------------------------------------- killed in every step


# A shell may have told its background jobs to ignore Ctrl-C; the person at the terminal has not.
COMMAND = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from strataflow.cli import main; main()"
)


def end_in(
    step: str, arguments: Sequence[str], home: Home, shop: Path, delay: float, how: signal.Signals = signal.SIGKILL
) -> subprocess.Popen[bytes]:
    """Start a command and end it, with whatever it started, ``delay`` seconds into ``step``."""
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, *arguments, "--quiet"],
        env=environment(STRATAFLOW_HOME=str(home.root), STRATAFLOW_SOURCES=str(shop)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    while process.poll() is None:
        if any(record["process"] == process.pid and record["step"] == step for record in runlog.records(home)):
            time.sleep(delay)
            os.killpg(process.pid, how)
            process.wait(60)
        time.sleep(0.005)
    return process


def test_ctrl_c_in_the_middle_of_dbt_is_told_as_such_and_leaves_no_build(home, shop, tmp_path):
    whole, home = home, Home(tmp_path / "home")
    shutil.copytree(whole.lake, home.lake)
    assert end_in("build", ["build"], home, shop, 1.5, signal.SIGINT).returncode == 130
    assert runlog.records(home)[0]["outcome"] == "interrupted"
    assert list(home.builds.glob("*")) == []


def test_steps_one_by_one_each_killed_first_give_the_bytes_of_a_whole_run(home, shop, tmp_path):
    """Nothing is published before gate 2 has passed, and a kill in any step is repaired by the same command."""
    undisturbed, home = home, Home(tmp_path / "home")
    at = ("--home", home.root, "--sources", shop, "--json")
    for arguments, step, delay in (
        (("land", "--from", FIRST, "--date", DAY), "land", 0.1),
        (("validate", "--gate", "landed"), "gate 1", 0.5),
        (("build",), "build", 1.5),
        (("validate", "--gate", "built"), "gate 2", 0.5),
        (("publish",), "publish", 0),
    ):
        assert end_in(step, arguments, home, shop, delay).returncode == -signal.SIGKILL
        if step == "gate 2":
            refused = call("publish", *at)
            assert (refused.returncode, document(refused)["error"]["kind"]) == (1, "gate")
        assert not (home.published / "current").exists()
        done = call(*arguments, *at)
        assert done.returncode == 0, done.stderr + done.stdout
    assert document(done)["outcome"] == "published"
    version = Path("versions", document(done)["version"])
    expected = {
        path: content for path, content in published_bytes(undisturbed).items() if Path(path).is_relative_to(version)
    }
    found = {path: content for path, content in published_bytes(home).items() if Path(path).is_relative_to(version)}
    assert found == expected
    tables = read_manifest(home.published / version)["tables"]
    assert {Path(path).parts[2] for path in found if path.endswith(".parquet")} == set(tables)
    assert document(call("run", "--date", DAY, *at))["outcome"] == "unchanged"
    killed = [record["step"] for record in runlog.records(home) if record["outcome"] == "running"]
    assert killed == ["land", "gate 1", "build", "gate 2", "publish"]
