"""Which model a day gets, and that a replay gets the same one."""

import re
import shutil
from datetime import date, timedelta

import duckdb
import pytest

from past_shops import START, land_by_week, shop
from past_worlds import edit_vars
from strataflow.build import build
from strataflow.dbt_call import manifest
from strataflow.export import export_table, opened
from strataflow.home import Home
from strataflow.prediction import cluster_refits, training
from strataflow.project import Project
from strataflow.rules import ledger_rules_hash
from strataflow.sources import Shop

SHOP = Shop(name="corner", time_zone="UTC", currency="USD")
DAY = START + timedelta(days=300)


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    """The simulated shop as landed: a partition per week received, with manifests."""
    home = Home(tmp_path_factory.mktemp("shop") / "home")
    land_by_week(home, shop(customers=600, days=310))
    return home


def copy(lake, root):
    home = Home(root / "home")
    home.root.mkdir()
    home.lake.symlink_to(lake.lake)
    return home


def table(made, name):
    with duckdb.connect(str(made.path), read_only=True) as connection:
        return connection.execute(f"from {name} order by all").fetchall()


@pytest.mark.parametrize(
    ("as_of", "expected"),
    [
        (date(2024, 1, 8), date(2024, 1, 7)),
        (date(2024, 1, 7), date(2023, 12, 31)),
        (date(2024, 1, 13), date(2024, 1, 7)),
    ],
)  # fmt: skip
def test_the_last_sunday_before_the_day_is_the_training_day(as_of, expected):
    assert training.training_day(as_of) == expected


@pytest.fixture(scope="module")
def with_groups(tmp_path_factory):
    """The rules with groups of customers switched on."""
    root = tmp_path_factory.mktemp("rules")
    shutil.copytree(Project.locate().dbt, root / "dbt_project", ignore=shutil.ignore_patterns("target", "logs"))
    (root / "expectations").mkdir()
    edit_vars(Project(root), {"clusters": "true", "cluster_max_k": "4"})
    return Project(root)


@pytest.fixture(scope="module")
def replays(lake, with_groups, tmp_path_factory):
    """Two days as built in order, and as built the other way round from an empty home; and the homes."""
    homes = [copy(lake, tmp_path_factory.mktemp(name)) for name in ("forward", "replayed")]
    days = [DAY - timedelta(days=1), DAY]
    forward = [build(homes[0], with_groups, SHOP, day) for day in days]
    replayed = [build(homes[1], with_groups, SHOP, day) for day in days[::-1]]
    return homes, forward, replayed[::-1]


def test_a_replay_in_another_order_from_an_empty_home_gives_the_same_model_and_bytes(replays, tmp_path):
    homes, forward, replayed = replays
    assert forward[1].meta["model_card"]["used"] != "baseline"
    for one, other in zip(forward, replayed, strict=True):
        assert one.meta["model_card"] == other.meta["model_card"]
        assert exported(one, tmp_path / "one" / str(one.as_of)) == exported(other, tmp_path / "other" / str(one.as_of))
    folders = [sorted((home.models / str(training.training_day(DAY))).iterdir()) for home in homes]
    assert {path.name for path in folders[0]} >= {"churn_model.json", "model_card.json", "value_model.json"}
    models = [{path.relative_to(home.models): path.read_bytes() for path in home.models.glob("*/*")} for home in homes]
    assert models[0] == models[1]


def exported(made, folder):
    """The bytes that publishing would write of each table."""
    with opened(made.path, folder / "spill") as connection:
        for name, told in made.meta["published"].items():
            export_table(connection, folder, name, told["key"], made.as_of)
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.parquet")}


def columns_of(made, name):
    with duckdb.connect(str(made.path), read_only=True) as connection:
        return [column for column, *_ in connection.execute(f"describe {name}").fetchall()]


def test_groups_add_up_and_are_described_in_both_languages(replays):
    (home, _), (_, made), _ = replays
    optional = [node for node in manifest(home, "duckdb")["nodes"].values() if "cluster" in node["name"]]
    described = {node["name"]: node["columns"] for node in optional if node["resource_type"] in {"model", "seed"}}
    assert len(described) == 4
    for name, columns in described.items():
        assert list(columns) == columns_of(made, name)
        assert all(column["description"].endswith(".") for column in columns.values())
    for name in ("behaviour_cluster", "behaviour_clusters"):
        told = made.meta["published"][name]
        assert all(re.search(r"[\u4e00-\u9fff]", one["zh"]) for one in (told, *told["columns"].values()))
    assert made.meta["model_card"]["behaviour_clusters"]["found"]["clusters"]
    with duckdb.connect(str(made.path), read_only=True) as connection:
        groups = connection.execute("from behaviour_clusters order by cluster_id").df()
        customers = connection.execute("from behaviour_cluster order by customer_id").df()
        buyers, left_over = connection.execute(
            "select count(last_order_date), sum(monetary) - (select sum(net_revenue) from behaviour_clusters) "
            "from customer_segments"
        ).fetchone()
    assert len(groups) in {3, 4}
    assert groups.customers.sum() == len(customers) == buyers
    assert left_over == 0
    assert groups.customer_share.sum() == pytest.approx(1, abs=1e-5)
    assert dict(customers.groupby("cluster_id").size()) == dict(zip(groups.cluster_id, groups.customers, strict=True))
    assert (customers.distance <= customers.next_distance).all()
    assert (groups.fitted_on.dt.date == cluster_refits.refit_day(DAY, 4)).all()


def test_a_kept_model_is_used_again_and_a_damaged_one_is_trained_again(lake, with_groups, tmp_path):
    home, project = copy(lake, tmp_path), with_groups
    made = build(home, project, SHOP, DAY)
    model = home.models / str(training.training_day(DAY)) / training.MODEL
    whole = model.read_bytes()
    refuse, rules = pytest.fail, ledger_rules_hash(project, SHOP.currency)
    again = training.model_in_force(home, project, DAY, rules, lambda _: refuse("the ledgers are there already"))
    groups = made.meta["model_card"]["behaviour_clusters"]
    assert again.card | {"behaviour_clusters": groups} == made.meta["model_card"]
    model.write_bytes(whole[:-9])
    assert training.model_in_force(home, project, DAY, rules, lambda _: refuse("again")).card == again.card
    assert model.read_bytes() == whole
    risks = table(made, "churn_risk")
    assert len({row[3] for row in risks}) > 50


def test_a_shop_with_a_handful_of_orders_is_told_why_it_gets_the_estimate_and_no_groups(lake, with_groups, tmp_path):
    home = copy(lake, tmp_path)
    day = START + timedelta(days=9)
    made = build(home, with_groups, SHOP, day)
    assert "too few to learn from" in made.meta["model_card"]["reason"]
    [row] = table(made, "churn_model_card")
    assert row[1] == "baseline"
    assert table(made, "behaviour_cluster") == []
    [group] = table(made, "behaviour_clusters")
    assert group[:5] == (day, "none", "no groups", "未分群", None)
    assert "nothing had been received by" in group[-1]
