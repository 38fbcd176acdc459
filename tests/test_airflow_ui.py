"""The report and the Data Docs in Airflow's interface: for whoever is logged in, and nothing beside them."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from fastapi import HTTPException
from fastapi.testclient import TestClient

from strataflow.airflow_ui import PREFIX, OnFirstRequest, StrataflowPlugin, application, page

PROJECT = Path(__file__).parents[1]


@pytest.fixture
def home(tmp_path, monkeypatch):
    home = tmp_path / "home"
    for file, text in (
        ("published/reports/1/index.html", "<h1>the report</h1>"),
        ("data_docs/index.html", "<h1>all gates</h1>"),
        ("data_docs/built/2017-12-31.html", "<h1>gate 2</h1>"),
        ("state/secret.txt", "not for the web"),
    ):
        (home / file).parent.mkdir(parents=True, exist_ok=True)
        (home / file).write_text(text, encoding="utf-8")
    (home / "published" / "report").symlink_to("reports/1")
    (home / "data_docs" / "way_out").symlink_to("../state")
    monkeypatch.setenv("STRATAFLOW_HOME", str(home))
    return home


@pytest.fixture
def client(home):
    """A browser whose user may read the DAG."""
    return TestClient(application(lambda: None))


def test_the_pages_are_shown_as_they_are(client):
    assert client.get("/report/").text == "<h1>the report</h1>"
    assert client.get("/quality/").text == "<h1>all gates</h1>"
    found = client.get("/quality/built/2017-12-31.html")
    assert found.text == "<h1>gate 2</h1>"
    assert found.headers["content-type"].startswith("text/html")


def test_the_report_is_the_one_that_was_published_last(client, home):
    (home / "published" / "reports" / "2").mkdir()
    (home / "published" / "reports" / "2" / "index.html").write_text("<h1>the next</h1>", encoding="utf-8")
    (home / "published" / "report").unlink()
    (home / "published" / "report").symlink_to("reports/2")
    assert client.get("/report/").text == "<h1>the next</h1>"


def test_pages_can_not_act_for_the_person_who_is_logged_in(client):
    assert "sandbox" in client.get("/report/").headers["content-security-policy"]
    assert "default-src 'none'" in client.get("/quality/").headers["content-security-policy"]


@pytest.mark.parametrize(
    "path", ["../state/secret.txt", "%2e%2e/state/secret.txt", "way_out/secret.txt", "//etc/passwd", "built", "nothing"]
)
def test_nothing_beside_the_pages_is_handed_out(client, home, path):
    assert client.get(f"/quality/{path}").status_code == 404
    assert page("quality", path) is None


def test_who_may_not_read_the_dag_sees_nothing(home):
    def refused():
        raise HTTPException(403)

    assert TestClient(application(refused)).get("/report/").status_code == 403


def test_who_is_not_logged_in_to_airflow_is_turned_away(home, monkeypatch):
    monkeypatch.setenv("AIRFLOW_HOME", str(home / "airflow"))
    client = TestClient(application())
    for path in ("/report/", "/quality/", "/quality/built/2017-12-31.html"):
        assert client.get(path).status_code == 401


def test_airflow_finds_the_plugin_and_both_entries_of_the_menu_lead_to_pages(client):
    with (PROJECT / "pyproject.toml").open("rb") as file:
        (entry,) = tomllib.load(file)["project"]["entry-points"]["airflow.plugins"].values()
    assert entry == f"{StrataflowPlugin.__module__}:{StrataflowPlugin.__name__}"
    (app,) = StrataflowPlugin.fastapi_apps
    assert app["url_prefix"] == PREFIX
    assert len({view["url_route"] for view in StrataflowPlugin.external_views}) == 2
    for view in StrataflowPlugin.external_views:
        assert client.get(view["href"].removeprefix(PREFIX)).status_code == 200


def test_the_application_is_made_when_it_is_first_asked(home):
    made = []
    lazy = OnFirstRequest(lambda: made.append(1) or application(lambda: None))
    assert made == []
    client = TestClient(lazy)
    assert client.get("/report/").status_code == client.get("/quality/").status_code == 200
    assert made == [1]
