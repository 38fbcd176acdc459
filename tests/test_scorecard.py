"""The scorecard against a second implementation of its definitions, its intervals, and the holdout by lot."""

from __future__ import annotations

import calendar
import hashlib
import json
import math
import random
import re
import shutil
from collections import Counter, defaultdict
from datetime import date, datetime, timedelta
from decimal import Decimal
from statistics import NormalDist, variance

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from past_shops import PROJECT
from strataflow.build import build
from strataflow.cli import main
from strataflow.errors import StepFailed, UsageError
from strataflow.home import Home
from strataflow.project import Project
from strataflow.scorecard import is_due, scorecard, tables_of
from strataflow.scorecard.states import last_month_end
from strataflow.sources import Shop
from worlds import CompiledModels, random_world, write_lake

SHOP = Shop(name="corner", time_zone="UTC", currency="USD")
CLASSES = ("important_value", "general_value", "general_winback", "no_orders")
LADDERS = {
    "ecommerce": ("new", "first_purchase", "repeat", "super"),
    "high_ticket": ("stranger", "prospect", "intent", "first_order", "repeat", "super"),
}
STATE = """
    month_end date, customer_id varchar, last_order_date date, frequency bigint, monetary decimal(18, 2),
    lifetime_orders bigint, lifetime_value decimal(18, 2), rfm_class varchar, value_tier varchar,
    ecommerce_stage varchar, high_ticket_stage varchar, activity_stage varchar, is_holdout boolean, is_treated boolean
"""


def ends_of(months, year=2024):
    return [date(year, month, calendar.monthrange(year, month)[1]) for month in range(1, months + 1)]


def write_states(folder, ends, rows):
    """Parquet files of states, one per month end."""
    connection = duckdb.connect()
    connection.execute(f"create table states ({STATE})")
    connection.register("given", pa.Table.from_pylist(rows))
    connection.execute("insert into states by name from given")
    paths = [folder / f"{end}.parquet" for end in ends]
    for end, path in zip(ends, paths, strict=True):
        connection.execute(f"copy (from states where month_end = date '{end}') to '{path}' (format parquet)")
    return paths


def state(end, customer, **values):
    return {
        "month_end": end, "customer_id": customer, "last_order_date": None, "frequency": 0, "monetary": Decimal(0),
        "lifetime_orders": 0, "lifetime_value": Decimal(0), "rfm_class": "no_orders", "value_tier": "low",
        "ecommerce_stage": "new", "high_ticket_stage": "stranger", "activity_stage": "new", "is_holdout": False,
        "is_treated": False, **values,
    }  # fmt: skip


def random_states(seed, ends):
    """Customers who come at some month and then buy, climb and change class at random."""
    rng = random.Random(seed)  # noqa: S311
    rows = []
    for number in range(rng.randint(1, 40)):
        orders, value, last = 0, Decimal(0), None
        for end in ends[rng.randrange(len(ends)) :]:
            if rng.random() < 0.05:
                continue  # a corrected order may take a customer away for a while
            bought = rng.choice([0, 0, 1, 2])
            orders += bought
            value += Decimal(rng.randrange(100, 9000)) / 100 * bought - (
                Decimal(rng.randrange(99)) / 100 if orders else 0
            )
            last = end - timedelta(days=rng.randrange(28)) if bought else last
            stages = {
                ladder: ("super" if orders > 4 else "repeat") if orders > 1 else names[rng.randrange(len(names) - 2)]
                for ladder, names in LADDERS.items()
            }
            rows.append(
                state(
                    end, f"c{number}", last_order_date=last, frequency=rng.randint(1, 3) if orders else 0,
                    monetary=max(value, Decimal(0)) if orders else Decimal(0), lifetime_orders=orders,
                    lifetime_value=value, rfm_class=rng.choice(CLASSES[:3]) if orders else "no_orders",
                    ecommerce_stage=stages["ecommerce"], high_ticket_stage=stages["high_ticket"],
                )
            )  # fmt: skip
    return rows


def expected(rows, ends):
    """(month, metric, segment) -> (numerator, denominator), from the definitions in docs/scorecard.md."""
    at = {end: {row["customer_id"]: row for row in rows if row["month_end"] == end} for end in ends}
    figures = {}
    for number, end in enumerate(ends[1:], start=1):
        before, after = at[ends[number - 1]], at[end]
        for metric, segment, numerator, denominator in _facts(before, after, ends[number - 1]):
            figures[end.replace(day=1), metric, segment] = (numerator, denominator)
        for ahead, months in (("1m", 1), ("3m", 3)):
            if number >= months:
                for metric, segment, numerator, denominator in _earned(at[ends[number - months]], after, ahead):
                    figures[end.replace(day=1), metric, segment] = (numerator, denominator)
    return figures


def _facts(before, after, previous_end):
    yield from _ladder_facts(before, after)
    for segment, own in _by_class(after):
        bought = [row for row in own if row["lifetime_orders"]]
        yield "customers", segment, len(own), None
        yield "buyers", segment, sum(1 for row in own if row["frequency"]), None
        if bought:
            yield "repeat_rate", segment, sum(1 for row in bought if row["lifetime_orders"] > 1), len(bought)
            yield "lifetime_value_mean", segment, sum(row["lifetime_value"] for row in own), len(bought)
    if before:
        yield "customers_new", "all", len([name for name in after if name not in before]), None
        if after:
            yield "customer_base_growth", "all", len(after), len(before)
    for segment, own in _by_class(before):
        later = [after.get(row["customer_id"]) for row in own]
        buyers = [(row, then) for row, then in zip(own, later, strict=True) if row["lifetime_orders"]]
        back = [
            then for _, then in buyers if then and then["last_order_date"] and then["last_order_date"] > previous_end
        ]
        if buyers:
            yield "retention", segment, len(back), len(buyers)
        earned = sum((then["lifetime_value"] for then in later if then), Decimal(0))
        yield "lifetime_value_growth", segment, earned, sum(row["lifetime_value"] for row in own)
    top_before, top_after = _top(before), _top(after)
    if top_after:
        share = sum(row["monetary"] for row in after.values() if row["frequency"])
        yield "top20_customers", "all", len(top_after), None
        yield "top20_revenue_share", "all", sum(top_after.values()), share
    if top_before:
        yield "top20_stayed", "all", len(top_before.keys() & top_after.keys()), len(top_before)
        if top_after:
            yield "top20_revenue_growth", "all", sum(top_after.values()), sum(top_before.values())


def _ladder_facts(before, after):
    for ladder, names in LADDERS.items():
        column, moves = f"{ladder}_stage", defaultdict(Counter)
        for customer, row in before.items():
            if customer in after:
                was, now = names.index(row[column]), names.index(after[customer][column])
                for segment in (row[column], "all"):
                    moves[segment].update(
                        customers=1, up=now > was, down=now < was, below=was < len(names) - 1,
                        reached=was < len(names) - 1 == now,
                    )  # fmt: skip
        for segment, counts in moves.items():
            yield f"{ladder}_moved_up", segment, counts["up"], counts["customers"]
            yield f"{ladder}_moved_down", segment, counts["down"], counts["customers"]
            if counts["below"]:
                yield f"{ladder}_reached_top", segment, counts["reached"], counts["below"]
        if after:
            yield f"{ladder}_top_share", "all", sum(1 for row in after.values() if row[column] == names[-1]), len(after)


def _earned(before, after, ahead):
    revenue = {
        name: (after[name]["lifetime_value"] if name in after else Decimal(0)) - row["lifetime_value"]
        for name, row in before.items()
    }
    total, everyone = sum(revenue.values()), len(before)
    for segment, own in _by_class(before):
        earned = sum(revenue[row["customer_id"]] for row in own)
        yield f"later_revenue_mean_{ahead}", segment, earned, len(own)
        yield f"later_revenue_share_{ahead}", segment, earned, total
        yield f"later_revenue_lift_{ahead}", segment, earned * everyone, total * len(own)


def _by_class(rows):
    groups = defaultdict(list)
    for row in rows.values():
        groups[row["rfm_class"]].append(row)
        groups["all"].append(row)
    return groups.items()


def _top(rows):
    buyers = sorted(
        (row for row in rows.values() if row["frequency"]), key=lambda row: (-row["monetary"], row["customer_id"])
    )
    return {row["customer_id"]: row["monetary"] for row in buyers[: math.ceil(len(buyers) / 5)]}


@pytest.mark.parametrize("seed", range(40))
def test_every_figure_is_what_its_definition_says(tmp_path, seed):
    ends = ends_of(5)
    rows = random_states(seed, ends)
    with tables_of(PROJECT, write_states(tmp_path, ends, rows), ends, tmp_path) as connection:
        found = connection.execute(
            "select month, metric, segment, numerator, denominator, value, lower, upper from segmentation_scorecard"
        ).fetchall()
    assert {row[:3]: row[3:5] for row in found} == expected(rows, ends)
    rates = ("_moved_up", "_moved_down", "_reached_top", "_top_share", "retention", "repeat_rate", "_stayed")
    for _, metric, _, numerator, denominator, value, lower, upper in found:
        if metric.endswith(rates):
            wilson = binomtest(int(numerator), int(denominator)).proportion_ci(0.95, "wilson")
            assert (value, lower, upper) == pytest.approx((float(numerator / denominator), *wilson), abs=2e-9)
        else:
            assert lower is upper is None
            if metric.endswith("growth") and denominator:
                assert value == pytest.approx(float(numerator / denominator) - 1, abs=1e-8)


def world_of_months():
    """Orders and contacts over five months beside a random shop, some of them received late."""
    world = random_world(3)
    rng = random.Random(5)  # noqa: S311
    for number in range(160):
        day = date(2024, 1, 3) + timedelta(days=rng.randrange(145))
        world.orders.append(
            {
                "order_id": f"w{number}", "customer_id": f"w{number % 23}", "order_date": day, "status": "completed",
                "ordered_at": datetime.combine(day, datetime.min.time()), "refunded_amount": Decimal(0),
                "amount": Decimal(rng.randrange(500, 9000)) / 100,
                "received_date": day + timedelta(days=rng.choice([0, 0, 9])),
            }
        )  # fmt: skip
        if number % 3 == 0:
            world.interactions.append(
                {
                    "interaction_id": f"t{number}", "customer_id": f"w{number % 23}", "kind": "contact",
                    "occurred_at": datetime.combine(day, datetime.min.time()), "interaction_date": day,
                    "received_date": day,
                }
            )  # fmt: skip
    return world


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The rules with three months on the scorecard and a third of the customers held out."""
    root = tmp_path_factory.mktemp("rules")
    shutil.copytree(PROJECT.dbt, root / "dbt_project", ignore=shutil.ignore_patterns("target", "logs"))
    shutil.copytree(PROJECT.expectations, root / "expectations")
    rules = root / "dbt_project" / "dbt_project.yml"
    text = rules.read_text(encoding="utf-8").replace("scorecard_months: 12", "scorecard_months: 3")
    rules.write_text(re.sub(r"holdout_share: 0 ", "holdout_share: 0.33 ", text), encoding="utf-8")
    return Project(root)


@pytest.fixture(scope="module")
def world():
    return world_of_months()


@pytest.fixture(scope="module")
def home(tmp_path_factory, world, project):
    home = Home(tmp_path_factory.mktemp("months") / "home")
    write_lake(home, project, world)
    return home


@pytest.fixture(scope="module")
def made(home, project):
    return scorecard(home, project, SHOP, date(2024, 5, 20))


def test_states_are_those_of_the_builds_of_the_month_ends_and_of_what_was_known_then(home, project, made):
    assert made.manifest["month_ends"] == ["2024-01-31", "2024-02-29", "2024-03-31", "2024-04-30"]
    end = date(2024, 3, 31)
    day = build(home, project, SHOP, end)
    columns = (
        "customer_id, last_order_date, frequency, monetary, lifetime_orders, lifetime_value, rfm_class, value_tier,"
        " ecommerce_stage, high_ticket_stage, activity_stage, is_holdout"
    )
    with duckdb.connect(str(day.path), read_only=True) as connection:
        built = connection.execute(f"select {columns} from customer_segments order by customer_id").fetchall()
        treated = connection.execute(
            "select distinct customer_id from int_interaction_ledger where kind = 'contact'"
            " and interaction_date between date '2024-03-01' and date '2024-03-31' order by all"
        ).fetchall()
    kept = str(home.month_ends / f"{end}.parquet")
    assert duckdb.execute(f"select {columns} from read_parquet(?) order by customer_id", [kept]).fetchall() == built
    assert (
        duckdb.execute("select customer_id from read_parquet(?) where is_treated order by all", [kept]).fetchall()
        == treated
    )
    assert len(treated) > 1


def test_the_same_scorecard_on_any_day_of_the_month_and_from_an_empty_home(home, project, made, tmp_path):
    again = scorecard(home, project, SHOP, date(2024, 5, 30))
    fresh = Home(tmp_path / "fresh")
    shutil.copytree(home.lake, fresh.lake)
    other = scorecard(fresh, project, SHOP, date(2024, 4, 30))

    assert made.changed
    assert not again.changed
    assert other.path.name == again.path.name == made.path.name
    assert {path.name: path.read_bytes() for path in other.path.iterdir()} == {
        path.name: path.read_bytes() for path in made.path.iterdir()
    }
    assert (home.published / "scorecard").resolve() == made.path
    assert {path.name for path in made.path.iterdir()} == {
        "manifest.json", "segmentation_scorecard.csv", "segmentation_scorecard.parquet",
        "holdout_uplift.csv", "holdout_uplift.parquet",
    }  # fmt: skip
    assert not [path for path in fresh.scratch.iterdir() if path.is_dir()]


def test_a_new_month_adds_one_state_and_a_day_landed_again_changes_the_later_ones(home, project, made, world, tmp_path):
    own = Home(tmp_path / "own")
    shutil.copytree(home.root, own.root, symlinks=True)
    before = {path.name: path.stat().st_ino for path in own.month_ends.glob("*.parquet")}

    may = scorecard(own, project, SHOP, date(2024, 5, 31))

    after = {path.name: path.stat().st_ino for path in own.month_ends.glob("*.parquet")}
    assert set(after) - set(before) == {"2024-05-31.parquet"}
    assert all(after[name] == inode for name, inode in before.items())
    assert (own.published / "scorecard").resolve() == may.path
    with duckdb.connect() as connection:
        files = [str(path / "segmentation_scorecard.parquet") for path in (made.path, may.path)]
        common = connection.execute(
            "select count(*) from read_parquet(?) a join read_parquet(?) b using (month, metric, segment)"
            " where a.numerator is distinct from b.numerator or a.denominator is distinct from b.denominator",
            files,
        ).fetchone()
    assert common == (0,)  # what was said of a month stays said

    landing = own.landing(
        "orders", max(row["received_date"] for row in world.orders if row["received_date"] < date(2024, 3, 20))
    )
    content = json.loads(landing.read_text())
    landing.write_text(json.dumps(content | {"partition_sha256": "0" * 64}))
    corrected = scorecard(own, project, SHOP, date(2024, 4, 30))
    now = {path.name: path.stat().st_ino for path in own.month_ends.glob("*.parquet")}
    assert corrected.manifest["fingerprint"] != made.manifest["fingerprint"]
    assert {name for name in before if now[name] != before[name]} == {"2024-03-31.parquet", "2024-04-30.parquet"}
    assert (own.published / "scorecard").resolve() == may.path  # the newest month stays in front


def test_no_whole_month_is_said_and_is_never_due(home, project):
    with pytest.raises(UsageError, match="no whole month before 2024-02-10"):
        scorecard(home, project, SHOP, date(2024, 2, 10))
    assert not is_due(home, project, date(2024, 1, 31))
    assert is_due(home, project, date(2024, 2, 29))
    assert not is_due(home, project, date(2024, 2, 28))


@given(st.dates(date(2000, 1, 1), date(2100, 1, 1)))
def test_month_ends_are_the_calendars(day):
    end = last_month_end(day)
    assert end <= day
    assert end.day == calendar.monthrange(end.year, end.month)[1]
    assert (day - end).days < 31


def test_the_command_shows_it(home, project, made, monkeypatch, capfd, tmp_path):
    sources = tmp_path / "sources"
    sources.mkdir()
    (sources / "shop.yml").write_text("{name: corner, time_zone: UTC, currency: USD}")
    for table, columns in (("orders", "{order_id: a, customer_id: b, ordered_at: c, amount: d}"),):
        (sources / f"{table}.yml").write_text(
            f"{{name: {table}, table: {table}, description: x, format: {{type: csv}}, "
            f"files: {{path: 'x-{{date}}.csv'}}, columns: {columns}}}"
        )
    monkeypatch.setenv("STRATAFLOW_PROJECT", str(project.root))
    for day in (date(2024, 1, 1) + timedelta(days=n) for n in range(130)):
        path = home.landing("orders", day)
        if not path.exists():  # a day without a delivery has a manifest all the same
            path.write_text(
                json.dumps(
                    {
                        "source": "orders",
                        "table": "orders",
                        "received_date": str(day),
                        "rows_landed": 0,
                        "partition_sha256": None,
                    }
                )
            )

    with pytest.raises(SystemExit) as left:
        main(["scorecard", "--home", str(home.root), "--sources", str(sources), "--date", "2024-05-05"])

    told = capfd.readouterr().out
    assert left.value.code == 0
    assert "Scorecard as of 2024-04-30" in told
    assert "buyers who ordered in the month" in told
    assert str(made.path) in told.replace("\n", "")


# ---------------------------------------------------------------- the holdout


@pytest.fixture(scope="module")
def lot(project, tmp_path_factory):
    """The compiled rule: who is held out, as a query over customer ids."""
    run_vars = {"as_of": "2024-04-30", "known_at": "2024-04-30", "lake": "lake", "state": "state", "landed_tables": []}
    models = CompiledModels(project, tmp_path_factory.mktemp("lot"), run_vars).models
    sql = next(model["compiled_code"] for model in models if model["name"] == "customer_segments")
    rule = re.search(r"(\S.*) as is_holdout", sql).group(1).replace("joined.customer_id", "customer_id")
    connection = duckdb.connect()
    return lambda ids: [
        row[0]
        for row in connection.execute(
            f"select {rule} from (select unnest(?) as customer_id, generate_subscripts(?, 1) as n) order by n",
            [ids, ids],
        ).fetchall()
    ]


def held_out(customer, share=0.33, salt="strataflow"):
    digits = hashlib.md5(f"{salt}:{customer}".encode(), usedforsecurity=False).hexdigest()[:8]
    return int(digits, 16) < int(share * 2**32)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1), min_size=1))
def test_the_lot_is_the_hash_of_the_id_and_nothing_else(lot, ids):
    assert lot(ids) == [held_out(one) for one in ids]


@settings(max_examples=25, deadline=None)
@given(st.text(st.characters(min_codepoint=48, max_codepoint=122), max_size=8), st.integers(0, 10**9))
def test_the_share_is_the_one_asked_for(lot, prefix, start):
    drawn = sum(lot([f"{prefix}{number}" for number in range(start, start + 4000)]))
    # Of a hundred million such draws one lies outside.
    assert binom.ppf(5e-9, 4000, 0.33) <= drawn <= binom.ppf(1 - 5e-9, 4000, 0.33)


def test_the_same_customers_on_any_day_none_of_them_listed_and_their_number_told(home, project):
    sides = []
    for day in (date(2024, 2, 20), date(2024, 4, 15)):
        made = build(home, project, SHOP, day)
        with duckdb.connect(str(made.path), read_only=True) as connection:
            rows = connection.execute(
                "select customer_id, is_holdout, churn_probability from customer_segments"
            ).fetchall()
            listed = {row[0] for row in connection.execute("select customer_id from churn_risk").fetchall()}
        assert {name for name, held, _ in rows if held} == {name for name, _, _ in rows if held_out(name)}
        assert listed == {name for name, held, probability in rows if probability is not None and not held}
        held = [row for row in rows if row[1]]
        unlisted = sum(1 for row in held if row[2] is not None)
        assert made.meta["holdout"] == {"customers": len(held), "kept_out_of_churn_risk": unlisted}
        assert unlisted > 0
        sides.append({name: held for name, held, _ in rows})
    assert all(sides[1][name] == held for name, held in sides[0].items())


def test_nobody_is_held_out_unless_a_share_is_set(home):
    with duckdb.connect(str(build(home, PROJECT, SHOP, date(2024, 4, 15)).path), read_only=True) as connection:
        assert connection.execute("select count(*) from customer_segments where is_holdout").fetchone() == (0,)


def test_a_share_that_is_none_is_named(home, project, tmp_path):
    root = tmp_path / "wrong"
    shutil.copytree(project.root, root)
    rules = root / "dbt_project" / "dbt_project.yml"
    rules.write_text(rules.read_text().replace("holdout_share: 0.33", "holdout_share: 33"))
    with pytest.raises(StepFailed, match="holdout_share is '33'; it must be a share"):
        build(home, Project(root), SHOP, date(2024, 4, 15))


def treated_world(ends, customers=6000, base=0.30, uplift=0.10, seed=1):
    """A fifth held out by lot, half of the others treated in February, who then buy more often in March."""
    rng = random.Random(seed)  # noqa: S311
    january, february, march = ends
    rows = []
    for number in range(customers):
        name, rfm_class = f"c{number}", CLASSES[number % 2]
        own = base + (0.2 if rfm_class == "important_value" else 0.0)
        held = held_out(name, 0.2)
        treated = not held and rng.random() < 0.5
        buys = rng.random() < own + (uplift if treated else 0.0)
        spent = Decimal(rng.randrange(2000, 6000)) / 100 if buys else Decimal(0)
        common = {"lifetime_orders": 2, "rfm_class": rfm_class, "is_holdout": held, "last_order_date": january}
        rows.append(state(january, name, lifetime_value=Decimal(50), **common))
        rows.append(state(february, name, lifetime_value=Decimal(50), is_treated=treated, **common))
        last = {"last_order_date": march, "lifetime_orders": 3} if buys else {}
        rows.append(state(march, name, lifetime_value=50 + spent, **(common | last)))
    return rows


def uplifts(tmp_path, rows, ends):
    with tables_of(PROJECT, write_states(tmp_path, ends, rows), ends, tmp_path) as connection:
        found = connection.execute("select * exclude (as_of_date, month) from holdout_uplift order by all").fetchall()
        months = connection.execute("select distinct as_of_date, month from holdout_uplift").fetchall()
    return {row[:3]: row[3:] for row in found}, months


@pytest.mark.parametrize("planted", [0.10, 0.0])
def test_a_planted_uplift_is_found_and_none_where_none_was_planted(tmp_path, planted):
    ends = ends_of(3)
    found, months = uplifts(tmp_path, treated_world(ends, uplift=planted), ends)

    assert months == [(ends[-1], date(2024, 2, 1))]
    truths = [("treated", segment, planted) for segment in CLASSES[:2]]
    # Half of those who could be treated were: the effect of having the list is half as large.
    for comparison, segment, truth in [*truths, ("offered", "all", planted / 2)]:
        for outcome, effect in (("retention", truth), ("revenue", truth * 40)):  # 40 is the mean amount
            *_, difference, lower, upper = found[comparison, outcome, segment]
            assert lower < difference < upper
            # Twice the interval at 95% misses the truth once in ten thousand times.
            assert difference - 2 * (difference - lower) < effect < difference + 2 * (upper - difference)
            assert upper - lower < (0.1 if outcome == "retention" else 6)
        assert comparison == "offered" or planted == 0 or found[comparison, "retention", segment][-2] > 0
    assert ("treated", "retention", "all") not in found


def test_both_intervals_against_their_formulas(tmp_path):
    ends = ends_of(3)
    rows = treated_world(ends, customers=300)
    found, _ = uplifts(tmp_path, rows, ends)
    by_end = {end: {row["customer_id"]: row for row in rows if row["month_end"] == end} for end in ends}
    sides = {True: [], False: []}
    for name, row in by_end[ends[1]].items():
        if row["rfm_class"] == CLASSES[0] and (row["is_holdout"] or row["is_treated"]):
            then = by_end[ends[2]][name]
            sides[row["is_holdout"]].append(
                (then["last_order_date"] > ends[1], then["lifetime_value"] - row["lifetime_value"])
            )
    hits = {held: sum(bought for bought, _ in side) for held, side in sides.items()}
    wilson = {held: binomtest(hits[held], len(side)).proportion_ci(0.95, "wilson") for held, side in sides.items()}
    rate = {held: hits[held] / len(side) for held, side in sides.items()}
    difference = rate[False] - rate[True]
    low = difference - math.hypot(rate[False] - wilson[False].low, wilson[True].high - rate[True])
    high = difference + math.hypot(wilson[False].high - rate[False], rate[True] - wilson[True].low)
    count, value, held, held_value, *told = found["treated", "retention", CLASSES[0]]
    assert (count, held) == (len(sides[False]), len(sides[True]))
    assert (value, held_value) == pytest.approx((rate[False], rate[True]), abs=1e-8)
    assert told == pytest.approx([difference, low, high], abs=1e-8)

    spent = {held: [float(amount) for _, amount in side] for held, side in sides.items()}
    means = {held: sum(values) / len(values) for held, values in spent.items()}
    error = math.sqrt(sum(variance(values) / len(values) for values in spent.values()))
    reach = NormalDist().inv_cdf(0.975) * error
    *_, difference, low, high = found["treated", "revenue", CLASSES[0]]
    assert (difference, low, high) == pytest.approx(
        (means[False] - means[True], means[False] - means[True] - reach, means[False] - means[True] + reach), abs=1e-6
    )


def test_newcombes_own_example(tmp_path):
    """56 of 70 against 48 of 80: Newcombe (1998), table II, example (a), method 10: 0.0524 to 0.3339."""
    with tables_of(
        PROJECT, write_states(tmp_path, ends_of(2), [state(end, "c") for end in ends_of(2)]), ends_of(2), tmp_path
    ) as c:
        found = c.execute("select newcombe_lower(56, 70, 48, 80), newcombe_upper(56, 70, 48, 80)").fetchone()
    assert found == pytest.approx((0.0524, 0.3339), abs=5e-5)


def test_a_shop_without_a_holdout_has_an_empty_table_of_uplifts(tmp_path):
    rows = random_states(1, ends_of(5))
    found, _ = uplifts(tmp_path, rows, ends_of(5))
    assert found == {}
