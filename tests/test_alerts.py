"""Alerts reach the file, and an address where one is set; a dead address hides nothing."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace

import pytest

from strataflow import alerts
from strataflow.errors import InputError

FAULT = InputError("the file is truncated", where="orders/2024-01-03.csv.gz")


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("STRATAFLOW_HOME", str(tmp_path))
    monkeypatch.delenv(alerts.ALERT_URL, raising=False)
    return tmp_path


@pytest.fixture
def receiver():
    """A real HTTP server that keeps what is posted to it."""
    received = []

    class Keep(BaseHTTPRequestHandler):
        def do_POST(self):
            received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Keep)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield SimpleNamespace(url=f"http://127.0.0.1:{server.server_port}/hook", received=received)
    server.shutdown()
    server.server_close()


def failed_task(day="2024-01-03"):
    return {
        "task_instance": SimpleNamespace(
            dag_id="ingest_orders", task_id="land", try_number=4, run_id="r1", log_url="http://airflow/log"
        ),
        "dag_run": SimpleNamespace(partition_key=day),
        "params": {"date": None},
        "exception": FAULT,
    }


def kept(home):
    return [json.loads(line) for line in (home / "alerts.jsonl").read_text().splitlines()]


def test_a_failed_task_is_kept_with_day_file_and_cause(home):
    alerts.task_failed(failed_task())
    (alert,) = kept(home)
    assert (alert["kind"], alert["dag"], alert["task"], alert["day"]) == (
        "task_failed",
        "ingest_orders",
        "land",
        "2024-01-03",
    )
    assert alert["error"] == "InputError"
    assert "truncated" in alert["text"]
    assert "orders/2024-01-03.csv.gz" in alert["text"]
    assert alert["log"] == "http://airflow/log"


def test_a_late_day_is_kept(home):
    alerts.day_late({"dag_run": {"dag_id": "segment_customers", "partition_key": "2024-01-03"}}, minutes=180)
    (alert,) = kept(home)
    assert (alert["kind"], alert["day"]) == ("day_late", "2024-01-03")
    assert "180 minutes" in alert["text"]


def test_alerts_are_posted_where_an_address_is_set(home, receiver, monkeypatch):
    monkeypatch.setenv(alerts.ALERT_URL, receiver.url)
    alerts.task_failed(failed_task())
    alerts.task_failed(failed_task("2024-01-04"))
    assert receiver.received == kept(home)
    assert [alert["day"] for alert in receiver.received] == ["2024-01-03", "2024-01-04"]


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/nobody", "file:///etc/passwd", "nonsense"])
def test_an_address_that_does_not_answer_is_logged_and_hides_nothing(home, monkeypatch, caplog, url):
    monkeypatch.setenv(alerts.ALERT_URL, url)
    alerts.task_failed(failed_task())
    assert len(kept(home)) == 1
    assert alerts.ALERT_URL in caplog.text
