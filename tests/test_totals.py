"""Lifetime totals kept between days: when they are found, when not, and that they never change a result."""

from __future__ import annotations

import shutil
from datetime import date, timedelta

import duckdb
import pytest

from strataflow import totals
from strataflow.build import build
from strataflow.home import Home
from strataflow.lake import received
from strataflow.project import Project
from strataflow.rules import totals_rules_hash
from strataflow.sources import Shop
from worlds import START, random_world, write_lake

SHOP = Shop(name="corner", time_zone="UTC", currency="USD")
DAY = START + timedelta(days=35)


@pytest.fixture
def home(tmp_path):
    home = Home(tmp_path / "home")
    write_lake(home, Project.locate(), random_world(11))
    return home


@pytest.fixture
def database(tmp_path):
    """A build's file with totals of one customer."""
    path = tmp_path / "build.duckdb"
    with duckdb.connect(str(path)) as connection:
        for table in totals.TOTALS:
            connection.execute(f"create table int_customer_{table} as select 'ann' as customer_id, 1 as orders")
    return path


def found(home: Home, as_of: date, rules: str = "rules", known_at: date | None = None) -> date | None:
    kept = totals.kept(home, received(home, known_at or as_of), as_of, rules)
    return kept.through if kept else None


def keep(home, as_of, database, rules="rules", known_at=None):
    totals.keep(home, received(home, known_at or as_of), as_of, rules, database)


def test_a_build_goes_on_from_kept_totals_and_gives_what_a_build_from_nothing_gives(home, tmp_path):
    project = Project.locate()
    rules = totals_rules_hash(project, SHOP.currency)
    build(home, project, SHOP, DAY)
    assert found(home, DAY + timedelta(days=3), rules) == DAY

    later = build(home, project, SHOP, DAY + timedelta(days=3))

    fresh = Home(tmp_path / "fresh")
    shutil.copytree(home.lake, fresh.lake)
    anew = build(fresh, project, SHOP, DAY + timedelta(days=3))
    tables = ("customer_segments", "customer_tags", "int_customer_order_totals", "int_customer_interaction_totals")
    with duckdb.connect() as connection:
        for name, made in (("later", later), ("anew", anew)):
            connection.execute(f"attach '{made.path}' as {name} (read_only)")
        for table in tables:
            assert connection.execute(f"from later.{table} except all from anew.{table}").fetchall() == []
            assert connection.execute(f"from anew.{table} except all from later.{table}").fetchall() == []


def test_totals_serve_later_days_of_the_same_data_and_rules_only(home, database):
    keep(home, DAY, database)

    assert found(home, DAY) == found(home, DAY + timedelta(days=2)) == DAY
    assert found(home, DAY - timedelta(days=1)) is None
    assert found(home, DAY - timedelta(days=1), known_at=DAY + timedelta(days=2)) is None
    assert found(home, DAY, rules="other rules") is None


def test_a_day_landed_again_makes_later_totals_stale(home, database):
    keep(home, DAY - timedelta(days=20), database)
    keep(home, DAY, database)
    world = random_world(11)
    changed = next(row for row in world.orders if DAY - timedelta(days=10) < row["received_date"] < DAY)
    changed["amount"] += 1
    write_lake(home, Project.locate(), world)

    assert found(home, DAY) == DAY - timedelta(days=20)


def test_totals_are_kept_weekly_and_of_no_restatement(home, database):
    keep(home, DAY, database)
    keep(home, DAY + timedelta(days=6), database)
    assert found(home, DAY + timedelta(days=6)) == DAY
    keep(home, DAY + timedelta(days=7), database)
    assert found(home, DAY + timedelta(days=7)) == DAY + timedelta(days=7)
    keep(home, DAY + timedelta(days=20), database, known_at=DAY + timedelta(days=30))
    assert found(home, DAY + timedelta(days=20)) == DAY + timedelta(days=7)


def test_old_totals_and_halves_of_a_killed_run_are_removed(home, database):
    (home.state / "totals" / ".2024-01-01-half" / "order_totals").mkdir(parents=True)
    for week in range(totals.KEPT + 2):
        keep(home, DAY + timedelta(weeks=week), database)

    left = sorted(path.name[:10] for path in (home.state / "totals").iterdir())
    assert left == [str(DAY + timedelta(weeks=week)) for week in range(2, totals.KEPT + 2)]
