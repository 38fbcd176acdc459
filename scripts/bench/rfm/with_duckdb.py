"""The plain DuckDB query in ``plain.sql``."""

import json
import string
import sys
import time
from pathlib import Path

import duckdb

orders, day, out = sys.argv[1:]
query = (Path(__file__).parent / "plain.sql").read_text(encoding="utf-8")
connection = duckdb.connect()
started = time.perf_counter()
connection.execute(string.Template(query).substitute(orders=f"'{orders}'", day=f"'{day}'"))
seconds = time.perf_counter() - started
connection.execute(f"copy classified to '{out}' (format parquet)")
print(json.dumps({"seconds": seconds, "version": duckdb.__version__}))
