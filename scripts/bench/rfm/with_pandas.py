"""The usual notebook: pandas, groupby, qcut."""

import json
import sys
import time

import pandas as pd

orders, day, out = sys.argv[1:]
started = time.perf_counter()
transactions = pd.read_parquet(orders)
today = pd.Timestamp(day)
transactions["order_date"] = pd.to_datetime(transactions["order_date"])
window = transactions[transactions["order_date"] > today - pd.Timedelta(days=365)]
rfm = pd.DataFrame({"last": transactions.groupby("customer_id")["order_date"].max()})
rfm["recency_days"] = (today - rfm["last"]).dt.days
rfm = rfm.join(window.groupby("customer_id")["net_amount"].agg(frequency="count", monetary="sum")).fillna(0)
for measure, best in (("recency_days", "low"), ("frequency", "high"), ("monetary", "high")):
    labels = [5, 4, 3, 2, 1] if best == "low" else [1, 2, 3, 4, 5]
    rfm[f"{measure}_score"] = pd.qcut(rfm[measure].rank(method="first"), 5, labels=labels).astype(int)
scores = rfm[["recency_days_score", "frequency_score", "monetary_score"]]
high = scores > scores.mean()
stance = {(True, True): "value", (True, False): "develop", (False, True): "keep", (False, False): "winback"}
rfm["rfm_class"] = [
    ("important_" if money else "general_") + stance[recent, often]
    for recent, often, money in high.itertuples(index=False, name=None)
]
seconds = time.perf_counter() - started
rfm.reset_index()[["customer_id", "recency_days", "frequency", "monetary", "rfm_class"]].to_parquet(out)
print(json.dumps({"seconds": seconds, "version": pd.__version__}))
