"""The models that compete for predicting who will not order again.

Each learns from the same examples and ends as an :class:`Additive` model. Why these:

- recency: the baseline, days since the last order alone;
- hazard: the silence measured in the customer's own rhythm;
- mbg_nbd: a model of buying and stopping with four parameters for the whole shop;
- logistic: many features, straight lines, drifts little when a young shop grows older;
- boosting: step functions found by gradient boosting, one feature per tree, and never
  against common sense (longer silence can't lower the risk); follows bends that lines miss;
- blend: the mean of the log-odds of the last two, which err in different directions;
- blend_all: the mean of all but recency, for shops too young to tell which one to trust.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from strataflow.prediction import buy_till_you_die as btyd
from strataflow.prediction.additive import Additive, Steps, double_sql
from strataflow.prediction.likelihood import Fit

BASELINE = "recency"
BLENDS = {"blend": ("logistic", "boosting"), "blend_all": ("logistic", "boosting", "hazard", "mbg_nbd")}
NAMES = (BASELINE, "hazard", "mbg_nbd", "logistic", "boosting", *BLENDS)

# log-odds of no order in the horizon under MBG/NBD; joined to the features once its parameters are known
QUIET_BY_MODEL = "quiet_by_model"

LINES = {
    BASELINE: ("log_silence",),
    "hazard": ("silence_in_rhythms", "log_rhythm", "quiet_by_rate"),
    "logistic": (
        "log_silence", "log_silence_squared", "log_silence_by_orders", "silence_in_rhythms", "silence_of_tenure",
        "quiet_by_rate", "log_order_days", "log_days_last_horizon", "log_days_last_half", "log_days_last_quarter",
        "log_pulse_fast", "log_pulse_slow", "trend", "log_order_value", "coupon_share", "discount_share",
        "refund_share", "log_engagement",
    ),
}  # fmt: skip

# feature -> 1 if more of it can only raise the risk, -1 lower, 0 either
STEPPED = {
    "silence_days": 1, "silence_in_rhythms": 1, "silence_of_tenure": 1, "quiet_by_rate": 1, QUIET_BY_MODEL: 1,
    "order_days": -1, "days_last_horizon": -1, "days_last_half": -1, "days_last_quarter": -1,
    "pulse_fast": -1, "pulse_slow": -1, "trend": 0, "order_value": 0, "coupon_share": 0, "discount_share": 0,
    "refund_share": 0, "engagement": 0, "actions_recent": -1,
}  # fmt: skip

# Ridge penalty of the lines: weak for thousands of examples, strong for hundreds.
INVERSE_PENALTY = 0.1
TREES, LEAVES, RATE = 150, 4, 0.05

# A step is believed where this share of the examples lies on either side of it, between the two counts.
LEAF_SHARE, LEAF_LEAST, LEAF_MOST = 1 / 60, 20, 200


@dataclass(frozen=True)
class Trained:
    """Candidates learnt from one set of examples.

    Attributes:
        models: by name; a candidate that could not be learnt is missing.
        rhythm: the MBG/NBD fit behind ``quiet_by_model``.
        missing: name -> why a candidate is missing.
    """

    models: Mapping[str, Additive]
    rhythm: Fit
    missing: Mapping[str, str]


def train(
    columns: Mapping[str, np.ndarray], churned: np.ndarray, rhythm: Fit, seed: int, names: Sequence[str] = NAMES
) -> Trained:
    """Train candidates on examples.

    Args:
        columns: features, :data:`QUIET_BY_MODEL` among them, as arrays of equal length.
        churned: the label, true where no order followed; both values occur.
        rhythm: the fit that QUIET_BY_MODEL was computed from.
        seed: of the boosting.
    """
    wanted = {*names, *(part for name in names for part in BLENDS.get(name, ()))}
    models: dict[str, Additive] = {}
    missing = {}
    for name, used in LINES.items():
        if name in wanted:
            models[name] = _lines({column: columns[column] for column in used}, churned)
    if rhythm.is_sound and "mbg_nbd" in wanted:
        models["mbg_nbd"] = Additive(linear={QUIET_BY_MODEL: 1.0})
    elif "mbg_nbd" in wanted:
        missing["mbg_nbd"] = "; ".join(rhythm.problems)
    if "boosting" in wanted:
        models["boosting"] = _steps({column: columns[column] for column in STEPPED}, churned, seed)
    for name, parts in BLENDS.items():
        if name in wanted:
            models[name] = _mean([models[part] for part in parts if part in models])
    return Trained({name: models[name] for name in NAMES if name in models and name in names}, rhythm, missing)


def fit_rhythm(columns: Mapping[str, np.ndarray]) -> Fit:
    """MBG/NBD fitted to the histories behind features of one day, in days."""
    tenure = columns["tenure_days"].astype(float)
    return btyd.fit("mbg_nbd", btyd.Histories.of(columns["order_days"] - 1.0, tenure - columns["silence_days"], tenure))


def rhythm_sql(rhythm: Fit, horizon: int) -> str:
    """SQL for :data:`QUIET_BY_MODEL` over the columns of the features; 0 for everyone where the fit is degenerate.

    With x = order_days - 1, t_x = tenure - silence and T = tenure (all in days):
    P(order) = P(alive) * (1 - ((alpha + T) / (alpha + T + horizon)) ^ (r + x)), see
    :func:`buy_till_you_die.probability_of_order`.
    """
    if not rhythm.is_sound:
        return "0e0"
    r, alpha, a, b = (double_sql(rhythm.parameters[name]) for name in ("r", "alpha", "a", "b"))
    x, now, last = "(order_days - 1)", "tenure_days", "(tenure_days - silence_days)"
    gone = f"exp(least(ln({a} / ({b} + {x})) + ({r} + {x}) * ln(({alpha} + {now}) / ({alpha} + {last})), 300e0))"
    silent = f"exp(({r} + {x}) * ln(({alpha} + {now}) / ({alpha} + {now} + {horizon})))"
    ordered = f"((1e0 - {silent}) / (1e0 + {gone}))"
    odds = f"least(greatest(ln((1e0 - {ordered} + 1e-12) / ({ordered} + 1e-12)), -8e0), 8e0)"
    return f"cast(cast({odds} as decimal(18, 9)) as double)"  # settled, as the macro customer_features says


def calibrate(log_odds: np.ndarray, churned: np.ndarray) -> tuple[float, float]:
    """Slope and intercept that bring predicted log-odds in line with what came true.

    Platt scaling, drawn towards leaving them as they are (slope 1, intercept 0) with
    the weight of about 25 examples, so that a small shop is not bent by chance.
    """
    from scipy.optimize import minimize

    label = churned.astype(float)

    def loss(point: np.ndarray) -> tuple[float, np.ndarray]:
        slope, intercept = point
        odds = slope * log_odds + intercept
        wrong = 1 / (1 + np.exp(-np.clip(odds, -500, 500))) - label
        pull = np.array([25 * (slope - 1), 25 * intercept])
        height = float((np.logaddexp(0, odds) - label * odds).sum()) + 0.5 * float(pull @ (point - [1, 0]))
        return height, np.array([wrong @ log_odds, wrong.sum()]) + pull

    found = minimize(loss, np.array([1.0, 0.0]), jac=True, method="BFGS", options={"gtol": 1e-6})
    slope, intercept = (float(value) for value in found.x)
    # A negative slope would turn the ranking round: then the examples say nothing.
    return (slope, intercept) if slope > 0 else (1.0, 0.0)


def _mean(models: Sequence[Additive]) -> Additive:
    """The mean of the log-odds."""
    total = Additive()
    for model in models:
        total = total.plus(model.scaled(1 / len(models)))
    return total


def _lines(columns: Mapping[str, np.ndarray], churned: np.ndarray) -> Additive:
    """Logistic regression on standardised columns, written on the columns as they are."""
    from sklearn.linear_model import LogisticRegression

    values = np.column_stack([column.astype(float) for column in columns.values()])
    centre, spread = values.mean(axis=0), values.std(axis=0)
    spread[spread <= np.finfo(float).eps * np.abs(centre)] = 1.0
    learnt = LogisticRegression(C=INVERSE_PENALTY, max_iter=5000, tol=1e-8)
    learnt.fit((values - centre) / spread, churned)
    slopes = learnt.coef_[0] / spread
    return Additive(float(learnt.intercept_[0] - slopes @ centre), dict(zip(columns, slopes.tolist(), strict=True)))


def _steps(columns: Mapping[str, np.ndarray], churned: np.ndarray, seed: int) -> Additive:
    """Gradient boosting whose trees look at one feature each: their sum is a step function per feature."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    values = np.column_stack([column.astype(float) for column in columns.values()])
    learnt = HistGradientBoostingClassifier(
        max_iter=TREES, max_leaf_nodes=LEAVES, learning_rate=RATE,
        min_samples_leaf=int(np.clip(len(churned) * LEAF_SHARE, LEAF_LEAST, LEAF_MOST)),
        monotonic_cst=[STEPPED[name] for name in columns], interaction_cst="no_interactions",
        early_stopping=False, random_state=seed,
    ).fit(values, churned)  # fmt: skip
    # scikit-learn hands its trees out in a private attribute only; a test holds the sums
    # taken from them against its own predictions, so that a change there can't pass unseen.
    trees = [predictor.nodes for (predictor,) in learnt._predictors]
    constant, functions = _step_functions(trees, list(columns))
    return Additive(float(np.ravel(learnt._baseline_prediction)[0]) + constant, steps=functions)


def _step_functions(trees: Sequence[np.ndarray], names: Sequence[str]) -> tuple[float, dict[str, Steps]]:
    """Trees of one feature each, added up: a constant (trees that found no split) and a function per feature."""
    by_feature: dict[int, list[np.ndarray]] = {}
    constant = 0.0
    for nodes in trees:
        inner = nodes[~nodes["is_leaf"].astype(bool)]
        if len(inner):
            by_feature.setdefault(int(inner["feature_idx"][0]), []).append(nodes)
        else:
            constant += float(nodes["value"][0])
    functions = {}
    for feature, own in sorted(by_feature.items()):
        edges = sorted({float(edge) for nodes in own for edge in nodes["num_threshold"][nodes["is_leaf"] == 0]})
        sums = [sum(_leaf(nodes, point) for nodes in own) for point in [*edges, float("inf")]]
        functions[names[feature]] = Steps.simplest(edges, sums)
    return constant, functions


def _leaf(nodes: np.ndarray, value: float) -> float:
    """The value of the leaf that ``value`` of the tree's one feature falls into."""
    node = nodes[0]
    while not node["is_leaf"]:
        node = nodes[node["left"] if value <= node["num_threshold"] else node["right"]]
    return float(node["value"])
