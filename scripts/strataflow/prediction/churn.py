"""Training the churn model on a shop's own past, and judging it before it is used.

Time only runs forward here: a model that is judged on a day has learnt from labels
that were complete on that day. Candidates compete on the newest day whose outcome is
known; the best by log loss is used if it beats recency alone, learnt again from all
days, and corrected by how its predictions of that newest day turned out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from strataflow.prediction import candidates, measures
from strataflow.prediction.additive import Additive, probability_sql
from strataflow.prediction.features import Ledgers, day_literal, examples, sampled
from strataflow.prediction.likelihood import Fit
from strataflow.project import Project

if TYPE_CHECKING:
    import duckdb

MODEL_FORMAT = 1

MIN_CUSTOMERS = 500
MIN_DAYS = 183

# More customers than this do not sharpen the model; a fixed sample of them is learnt from.
SAMPLED_CUSTOMERS = 40_000
MAX_SPLITS = 8
SEED = 20170101

# Which of the customer's own numbers a column stands for, when the model is explained.
GROUPS = {
    "silence": (
        "silence_days", "log_silence", "log_silence_squared", "log_silence_by_orders", "silence_in_rhythms",
        "silence_of_tenure",
    ),
    "rhythm": ("quiet_by_rate", "log_rhythm", candidates.QUIET_BY_MODEL, "order_days", "log_order_days"),
    "activity": (
        "trend", "days_last_horizon", "days_last_half", "days_last_quarter", "pulse_fast", "pulse_slow",
        "log_days_last_horizon", "log_days_last_half", "log_days_last_quarter", "log_pulse_fast", "log_pulse_slow",
    ),
    "value": ("order_value", "log_order_value"),
    "discounts": ("coupon_share", "discount_share"),
    "refunds": ("refund_share",),
    "engagement": ("engagement", "log_engagement", "actions_recent"),
}  # fmt: skip


@dataclass(frozen=True)
class Splits:
    """Days to learn from and to judge on, newest first.

    Attributes:
        judged: the newest day whose outcome is known.
        final: days the used model learns from, ``judged`` among them.
        judging: days that candidates learn from before they are judged on ``judged``.
        checked: the day before that, for the correction in force when judging; None if history is short.
        checking: days to learn from before ``checked``.
    """

    judged: date
    final: tuple[date, ...]
    judging: tuple[date, ...]
    checked: date | None
    checking: tuple[date, ...]

    @classmethod
    def plan(cls, first: date, as_of: date, horizon: int) -> Splits:
        """Splits for a shop whose first order was on ``first``, labels known at ``as_of``."""
        step = horizon / 4
        earliest = first + timedelta(days=max(28, horizon // 3))

        def grid(start: int) -> tuple[date, ...]:
            days = (as_of - timedelta(days=horizon + round(i * step)) for i in range(start, start + MAX_SPLITS))
            return tuple(day for day in days if day >= earliest)

        final, judging, checking = grid(0), grid(4), grid(8)
        checked = as_of - timedelta(days=2 * horizon) if checking else None
        return cls(as_of - timedelta(days=horizon), final, judging, checked, checking)

    @property
    def days(self) -> list[date]:
        """All days features are needed of, oldest first."""
        return sorted({*self.final, *self.judging, *self.checking})


@dataclass(frozen=True)
class ChurnModel:
    """What scoring needs; a plain structure in JSON, no pickled object.

    Attributes:
        name: the candidate it came from.
        trained_at: the day it was trained as of.
        horizon: days it predicts for.
        rhythm: the MBG/NBD fit behind the column quiet_by_model.
        model: the corrected log-odds.
        centre: mean of each group's terms over the judged customers; reasons are measured from it.
    """

    name: str
    trained_at: date
    horizon: int
    rhythm: Fit
    model: Additive
    centre: Mapping[str, float]

    def scoring_sql(self, features: str) -> str:
        """The query for churn_probability and what each group of numbers adds, over the relation ``features``.

        One row per row of ``features``: customer_id, churn_probability, and ``because_<group>``,
        the log-odds that the group adds compared with the mean customer.
        """
        terms = ",\n    ".join(
            f"{_group_sql(self.model, columns)} - ({self.centre.get(group, 0.0)!r}) as because_{group}"
            for group, columns in GROUPS.items()
        )
        rhythm = candidates.rhythm_sql(self.rhythm, self.horizon)
        return (
            f"select\n    customer_id,\n    {probability_sql(self.model.log_odds_sql())} as churn_probability,\n    "
            f"{terms}\nfrom (select *, {rhythm} as {candidates.QUIET_BY_MODEL} from {features}) as known"
        )

    def to_json(self) -> dict[str, Any]:
        """As a structure for JSON."""
        return {
            "format": MODEL_FORMAT,
            "name": self.name,
            "trained_at": str(self.trained_at),
            "horizon": self.horizon,
            "rhythm": {"parameters": dict(self.rhythm.parameters), "problems": list(self.rhythm.problems)},
            "model": self.model.to_json(),
            "centre": dict(self.centre),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> ChurnModel:
        """The model that :meth:`to_json` wrote.

        Raises:
            ValueError: it was written in another format.
        """
        if content.get("format") != MODEL_FORMAT:
            raise ValueError(f"model format {content.get('format')}, this version reads {MODEL_FORMAT}")
        rhythm = content["rhythm"]
        fit = Fit("mbg_nbd", rhythm["parameters"], float("nan"), 0, tuple(rhythm["problems"]))
        return cls(
            content["name"], date.fromisoformat(content["trained_at"]), int(content["horizon"]), fit,
            Additive.from_json(content["model"]), content["centre"],
        )  # fmt: skip


@dataclass(frozen=True)
class Training:
    """The outcome of a training: a model, or none and the reason, and the card that tells of it."""

    model: ChurnModel | None
    card: dict[str, Any]


def train(
    connection: duckdb.DuckDBPyConnection, project: Project, ledgers: Ledgers, as_of: date, horizon: int
) -> Training:
    """Train, judge and choose as of ``as_of`` from what was received by then.

    Always ends: where there is too little to learn from, ``model`` is None and the
    card's ``reason`` says why; the estimate from each customer's own rhythm is used then.
    """
    span = _span(connection, ledgers, as_of)
    card = {
        "format": MODEL_FORMAT, "as_of": str(as_of), "horizon_days": horizon,
        "customers": span["customers"], "data": {"first_order": str(span["first"]), "last_order": str(span["last"])},
    }  # fmt: skip
    refusal = _too_little(span, as_of)
    if refusal:
        return _baseline(card, refusal)
    splits = Splits.plan(span["first"], as_of, horizon)
    if not splits.judging:
        return _baseline(
            card, f"the history of {(as_of - span['first']).days} days holds no earlier day to learn from and "
            f"a later one to judge on, {horizon} days apart",
        )  # fmt: skip
    with sampled(connection, ledgers, as_of, SAMPLED_CUSTOMERS) as sample:
        table = examples(connection, project, sample, splits.days, horizon, as_of)
    card["learnt_from"] = {
        "customers": min(span["customers"], SAMPLED_CUSTOMERS),
        "sample": "all" if span["customers"] <= SAMPLED_CUSTOMERS else "smallest md5 of customer_id",
        "judged_on": str(splits.judged), "judging": [str(day) for day in splits.judging],
        "final": [str(day) for day in splits.final],
    }  # fmt: skip
    connection.register("examples", table)
    try:
        return _compete(connection, splits, horizon, as_of, card)
    finally:
        connection.unregister("examples")


def _compete(
    connection: duckdb.DuckDBPyConnection, splits: Splits, horizon: int, as_of: date, card: dict[str, Any]
) -> Training:
    with _one_thread():
        refusal = _one_sided(connection, splits.judging) or _one_sided(connection, (splits.judged,))
        if refusal:
            return _baseline(card, refusal)
        corrections = _corrections(connection, splits, horizon)
        trained = _learn(connection, splits.judging, horizon, candidates.NAMES)
        odds, churned = _log_odds(connection, trained, splits.judged, horizon)
        results = {}
        for name, values in odds.items():
            slope, intercept = corrections.get(name, (1.0, 0.0))
            results[name] = _probability(slope * values + intercept)
        card["candidates"] = {name: measures.quality(found, churned) for name, found in results.items()}
        card["candidates_missing"] = dict(trained.missing)
        used, card["reason"] = _choose(card["candidates"])
        final = _learn(connection, splits.final, horizon, (used,))
        if used not in final.models:
            return _baseline(card, f"{used} could not be learnt again: {final.missing[used]}")
        model = final.models[used].scaled(*candidates.calibrate(odds[used], churned))
        card |= _portrait(connection, splits.judged, used, results[used], churned, model, final.rhythm, horizon)
        centre = {group: entry["mean"] for group, entry in card["importance"].items()}
    return Training(ChurnModel(used, as_of, horizon, final.rhythm, model, centre), card)


def _corrections(connection: duckdb.DuckDBPyConnection, splits: Splits, horizon: int) -> dict[str, tuple[float, float]]:
    """Per candidate, how its predictions of the day before the judged one have to be corrected."""
    if not splits.checked or _one_sided(connection, splits.checking) or _one_sided(connection, (splits.checked,)):
        return {}
    trained = _learn(connection, splits.checking, horizon, candidates.NAMES)
    odds, churned = _log_odds(connection, trained, splits.checked, horizon)
    return {name: candidates.calibrate(values, churned) for name, values in odds.items()}


def _choose(results: Mapping[str, Mapping[str, float]]) -> tuple[str, str]:
    best = min(results, key=lambda name: results[name]["log_loss"])
    base = results[candidates.BASELINE]["log_loss"]
    if results[best]["log_loss"] < base:
        return best, f"log loss {results[best]['log_loss']:.4f} on the judged day, recency alone {base:.4f}"
    return candidates.BASELINE, f"no candidate beat recency alone (log loss {base:.4f})"


def _learn(
    connection: duckdb.DuckDBPyConnection, days: Sequence[date], horizon: int, names: Sequence[str]
) -> candidates.Trained:
    newest = _columns(connection, (max(days),), None, horizon)
    rhythm = candidates.fit_rhythm(newest)
    columns = _columns(connection, days, rhythm, horizon)
    return candidates.train(columns, columns["churned"], rhythm, SEED, names)


def _columns(
    connection: duckdb.DuckDBPyConnection, days: Sequence[date], rhythm: Fit | None, horizon: int
) -> dict[str, np.ndarray]:
    quiet = candidates.rhythm_sql(rhythm, horizon) if rhythm else "0e0"
    listed = ", ".join(day_literal(day) for day in days)
    return connection.execute(
        f"select * exclude (customer_id, split_date), {quiet} as {candidates.QUIET_BY_MODEL} from examples "
        f"where split_date in ({listed}) order by split_date, customer_id"
    ).fetchnumpy()


def _log_odds(
    connection: duckdb.DuckDBPyConnection, trained: candidates.Trained, day: date, horizon: int
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Each candidate's log-odds for the customers of ``day``, computed as scoring does, and what came true."""
    expressions = ", ".join(f"{model.log_odds_sql()} as {name}" for name, model in trained.models.items())
    quiet = candidates.rhythm_sql(trained.rhythm, horizon)
    found = connection.execute(
        f"select churned, {expressions} from (select *, {quiet} as {candidates.QUIET_BY_MODEL} from examples "
        f"where split_date = {day_literal(day)}) order by customer_id"
    ).fetchnumpy()
    churned = found.pop("churned")
    return found, churned


def _portrait(
    connection: duckdb.DuckDBPyConnection, day: date, used: str, probability: np.ndarray, churned: np.ndarray,
    model: Additive, rhythm: Fit, horizon: int,
) -> dict[str, Any]:  # fmt: skip
    """What the card says of the model in use, beyond the comparison."""
    quiet = candidates.rhythm_sql(rhythm, horizon)
    terms = connection.execute(
        f"select {', '.join(f'{_group_sql(model, columns)} as {group}' for group, columns in GROUPS.items())} "
        f"from (select *, {quiet} as {candidates.QUIET_BY_MODEL} from examples where split_date = {day_literal(day)}) "
        "order by customer_id"
    ).fetchnumpy()
    return {
        "used": used,
        **measures.quality(probability, churned),
        "judged_customers": len(churned),
        "churned_share": round(float(churned.mean()), measures.DIGITS),
        "calibration": measures.calibration_table(probability, churned),
        "top_decile_lift": measures.top_decile_lift(probability, churned),
        "importance": {
            group: {
                "mean": round(float(values.mean()), measures.DIGITS),
                "spread": round(float(values.std()), measures.DIGITS),
            }
            for group, values in terms.items()
        },
        "rhythm": {"parameters": dict(rhythm.parameters), "problems": list(rhythm.problems)},
    }


def _group_sql(model: Additive, columns: Sequence[str]) -> str:
    own = [column for column in model.columns if column in columns]
    return "(" + (" + ".join(model.term_sql(column) for column in own) or "0e0") + ")"


def _probability(log_odds: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(log_odds, -13, 13)))


def _span(connection: duckdb.DuckDBPyConnection, ledgers: Ledgers, as_of: date) -> dict[str, Any]:
    day = day_literal(as_of)
    [(first, last, customers)] = connection.execute(
        f"""
        select min(order_date), max(order_date), count(distinct customer_id) from (
            select customer_id, order_date from {ledgers.orders}
            where order_date <= {day} and received_date <= {day} and customer_id is not null
            group by customer_id, order_date
            having sum(valid_orders) > 0
        )
        """
    ).fetchall()
    return {"first": first, "last": last, "customers": customers}


def _too_little(span: Mapping[str, Any], as_of: date) -> str | None:
    if span["customers"] < MIN_CUSTOMERS:
        return f"{span['customers']} customers with an order, {MIN_CUSTOMERS} are needed"
    days = (as_of - span["first"]).days
    if days < MIN_DAYS:
        return f"{days} days of history, {MIN_DAYS} are needed"
    return None


def _one_sided(connection: duckdb.DuckDBPyConnection, days: Sequence[date]) -> str | None:
    """Why nothing can be learnt from ``days``: no customers, or all with the same outcome."""
    listed = ", ".join(day_literal(day) for day in days)
    [(total, churned)] = connection.execute(
        f"select count(*), coalesce(sum(churned::int), 0) from examples where split_date in ({listed})"
    ).fetchall()
    if total == 0:
        return f"no customer had an order by {max(days)}"
    if churned in (0, total):
        outcome = "ordered again" if churned == 0 else "did not order again"
        return f"every customer {outcome} after {max(days)}: there is nothing to tell apart"
    return None


def _baseline(card: dict[str, Any], reason: str) -> Training:
    return Training(None, {**card, "used": "baseline", "reason": reason, "candidates": card.get("candidates", {})})


def _one_thread() -> Any:
    """Sums over several threads depend on who finishes first; one thread gives the same bytes."""
    from threadpoolctl import threadpool_limits

    return threadpool_limits(limits=1)
