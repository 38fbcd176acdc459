"""Fits and expectations against published numbers, simulated shops, and an independent implementation."""

import time
from dataclasses import replace
from importlib.resources import files

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lifetimes import BetaGeoFitter, GammaGammaFitter, ModifiedBetaGeoFitter, ParetoNBDFitter

from strataflow.prediction import buy_till_you_die as btyd
from strataflow.prediction import gamma_gamma
from strataflow.prediction.buy_till_you_die import Histories
from strataflow.prediction.likelihood import Fit

PUBLISHED = {
    "bg_nbd": {"r": 0.243, "alpha": 4.414, "a": 0.793, "b": 2.426},
    "mbg_nbd": {"r": 0.525, "alpha": 6.183, "a": 0.891, "b": 1.614},
    "pareto_nbd": {"r": 0.553, "alpha": 10.578, "s": 0.606, "beta": 11.668},
}
LOG_LIKELIHOOD = {"bg_nbd": -9582.43, "pareto_nbd": -9594.97}
REFERENCE = {"bg_nbd": BetaGeoFitter, "mbg_nbd": ModifiedBetaGeoFitter, "pareto_nbd": ParetoNBDFitter}


def published(name):
    """The CDNOW sample as the package lifetimes carries it; its own loader needs a module that is gone."""
    return pd.read_csv(files("lifetimes") / "datasets" / name)


@pytest.fixture(scope="module")
def cdnow():
    return published("cdnow_customers_summary.csv")


@pytest.fixture(scope="module")
def fits(cdnow):
    histories = Histories.of(cdnow.frequency, cdnow.recency, cdnow["T"])
    return {model: btyd.fit(model, histories) for model in btyd.MODELS}


@pytest.mark.parametrize("model", btyd.MODELS)
def test_the_published_parameters_of_cdnow_are_found(fits, model):
    found = fits[model]
    assert found.is_sound
    assert found.customers == 2357
    assert found.parameters == pytest.approx(PUBLISHED[model], abs=6e-4)
    if model in LOG_LIKELIHOOD:
        assert found.log_likelihood == pytest.approx(LOG_LIKELIHOOD[model], abs=0.01)


@pytest.mark.parametrize("model", btyd.MODELS)
def test_expectations_equal_those_of_an_independent_implementation(fits, cdnow, model):
    other = REFERENCE[model]()
    names = list(fits[model].parameters)
    other.params_ = pd.Series(fits[model].parameters, index=names)
    history = (cdnow.frequency.to_numpy(), cdnow.recency.to_numpy(), cdnow["T"].to_numpy())
    alive = np.asarray(other.conditional_probability_alive(*history))
    expected = np.asarray(other.conditional_expected_number_of_purchases_up_to_time(39, *history))
    np.testing.assert_allclose(btyd.probability_alive(fits[model], *history), alive, atol=1e-7)
    np.testing.assert_allclose(btyd.expected_orders(fits[model], *history, 39), expected, atol=1e-6)


def test_the_worked_examples_of_the_papers_come_out():
    bg = Fit("bg_nbd", {"r": 0.243, "alpha": 4.414, "a": 0.793, "b": 2.426}, 0.0, 1)
    pareto = Fit("pareto_nbd", {"r": 0.553, "alpha": 10.578, "s": 0.606, "beta": 11.669}, 0.0, 1)
    history = (np.array([2.0]), np.array([30.43]), np.array([38.86]))
    assert btyd.expected_orders(bg, *history, 39)[0] == pytest.approx(1.226, abs=5e-4)
    busy = (np.array([26.0]), np.array([30.86]), np.array([31.0]))
    assert btyd.expected_orders(pareto, *busy, 52)[0] == pytest.approx(25.46, abs=5e-3)
    for horizon, printed in ((0.1429, 0.0078), (1, 0.0532), (3, 0.1506), (78, 1.8576)):
        assert btyd.expected_orders_of_new_customer(bg, horizon) == pytest.approx(printed, rel=5e-3)


def test_a_one_time_buyer_is_certainly_alive_under_bg_nbd_only(fits):
    once = (np.zeros(1), np.zeros(1), np.array([30.0]))
    assert btyd.probability_alive(fits["bg_nbd"], *once)[0] == 1.0
    assert 0 < btyd.probability_alive(fits["mbg_nbd"], *once)[0] < 1


@pytest.mark.parametrize("model", ["bg_nbd", "mbg_nbd"])
def test_parameters_of_a_simulated_shop_are_recovered_whatever_the_unit(model):
    truth = {"r": 0.6, "alpha": 40.0, "a": 1.2, "b": 4.0}
    x, t_x, now = simulate(truth, 25_000, seed=5, stops_at_once=model == "mbg_nbd")
    days = btyd.fit(model, Histories.of(x, t_x, now))
    weeks = btyd.fit(model, Histories.of(x, t_x / 7, now / 7))
    assert days.is_sound
    assert days.parameters == pytest.approx(truth, rel=0.2)
    assert weeks.parameters["alpha"] * 7 == pytest.approx(days.parameters["alpha"], rel=1e-3)
    assert weeks.parameters["b"] == pytest.approx(days.parameters["b"], rel=1e-3)


@pytest.mark.parametrize("model", ["bg_nbd", "mbg_nbd"])
def test_the_share_that_orders_again_is_what_the_model_says(model):
    truth = {"r": 0.6, "alpha": 40.0, "a": 1.2, "b": 4.0}
    fit = Fit(model, truth, 0.0, 1)
    x, t_x, now, later = simulate(truth, 60_000, seed=6, stops_at_once=model == "mbg_nbd", horizon=90)
    said = btyd.probability_of_order(fit, x, t_x, now, 90)
    expected = btyd.expected_orders(fit, x, t_x, now, 90)
    assert said.mean() == pytest.approx((later > 0).mean(), abs=0.01)
    assert expected.mean() == pytest.approx(later.mean(), rel=0.04)
    often = x >= 3
    assert said[often].mean() == pytest.approx((later[often] > 0).mean(), abs=0.02)


def test_a_quarter_of_a_million_customers_fit_in_seconds():
    x, t_x, now = simulate({"r": 0.4, "alpha": 60.0, "a": 0.8, "b": 2.4}, 250_000, seed=1)
    begun = time.process_time()
    found = btyd.fit("bg_nbd", Histories.of(x, np.ceil(t_x), np.maximum(np.ceil(now), np.ceil(t_x))))
    assert time.process_time() - begun < 5
    assert found.is_sound
    assert found.customers == 250_000


def test_the_gradient_is_the_slope_of_the_likelihood(cdnow):
    histories = Histories.of(cdnow.frequency, cdnow.recency, cdnow["T"])
    for model in ("bg_nbd", "mbg_nbd"):
        surface = btyd._surface(model, histories)
        point = np.array([0.4, 6.0, 0.7, 2.0])
        _, slope = surface.at(point)
        for position in range(4):
            step = np.zeros(4)
            step[position] = 1e-5
            rise = (surface.at(point + step)[0] - surface.at(point - step)[0]) / 2e-5
            assert slope[position] == pytest.approx(rise, rel=1e-4, abs=1e-3)


def test_equal_histories_are_counted_once_and_weigh_the_same():
    x, t_x, now = simulate({"r": 0.6, "alpha": 40.0, "a": 1.2, "b": 4.0}, 3_000, seed=9)
    t_x, now = np.round(t_x / 30), np.round(now / 30) + 1
    counted = Histories.of(x, t_x, now)
    again = Histories.of(counted.x, counted.t_x, counted.age, counted.weight)
    assert len(counted.x) < 1_500
    assert counted.customers == again.customers == 3_000
    assert btyd.fit("bg_nbd", counted).parameters == btyd.fit("bg_nbd", again).parameters


def test_a_shop_that_nobody_leaves_is_reported_as_degenerate():
    rng = np.random.default_rng(3)
    now = np.full(3000, 365.0)
    x = rng.poisson(rng.gamma(3, 1 / 60, 3000) * now).astype(float)
    t_x = np.where(x > 0, now - rng.exponential(5, 3000).clip(0, 100), 0.0)
    assert not btyd.fit("bg_nbd", Histories.of(x, t_x, now)).is_sound


@pytest.mark.parametrize("customers", [0, 1, 9])
def test_too_few_repeaters_end_in_words_not_in_an_exception(customers):
    found = btyd.fit("mbg_nbd", Histories.of(np.ones(customers), np.ones(customers), np.full(customers, 5.0)))
    assert "repeat order" in found.problems[0]


@pytest.mark.parametrize(("x", "t_x", "now"), [(1, 6, 5), (-1, 0, 5), (1, np.nan, 5)])
def test_impossible_histories_are_refused(x, t_x, now):
    with pytest.raises(ValueError, match="0 <= t_x <= age"):
        Histories.of([x], [t_x], [now])


def test_there_is_no_other_model():
    with pytest.raises(ValueError, match="no model 'nbd'"):
        btyd.fit("nbd", Histories.of([1.0], [1.0], [2.0]))


@settings(max_examples=60, deadline=None)
@given(
    x=st.integers(0, 400), share=st.floats(0, 1), now=st.floats(1, 3000), horizon=st.floats(1, 400),
    a=st.floats(0.2, 3), model=st.sampled_from(btyd.MODELS),
)  # fmt: skip
def test_probabilities_and_expectations_stay_possible_for_any_customer(x, share, now, horizon, a, model):
    names = ("r", "alpha", "s", "beta") if model == "pareto_nbd" else ("r", "alpha", "a", "b")
    fit = Fit(model, dict(zip(names, (0.7, 30.0, a, 2.5), strict=True)), 0.0, 1)
    history = (np.array([float(x)]), np.array([share * now if x else 0.0]), np.array([now]))
    alive, expected = btyd.probability_alive(fit, *history), btyd.expected_orders(fit, *history, horizon)
    assert 0 <= alive[0] <= 1
    assert -1e-9 <= expected[0] <= (0.7 + x) / (30 + now) * horizon * 1.0001


def test_the_integral_over_the_moment_of_stopping_equals_the_series():
    history = (np.array([0.0, 2.0, 9.0]), np.array([0.0, 30.0, 200.0]), np.array([40.0, 90.0, 365.0]))
    for alpha, beta in ((10.6, 11.7), (30.0, 8.0)):
        _, series = btyd._pareto_terms(0.55, alpha, 0.6, beta, *history)
        np.testing.assert_allclose(btyd._stopping_integral(0.55, alpha, 0.6, beta, *history), series, rtol=1e-9)


def test_expected_orders_are_smooth_where_the_formula_is_not():
    history = (np.array([3.0]), np.array([50.0]), np.array([90.0]))
    near = [
        btyd.expected_orders(Fit("mbg_nbd", {"r": 0.7, "alpha": 30.0, "a": a, "b": 2.5}, 0.0, 1), *history, 90)[0]
        for a in (0.999, 1.0, 1.001)
    ]
    assert near[1] == pytest.approx((near[0] + near[2]) / 2, rel=1e-5)


def test_gamma_gamma_finds_the_published_parameters_and_the_shrunk_means():
    data = published("cdnow_customers_summary_with_transactions.csv")
    found = gamma_gamma.fit(data.x, data.zbar)
    assert found.is_sound
    assert found.customers == 946
    assert found.parameters == pytest.approx({"p": 6.250, "q": 3.744, "gamma": 15.44}, abs=9e-3)
    other = GammaGammaFitter()
    other.params_ = pd.Series({"p": found.parameters["p"], "q": found.parameters["q"], "v": found.parameters["gamma"]})
    expected = other.conditional_expected_average_profit(data.x, data.zbar)
    np.testing.assert_allclose(gamma_gamma.expected_value(found, data.x, data.zbar), expected)


def test_gamma_gamma_by_hand():
    fit = Fit("gamma_gamma", {"p": 2.0, "q": 3.0, "gamma": 10.0}, 0.0, 1)
    # no order: 2 * 10 / (3 - 1); four orders of 25: 2 * (10 + 100) / (2 * 4 + 3 - 1)
    np.testing.assert_allclose(gamma_gamma.expected_value(fit, [0, 4], [np.nan, 25.0]), [10.0, 22.0])


def test_gamma_gamma_recovers_a_simulated_shop_in_any_currency():
    rng = np.random.default_rng(2)
    orders = rng.integers(1, 8, 30_000)
    value = rng.gamma(5.0 * orders, 1.0) / orders / rng.gamma(4.0, 1 / 20.0, 30_000)
    found = gamma_gamma.fit(orders, value)
    assert found.parameters == pytest.approx({"p": 5.0, "q": 4.0, "gamma": 20.0}, rel=0.08)
    cents = gamma_gamma.fit(orders, value * 100)
    assert cents.parameters["gamma"] == pytest.approx(100 * found.parameters["gamma"], rel=1e-3)


def test_gamma_gamma_says_what_speaks_against_it():
    rng = np.random.default_rng(4)
    orders = rng.integers(1, 9, 2000)
    assert "correlated" in "".join(gamma_gamma.fit(orders, orders * rng.gamma(20, 1 / 20, 2000)).problems)
    assert not gamma_gamma.fit([1, 2], [5.0, np.nan]).is_sound
    assert not gamma_gamma.fit(orders, np.full(2000, 9.99)).is_sound


def simulate(truth, customers, seed, *, stops_at_once=False, horizon=None):
    """Histories up to a random age of 30 to 700 days, and the orders of the horizon after it."""
    rng = np.random.default_rng(seed)
    rate = rng.gamma(truth["r"], 1 / truth["alpha"], customers)
    stop = rng.beta(truth["a"], truth["b"], customers)
    now = rng.uniform(30, 700, customers)
    end = now + (horizon or 0)
    x, t_x, later, age = (np.zeros(customers) for _ in range(4))
    alive = rng.random(customers) >= stop if stops_at_once else np.ones(customers, dtype=bool)
    while alive.any():
        age = age + rng.exponential(1, customers) / np.maximum(rate, 1e-12)
        before = alive & (age <= now)
        x[before] += 1
        t_x[before] = age[before]
        within = alive & (age <= end)
        later[within & ~before] += 1
        alive = within & (rng.random(customers) >= stop)
    return (x, t_x, now) if horizon is None else (x, t_x, now, later)


def test_a_fit_without_problems_is_sound(fits):
    assert not replace(fits["bg_nbd"], problems=("made up",)).is_sound
