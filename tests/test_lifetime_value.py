"""Lifetime value: against simulated shops whose future is known, and where no model can be trusted."""

import json
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest

from past_shops import AS_OF, LEDGERS, PROJECT, START, connect, shop
from strataflow.errors import StepFailed
from strataflow.prediction import lifetime_value
from strataflow.prediction.features import features_sql
from strataflow.prediction.lifetime_value import ValueModel

DISCOUNT = 0.10


@pytest.fixture(scope="module")
def orders():
    return shop(days=800)


def scores(connection, model):
    connection.execute(f"create or replace temp table known as {features_sql(PROJECT, LEDGERS, AS_OF, 90)}")
    lifetime_value.score(connection, model, "known", AS_OF, DISCOUNT)
    return (
        connection.execute("from customer_lifetime_value order by customer_id")
        .df()
        .convert_dtypes(dtype_backend="numpy_nullable")
    )


def test_the_year_that_follows_is_foreseen(orders):
    connection = connect(orders)
    model = lifetime_value.fit(connection, LEDGERS, AS_OF)
    assert model.method == "model"
    found = scores(connection, model)
    ahead = orders[(orders.order_date > AS_OF) & (orders.order_date <= AS_OF + timedelta(days=365))]
    known = set(found.customer_id)
    spent = ahead[ahead.customer_id.isin(known)].groupby("customer_id").net_amount.sum()
    assert found.expected_value.astype(float).sum() == pytest.approx(spent.sum() / 1.05, rel=0.25)
    actual = found.customer_id.map(spent).fillna(0).astype(float)
    within = (actual >= found.expected_value_low.astype(float)) & (
        actual <= found.expected_value_high.astype(float) * 1.05
    )
    assert within.mean() > 0.7
    assert (found.method == "model").all()


def test_what_comes_later_changes_nothing(orders):
    before = lifetime_value.fit(connect(orders[orders.order_date <= AS_OF]), LEDGERS, AS_OF)
    assert lifetime_value.fit(connect(orders), LEDGERS, AS_OF) == before


def test_a_model_read_back_scores_the_same(orders):
    connection = connect(orders)
    model = lifetime_value.fit(connection, LEDGERS, AS_OF)
    back = ValueModel.from_json(json.loads(json.dumps(model.to_json())))
    assert scores(connection, model).equals(scores(connection, back))


def test_a_shop_nobody_leaves_gets_the_average_of_its_cohorts():
    days = [START + timedelta(days=7 * week) for week in range(52)]
    regulars = pd.DataFrame(
        [(f"c{n}", day, 10.0) for n in range(50) for day in days], columns=["customer_id", "order_date", "net_amount"]
    )
    connection = connect(regulars)
    as_of = START + timedelta(days=363)
    model = lifetime_value.fit(connection, LEDGERS, as_of)
    assert model.method == "cohort_average"
    assert any("bg_nbd" in problem for problem in model.problems)
    found = scores(connection, model)
    assert found.expected_orders.astype(float).unique() == pytest.approx([52], abs=2)
    assert found.expected_value.astype(float).unique() == pytest.approx([520 / 1.1**0.5], rel=0.05)
    assert found.expected_value_low.isna().all()


def test_a_shop_without_orders_yields_an_empty_table():
    connection = connect(shop(customers=3).iloc[:0].astype({"customer_id": str}))
    model = lifetime_value.fit(connection, LEDGERS, AS_OF)
    assert model.problems == ("no orders yet",)
    assert scores(connection, model).empty


@pytest.mark.parametrize(
    ("change", "method"),
    [
        (lambda o: o[o.customer_id == o.customer_id.iloc[0]], "cohort_average"),
        (lambda o: o.drop_duplicates("customer_id").assign(order_date=AS_OF), "cohort_average"),
        (lambda o: o.drop_duplicates("customer_id").assign(order_date=START), "cohort_average"),
        (lambda o: o.assign(net_amount=np.where(np.arange(len(o)) % 3, o.net_amount, np.nan)), "model"),
    ],
    ids=["one customer", "all new", "nobody comes back", "amounts missing"],
)
def test_a_shop_that_says_little_ends_in_possible_numbers_and_the_reason(orders, change, method):
    changed = change(orders[orders.order_date <= AS_OF])
    connection = connect(changed)
    model = lifetime_value.fit(connection, LEDGERS, AS_OF)
    found = scores(connection, model)
    assert len(found) == changed.customer_id.nunique()
    for column in ("expected_orders", "expected_order_value", "expected_value"):
        values = found[column].astype(float)
        assert np.isfinite(values).all(), column
        assert (values >= 0).all(), column
    assert model.method == method
    assert bool(model.problems) or method == "model"


def test_scores_that_are_no_numbers_break_the_contract_in_words(orders):
    connection = connect(orders)
    model = lifetime_value.fit(connection, LEDGERS, AS_OF)
    with pytest.raises(StepFailed, match=r"expected_order_value(?s:.*)value_model.json"):
        scores(connection, replace(model, value=None, mean_order_value=float("nan")))


def test_money_later_is_worth_less(orders):
    model = lifetime_value.fit(connect(orders), LEDGERS, AS_OF)
    one = [np.array([value], dtype=float) for value in (3, 100, 120, 4, 25)]
    now, later = (
        lifetime_value.expected(model, *one, yearly_discount=rate)["expected_value"][0] for rate in (0.0, 0.2)
    )
    assert now / 1.2 < later < now / 1.05
