"""What prediction costs for a shop of a given size: the fit, the training and the scoring, each a process of its own.

The shop is a ledger of orders drawn from the hash of its own numbers, the same wherever DuckDB's hash is: each customer
has a rhythm, a beginning and an end. Writing it is not counted.
"""

from __future__ import annotations

import json
import sys
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.measure import measured

if TYPE_CHECKING:
    from collections.abc import Sequence

    import duckdb

    from strataflow.prediction.features import Ledgers

DAY, HISTORY_DAYS, HORIZON_DAYS = date(2025, 12, 28), 1096, 90
STEPS = ("bg_nbd", "train", "score")


def prediction(customers: int, folder: Path, log: Path, steps: Sequence[str] = STEPS) -> dict[str, Any]:
    """Measure ``steps`` on a ledger of ``customers``, written to ``folder`` unless it lies there.

    Args:
        steps: of :data:`STEPS`, in this order; scoring needs what training left in ``folder``.

    Returns:
        customers, orders, and the figures of each step from start to end of its process.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ledger = folder / f"orders-{customers}.parquet"
    if not ledger.is_file():
        _write_ledger(ledger, customers)
    found: dict[str, Any] = {"customers": customers, "orders": _rows(ledger)}
    for step in steps:
        command = [sys.executable, "-m", "bench.prediction", step, str(ledger), str(folder)]
        found[step] = measured(command, log).as_dict()
    return found


def _write_ledger(ledger: Path, customers: int) -> None:
    """Orders of people who buy at a rate of their own and stop after any order with a probability of their own."""
    import duckdb

    def draw(name: str, number: str = "c") -> str:
        return f"((hash({number} * 31 + {sum(map(ord, name))}) % 1000003 + 1) / 1000004.0)"

    aside = ledger.with_suffix(".new")
    duckdb.execute(
        f"""
        copy (
            with people as (
                select
                    c, 0.002 + 0.06 * power({draw("rate")}, 3) as rate,
                    {HISTORY_DAYS} * (0.95 * {draw("joined")} - 1) as joined,
                    floor(ln({draw("stops")}) / ln(1 - 0.02 - 0.5 * power({draw("fickle")}, 2))) as repeats
                from range({customers}) as numbers(c)
            ),
            moments as (
                select
                    c, joined + sum(case when k = 0 then 0 else -ln({draw("gap", "(c * 32 + k)")}) / rate end)
                        over (partition by c order by k) as moment
                from people, range(30) as orders(k)
                where k <= repeats
            )
            select
                'c' || c as customer_id, date '{DAY}' + cast(floor(moment) as integer) as order_date,
                order_date as received_date, 1 as placed_orders, 1 as valid_orders, 0 as coupon_orders,
                0 as refunded_orders, cast(0 as decimal(18, 2)) as discount_amount,
                cast(5 + 60 * {draw("value")} * (0.5 + {draw("spent", "(c + cast(moment as integer))")})
                    as decimal(18, 2)) as net_amount
            from moments where moment <= 0
            order by customer_id, order_date
        ) to '{aside}' (format parquet, compression zstd)
        """
    )
    aside.replace(ledger)


def _rows(ledger: Path) -> int:
    from pyarrow import parquet

    return parquet.read_metadata(ledger).num_rows


def _ledgers(connection: duckdb.DuckDBPyConnection, ledger: Path) -> Ledgers:
    from strataflow.prediction.features import Ledgers

    connection.execute(
        "create temp table no_interactions "
        "(customer_id varchar, interaction_date date, received_date date, kind varchar)"
    )
    connection.execute(
        "create temp table kinds "
        "(kind varchar, points decimal(9, 3), half_life_days integer, is_customer_action boolean)"
    )
    return Ledgers(f"read_parquet('{ledger}')", "no_interactions", "kinds")


def _run(step: str, ledger: Path, folder: Path) -> None:
    """One step; training leaves its models for the scoring."""
    import duckdb

    from strataflow.prediction import buy_till_you_die, lifetime_value
    from strataflow.prediction.churn import ChurnModel, train
    from strataflow.prediction.features import features_sql
    from strataflow.project import Project

    project, churn_file, value_file = Project.locate(), folder / "churn.json", folder / "value.json"
    with duckdb.connect(config={"memory_limit": "5GB", "temp_directory": str(folder / "spill")}) as connection:
        ledgers = _ledgers(connection, ledger)
        if step == "bg_nbd":
            connection.execute(f"create temp table value_customers as {lifetime_value.per_customer(ledgers, DAY)}")
            known = lifetime_value.equal_histories(connection)
            counted = buy_till_you_die.Histories.of(known["x"], known["t_x"], known["age"], known["customers"])
            print(buy_till_you_die.fit("bg_nbd", counted))
        elif step == "train":
            trained = train(connection, project, ledgers, DAY, HORIZON_DAYS)
            churn_file.write_text(json.dumps(trained.model.to_json() if trained.model else None), encoding="utf-8")
            value = lifetime_value.fit(connection, ledgers, DAY)
            value_file.write_text(json.dumps(value.to_json()), encoding="utf-8")
            print(trained.card["used"], trained.card["reason"], value.method, value.problems)
        else:
            features = features_sql(project, ledgers, DAY, HORIZON_DAYS)
            connection.execute(f"create temp table features as {features}")
            model = ChurnModel.from_json(json.loads(churn_file.read_text(encoding="utf-8")))
            connection.execute(f"create temp table scored as {model.scoring_sql('features')}")
            value = lifetime_value.ValueModel.from_json(json.loads(value_file.read_text(encoding="utf-8")))
            lifetime_value.score(connection, value, "features", DAY, 0.1)
            print(connection.execute("select count(*), avg(churn_probability) from scored").fetchall())


if __name__ == "__main__":
    _run(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
