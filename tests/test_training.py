"""Which model a day gets, and that a replay gets the same one."""

import json
from datetime import date, timedelta

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from past_shops import START, shop
from strataflow.build import build
from strataflow.home import Home
from strataflow.prediction import training
from strataflow.project import Project, canonical_tables
from strataflow.rules import ledger_rules_hash
from strataflow.sources import Shop

SHOP = Shop(name="corner", time_zone="UTC", currency="USD")
DAY = START + timedelta(days=300)


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    """The simulated shop as landed: a partition per week received, with manifests."""
    home = Home(tmp_path_factory.mktemp("shop") / "home")
    orders = shop(customers=600, days=310)
    orders["order_id"] = [f"o{number}" for number in range(len(orders))]
    orders["received_date"] = [day + timedelta(days=6 - day.weekday()) for day in orders.order_date]
    columns = canonical_tables(Project.locate())["orders"].columns
    values = {
        "status": "'completed'",
        "currency": "'USD'",
        "is_adjustment": "false",
        "ordered_at": "order_date",
        "amount": "net_amount",
        "source": "'web'",
    }
    plain = {"order_id", "customer_id", "order_date"}
    zero = {"refunded_amount", "discount_amount", "coupon_amount"}
    with duckdb.connect() as connection:
        connection.register("given", pa.Table.from_pandas(orders, preserve_index=False))
        values |= {name: name for name in plain} | dict.fromkeys(zero, "0")
        chosen = ", ".join(
            f"cast({values.get(column.name, 'null')} as {column.data_type}) as {column.name}" for column in columns
        )
        for day in sorted(set(orders.received_date)):
            rows = connection.sql(
                f"select {chosen} from given where received_date = date '{day}' order by order_id"
            ).to_arrow_table()
            path = home.partition("orders", day, "web")
            path.parent.mkdir(parents=True)
            pq.write_table(rows, path)
            manifest = {
                "source": "web",
                "table": "orders",
                "received_date": str(day),
                "rows_landed": rows.num_rows,
                "partition_sha256": str(day),
            }
            home.landing("web", day).parent.mkdir(parents=True, exist_ok=True)
            home.landing("web", day).write_text(json.dumps(manifest))
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


def test_a_replay_in_another_order_from_an_empty_home_gives_the_same_model_and_rows(lake, tmp_path_factory):
    project = Project.locate()
    forward, replayed = (copy(lake, tmp_path_factory.mktemp(name)) for name in ("forward", "replayed"))
    earlier = DAY - timedelta(days=1)
    first = [build(forward, project, SHOP, day) for day in (earlier, DAY)]
    later, before = (build(replayed, project, SHOP, day) for day in (DAY, earlier))
    assert first[1].meta["model_card"]["used"] != "baseline"
    for one, other in zip(first, (before, later), strict=True):
        assert one.meta["model_card"] == other.meta["model_card"]
        for name in ("churn_risk", "churn_model_card", "customer_lifetime_value", "customer_segments"):
            assert table(one, name) == table(other, name)
    folders = [sorted((home.models / str(training.training_day(DAY))).iterdir()) for home in (forward, replayed)]
    assert [path.name for path in folders[0]] == ["churn_model.json", "model_card.json", "value_model.json"]
    assert [path.read_bytes() for path in folders[0]] == [path.read_bytes() for path in folders[1]]


def test_a_kept_model_is_used_again_and_a_damaged_one_is_trained_again(lake, tmp_path):
    home, project = copy(lake, tmp_path), Project.locate()
    made = build(home, project, SHOP, DAY)
    model = home.models / str(training.training_day(DAY)) / training.MODEL
    whole = model.read_bytes()
    refuse, rules = pytest.fail, ledger_rules_hash(project, SHOP.currency)
    again = training.model_in_force(home, project, DAY, rules, lambda _: refuse("the ledgers are there already"))
    assert again.card == made.meta["model_card"]
    model.write_bytes(whole[:-9])
    assert training.model_in_force(home, project, DAY, rules, lambda _: refuse("again")).card == again.card
    assert model.read_bytes() == whole
    risks = table(made, "churn_risk")
    assert len({row[3] for row in risks}) > 50


def test_a_shop_with_a_handful_of_orders_is_told_why_it_gets_the_estimate(lake, tmp_path):
    home = copy(lake, tmp_path)
    day = START + timedelta(days=9)
    made = build(home, Project.locate(), SHOP, day)
    assert "too few to learn from" in made.meta["model_card"]["reason"]
    [row] = table(made, "churn_model_card")
    assert row[1] == "baseline"
