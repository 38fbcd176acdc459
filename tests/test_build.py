"""Whole builds through dbt: replay, kept ledgers, edited rules, kills, and errors that name the model."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path

import duckdb
import pytest

from strataflow.build import Build, build, build_models, fingerprint
from strataflow.errors import InputError, StepFailed, UsageError
from strataflow.home import Home
from strataflow.project import Project
from strataflow.sources import Shop
from worlds import START, World, random_world, write_lake

SHOP = Shop(name="corner", time_zone="UTC", currency="USD")
DAY = START + timedelta(days=35)
ORDER = {
    "customer_segments": "customer_id",
    "customer_tags": "customer_id, tag_id",
    "manual_tag_outcomes": "received_date, source_name, source_file, source_line",
    "tag_review_queue": "word",
    "tag_conflicts": "customer_id, tag_id, source",
    "customer_explanations": "customer_id",
    "churn_risk": "customer_id",
    "contact_list": "customer_id",
    "contact_suppressed": "customer_id",
    "rfm_cutoffs": "measure",
}


@pytest.fixture
def world():
    return random_world(11)


@pytest.fixture
def home(tmp_path, world):
    home = Home(tmp_path / "home")
    write_lake(home, Project.locate(), world)
    return home


@pytest.fixture(scope="module")
def after_a_build(tmp_path_factory):
    """A home in which DAY was built, for the tests that begin there; only copies of it are changed."""
    home = Home(tmp_path_factory.mktemp("after-a-build") / "home")
    write_lake(home, Project.locate(), random_world(11))
    build(home, Project.locate(), SHOP, DAY)
    return home


@pytest.fixture
def first(after_a_build):
    """What a build of DAY from nothing holds."""
    return contents(Build.load(after_a_build, DAY))


@pytest.fixture
def built(after_a_build, tmp_path):
    """A copy of the home in which DAY was built."""
    shutil.copytree(after_a_build.root, tmp_path / "built")
    return Home(tmp_path / "built")


@pytest.fixture
def own_project(tmp_path):
    """A copy of the rules that a test may edit."""
    root = tmp_path / "project"
    shutil.copytree(Project.locate().dbt, root / "dbt_project", ignore=shutil.ignore_patterns("target", "logs"))
    (root / "expectations").mkdir()
    return Project(root)


def contents(made: Build) -> dict[str, list[tuple]]:
    with duckdb.connect(str(made.path), read_only=True) as connection:
        return {table: connection.execute(f"from {table} order by {key}").fetchall() for table, key in ORDER.items()}


def state(home: Home) -> dict:
    return json.loads((home.state / "ledgers.json").read_text())


def test_days_in_any_order_equal_a_build_from_nothing(built, first, tmp_path):
    home, project = built, Project.locate()
    later = contents(build(home, project, SHOP, DAY + timedelta(days=5)))
    again = contents(build(home, project, SHOP, DAY))

    fresh = Home(tmp_path / "fresh")
    shutil.copytree(home.lake, fresh.lake)
    assert contents(build(fresh, project, SHOP, DAY + timedelta(days=5))) == later
    assert again == first
    assert [segment[:2] for segment in state(home)["segments"]] == [
        [str(min(days(home))), str(DAY)], [str(DAY + timedelta(days=1)), str(DAY + timedelta(days=5))],
    ]  # fmt: skip


def days(home: Home) -> list[date]:
    return [date.fromisoformat(path.stem) for path in home.landings.glob("*/*.json")]


def test_a_day_landed_again_with_other_content_is_worked_through_from_that_day_on(built, world, tmp_path):
    home, project = built, Project.locate()
    changed = next(row for row in world.orders if START + timedelta(days=9) < row["received_date"] < DAY)
    changed["amount"] += 100
    write_lake(home, project, world)

    corrected = contents(build(home, project, SHOP, DAY))

    fresh = Home(tmp_path / "fresh")
    shutil.copytree(home.lake, fresh.lake)
    assert corrected == contents(build(fresh, project, SHOP, DAY))
    day_before = str(changed["received_date"] - timedelta(days=1))
    assert [segment[1] for segment in state(home)["segments"]] == [day_before, str(DAY)]


def test_the_project_is_parsed_again_when_it_or_what_has_landed_changes_and_only_then(
    own_project, world, tmp_path, monkeypatch
):
    monkeypatch.delenv("STRATAFLOW_DBT_CACHE")
    home = Home(tmp_path / "home")
    orders_alone = World(orders=world.orders)
    write_lake(home, own_project, orders_alone)

    def left(name: str) -> list[tuple[str, int]]:
        return [(path.name, path.stat().st_mtime_ns) for path in (home.root / "dbt").glob(name)]

    def parsed_anew(day: date) -> bool:
        before, described = left("parsed-*"), left("duckdb/manifest.json")
        build(home, own_project, SHOP, day)
        assert len({name.rpartition("-")[0] for name, _ in left("parsed-*")}) == 1  # nothing of another project is kept
        assert (left("parsed-*") == before) == (left("duckdb/manifest.json") == described)
        return left("parsed-*") != before

    assert parsed_anew(DAY)
    classes = own_project.dbt / "seeds" / "rfm_classes.csv"  # its rows are read when it is built
    classes.write_text(classes.read_text().replace("Champions", "Best friends"))
    assert not parsed_anew(DAY + timedelta(days=1))
    write_lake(home, own_project, world)
    assert parsed_anew(DAY + timedelta(days=1))
    fresh = Home(tmp_path / "fresh")
    shutil.copytree(home.lake, fresh.lake)
    made = build(home, own_project, SHOP, DAY + timedelta(days=2))
    assert contents(made) == contents(build(fresh, own_project, SHOP, DAY + timedelta(days=2)))
    model = own_project.dbt / "models" / "marts" / "rfm_cutoffs.sql"
    model.write_text(model.read_text() + "\n")
    assert parsed_anew(DAY + timedelta(days=2))


def test_an_analyst_edits_a_threshold_and_a_name_and_sees_them(home, own_project):
    before = fingerprint(home, own_project, SHOP, DAY)
    settings = own_project.dbt / "dbt_project.yml"
    settings.write_text(settings.read_text().replace("super_min_orders: 5", "super_min_orders: 1"))
    classes = own_project.dbt / "seeds" / "rfm_classes.csv"
    classes.write_text(classes.read_text().replace("Champions", "Best friends"))

    made = build(home, own_project, SHOP, DAY)

    segments = contents(made)["customer_segments"]
    assert not {row for row in segments if "first_purchase" in row or "repeat" in row}
    assert any("Best friends" in row for row in segments)
    assert made.meta["fingerprint"] != before


def test_an_edited_order_status_rebuilds_the_ledgers(built, own_project):
    home = built
    rules = state(home)["rules"]
    statuses = own_project.dbt / "seeds" / "order_statuses.csv"
    statuses.write_text(statuses.read_text().replace("pending,false", "pending,true"))

    made = build(home, own_project, SHOP, DAY)

    assert state(home)["rules"] != rules
    with duckdb.connect(str(made.path), read_only=True) as connection:
        counted = connection.execute("select sum(lifetime_orders) from customer_segments").fetchone()[0]
        valid = connection.execute("select sum(valid_orders) from int_order_ledger").fetchone()[0]
    assert counted == valid


def test_an_edit_that_fails_and_is_taken_back_leaves_the_kept_ledgers_as_they_were(built, own_project, tmp_path):
    home = built
    kept = state(home)
    statuses = own_project.dbt / "seeds" / "order_statuses.csv"
    rules = statuses.read_text()
    statuses.write_text(rules.replace("counts_as_valid", "counts_as_vald"))
    with pytest.raises(StepFailed):
        build(home, own_project, SHOP, DAY)
    statuses.write_text(rules)

    after = contents(build(home, own_project, SHOP, DAY + timedelta(days=1)))

    assert state(home)["segments"][: len(kept["segments"])] == kept["segments"]
    fresh = Home(tmp_path / "fresh")
    shutil.copytree(home.lake, fresh.lake)
    assert after == contents(build(fresh, own_project, SHOP, DAY + timedelta(days=1)))


def test_a_kept_ledger_that_was_deleted_is_built_again(built, first):
    next((built.state / "order_ledger").iterdir()).unlink()

    assert contents(build(built, Project.locate(), SHOP, DAY)) == first


def test_another_reporting_currency_makes_the_kept_ledgers_stale(built):
    rules = state(built)["rules"]

    build(built, Project.locate(), SHOP.model_copy(update={"currency": "CNY"}), DAY)

    assert state(built)["rules"] != rules


def test_a_model_that_outgrows_memory_is_followed_by_others(home, own_project, monkeypatch, tmp_path):
    """DuckDB refuses to be told its folder for spilling again once it has spilled."""
    monkeypatch.setenv("STRATAFLOW_MEMORY_LIMIT", "100MB")
    models = own_project.dbt / "models" / "marts"
    (models / "large.sql").write_text(
        "{{ config(materialized='table') }} select md5(n::varchar) || md5((-n)::varchar) as text "
        "from range(3000000) as numbers (n) order by text\n"
    )
    (models / "after.sql").write_text(
        "{{ config(materialized='table') }} select count(*) as texts from {{ ref('large') }}\n"
    )
    database = build_models(home, own_project, SHOP, DAY, ["after"], tmp_path / "scratch")
    with duckdb.connect(str(database), read_only=True) as connection:
        assert connection.execute("select texts from after").fetchone() == (3_000_000,)


def test_a_broken_model_is_named(home, own_project):
    model = own_project.dbt / "models" / "marts" / "customer_segments.sql"
    model.write_text(model.read_text().replace("orders.first_order_date", "orders.first_odrer_date"))

    with pytest.raises(StepFailed, match=r"model customer_segments: .*first_odrer_date"):
        build(home, own_project, SHOP, DAY)
    with pytest.raises(UsageError, match="no build of"):
        Build.load(home, DAY)


def test_an_unknown_rule_says_what_is_allowed(home, own_project):
    settings = own_project.dbt / "dbt_project.yml"
    settings.write_text(settings.read_text().replace("rfm_method: quantile", "rfm_method: quintile"))

    with pytest.raises(StepFailed, match="rfm_method is 'quintile'; it must be quantile, fixed or mean"):
        build(home, own_project, SHOP, DAY)


def test_nothing_landed_is_said(tmp_path):
    with pytest.raises(InputError, match="nothing has been landed up to 2024-02-05"):
        build(Home(tmp_path), Project.locate(), SHOP, DAY)


def test_a_shop_with_orders_only_builds(tmp_path, world):
    world.interactions, world.customers = [], []
    home = Home(tmp_path / "orders-only")
    write_lake(home, Project.locate(), world)

    made = build(home, Project.locate(), SHOP, DAY)

    with duckdb.connect(str(made.path), read_only=True) as connection:
        customers, engaged = connection.execute(
            "select count(*), sum(engagement_score) from customer_segments"
        ).fetchone()
    assert customers > 0
    assert engaged == 0


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_killed_build_leaves_no_trace(home, first, share):
    """Killed after the first of dbt's nodes, in the midst of them, and after the last, before the ledgers are kept."""
    script = (
        "import os, signal; from datetime import date; from pathlib import Path\n"
        "from strataflow.build import build; from strataflow.home import Home\n"
        "from strataflow.project import Project; from strataflow.sources import Shop\n"
        "def end(_step, done, total):\n"
        f"    if done >= {share} * total: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"build(Home(Path({str(home.root)!r})), Project.locate(),"
        f" Shop(name='corner', time_zone='UTC', currency='USD'), date.fromisoformat('{DAY}'), progress=end)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "scripts")}
    killed = subprocess.run([sys.executable, "-c", script], env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not (home.builds / str(DAY)).exists()

    assert contents(build(home, Project.locate(), SHOP, DAY)) == first
    assert not list(home.scratch.iterdir())
