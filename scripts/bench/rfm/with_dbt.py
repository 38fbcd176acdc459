"""Strataflow's RFM models as its build runs them: through dbt, seeds included.

The order rows stand where the kept order ledger stands; the database that dbt wrote and
its compiled queries stay beside OUT for ``with_models.py``.
"""

import json
import os
import sys
import time
from importlib import metadata
from pathlib import Path

from dbt.cli.main import dbtRunner

orders, day, out = sys.argv[1:]
work = Path(out).parent / "dbt"
project = Path(__file__).parents[3] / "dbt_project"
ledger = work / "state" / "order_ledger"
ledger.mkdir(parents=True)
(ledger / "orders.parquet").hardlink_to(orders)
os.environ |= {"STRATAFLOW_BUILD_DB": str(work / "build.duckdb"), "STRATAFLOW_TEMP_DIR": str(work / "spill")}
variables = {
    "as_of": day,
    "known_at": day,
    "ledger_through": day,
    "state": str(work / "state"),
    "lake": str(work / "lake"),
}
started = time.perf_counter()
outcome = dbtRunner().invoke([
    "--quiet", "--log-level", "none", "--log-level-file", "none", "--no-send-anonymous-usage-stats",
    "--no-version-check", "build", "--exclude-resource-type", "unit_test", "test",
    "--project-dir", str(project), "--profiles-dir", str(project), "--target-path", str(work / "target"),
    "--vars", json.dumps(variables), "--select", "+int_customer_rfm_classified",
])  # fmt: skip
seconds = time.perf_counter() - started
if not outcome.success:
    raise SystemExit(f"dbt could not build the RFM models: {outcome.exception or outcome.result}")
print(json.dumps({"seconds": seconds, "version": metadata.version("dbt-core")}))
