"""The queries of Strataflow's RFM models alone, as dbt compiled them, in the database that dbt made.

Run after ``with_dbt.py`` with the same OUT folder. Each model replaces its table, in the
order of their dependencies, as the build does it.
"""

import json
import sys
import time
from pathlib import Path

import duckdb

_, _, out = sys.argv[1:]
work = Path(out).parent / "dbt"
nodes = json.loads((work / "target" / "manifest.json").read_text(encoding="utf-8"))["nodes"]
results = json.loads((work / "target" / "run_results.json").read_text(encoding="utf-8"))["results"]
# The ledger's own models have nothing to do here: the order rows stand for what it kept.
models = [result for result in results if nodes[result["unique_id"]]["resource_type"] == "model"]
queries = [
    (node["config"]["materialized"], node["name"], result["compiled_code"])
    for result in models
    if (node := nodes[result["unique_id"]])["name"].startswith(("int_customer", "int_rfm"))
]
connection = duckdb.connect(str(work / "build.duckdb"))
connection.execute(f"set temp_directory = '{work / 'spill'}'")
connection.execute("set preserve_insertion_order = false")
started = time.perf_counter()
for kind, name, query in queries:
    connection.execute(f"create or replace {kind} {name} as ({query})")
seconds = time.perf_counter() - started
columns = "customer_id, recency_days, frequency, monetary, recency_score, frequency_score, monetary_score, rfm_class"
connection.execute(f"copy (select {columns} from int_customer_rfm_classified) to '{out}' (format parquet)")
print(json.dumps({"seconds": seconds, "version": duckdb.__version__, "models": [name for _, name, _ in queries]}))
