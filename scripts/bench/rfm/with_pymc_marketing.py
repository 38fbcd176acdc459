"""pymc-marketing's own function for the task, ``rfm_segments`` (summary, quartiles, segments).

It has no window and scores quartiles, so it does less than the others.
"""

import json
import sys
import time
from importlib import metadata

import pandas as pd
from pymc_marketing.clv import rfm_segments

orders, day, out = sys.argv[1:]
started = time.perf_counter()
transactions = pd.read_parquet(orders)
found = rfm_segments(
    transactions,
    customer_id_col="customer_id",
    datetime_col="order_date",
    monetary_value_col="net_amount",
    observation_period_end=day,
)
seconds = time.perf_counter() - started
found.to_parquet(out)
print(json.dumps({"seconds": seconds, "version": metadata.version("pymc-marketing")}))
