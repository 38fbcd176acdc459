"""The same day on DuckDB and on a real Spark cluster: equal tables, equal files, a worker lost on the way.

The cluster is a master and two workers, started here as processes of their own.
All builds but one share a session on it, as starting one takes longer than a
small build.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from datetime import UTC, date, datetime, timedelta
from datetime import time as time_of_day
from pathlib import Path

import duckdb
import pytest

from publishing import published_bytes
from strataflow.build import Build, _build_ledgers, build
from strataflow.dbt_call import environment
from strataflow.engines import chosen
from strataflow.engines.cluster import LocalCluster
from strataflow.errors import StepFailed, UsageError
from strataflow.generate import generate
from strataflow.home import Home
from strataflow.lake import received
from strataflow.landing import land
from strataflow.ledger import LEDGERS
from strataflow.project import Project
from strataflow.run import Deployment, Steps
from strataflow.runlog import RunLog
from strataflow.sources import Shop, load_sources
from strataflow.sqltext import quoted
from strataflow.tags.inbox import Statement, keep
from worlds import START, several_worlds, write_lake

PROJECT = Project.locate()
SHOP = Shop(name="corner", time_zone="UTC", currency="USD")
DAY = START + timedelta(days=35)
PACKAGE = Path(sys.modules["strataflow"].__file__).parents[1]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A cluster with a session that the builds of this process use; nothing may be left in the working directory."""
    from strataflow.engines.spark import open_session

    folder, working_directory = tmp_path_factory.mktemp("the spark"), tmp_path_factory.mktemp("elsewhere")
    with pytest.MonkeyPatch.context() as somewhere:
        somewhere.chdir(working_directory)
        with (
            LocalCluster(folder / "cluster") as cluster,
            environment({"SPARK_CONF_DIR": str(cluster.settings)}),
            open_session("tests", cluster.url, folder / "spark.log", folder / "warehouse"),
        ):
            yield cluster
    assert list(working_directory.iterdir()) == []


def differences(one: Path, other: Path, published: dict[str, dict]) -> dict[str, list[tuple]]:
    """Rows that are not the same in both builds, by table; doubles may differ by 1e-9, columns and types not at all."""
    found = {}
    with duckdb.connect() as connection:
        connection.execute(f"attach {quoted(str(one))} as one (read_only)")
        connection.execute(f"attach {quoted(str(other))} as other (read_only)")
        for table in tables(connection, "one") | tables(connection, "other"):
            columns = shape(connection, "one", table)
            if columns != shape(connection, "other", table):
                found[table] = [tuple(columns.items()), tuple(shape(connection, "other", table).items())]
            elif table in published:
                found[table] = unequal_by_key(connection, table, columns, published[table]["key"])
            else:
                found[table] = connection.execute(
                    f"(from one.{table} except all from other.{table}) union all "
                    f"(from other.{table} except all from one.{table}) limit 5"
                ).fetchall()
    return {table: rows for table, rows in found.items() if rows}


def tables(connection: duckdb.DuckDBPyConnection, database: str) -> set[str]:
    names = "select table_name from duckdb_tables() where database_name = ?"
    return {name for (name,) in connection.execute(names, [database]).fetchall()}


def shape(connection: duckdb.DuckDBPyConnection, database: str, table: str) -> dict[str, str]:
    columns = "select column_name, data_type from duckdb_columns() where database_name = ? and table_name = ?"
    return dict(connection.execute(f"{columns} order by column_index", [database, table]).fetchall())


def unequal_by_key(
    connection: duckdb.DuckDBPyConnection, table: str, columns: dict[str, str], key: list[str]
) -> list[tuple]:
    unequal = " or ".join(
        f"a.{name} is distinct from b.{name}"
        + (f" and coalesce(abs(a.{name} - b.{name}) > 1e-9, true)" if kind == "DOUBLE" else "")
        for name, kind in columns.items()
    )
    return connection.execute(
        f"select * from one.{table} as a full join other.{table} as b using ({', '.join(key)}) where {unequal} limit 5"
    ).fetchall()


def rows_in(database: Path, table: str) -> int:
    with duckdb.connect(str(database), read_only=True) as connection:
        return connection.execute(f"select count(*) from {table}").fetchone()[0]


def lake_of(home: Home, target: Path) -> Home:
    shutil.copytree(home.lake, target / "lake")
    return Home(target)


# ---------------------------------------------------------------- parity


def said_of_households(day: date) -> list[tuple[Statement, date]]:
    """Manual tags that are in force, outranked, against the data, taken back, with a value, and not understood."""
    noon = datetime.combine(day, time_of_day(17), UTC)
    texts = ("night owl", "早间活跃", "never bought", "region: Berlin", "客户首次", "Gr umpy", "grumpy")
    return [
        (Statement(str(household), text, "remove" if n % 5 == 4 else "add", f"colleague {n % 3}", noon), day)
        for household in range(1, 40)
        for n, text in enumerate(texts, household)
    ]


@pytest.mark.spark
@pytest.mark.usefixtures("cluster")
def test_complete_journey_is_published_as_the_same_bytes_whichever_engine_ran_on_which_day(tmp_path, monkeypatch):
    """DuckDB, then a day on Spark that carries on from what DuckDB kept, gate 2 included, then the other way round."""
    first, eve, day, morrow = (date(2017, 1, number) for number in (2, 7, 8, 9))
    sources = load_sources(PROJECT.sources / "complete_journey", PROJECT)

    def run(home: Home, day: date) -> Build:
        log = RunLog.start(home, "run", day, {})
        with log.closing():
            steps = Steps(Deployment(home, PROJECT, sources), log)
            made = steps.build(day)
            assert steps.check_built(made).passed
            steps.publish(made)
        return made

    embedded = Home(tmp_path / "embedded")
    keep(embedded, said_of_households(eve))
    land(embedded, PROJECT, sources, first, morrow)
    run(embedded, eve)
    switched = Home(tmp_path / "it's the other")
    shutil.copytree(embedded.root, switched.root, symlinks=True)
    expected = run(embedded, day)
    with monkeypatch.context() as deployment:
        deployment.setenv("STRATAFLOW_ENGINE", "spark")
        made = run(switched, day)

    published = expected.meta["published"]
    assert made.meta == expected.meta | {"engine": "spark"}
    assert made.meta["tables"]["customer_segments"] > 500
    assert len([name for name in published_bytes(switched) if name.endswith(".parquet")]) == 2 * len(published)
    assert published_bytes(switched) == published_bytes(embedded)
    assert differences(expected.path, made.path, published) == {}

    expected, made = run(embedded, morrow), run(switched, morrow)
    assert made.meta == expected.meta
    assert published_bytes(switched) == published_bytes(embedded)


@pytest.mark.spark
@pytest.mark.usefixtures("cluster")
def test_random_shops_have_the_same_ledgers(tmp_path):
    """Every kind of correction, late delivery and stranger; what follows from them reads the ledgers alone."""
    embedded = Home(tmp_path / "embedded")
    write_lake(embedded, PROJECT, several_worlds(12))
    spark = lake_of(embedded, tmp_path / "spark")
    for home, engine in ((embedded, "duckdb"), (spark, "spark")):
        _, computing = chosen(engine)
        with computing.ready(home, home.scratch):
            _build_ledgers(home, PROJECT, SHOP, computing, received(home, DAY))
    with duckdb.connect() as connection:
        for name in LEDGERS:
            one, other = (f"from '{home.state}/{name}/*.parquet'" for home in (embedded, spark))
            assert (
                connection.execute(f"({one} except all {other}) union all ({other} except all {one})").fetchall() == []
            )
        assert connection.execute(f"select count(*) from '{spark.state}/order_ledger/*.parquet'").fetchone()[0] > 200


@pytest.mark.spark
def test_a_generated_shop_with_a_churn_model_in_force_is_equal_row_by_row_although_a_worker_is_killed(
    cluster, tmp_path
):
    """Long enough for a model to be trained: its steps hang on the last digits of logarithms.

    A machine lost in the midst of the build costs time and no row.
    """
    generate(tmp_path / "shop", customers=1200, orders=9000, interactions=8000, days=230, level="lines", dirt=0)
    sources = load_sources(tmp_path / "shop" / "sources", PROJECT)
    first, day = date(2023, 1, 1), date(2023, 8, 18)
    embedded, spark = Home(tmp_path / "embedded"), Home(tmp_path / "spark")
    land(embedded, PROJECT, sources, first, day)
    lake_of(embedded, spark.root)
    expected = build(embedded, PROJECT, sources.shop, day, engine="duckdb")
    lost_at = []

    def lose_a_worker(_step: str, done: int, total: int) -> None:
        if not lost_at and done > total // 3:
            lost_at.append(done)
            cluster.kill_worker(1)

    try:
        made = build(spark, PROJECT, sources.shop, day, engine="spark", progress=lose_a_worker)
    except StepFailed:  # a clean failure: nothing was moved into place, and running again is the repair
        assert not (spark.builds / str(day)).exists()
        made = build(spark, PROJECT, sources.shop, day, engine="spark")

    assert lost_at
    assert expected.meta["model_card"]["used"] != "baseline"
    assert made.meta == expected.meta | {"engine": "spark"}
    assert differences(expected.path, made.path, expected.meta["published"]) == {}
    assert rows_in(made.path, "int_category_ledger") > 5000
    assert not list(spark.scratch.iterdir())


# ---------------------------------------------------------------- the engine as a setting


def test_the_engine_is_a_setting_of_the_deployment(monkeypatch):
    monkeypatch.delenv("STRATAFLOW_ENGINE", raising=False)
    assert chosen()[0] == "duckdb"
    monkeypatch.setenv("STRATAFLOW_ENGINE", "spark")
    assert chosen()[0] == "spark"
    assert chosen("duckdb")[0] == "duckdb"
    monkeypatch.setenv("STRATAFLOW_ENGINE", "abacus")
    with pytest.raises(UsageError, match=r"no engine 'abacus'(?s:.*)STRATAFLOW_ENGINE(?s:.*)duckdb, spark"):
        chosen()


@pytest.mark.parametrize("package", ["pyspark", "dbt.adapters.spark"])
def test_without_its_packages_the_message_says_what_to_install(monkeypatch, tmp_path, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UsageError, match=r"not installed(?s:.*)requirements-spark"), LocalCluster(tmp_path / "cluster"):
        pass


def test_without_java_the_message_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match=r"no java(?s:.*)openjdk-17"), LocalCluster(tmp_path / "cluster"):
        pass


@pytest.mark.spark
def test_a_master_that_does_not_answer_is_named(tmp_path):
    from strataflow.engines.spark import open_session

    with (
        pytest.raises(StepFailed, match=r"no Spark master answers at spark://127\.0\.0\.1:1\b"),
        open_session("nobody", "spark://127.0.0.1:1", tmp_path / "spark.log", tmp_path / "warehouse"),
    ):
        pass


# ---------------------------------------------------------------- the cluster on this machine


def servers(folder: Path) -> list[int]:
    """Processes with ``folder`` on their command line, by their ids."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_text()
        except OSError:  # it has ended meanwhile
            continue
        if str(folder) in command and "spark.deploy" in command:
            found.append(int(process.name))
    return found


def gone(folder: Path) -> bool:
    deadline = time.monotonic() + 20
    while servers(folder) and time.monotonic() < deadline:
        time.sleep(0.1)
    return not servers(folder)


@pytest.mark.spark
def test_a_program_that_is_killed_leaves_no_cluster_behind(tmp_path):
    program = (
        "import sys, time; from pathlib import Path; from strataflow.engines.cluster import LocalCluster\n"
        "with LocalCluster(Path(sys.argv[1]), workers=1) as cluster: print(cluster.url, flush=True); time.sleep(600)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "cluster")],
        env=os.environ | {"PYTHONPATH": str(PACKAGE)},
        stdout=subprocess.PIPE,
        text=True,
    ) as started:
        try:
            assert started.stdout.readline().startswith("spark://127.0.0.1:")
            assert len(servers(tmp_path)) >= 2
        finally:
            started.send_signal(signal.SIGKILL)
    assert gone(tmp_path)
    secret = tmp_path / "cluster" / "conf" / "spark-defaults.conf"
    assert secret.stat().st_mode & 0o077 == 0
