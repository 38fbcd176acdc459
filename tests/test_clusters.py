"""Groups of customers: found where there are some, refused where there are none, and the same ones fit after fit."""

import shutil
import time
from dataclasses import replace
from datetime import date, timedelta

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import settings as trying
from hypothesis import strategies as st
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from past_shops import LEDGERS, PROJECT, START, connect, land_by_week
from past_worlds import edit_vars
from strataflow.durable import json_text
from strataflow.errors import UsageError
from strataflow.home import Home
from strataflow.prediction import cluster_refits, clusters
from strataflow.prediction.cluster_refits import clusters_in_force, read_measures, refit_day
from strataflow.prediction.cluster_words import MEASURES, Words, names
from strataflow.prediction.clusters import Cluster, ClusterFit, Partition, Scale, Settings, fit, matches
from strataflow.project import Project
from strataflow.rules import variables

WORDS = Words.load(PROJECT)
SETTINGS = Settings.of(variables(PROJECT))
FIRST, SECOND, THIRD = (date(2024, 1, 7) + timedelta(weeks=4 * n) for n in range(3))
DAY = START + timedelta(days=300)

# Day of joining, days between orders, value of an order, and how many orders at most.
KINDS = {"regular": (0, 6, 20, 999), "collector": (120, 30, 300, 999), "passer_by": (60, 9, 70, 2)}


def three_kinds(each=110, days=310, seed=3):
    """Orders of customers of three kinds; the id begins with the kind's letter."""
    rng = np.random.default_rng(seed)
    rows = []
    for kind, (joined, gap, value, most) in KINDS.items():
        for number in range(each):
            day, left = joined + rng.uniform(0, 20), most
            while day < days and left:
                rows.append(
                    (f"{kind[0]}{number}", START + timedelta(days=int(day)), round(value * rng.gamma(40) / 40, 2))
                )
                day, left = day + gap * rng.gamma(20) / 20, left - 1
    return pd.DataFrame(rows, columns=["customer_id", "order_date", "net_amount"])


@pytest.fixture(scope="module")
def orders():
    return three_kinds()


def spots(*centres, each=300, seed=1, wide=0.25):
    """Measures of customers around the given centres of two measures, in the order of a lottery, and their groups."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(len(centres)), each))
    places = np.array(centres)[labels] + rng.normal(0, wide, (len(labels), 2))
    still = {name: np.zeros(len(labels)) for name in MEASURES}
    return still | {"order_days": places[:, 0], "order_value": places[:, 1]}, labels


def nearest(found, values):
    """The ids that the SQL gives to customers of these measures, before their logarithm was taken."""
    natural = {name: np.expm1(column) if WORDS.is_log[name] else column for name, column in values.items()}
    table = pa.table({"customer_id": [f"{n:08d}" for n in range(len(next(iter(values.values()))))], **natural})
    with duckdb.connect() as connection:
        connection.register("features", table)
        return connection.execute(f"from ({found.assignment_sql('features')}) order by customer_id").fetchnumpy()


THREE = ((1, 1), (3, 1), (2, 3))


# ---------------------------------------------------------------- what is found


def test_three_kinds_of_customers_are_found_in_a_shops_orders(orders):
    connection, settings = connect(orders), replace(SETTINGS, min_customers=300)
    values = read_measures(connection, PROJECT, LEDGERS, DAY, 90, WORDS)
    found = fit(values, WORDS, settings, DAY, None)
    kinds = connection.execute(
        "select customer_id[1] from (select distinct customer_id from orders) order by md5(customer_id), customer_id"
    ).fetchall()
    assert len(found.found.clusters) == 3
    said = nearest(found.found, values)["cluster_id"]
    assert adjusted_rand_score([kind for (kind,) in kinds], said) > 0.99
    by_kind = {kind: found.found.clusters[int(one[-1]) - 1] for (kind,), one in zip(kinds, said, strict=True)}
    assert by_kind["r"].name_en.startswith("frequent")
    assert "high basket" in by_kind["c"].name_en
    assert "久未下单" in by_kind["p"].name_zh
    typical = {kind: found.found.typical(one) for kind, one in by_kind.items()}
    assert typical["c"]["order_value"] == pytest.approx(300, rel=0.1)
    assert typical["p"]["order_days"] == pytest.approx(2, rel=0.1)
    assert found.left_out.keys() == {"discount_share", "refund_share", "engagement"}


def test_what_comes_later_changes_nothing(orders):
    known = [read_measures(connect(some), PROJECT, LEDGERS, DAY, 90, WORDS)
             for some in (orders, orders[orders.order_date <= DAY])]  # fmt: skip
    for name in MEASURES:
        assert (known[0][name] == known[1][name]).all()


def test_equal_data_make_equal_bytes_and_json_brings_all_of_it_back():
    values, _ = spots(*THREE)
    one, again = (fit(values, WORDS, SETTINGS, FIRST, None) for _ in range(2))
    assert json_text(one.to_json()) == json_text(again.to_json())
    later = one.without_groups(SECOND, "nothing")
    for kept in (one, later, ClusterFit(FIRST, "nobody")):
        assert ClusterFit.from_json(kept.to_json()) == replace(kept, left_out=kept.left_out or {})
    with pytest.raises(ValueError, match="format 9"):
        ClusterFit.from_json({"format": 9})


# ---------------------------------------------------------------- none are made up


def one_cloud():
    rng = np.random.default_rng(4)
    slanted = rng.multivariate_normal([2, 2, 2], [[1, 0.6, 0.2], [0.6, 1, 0.1], [0.2, 0.1, 1]], 1500)
    still = {name: np.zeros(1500) for name in MEASURES}
    return still | dict(zip(("order_days", "order_value", "silence_days"), slanted.T, strict=True))


def a_few_outliers():
    values, labels = spots((1, 1), (1.1, 1.1), (9, 9), each=400, wide=0.01)
    keep = (labels < 2) | (np.cumsum(labels == 2) <= 50)
    return {name: column[keep] for name, column in values.items()}


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (lambda: spots(*THREE, each=100)[0], "300 customers with an order, 500 are needed"),
        (lambda: {name: np.ones(600) for name in MEASURES}, "customers are the same in every measure"),
        (lambda: spots(*THREE)[0] | {"order_value": np.ones(900)}, "customers differ in order_days alone"),
        (lambda: {name: np.arange(600) % 2.0 for name in MEASURES}, "customers are too alike for 3 groups"),
        (one_cloud, "more than the .* of a shapeless cloud"),
        (dict, "0 customers with an order"),
    ],
)
def test_where_nothing_stands_apart_there_are_no_groups_and_the_reason_is_said(values, reason):
    found = fit(values(), WORDS, SETTINGS, FIRST, None)
    assert found.found is None
    assert pd.Series([found.reason]).str.contains(reason).all()
    said = cluster_refits.dbt_vars(found)
    assert said["cluster_assignment_sql"] is None
    assert said["cluster_fit"]["clusters"] == []
    assert said["cluster_fit"]["silhouette"] is None


def test_a_group_of_a_few_does_not_count():
    values = a_few_outliers()
    assert len(fit(values, WORDS, replace(SETTINGS, min_k=2, max_k=2), FIRST, None).found.clusters) == 2
    found = fit(values, WORDS, replace(SETTINGS, min_k=2, max_k=2, min_share=0.10), FIRST, None)
    assert found.found is None
    assert "fewer than 10.0% of the customers" in found.reason


@pytest.mark.parametrize(
    ("rules", "fault"),
    [
        ({"cluster_min_k": 1}, "cluster_min_k is 1"),
        ({"cluster_max_k": 2}, "cluster_max_k 2"),
        ({"cluster_max_k": 99}, "cluster_max_k 99"),
        ({"cluster_refit_weeks": 0}, "cluster_refit_weeks is 0"),
        ({"cluster_refit_weeks": 1.5}, "cluster_refit_weeks is 1.5"),
        ({"cluster_min_share": "much"}, "cluster_min_share is 'much'"),
        ({"cluster_max_same_share": 1}, "cluster_max_same_share is 1"),
        ({"cluster_match_distance": -1}, "cluster_match_distance is -1"),
    ],
)
def test_a_setting_that_cant_be_is_refused_by_name(rules, fault):
    with pytest.raises(UsageError, match=fault):
        Settings.of(variables(PROJECT) | rules)


# ---------------------------------------------------------------- the same groups, fit after fit


def ids_at(found, *places):
    """The ids of the groups whose centres are nearest to these places."""
    centres = {
        one.cluster_id: np.array(
            [value * scale.spread + scale.centre for value, scale in zip(one.centre, found.scales, strict=True)]
        )
        for one in found.clusters
    }
    return [min(centres, key=lambda name: float(np.abs(centres[name] - place).sum())) for place in places]


def test_a_refit_keeps_ids_names_a_new_group_anew_and_gives_a_lost_id_to_nobody():
    settings = replace(SETTINGS, match_distance=0.5)
    first = fit(spots(*THREE, seed=1)[0], WORDS, settings, FIRST, None)
    left, right, top = ids_at(first.found, *THREE)
    assert {left, right, top} == {"cluster_1", "cluster_2", "cluster_3"}
    moved = fit(spots((2.05, 3), (1, 1.05), (3.05, 1), seed=2)[0], WORDS, settings, SECOND, first)
    assert ids_at(moved.found, *THREE) == [left, right, top]
    assert {one.first_fitted for one in moved.found.clusters} == {FIRST}
    other = fit(spots((1, 1), (3, 1), (0.2, 3), seed=3)[0], WORDS, settings, SECOND, first)
    assert ids_at(other.found, (1, 1), (3, 1), (0.2, 3)) == [left, right, "cluster_4"]
    assert [one.first_fitted for one in other.found.clusters] == [FIRST, FIRST, SECOND]
    back = fit(spots(*THREE, seed=1)[0], WORDS, settings, THIRD, other)
    assert ids_at(back.found, *THREE) == [left, right, "cluster_5"]


def test_groups_that_only_grew_along_with_everybody_are_the_same_ones():
    first = fit(spots(*THREE)[0], WORDS, SETTINGS, FIRST, None)
    grown = [(across + 1.5, up + 1) for across, up in THREE]
    later = fit(spots(*grown, seed=2)[0], WORDS, SETTINGS, SECOND, first)
    assert ids_at(later.found, *grown) == ids_at(first.found, *THREE)
    assert later.next_number == 4


def test_ids_go_on_after_a_fit_without_groups():
    first = fit(spots(*THREE)[0], WORDS, SETTINGS, FIRST, None)
    nothing = fit(one_cloud(), WORDS, SETTINGS, SECOND, first)
    assert nothing.found is None
    again = fit(spots(*THREE[::-1], seed=7)[0], WORDS, SETTINGS, THIRD, nothing)
    assert ids_at(again.found, *THREE) == ids_at(first.found, *THREE)
    assert again.next_number == 4


@trying(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 7), st.floats(0.5, 2), st.floats(-1, 1))
def test_centres_find_themselves_again_in_any_order_and_on_other_scales(seed, k, stretch, shift):
    rng = np.random.default_rng(seed)
    corners = rng.permutation(8)[:k]
    centres = np.stack([corners & 1, corners >> 1 & 1, corners >> 2 & 1], axis=1) * 4.0 + rng.normal(0, 0.1, (k, 3))
    scales = [Scale(name, WORDS.is_log[name], -9.0, 9.0, 0.5, 2.0) for name in MEASURES[:3]]
    known = Partition(
        tuple(scales),
        tuple(Cluster(f"cluster_{n + 1}", tuple(place), 0.1, FIRST, "", "") for n, place in enumerate(centres)),
    )
    other = [replace(one, centre=one.centre + shift, spread=one.spread * stretch) for one in scales[::-1]]
    order = rng.permutation(k)
    natural = centres[order] * 2.0 + 0.5
    seen = ((natural - 0.5 - shift) / (2.0 * stretch))[:, ::-1]
    found = matches(known, other, seen + rng.normal(0, 0.05, seen.shape), 1.0)
    assert {position: one.cluster_id for position, one in found.items()} == {
        position: f"cluster_{n + 1}" for position, n in enumerate(order)
    }
    assert matches(known, [replace(one, measure="tenure_days") for one in other[:1]], seen[:, :1], 1.0) == {}


def test_the_number_of_groups_stays_where_another_is_hardly_better():
    first = fit(spots(*THREE)[0], WORDS, SETTINGS, FIRST, None)
    four = spots((1, 1), (3, 1), (1.8, 3), (2.9, 3), seed=5, wide=0.3)[0]
    free = fit(four, WORDS, SETTINGS, SECOND, None)
    assert len(free.found.clusters) == 4
    assert len(fit(four, WORDS, SETTINGS, SECOND, first).found.clusters) == 4
    held = fit(four, WORDS, replace(SETTINGS, keep_k_margin=0.5), SECOND, first)
    assert len(held.found.clusters) == 3
    assert "k = 3 stays" in held.reason
    assert "k = 4 has the best silhouette" in held.reason


# ---------------------------------------------------------------- names


def test_a_group_is_called_by_what_sets_it_apart_and_no_two_are_called_alike():
    assert names([{"order_days": 1.2, "order_value": -0.6, "silence_days": -2.0, "engagement": 0.1}], WORDS) == [
        ("frequent, low basket, recent", "下单频繁、客单价低、近期下单")
    ]
    assert names([{"order_days": 0.4, "engagement": -0.49}], WORDS) == [("ordinary", "普通")]
    alike = [{"order_days": 1.2, "order_value": 0.2}, {"order_days": 1.1, "order_value": -0.2}]
    assert names(alike, WORDS) == [
        ("frequent, high basket", "下单频繁、客单价高"),
        ("frequent, low basket", "下单频繁、客单价低"),
    ]
    assert names([{"order_days": 1.2}] * 3, WORDS) == [
        ("frequent", "下单频繁"), ("frequent (2)", "下单频繁（2）"), ("frequent (3)", "下单频繁（3）"),
    ]  # fmt: skip
    assert names([{"order_days": 0.1}, {"order_days": -0.1}], WORDS) == [
        ("ordinary, frequent", "普通、下单频繁"), ("ordinary, few orders", "普通、下单较少"),
    ]  # fmt: skip


@trying(max_examples=80, deadline=None)
@given(st.lists(st.lists(st.sampled_from([-2.0, -0.6, -0.1, 0.1, 0.6, 2.0]), min_size=3, max_size=3), max_size=8))
def test_names_are_unique_in_both_languages(centres):
    said = names([dict(zip(MEASURES, centre, strict=False)) for centre in centres], WORDS)
    assert len({en for en, _ in said}) == len({zh for _, zh in said}) == len(centres)


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ("shoe_size,log,a,b,c,d", "'shoe_size' is no measure.*silence_days"),
        ("order_days,square,a,b,c,d", "the scale of order_days is 'square'"),
        ("order_days,log,a,,c, ", "order_days lacks much_zh, little_zh"),
        ("order_days,log,a,b,c,d\norder_days,log,a,b,c,d", "order_days stands there twice"),
    ],
)
def test_a_measure_that_cant_be_is_refused_with_file_and_line(row, fault, tmp_path):
    seed = tmp_path / "dbt_project" / "seeds" / "cluster_measures.csv"
    seed.parent.mkdir(parents=True)
    seed.write_text("measure,scale,much_en,much_zh,little_en,little_zh\n" + row + "\n", encoding="utf-8")
    with pytest.raises(UsageError, match=fault) as refused:
        Words.load(Project(tmp_path))
    assert f"line {2 + row.count(chr(10))}" in str(refused.value)


# ---------------------------------------------------------------- assignment in the database


@pytest.mark.parametrize("k", [2, 3, 8])
def test_the_database_assigns_as_scikit_learn_predicts(k):
    rng = np.random.default_rng(k)
    values = {name: rng.gamma(2, 1, 3000) for name in MEASURES}
    scales = tuple(
        Scale(name, WORDS.is_log[name], *np.quantile(column, clusters.TAILS), column.mean(), column.std())
        for name, column in values.items()
    )
    places = np.column_stack([scale.standardised(values[scale.measure]) for scale in scales])
    model = KMeans(k, n_init=1, random_state=1).fit(places)
    found = Partition(
        scales,
        tuple(
            Cluster(f"cluster_{n}", tuple(place), 0.1, FIRST, "", "") for n, place in enumerate(model.cluster_centers_)
        ),
    )
    said = nearest(found, values)
    assert list(said["cluster_id"]) == [f"cluster_{n}" for n in model.predict(places)]
    gaps = np.sort(model.transform(places), axis=1)
    assert said["distance"] == pytest.approx(gaps[:, 0], abs=1e-6)
    assert said["next_distance"] == pytest.approx(gaps[:, 1], abs=1e-6)
    assert (said["cluster_id"] != said["next_cluster_id"]).all()


def test_who_stands_between_two_groups_belongs_to_the_first():
    scale = Scale("tenure_days", False, -9.0, 9.0, 0.0, 1.0)
    places = (("cluster_7", -1.0), ("cluster_9", 1.0), ("cluster_12", 3.0))
    found = Partition((scale,), tuple(Cluster(name, (at,), 0.1, FIRST, "", "") for name, at in places))
    said = nearest(found, {"tenure_days": np.array([0.0, 2.0, 99.0])})
    assert list(said["cluster_id"]) == ["cluster_7", "cluster_9", "cluster_12"]
    assert list(said["next_cluster_id"]) == ["cluster_9", "cluster_12", "cluster_9"]
    assert list(said["distance"]) == [1.0, 1.0, 6.0]


def test_a_large_shop_is_assigned_in_a_moment():
    rng = np.random.default_rng(0)
    values = {name: rng.gamma(2, 1, 200_000) for name in MEASURES}
    some = {name: column[:2000] for name, column in values.items()}
    found = fit(some, WORDS, replace(SETTINGS, min_silhouette=0.0, min_gain=0.0, min_k=6, max_k=6), FIRST, None).found
    began = time.process_time()
    assert len(set(nearest(found, values)["cluster_id"])) == 6
    assert time.process_time() - began < 4


# ---------------------------------------------------------------- which fit a day has


@pytest.mark.parametrize(
    ("as_of", "weeks", "expected"),
    [
        (date(2024, 1, 8), 1, date(2024, 1, 7)),
        (date(2024, 1, 7), 1, date(2023, 12, 31)),
        (date(2024, 1, 8), 4, date(2023, 12, 24)),
        (date(2024, 1, 21), 4, date(2023, 12, 24)),
        (date(2024, 1, 22), 4, date(2024, 1, 21)),
    ],
)
def test_groups_are_fitted_on_fixed_sundays_before_the_day(as_of, weeks, expected):
    assert refit_day(as_of, weeks) == expected


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The rules with groups switched on, for a shop of a few hundred customers."""
    root = tmp_path_factory.mktemp("rules")
    shutil.copytree(PROJECT.dbt, root / "dbt_project", ignore=shutil.ignore_patterns("target", "logs"))
    (root / "expectations").mkdir()
    project = Project(root)
    edit_vars(project, {"clusters": "true", "cluster_min_customers": "200", "cluster_max_k": "4"})
    return project


@pytest.fixture(scope="module")
def lake(orders, tmp_path_factory):
    home = Home(tmp_path_factory.mktemp("shop") / "home")
    land_by_week(home, orders)
    return home


class Aside:
    """A home on the same lake, whose ledgers are written without dbt."""

    def __init__(self, lake, orders, project, root):
        self.home, self.project, self.asked = Home(root / "home"), project, 0
        self._orders = orders.assign(
            received_date=[day + timedelta(days=6 - day.weekday()) for day in orders.order_date]
        )
        self.home.root.mkdir(parents=True)
        self.home.lake.symlink_to(lake.lake)

    def ledgers(self, known):
        self.asked += 1
        received = self._orders[self._orders.received_date <= known.known_at]
        with connect(received) as connection:
            for name in ("orders", "interactions"):
                path = self.home.state / f"{name.removesuffix('s')}_ledger" / "all.parquet"
                path.parent.mkdir(parents=True, exist_ok=True)
                rows = f"(from {name})" if name == "interactions" else (
                    "(select * replace (order_date + 7 - isodow(order_date)::int as received_date) from orders)"
                )  # fmt: skip
                connection.execute(f"copy {rows} to '{path}'")

    def groups(self, day):
        return clusters_in_force(self.home, self.project, day, "rules", self.ledgers)

    def files(self):
        return {path.parent.name: path.read_bytes() for path in self.home.models.glob("*/*.json")}


def test_an_empty_home_gets_the_groups_of_daily_runs_in_any_order(lake, orders, project, tmp_path):
    daily, replayed, backward = (Aside(lake, orders, project, tmp_path / name) for name in ("a", "b", "c"))
    days = [DAY - timedelta(days=days) for days in (84, 57, 56, 29, 0)]
    told = {day: daily.groups(day) for day in days}
    assert replayed.groups(DAY) == told[DAY]
    assert {day: backward.groups(day) for day in days[::-1]} == told
    assert daily.files() == replayed.files() == backward.files()
    assert len(daily.files()) > 8
    assert all(fit.fitted_on == refit_day(day, 4) for day, fit in told.items())
    assert [len(fit.found.clusters) for fit in told.values()] == [3] * 5
    assert len({one.cluster_id for fit in told.values() for one in fit.found.clusters}) == 3
    assert backward.asked == 1


def test_a_kept_fit_is_used_again_and_a_damaged_or_outdated_one_made_again(
    lake, orders, project, tmp_path, monkeypatch
):
    shop = Aside(lake, orders, project, tmp_path)
    made, whole = shop.groups(DAY), shop.files()
    newest = shop.home.models / str(refit_day(DAY, 4)) / cluster_refits.FILE
    for damage in (b"{", newest.read_bytes().replace(b"0.", b"1.", 1), b"[]"):
        newest.write_bytes(damage)
        assert shop.groups(DAY) == made
        assert shop.files() == whole
    monkeypatch.setattr(cluster_refits, "fit", None)
    assert shop.groups(DAY) == made
    with pytest.raises(TypeError):
        clusters_in_force(shop.home, project, DAY, "other rules", shop.ledgers)


def test_a_young_shop_is_told_why_and_an_old_one_without_groups_too(lake, orders, project, tmp_path):
    shop = Aside(lake, orders, project, tmp_path)
    assert shop.groups(START) == ClusterFit(refit_day(START, 4), f"nothing had been received by {refit_day(START, 4)}")
    assert shop.asked == 0
    assert clusters_in_force(shop.home, PROJECT, DAY, "rules", shop.ledgers) is None
