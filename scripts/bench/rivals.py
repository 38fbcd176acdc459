"""RFM scoring of the same order rows: Strataflow's models, a plain query, and what a user would write instead."""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.measure import measured
from bench.pipeline import COMMAND
from bench.shops import LAST_DAY, Size, prepare, rfm_orders

if TYPE_CHECKING:
    from datetime import date

HERE = Path(__file__).parent / "rfm"
PYMC_PYTHON = "BENCH_PYMC_PYTHON"
# Scores of a plain query and of the models have to be the same row by row; the others define ties otherwise.
SAME = "customer_id, recency_days, frequency, monetary, recency_score, frequency_score, monetary_score, rfm_class"


@dataclass(frozen=True)
class Rival:
    """One way to score; ``is_plain`` where it gets valid orders alone, amounts as floats, which suit it best."""

    name: str
    script: str
    is_plain: bool = False
    python: str = sys.executable


def rivals() -> list[Rival]:
    """Everything that is installed; pymc-marketing where the environment variable names a Python that has it."""
    found = [
        Rival("plain DuckDB query", "with_duckdb.py"),
        Rival("Strataflow through dbt", "with_dbt.py"),
        Rival("Strataflow's queries", "with_models.py"),
        Rival("pandas, qcut", "with_pandas.py", is_plain=True),
    ]
    if find_spec("polars"):
        found.append(Rival("polars", "with_polars.py", is_plain=True))
    if python := os.environ.get(PYMC_PYTHON):
        found.append(Rival("pymc-marketing", "with_pymc_marketing.py", is_plain=True, python=python))
    return found


def race(size: Size, work: Path, log: Path) -> dict[str, Any]:
    """Score the rows with every rival, several times in turn, and keep each one's fastest.

    Returns:
        ``rows``, ``customers``, and by name the whole process, ``task_seconds`` (from the file to the scored
        customers, without start-up) and the library's version.
    """
    files = _rows(size, work, log)
    results: dict[str, Any] = {}
    for _ in range(size.rfm_runs):
        for rival in rivals():
            took = _scored(rival, files[rival.is_plain], LAST_DAY, work / "scored" / rival.script, log)
            if rival.name not in results or took["task_seconds"] < results[rival.name]["task_seconds"]:
                results[rival.name] = took
    plain, models = (work / "scored" / name / "scored.parquet" for name in ("with_duckdb.py", "with_dbt.py"))
    rows, customers, differing = _compared(files[False], plain, models)
    return {"rows": rows, "customers": customers, "customers_scored_differently": differing, "by_name": results}


def _rows(size: Size, work: Path, log: Path) -> tuple[Path, Path]:
    """The order rows as the kept ledger has them, and the valid ones alone with what RFM needs."""
    import duckdb

    shop, _ = prepare(COMMAND, work / f"orders-{size.rfm_rows}", rfm_orders(size), log)
    ledger, plain = work / f"ledger-{size.rfm_rows}.parquet", work / f"plain-{size.rfm_rows}.parquet"
    valid = "status in ('completed', 'paid', 'shipped', 'delivered', 'refunded') and amount > refunded_amount"
    with duckdb.connect() as connection:
        connection.execute("set enable_progress_bar = false")
        connection.execute(f"""
            copy (
                select
                    customer_id, order_date, order_date as received_date, 12::tinyint as order_hour,
                    'web' as channel, 1::smallint as placed_orders, ({valid})::smallint as valid_orders,
                    0::smallint as coupon_orders, ({valid} and refunded_amount > 0)::smallint as refunded_orders,
                    case when {valid} then amount - refunded_amount else 0 end::decimal(18, 2) as net_amount,
                    0::decimal(18, 2) as discount_amount, 0::decimal(18, 2) as coupon_amount
                from read_parquet('{shop.folder}/truth/orders.parquet')
            ) to '{ledger}' (format parquet, compression zstd)
        """)
        connection.execute(f"""
            copy (
                select customer_id, order_date, net_amount::double as net_amount
                from read_parquet('{ledger}') where valid_orders > 0
            ) to '{plain}' (format parquet, compression zstd)
        """)
    return ledger, plain


def _scored(rival: Rival, orders: Path, day: date, folder: Path, log: Path) -> dict[str, Any]:
    if rival.script == "with_models.py":
        folder = folder.with_name("with_dbt.py")
    else:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    said = folder / "said.txt"
    said.unlink(missing_ok=True)
    out = str(folder / "scored.parquet")
    took = measured([rival.python, str(HERE / rival.script), str(orders), str(day), out], said)
    with log.open("a", encoding="utf-8") as file:
        file.write(said.read_text(encoding="utf-8", errors="replace"))
    told = json.loads(said.read_text(encoding="utf-8").strip().splitlines()[-1])
    return took.as_dict() | {"task_seconds": round(told["seconds"], 3), "version": told["version"]}


def _compared(orders: Path, plain: Path, models: Path) -> tuple[int, int, int]:
    """Rows, customers scored, and customers whom the plain query and the models score differently."""
    import duckdb

    ours, theirs = (f"select {SAME} from read_parquet('{path}')" for path in (models, plain))
    with duckdb.connect() as connection:
        return connection.execute(f"""
            select
                (select count(*) from read_parquet('{orders}')),
                (select count(*) from ({ours})),
                (select count(*) from (({ours}) except all ({theirs})))
        """).fetchall()[0]
