"""What a customer is expected to spend in the next year, and how sure that is.

Expected orders come from the buy-till-you-die model that explains the shop's histories
best, the expected value of an order from Gamma-Gamma. Where no fit can be trusted, the
customers of the same order count a while ago show what such customers went on to spend:
the cohort average. The method used is written beside every number.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from strataflow.errors import StepFailed
from strataflow.prediction import buy_till_you_die as btyd
from strataflow.prediction import gamma_gamma
from strataflow.prediction.features import Ledgers, day_literal
from strataflow.prediction.likelihood import Fit

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

HORIZON_DAYS = 365
SLICES = 12

# Of ten customers like this one, eight end within the interval.
LOW, HIGH = 0.10, 0.90

# Order counts from which on customers are one cohort: 1, 2, 3 to 5, 6 to 11, 12 and more.
COHORT_EDGES = (1, 2, 3, 6, 12)

# Pareto/NBD is left out: its likelihood takes minutes where customers order a hundred times, for numbers
# that hardly differ.
CANDIDATES = ("bg_nbd", "mbg_nbd")

MIN_COHORT_DAYS = 56

COLUMNS = (
    "expected_orders", "expected_order_value", "expected_value", "expected_value_low", "expected_value_high",
    "alive_probability",
)  # fmt: skip


@dataclass(frozen=True)
class ValueModel:
    """What the scoring needs, as written to JSON.

    Attributes:
        method: "model" or "cohort_average".
        orders: the fit for expected orders; None for the cohort average.
        value: the Gamma-Gamma fit; None where the shop's mean stands in.
        cohorts: per cohort (see COHORT_EDGES) the mean orders and mean spend per year.
        mean_order_value: of the shop.
        problems: why the better method is not used, or what to know of it.
    """

    method: str
    orders: Fit | None
    value: Fit | None
    cohorts: tuple[tuple[float, float], ...]
    mean_order_value: float
    problems: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """As a structure for JSON; :meth:`from_json` gives the equal model back."""
        return {
            "method": self.method,
            "orders": _fit_json(self.orders),
            "value": _fit_json(self.value),
            "cohorts": [list(cohort) for cohort in self.cohorts],
            "mean_order_value": self.mean_order_value,
            "problems": list(self.problems),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> ValueModel:
        """The model that :meth:`to_json` wrote."""
        return cls(
            content["method"], _fit_from(content["orders"]), _fit_from(content["value"]),
            tuple((float(orders), float(spend)) for orders, spend in content["cohorts"]),
            float(content["mean_order_value"]), tuple(content["problems"]),
        )  # fmt: skip


def fit(connection: duckdb.DuckDBPyConnection, ledgers: Ledgers, as_of: date) -> ValueModel:
    """Fit to all customers with an order by ``as_of``, from what was received by then."""
    connection.execute(f"create or replace temp table value_customers as {per_customer(ledgers, as_of)}")
    try:
        return _fit(connection, ledgers, as_of)
    finally:
        connection.execute("drop table value_customers")


def _fit(connection: duckdb.DuckDBPyConnection, ledgers: Ledgers, as_of: date) -> ValueModel:
    known = equal_histories(connection)
    if not len(known["customers"]):
        return ValueModel("cohort_average", None, None, ((0.0, 0.0),) * len(COHORT_EDGES), 0.0, ("no orders yet",))
    histories = btyd.Histories.of(known["x"], known["t_x"], known["age"], known["customers"])
    fits = [btyd.fit(name, histories) for name in CANDIDATES]
    sound = [found for found in fits if found.is_sound]
    problems = [f"{found.model}: {problem}" for found in fits for problem in found.problems]
    orders = max(sound, key=lambda found: found.log_likelihood) if sound else None
    value, doubt = _fit_value(connection)
    problems.extend(f"gamma_gamma: {problem}" for problem in doubt)
    total, count = float(known["spend"].sum()), float(known["orders"].sum())
    return ValueModel(
        "model" if orders else "cohort_average", orders, value, _cohorts(connection, ledgers, as_of),
        total / count if count else 0.0, tuple(problems),
    )  # fmt: skip


def expected(
    model: ValueModel, x: np.ndarray, t_x: np.ndarray, age: np.ndarray, orders: np.ndarray, mean_value: np.ndarray,
    yearly_discount: float,
) -> dict[str, np.ndarray]:  # fmt: skip
    """Expected orders and spend of the next :data:`HORIZON_DAYS` days per customer.

    Args:
        x: repeat order days; ``t_x`` and ``age`` in days, see :mod:`buy_till_you_die`.
        orders: orders that ``mean_value`` is the mean net value of.
        yearly_discount: what a later payment is worth less, per year (0.1 is ten percent).

    Returns:
        :data:`COLUMNS` as arrays; money in the shop's currency, spend discounted to today.
    """
    x, t_x, age = (np.asarray(part, dtype=float) for part in (x, t_x, age))
    if model.method == "cohort_average" or model.orders is None:
        return _by_cohort(model, x + 1, yearly_discount)
    alive = btyd.probability_alive(model.orders, x, t_x, age)
    edges = np.linspace(0, HORIZON_DAYS, SLICES + 1)
    ahead = [btyd.expected_orders(model.orders, x, t_x, age, float(edge)) for edge in edges[1:]]
    steps = np.diff(np.vstack([np.zeros(len(x)), *ahead]), axis=0)
    worth = (1 + yearly_discount) ** (-(edges[:-1] + edges[1:]) / 2 / HORIZON_DAYS)
    discounted = worth @ steps
    value = (
        gamma_gamma.expected_value(model.value, orders, mean_value)
        if model.value
        else np.full(len(x), model.mean_order_value)
    )
    low, high = (_order_quantile(model.orders, x, alive, ahead[-1], share) for share in (LOW, HIGH))
    shrink = np.divide(discounted, ahead[-1], out=np.ones(len(x)), where=ahead[-1] > 0)
    return dict(
        zip(
            COLUMNS,
            (ahead[-1], value, discounted * value, low * value * shrink, high * value * shrink, alive),
            strict=True,
        )
    )


# Empty where a cohort's average stands in.
OPTIONAL = ("expected_value_low", "expected_value_high", "alive_probability")

# The published table, described as the dbt models are.
TABLE = "customer_lifetime_value"
PUBLISHED = {
    "key": ["customer_id"],
    "description": "What each customer is expected to order and spend in the year to come. One row per customer with "
    "a valid order.",
    "zh": "预计每位客户在未来一年的订单与消费。每位有有效订单的客户一行。",
    "contract_version": 1,
    "indexes": [],
    "columns": {
        "customer_id": {"data_type": "varchar", "description": "The customer's id.", "zh": "客户编号。"},
        "as_of_date": {
            "data_type": "date", "description": "The day the row speaks of.", "zh": "本行数据所截至的日期。",
        },
        "horizon_days": {
            "data_type": "integer", "description": "Days the expectation covers.", "zh": "预期所覆盖的天数。",
        },
        "expected_orders": {
            "data_type": "decimal(18,6)", "description": "Order days expected.", "zh": "预期有订单的天数。",
        },
        "expected_order_value": {
            "data_type": "decimal(18,2)", "description": "Expected net value of an order (reporting currency).",
            "zh": "每个订单的预期净额（报告币种）。",
        },
        "expected_value": {
            "data_type": "decimal(18,2)",
            "description": "Expected net spend, discounted to as_of_date by ltv_discount_rate (reporting currency).",
            "zh": "预期净消费额，按 ltv_discount_rate 折现到 as_of_date（报告币种）。",
        },
        "expected_value_low": {
            "data_type": "decimal(18,2)",
            "description": "One customer in ten like this one spends less, by the number of their orders; empty for "
            "cohort averages.",
            "zh": "按订单数计算，同类客户中每十位有一位消费更少；按同期群均值估计时为空。",
        },
        "expected_value_high": {
            "data_type": "decimal(18,2)",
            "description": "One customer in ten like this one spends more; empty for cohort averages.",
            "zh": "同类客户中每十位有一位消费更多；按同期群均值估计时为空。",
        },
        "alive_probability": {
            "data_type": "decimal(18,6)",
            "description": "Probability that the customer has not stopped for good; empty for cohort averages.",
            "zh": "客户尚未永久离开的概率；按同期群均值估计时为空。",
        },
        "method": {
            "data_type": "varchar", "description": "model or cohort_average.",
            "zh": "model（模型）或 cohort_average（同期群均值）。",
        },
    },
}  # fmt: skip


def score(
    connection: duckdb.DuckDBPyConnection, model: ValueModel, features: str, as_of: date, yearly_discount: float
) -> None:
    """Create the table :data:`TABLE` from the relation ``features``, in batches of Arrow.

    Customers of equal history and spend are computed once.

    Raises:
        StepFailed: the scores are not what the table's contract promises.
    """
    import pyarrow as pa

    connection.execute(
        "create or replace temp table value_histories as "
        "select order_days - 1 as x, tenure_days - silence_days as t_x, "
        f"tenure_days as age, orders, round(order_value, 2) as order_value from {features} group by all "
        "order by all"
    )
    batches = list(connection.sql("from value_histories order by all").to_arrow_reader(100_000))
    with ThreadPoolExecutor() as pool:  # numpy and scipy compute outside of Python's lock
        parts = list(pool.map(lambda batch: _scored(model, batch, yearly_discount), batches))
    table = pa.concat_tables(parts) if parts else pa.table({name: pa.array([], pa.float64()) for name in (
        "x", "t_x", "age", "orders", "order_value", *COLUMNS)})  # fmt: skip
    connection.register("value_found", table)
    given = {
        "as_of_date": day_literal(as_of), "horizon_days": str(HORIZON_DAYS), "method": f"'{model.method}'",
        "customer_id": "known.customer_id",
    }  # fmt: skip
    finite = {name: f"case when isfinite(found.{name}) then found.{name} end" for name in COLUMNS}
    columns = ", ".join(
        f"cast({(given | finite)[name]} as {column['data_type']}) as {name}"
        for name, column in PUBLISHED["columns"].items()
    )
    _fill(
        connection,
        f"select {columns} from {features} as known "
        "join value_found as found on known.order_days - 1 = found.x "
        "and known.tenure_days - known.silence_days = found.t_x and known.tenure_days = found.age "
        "and known.orders = found.orders and round(known.order_value, 2) = found.order_value",
    )
    connection.unregister("value_found")
    connection.execute("drop table value_histories")


def _fill(connection: duckdb.DuckDBPyConnection, query: str) -> None:
    """Write ``query`` into the table as :data:`PUBLISHED` has it, as dbt does where a contract is enforced.

    Raises:
        StepFailed: a value that must be there is missing, or is not of its column's type.
    """
    import duckdb

    columns = ", ".join(
        f"{name} {column['data_type']}{'' if name in OPTIONAL else ' not null'}"
        for name, column in PUBLISHED["columns"].items()
    )
    connection.execute(f"create or replace table {TABLE} ({columns})")
    try:
        connection.execute(f"insert into {TABLE} by name {query}")
    except (duckdb.ConstraintException, duckdb.ConversionException) as broken:
        raise StepFailed(
            f"the scores break the contract of {TABLE}: {broken}",
            where="value_model.json of the training day",
            todo="look for parameters that are no numbers; without the folder of that day the model is fitted again",
        ) from broken


def _scored(model: ValueModel, batch: pa.RecordBatch, yearly_discount: float) -> pa.Table:
    """The histories of a batch with :data:`COLUMNS` beside them, rounded as they are published."""
    import pyarrow as pa

    columns = {name: batch.column(name).to_numpy(zero_copy_only=False) for name in batch.schema.names}
    found = expected(
        model, columns["x"], columns["t_x"], columns["age"], columns["orders"], columns["order_value"], yearly_discount
    )
    digits = dict.fromkeys(COLUMNS, 2) | {"expected_orders": 6, "alive_probability": 6}
    return pa.table({**columns, **{name: np.round(values, digits[name]) for name, values in found.items()}})


def _order_quantile(fit: Fit, x: np.ndarray, alive: np.ndarray, mean: np.ndarray, share: float) -> np.ndarray:
    """Quantile of the orders to come: none with 1 - alive, else negative binomial around the mean of the living."""
    from scipy.stats import nbinom

    shape = fit.parameters["r"] + x
    of_living = np.divide(mean, alive, out=np.zeros_like(mean), where=alive > 0)
    within = np.clip((share - (1 - alive)) / np.maximum(alive, 1e-12), 0.0, 1.0)
    found = nbinom.ppf(within, shape, shape / (shape + of_living))
    return np.where(within > 0, np.maximum(found, 0.0), 0.0)


def _by_cohort(model: ValueModel, order_days: np.ndarray, yearly_discount: float) -> dict[str, np.ndarray]:
    cohort = np.searchsorted(np.array(COHORT_EDGES), order_days, side="right") - 1
    orders, spend = (np.array(values)[cohort] for values in zip(*model.cohorts, strict=True))
    spend = spend * (1 + yearly_discount) ** -0.5
    value = np.divide(spend, orders, out=np.full(len(orders), model.mean_order_value), where=orders > 0)
    unknown = np.full(len(orders), np.nan)
    return dict(zip(COLUMNS, (orders, value, spend, unknown, unknown, unknown), strict=True))


def equal_histories(connection: duckdb.DuckDBPyConnection) -> dict[str, np.ndarray]:
    """Counts of equal histories in the table value_customers: x, t_x, age in days; customers, orders, spend."""
    return connection.execute(
        """
        select order_days - 1 as x, last_age as t_x, age, count(*) as customers,
            cast(sum(orders) as double) as orders, cast(sum(spend) as double) as spend
        from value_customers group by all order by all
        """
    ).fetchnumpy()


def _fit_value(connection: duckdb.DuckDBPyConnection) -> tuple[Fit | None, tuple[str, ...]]:
    """Gamma-Gamma over customers who came back; the first order alone says little of a habit."""
    found = connection.execute(
        """
        select orders, round(cast(spend as double) / orders, 2) as mean_value, count(*) as customers
        from value_customers where order_days > 1 and spend > 0 group by all order by all
        """
    ).fetchnumpy()
    value = gamma_gamma.fit(found["orders"], found["mean_value"], found["customers"])
    return (value, ()) if value.is_sound else (None, value.problems)


def per_customer(ledgers: Ledgers, as_of: date) -> str:
    """The query for order days, their span and age in days, orders and spend of each customer, as known on a day."""
    day = day_literal(as_of)
    return f"""
        select customer_id, count(*) as order_days, date_diff('day', min(order_date), max(order_date)) as last_age,
            date_diff('day', min(order_date), {day}) as age, sum(orders) as orders, greatest(sum(spend), 0) as spend
        from (
            select customer_id, order_date, sum(valid_orders) as orders,
                sum(coalesce(try_cast(net_amount as decimal(18, 2)), 0)) as spend
            from {ledgers.orders}
            where order_date <= {day} and received_date <= {day} and customer_id is not null
            group by customer_id, order_date having sum(valid_orders) > 0
        ) group by customer_id
    """


def _cohorts(connection: duckdb.DuckDBPyConnection, ledgers: Ledgers, as_of: date) -> tuple[tuple[float, float], ...]:
    """Mean orders and spend per year of each cohort, seen from halfway back (at most a year)."""
    [(first,)] = connection.execute(
        f"select min(order_date) from {ledgers.orders} where received_date <= {day_literal(as_of)} and valid_orders > 0"
    ).fetchall()
    days = min(HORIZON_DAYS, (as_of - first).days // 2) if first else 0
    if days < MIN_COHORT_DAYS:
        return ((0.0, 0.0),) * len(COHORT_EDGES)
    split = as_of - timedelta(days=days)
    band = " + ".join(f"(before.order_days >= {edge})::int" for edge in COHORT_EDGES[1:])
    rows = connection.execute(
        f"""
        select {band} as cohort, cast(sum(coalesce(now.orders, 0) - before.orders) as double) / count(*) as orders,
            cast(sum(coalesce(now.spend, 0) - before.spend) as double) / count(*) as spend
        from ({per_customer(ledgers, split)}) as before
        left join value_customers as now using (customer_id)
        group by cohort
        """
    ).fetchall()
    seen = {cohort: (max(orders, 0.0), max(spend, 0.0)) for cohort, orders, spend in rows}
    scale = HORIZON_DAYS / days
    return tuple(
        (round(orders * scale, 6), round(spend * scale, 2))
        for orders, spend in (seen.get(cohort, (0.0, 0.0)) for cohort in range(len(COHORT_EDGES)))
    )


def _fit_json(found: Fit | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "model": found.model, "parameters": dict(found.parameters), "log_likelihood": found.log_likelihood,
        "customers": found.customers,
    }  # fmt: skip


def _fit_from(content: Mapping[str, Any] | None) -> Fit | None:
    if content is None:
        return None
    return Fit(content["model"], content["parameters"], content["log_likelihood"], content["customers"])
