"""OpenLineage events: told where a client is configured, never in the way of a run."""

from __future__ import annotations

import json
import logging
from datetime import date

import pytest

from strataflow import lineage, runlog
from strataflow.errors import InputError
from strataflow.home import Home

DAY = date(2017, 12, 31)


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch, tmp_path):
    for name in ("OPENLINEAGE_URL", "OPENLINEAGE_CONFIG", "OPENLINEAGE_DISABLED", "OPENLINEAGE_NAMESPACE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def events(monkeypatch, tmp_path):
    """Where the client writes events; call it for those it has written."""
    path = tmp_path / "events.jsonl"
    transport = {"type": "file", "log_file_path": str(path), "append": True}
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT", json.dumps(transport))
    return lambda: [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def run(home: Home, *, fails: bool = False) -> runlog.RunLog:
    log = runlog.RunLog.start(home, "run", DAY, {})
    with log.closing():
        with log.step("build") as step:
            step.inputs, step.outputs = ["lake/orders"], ["build/customer_segments"]
        with log.step("publish") as step:
            if fails:
                raise InputError("the disk is full", todo="free some space")
            step.inputs, step.outputs = ["build/customer_segments"], ["published/customer_segments"]
    return log


def test_a_run_and_its_steps_are_told_with_what_they_read_and_wrote(events, tmp_path):
    run(Home(tmp_path / "home"))
    told = [(event["eventType"], event["job"]["name"]) for event in events()]
    assert told == [
        ("START", "run"),
        ("START", "run.build"), ("COMPLETE", "run.build"),
        ("START", "run.publish"), ("COMPLETE", "run.publish"),
        ("COMPLETE", "run"),
    ]  # fmt: skip
    built = events()[2]
    assert [one["name"] for one in built["inputs"]] == ["lake/orders"]
    assert [one["name"] for one in built["outputs"]] == ["build/customer_segments"]
    assert {one["namespace"] for one in [*built["inputs"], *built["outputs"], built["job"]]} == {"strataflow"}
    assert built["run"]["facets"]["nominalTime"]["nominalStartTime"] == "2017-12-31T00:00:00Z"
    started, *_, ended = events()
    assert started["run"]["runId"] == ended["run"]["runId"] == built["run"]["facets"]["parent"]["run"]["runId"]
    assert events()[1]["run"]["runId"] == built["run"]["runId"] != events()[3]["run"]["runId"]


def test_a_failure_is_told_with_its_words(events, tmp_path):
    with pytest.raises(InputError):
        run(Home(tmp_path / "home"), fails=True)
    failed = [event for event in events() if event["eventType"] == "FAIL"]
    assert [event["job"]["name"] for event in failed] == ["run.publish", "run"]
    assert {event["run"]["facets"]["errorMessage"]["message"] for event in failed} == {"the disk is full"}


def test_nothing_is_told_unless_a_client_is_configured(monkeypatch, events, tmp_path):
    monkeypatch.setenv("OPENLINEAGE_DISABLED", "true")
    assert not lineage.is_configured()
    run(Home(tmp_path / "home"))
    assert not (tmp_path / "events.jsonl").exists()
    monkeypatch.delenv("OPENLINEAGE_DISABLED")
    monkeypatch.delenv("OPENLINEAGE__TRANSPORT")
    assert not lineage.is_configured()
    (tmp_path / "openlineage.yml").write_text("transport: {type: console}")
    assert lineage.is_configured()


@pytest.mark.parametrize(
    "transport",
    [{"type": "http", "url": "http://127.0.0.1:9", "timeout": 1, "retry": {"total": 1}}, {"type": "no_such_transport"}],
)
def test_a_server_that_is_not_there_or_a_wrong_setting_is_named_once_and_the_run_goes_on(
    monkeypatch, caplog, tmp_path, transport
):
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT", json.dumps(transport))
    with caplog.at_level(logging.WARNING):
        log = run(Home(tmp_path / "home"))
    assert log.record["outcome"] == "ok"
    assert [one.name for one in caplog.records if not one.name.startswith("openlineage")] == ["strataflow.lineage"]


def test_the_log_keeps_what_a_step_read_and_wrote_whether_it_is_told_or_not(tmp_path):
    run(Home(tmp_path / "home"))
    (record,) = runlog.records(Home(tmp_path / "home"))
    assert [(step["inputs"], step["outputs"]) for step in record["steps"]] == [
        (["lake/orders"], ["build/customer_segments"]),
        (["build/customer_segments"], ["published/customer_segments"]),
    ]
