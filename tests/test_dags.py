"""The DAG files as Airflow reads them: what every DAG must have, and how the three hang together."""

import os
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from publishing import make_build
from strataflow.errors import Busy, GateFailed, InputError, UsageError
from strataflow.home import Home
from strataflow.project import Project
from strataflow.publish import publish
from strataflow.run import Deployment
from strataflow.sources import load_sources
from strataflow.tags.inbox import Statement, keep

PROJECT = Path(__file__).parents[1]
PRODUCERS = {"ingest_orders": "lake_orders", "ingest_interactions": "lake_interactions"}
PUBLISHED = {
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
}
WRITERS = {
    "ingest_orders": {"land"},
    "ingest_interactions": {"land"},
    "segment_customers": {"build", "publish", "publish_to_postgres", "report"},
}


@pytest.fixture(scope="module")
def airflow_settings(tmp_path_factory):
    """Airflow's settings are read when it is first imported, so they are put in place before that."""
    home = tmp_path_factory.mktemp("airflow")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_HOME", str(home))
        patch.setenv("AIRFLOW__CORE__LOAD_EXAMPLES", "False")
        patch.setenv("AIRFLOW__USAGE_DATA_COLLECTION__ENABLED", "False")
        patch.setenv("STRATAFLOW_SOURCES", str(PROJECT / "scripts" / "sources" / "complete_journey"))
        patch.setenv("STRATAFLOW_POSTGRES_DSN", "postgresql://127.0.0.1/shop")
        patch.setenv("STRATAFLOW_TARGETS", str(home / "targets.yml"))
        yield


@pytest.fixture(scope="module")
def bag(airflow_settings):
    """The DAGs of a deployment that names a database and targets."""
    from airflow.dag_processing.dagbag import DagBag

    return DagBag(dag_folder=PROJECT / "dags")


@pytest.fixture(scope="module")
def orchestration(airflow_settings):
    from strataflow import orchestration

    return orchestration


@pytest.fixture(params=sorted(WRITERS))
def dag(request, bag):
    return bag.dags[request.param]


def run_context(key=None, **params):
    return {"dag_run": SimpleNamespace(partition_key=key, run_id="r"), "params": {"date": None, **params}}


def test_the_files_hold_three_dags_and_no_error(bag):
    assert bag.import_errors == {}
    assert set(bag.dags) == set(WRITERS)


def test_every_dag_says_what_it_is(dag):
    assert "strataflow" in dag.tags
    assert dag.description
    assert dag.dag_display_name != dag.dag_id
    for words in ("Runs", "Partition key", "Reads", "Writes", "Hands on", "When it fails"):
        assert f"**{words}" in dag.doc_md


def test_every_dag_takes_one_or_three_days_at_a_time_and_makes_up_for_none_by_itself(dag):
    assert dag.catchup is False
    assert dag.max_active_runs == (3 if dag.dag_id == "segment_customers" else 1)
    assert dag.start_date is None


def test_a_deployment_may_work_on_several_days_at_once(orchestration, monkeypatch):
    monkeypatch.setenv("STRATAFLOW_DAYS_AT_ONCE", "1")
    assert orchestration.days_at_once() == 1
    monkeypatch.setenv("STRATAFLOW_DAYS_AT_ONCE", "")
    assert orchestration.days_at_once() == 3
    for written in ("0", "-1", "two", "1.5"):
        monkeypatch.setenv("STRATAFLOW_DAYS_AT_ONCE", written)
        with pytest.raises(UsageError, match="no number of days"):
            orchestration.days_at_once()


def test_every_dag_raises_an_alert_when_it_is_late(dag):
    (alert,) = dag.deadline
    assert alert.interval == timedelta(minutes=180)
    assert alert.callback.path == "strataflow.alerts.day_late"


def test_every_task_is_owned_documented_retried_with_backoff_and_raises_an_alert(dag, orchestration):
    for task in dag.tasks:
        assert task.owner == orchestration.OWNER
        assert task.doc_md
        assert task.task_display_name != task.task_id
        assert task.retries == 3
        assert task.retry_exponential_backoff
        assert task.retry_delay < task.max_retry_delay
        assert task.execution_timeout
        assert [callback.__name__ for callback in task.on_failure_callback] == ["task_failed"]


def test_tasks_that_write_share_the_one_slot_pool(dag, orchestration):
    in_pool = {task.task_id for task in dag.tasks if task.pool == orchestration.WRITER_POOL}
    assert in_pool == WRITERS[dag.dag_id]


def test_tasks_follow_one_another(bag):
    def order(dag_id):
        return [task.task_id for task in bag.dags[dag_id].topological_sort()]

    assert order("ingest_orders") == order("ingest_interactions") == ["land", "check"]
    after = {task.task_id: task.downstream_task_ids for task in bag.dags["segment_customers"].tasks}
    assert after == {
        "build": {"check"},
        "check": {"publish"},
        "publish": {"publish_to_postgres", "deliver", "report"},
        "publish_to_postgres": set(),
        "deliver": set(),
        "report": {"publish_to_postgres", "summarise"},
        "summarise": set(),
    }


def test_without_a_database_and_targets_no_task_is_there_for_them(airflow_settings, monkeypatch):
    from airflow.dag_processing.dagbag import DagBag

    monkeypatch.delenv("STRATAFLOW_POSTGRES_DSN")
    monkeypatch.setenv("STRATAFLOW_TARGETS", "")
    found = DagBag(dag_folder=PROJECT / "dags" / "segment_customers.py").dags["segment_customers"]
    assert [task.task_id for task in found.topological_sort()] == ["build", "check", "publish", "report", "summarise"]


def test_a_day_by_hand_can_be_given(dag):
    assert "date" in dag.params
    assert ("since" in dag.params) == (dag.dag_id in PRODUCERS)
    dag.params.validate()
    dag.params["date"] = "2017-12-31"
    with pytest.raises(Exception, match="date"):
        dag.params["date"] = "31.12.2017"


@pytest.mark.parametrize(("dag_id", "asset"), PRODUCERS.items())
def test_a_producer_hands_on_its_partition_only_after_gate_1(bag, dag_id, asset):
    outlets = {task.task_id: [outlet.name for outlet in task.outlets] for task in bag.dags[dag_id].tasks}
    assert outlets == {"land": [], "check": [asset]}


def test_the_consumer_waits_for_both_partitions_and_hands_on_the_published_tables(bag):
    consumer = bag.dags["segment_customers"]
    condition = consumer.timetable.asset_condition
    assert type(condition).__name__ == "AssetAll"
    assert {asset.name for asset in condition.objects} == set(PRODUCERS.values())
    handed_on = {task.task_id: {outlet.name for outlet in task.outlets} for task in consumer.tasks if task.outlets}
    assert handed_on == {"publish": PUBLISHED}


def test_a_nightly_run_is_for_the_day_that_has_just_ended_where_the_shop_is(orchestration, monkeypatch, tmp_path):
    from airflow.serialization.decoders import decode_timetable
    from airflow.serialization.encoders import encode_timetable

    (tmp_path / "shop.yml").write_text("{name: s, time_zone: Asia/Shanghai, currency: CNY}")
    monkeypatch.setenv("STRATAFLOW_SOURCES", str(tmp_path))
    monkeypatch.setenv("STRATAFLOW_DAILY_AT", "03:30")
    timetable = decode_timetable(encode_timetable(orchestration.nightly()))
    infos = list(
        timetable.iter_partition_dagrun_infos(
            earliest=datetime(2024, 2, 28, tzinfo=UTC), latest=datetime(2024, 3, 1, 23, 59, tzinfo=UTC)
        )
    )
    assert [info.partition_key for info in infos] == ["2024-02-28", "2024-02-29", "2024-03-01"]
    _, key = timetable._get_partition_info(run_date=infos[1].run_after)
    assert infos[1].run_after.in_timezone("Asia/Shanghai").strftime("%d %H:%M") == "29 03:30"
    assert key == "2024-02-28"


@pytest.mark.parametrize("at", ["25:00", "2am", ""])
def test_a_start_that_is_no_time_is_refused(orchestration, monkeypatch, at):
    monkeypatch.setenv("STRATAFLOW_DAILY_AT", at)
    with pytest.raises(UsageError, match="HH:MM"):
        orchestration.nightly()


def test_scheduling_ends_with_the_last_day(orchestration, monkeypatch):
    assert orchestration.last_day() is None
    monkeypatch.setenv("STRATAFLOW_LAST_DAY", "2017-12-31")
    assert orchestration.last_day().isoformat() == "2018-01-01T00:00:00-05:00"


def test_a_shop_whose_time_zone_is_wrong_is_named(orchestration, monkeypatch, tmp_path):
    monkeypatch.setenv("STRATAFLOW_SOURCES", str(tmp_path))
    with pytest.raises(UsageError, match=r"shop\.yml"):
        orchestration.shop_time_zone()
    (tmp_path / "shop.yml").write_text("time_zone: Mars/Base")
    with pytest.raises(UsageError, match="IANA"):
        orchestration.shop_time_zone()
    monkeypatch.delenv("STRATAFLOW_SOURCES")
    with pytest.raises(UsageError, match="STRATAFLOW_SOURCES"):
        orchestration.shop_time_zone()


def test_the_day_is_the_partition_key_or_the_parameter(orchestration):
    assert orchestration.day_of(run_context("2017-12-31")) == date(2017, 12, 31)
    assert orchestration.day_of(run_context(date="2017-12-30")) == date(2017, 12, 30)
    assert orchestration.day_of(run_context("2017-12-31", date="2017-12-31")) == date(2017, 12, 31)


@pytest.mark.parametrize("context", [run_context(), run_context("2017-12-31", date="2017-12-30"), run_context("today")])
def test_a_run_without_one_clear_day_is_refused(orchestration, context):
    with pytest.raises(UsageError):
        orchestration.day_of(context)


def test_what_was_typed_on_the_command_line_is_landed_with_the_orders(orchestration, tmp_path):
    at = Deployment(
        Home(tmp_path / "home"), Project(PROJECT), load_sources(PROJECT / "scripts/sources/complete_journey")
    )
    said = Statement("1", "night owl", "add", "li", datetime(2017, 12, 31, tzinfo=UTC))
    before = {source.name for source in orchestration._feeding(at, "orders")}
    keep(at.home, [(said, date(2017, 12, 31))])
    assert {source.name for source in orchestration._feeding(at, "orders")} == before | {"command_line_tags"}
    assert "command_line_tags" not in {source.name for source in orchestration._feeding(at, "interactions")}


def test_since_starts_a_bulk_landing(orchestration):
    assert orchestration.since_of(run_context("2017-12-31")) == date(2017, 12, 31)
    assert orchestration.since_of(run_context("2017-12-31", since="2017-01-01")) == date(2017, 1, 1)
    with pytest.raises(UsageError, match="after"):
        orchestration.since_of(run_context("2017-12-31", since="2018-01-01"))


@pytest.mark.parametrize(
    ("fault", "action"),
    [
        (GateFailed("no"), "fail"),
        (UsageError("no"), "fail"),
        (InputError("not delivered yet"), "default"),
        (Busy("another run is writing"), "default"),
        (OSError("disk"), "default"),
    ],
)
def test_only_what_may_mend_itself_is_tried_again(orchestration, fault, action):
    policy = orchestration.task_defaults()["retry_policy"]
    assert policy.evaluate(fault, 1, 3).action.value == action


def test_reading_the_dag_files_imports_nothing_heavy(bag):
    """A DAG file is read again for every task, so what it imports is paid each time."""
    import subprocess
    import sys

    code = (
        "import sys, runpy\n"
        "for name in ('ingest_orders', 'ingest_interactions', 'segment_customers'):\n"
        f"    runpy.run_path(f'{PROJECT / 'dags'}/{{name}}.py')\n"
        "heavy = {'dbt', 'great_expectations', 'duckdb', 'pandas', 'pyarrow'} & set(sys.modules)\n"
        "print(sorted(heavy))"
    )
    said = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(PROJECT / "scripts")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.strip().endswith("[]")


def test_others_are_told_where_targets_are_set_and_a_worker_without_them_says_so(orchestration, tmp_path, monkeypatch):
    home = Home(tmp_path / "home")
    publish(home, make_build(home, date(2024, 1, 1), customers=3))
    monkeypatch.setenv("STRATAFLOW_HOME", str(home.root))
    monkeypatch.delenv("STRATAFLOW_TARGETS", raising=False)
    with pytest.raises(UsageError, match="nobody is named to be told\n  where: STRATAFLOW_TARGETS"):
        orchestration.deliver(run_context("2024-01-01"))
    file = tmp_path / "targets.yml"
    file.write_text("targets: {mailing: {folder: handed, columns: [monetary]}}\n", encoding="utf-8")
    monkeypatch.setenv("STRATAFLOW_TARGETS", str(file))
    (told,) = orchestration.deliver(run_context("2024-01-01"))["targets"]
    assert (told["outcome"], told["changes"]["entered"]) == ("handed_over", 3)
