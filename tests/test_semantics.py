"""What analysts are handed: metrics that a metrics engine can work out, queries that run, a catalogue that is true."""

from __future__ import annotations

import csv
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import duckdb
import psycopg
import pytest
import yaml

from publishing import pass_gate
from strataflow import postgres
from strataflow.build import Build, build
from strataflow.catalogue import catalogue
from strataflow.dbt_call import manifest
from strataflow.home import Home
from strataflow.project import Project
from strataflow.publish import current_version, publish
from strataflow.report.facts import headline
from strataflow.sources import Shop
from worlds import START, several_worlds, write_lake

PROJECT = Project.locate()
DOCS = PROJECT.root / "docs"
DAY = START + timedelta(days=58)


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Home:
    """A home with a published day of a few dozen customers with every kind of order and interaction."""
    home = Home(tmp_path_factory.mktemp("semantics") / "home")
    write_lake(home, PROJECT, several_worlds(12))
    made = build(home, PROJECT, Shop(name="corner", time_zone="UTC", currency="USD"), DAY)
    pass_gate(home, DAY, made.meta["build_id"])
    publish(home, made)
    return home


@pytest.fixture(scope="module")
def version(home) -> Path:
    return current_version(home)


@pytest.fixture(scope="module")
def database(home, server):
    """Address of a real PostgreSQL with the same day."""
    postgres.follow(home, server, layout=postgres.layout_of("cookbook"))
    return server


# ---------------------------------------------------------------- metrics


def asked(version: Path, folder: Path, metrics: list[str], group_by: str) -> dict[str, dict[str, str]]:
    """What MetricFlow answers from the published database: group -> metric -> value as text."""
    shutil.copytree(PROJECT.dbt, folder / "dbt_project", ignore=shutil.ignore_patterns("target", "logs"))
    shutil.copyfile(version / "current.duckdb", folder / "current.duckdb")
    programs = Path(sys.executable).parent
    environment = {
        "PATH": f"{programs}:{os.environ['PATH']}", "HOME": str(folder), "DBT_PROFILES_DIR": ".",
        "STRATAFLOW_BUILD_DB": str(folder / "current.duckdb"), "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
    }  # fmt: skip
    query = ["query", "--metrics", ",".join(metrics), "--group-by", group_by, "--csv", str(folder / "answer.csv")]
    for call in ([programs / "dbt", "--quiet", "parse"], [programs / "mf", *query]):
        done = subprocess.run(
            call, cwd=folder / "dbt_project", env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    with (folder / "answer.csv").open(encoding="utf-8", newline="") as file:
        return {row.pop(group_by): row for row in csv.DictReader(file)}


def test_a_metrics_engine_gives_the_numbers_of_the_report(version, tmp_path):
    metrics = [
        "customers", "buyers", "orders", "revenue", "lifetime_revenue", "average_order_value", "revenue_per_buyer",
        "orders_per_buyer", "ever_bought", "bought_again", "repeat_rate", "active_customers", "silent_customers",
        "churned_customers", "active_share", "revenue_at_risk", "expected_leavers", "customers_rated",
        "mean_churn_probability",
    ]  # fmt: skip
    answer = asked(version, tmp_path, metrics, "customer__rfm_class")

    with duckdb.connect(str(version / "current.duckdb"), read_only=True) as connection:
        classes = [
            name for (name,) in connection.execute("select distinct rfm_class from customer_segments").fetchall()
        ]
        assert set(answer) == set(classes)
        assert len(classes) > 4
        for name in classes:
            told = answer[name]
            part = f"(select * from customer_segments where rfm_class = '{name}')"
            page = headline(connection, part)
            more = connection.execute(
                "select sum(lifetime_value), count(*) filter (activity_stage in ('new', 'active')),"
                " count(*) filter (activity_stage = 'silent'), count(*) filter (activity_stage = 'churned'),"
                f" sum(churn_probability * monetary), sum(churn_probability), count(churn_probability) from {part}"
            ).fetchone()
            expected = {
                "customers": page.customers, "buyers": page.buyers, "orders": page.orders, "revenue": page.revenue,
                "ever_bought": page.ever_bought, "bought_again": page.bought_again, "lifetime_revenue": more[0],
                "active_customers": more[1], "silent_customers": more[2], "churned_customers": more[3],
                "revenue_at_risk": more[4], "expected_leavers": more[5], "customers_rated": more[6],
                "average_order_value": _ratio(page.revenue, page.orders),
                "revenue_per_buyer": _ratio(page.revenue, page.buyers),
                "orders_per_buyer": _ratio(page.orders, page.buyers),
                "repeat_rate": _ratio(page.bought_again, page.ever_bought),
                "active_share": _ratio(more[1], page.customers),
                "mean_churn_probability": _ratio(more[5], more[6]),
            }  # fmt: skip
            for metric, value in expected.items():
                got = float(told[metric]) if told[metric] else None
                assert got == (None if value is None else pytest.approx(float(value))), (name, metric)


def _ratio(part: Decimal | float | None, whole: Decimal | float) -> float | None:
    return float(part) / float(whole) if whole and part is not None else None


# ---------------------------------------------------------------- cookbook


def cookbook() -> dict[str, str]:
    """The numbered questions and their SQL."""
    sections = re.split(r"^## ", (DOCS / "cookbook.md").read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    found = {}
    for section in sections:
        if section[0].isdigit():
            (sql,) = re.findall(r"```sql\n(.*?)```", section, flags=re.DOTALL)
            found[section.splitlines()[0]] = sql.strip().rstrip(";")
    return found


def test_days_side_by_side_in_postgres_are_those_of_the_files(version, database):
    told = (DOCS / "cookbook.md").read_text(encoding="utf-8").partition("In PostgreSQL, of the days")[2]
    sql = re.search(r"```sql\n(.+?)```", told, re.DOTALL)[1]
    with psycopg.connect(database) as connection:
        found = connection.execute(sql.replace("strataflow_history.", "cookbook_history.")).fetchall()
    with duckdb.connect(str(version / "current.duckdb"), read_only=True) as connection:
        counted = connection.execute("select as_of_date, rfm_class, count(*) from customer_segments group by all")
        assert found == sorted(counted.fetchall())


def test_the_cookbook_has_ten_questions():
    assert [question.partition(".")[0] for question in cookbook()] == [str(number) for number in range(1, 11)]


@pytest.mark.parametrize("question", cookbook())
def test_every_question_of_the_cookbook_has_one_answer_in_both_databases(version, database, question):
    with duckdb.connect(str(version / "current.duckdb"), read_only=True) as connection:
        answer = connection.execute(cookbook()[question]).fetchall()
    with psycopg.connect(database, options="-c search_path=cookbook") as connection:
        assert _plain(connection.execute(cookbook()[question]).fetchall()) == _plain(answer)
    assert answer


def _plain(rows: list[tuple]) -> list[tuple]:
    """Numbers as numbers, whichever type a database gave them."""
    return [tuple(float(value) if isinstance(value, Decimal | float) else value for value in row) for row in rows]


# ---------------------------------------------------------------- descriptions

# Filled in by landing as the name of the folder a file lies in.
PARTITION = "received_date"
# Words that any column may be told with, such as "English name.".
SHORT = 4


def test_every_column_that_exists_is_described_and_every_described_one_exists(home):
    told = manifest(home, "duckdb")["nodes"].values()
    described = {
        node["name"]: {name: column["description"] for name, column in node["columns"].items()}
        for node in told
        if node["resource_type"] in {"model", "seed", "snapshot"}
    }
    with duckdb.connect(str(Build.load(home, DAY).path), read_only=True) as connection:
        found = connection.execute("select table_name, list(column_name) from duckdb_columns() group by 1").fetchall()
    existing = {table: set(columns) for table, columns in found if table in described}

    assert {name: set(columns) for name, columns in described.items()} == existing
    sloppy = {
        f"{name}.{column}": text
        for name, columns in described.items()
        for column, text in columns.items()
        if not text.endswith(".") or len(text.split()) < 2 or "{{" in text
    }
    assert sloppy == {}


def test_every_column_of_the_lake_is_described(home):
    landed = [folder.name for folder in home.lake.iterdir()]
    assert len(landed) > 3
    for source in manifest(home, "duckdb")["sources"].values():
        told = {name: column["description"] for name, column in source["columns"].items()}
        assert all(told.values()), source["name"]
        if source["name"] in landed:
            files = home.lake / source["name"] / "*" / "*.parquet"
            existing = duckdb.sql(f"select * from read_parquet('{files}', hive_partitioning = true) limit 0").columns
            assert set(told) == set(existing) - {PARTITION}, source["name"]


def test_what_a_column_means_is_written_once():
    """A meaning that several models share is a YAML anchor within its file, or a block of ``_columns.md``."""
    blocks = re.findall(
        r"{% docs (\w+?)(?:__\w+)? %}\n(.*?)\n{% enddocs %}",
        (PROJECT.dbt / "models" / "_columns.md").read_text("utf-8"),
    )
    assert len(blocks) > 100
    written = Counter(blocks)
    for path in sorted(PROJECT.dbt.glob("*/**/_*.yml")):
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        nodes = [*content.get("models", ()), *content.get("seeds", ())]
        columns = [column for node in nodes for column in node.get("columns", ()) if "data_tests" not in column]
        told_once = {id(column): column for column in columns}.values()  # what an anchor names is one object
        written.update((column["name"], column["description"]) for column in told_once)
    again = [
        (name, text)
        for (name, text), times in written.items()
        if times > 1 and len(text.split()) > SHORT and "{{" not in text
    ]
    assert again == []


# ---------------------------------------------------------------- catalogue


def test_the_committed_catalogue_is_that_of_the_project():
    written = (DOCS / "catalogue.md").read_text(encoding="utf-8")
    assert written == catalogue(PROJECT), "make it again: strataflow catalogue --output docs/catalogue.md"


def test_every_metric_is_described_in_both_languages():
    page = (DOCS / "catalogue.md").read_text(encoding="utf-8").partition("## Metrics")[2]
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \| (.*?) \| (.*?) \|$", page, flags=re.MULTILINE)
    assert len(rows) >= 20
    for name, label, chinese, definition in rows:
        assert label, name
        assert definition.endswith("."), name
        assert re.search(r"[\u4e00-\u9fff]", chinese), name
