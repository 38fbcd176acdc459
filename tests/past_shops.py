"""Shops with a simulated past, in the columns of the ledgers: what training and scoring are tested on."""

import json
from datetime import date, timedelta

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from strataflow.home import Home
from strataflow.prediction.features import Ledgers
from strataflow.project import Project, canonical_tables

PROJECT = Project.locate()
START = date(2023, 1, 2)
AS_OF = START + timedelta(days=400)
LEDGERS = Ledgers("orders", "interactions", "kinds")


def shop(customers=700, seed=7, days=460):
    """Order days of customers who buy with a rhythm of their own and leave at some moment."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(customers):
        rhythm, joined = rng.gamma(2.0, 20.0) + 3, rng.uniform(0, days * 0.8)
        age, left = joined, joined + rng.exponential(250)
        while age <= min(days, left) or age == joined:
            rows.append((f"c{number}", START + timedelta(days=int(age)), float(rng.gamma(4.0, 8.0) + 1)))
            age += rng.exponential(rhythm)
    return pd.DataFrame(rows, columns=["customer_id", "order_date", "net_amount"])


def connect(orders):
    connection = duckdb.connect()
    connection.register("given", pa.Table.from_pandas(orders, preserve_index=False))
    connection.execute(
        """
        create table orders as
        select customer_id, order_date, coalesce(received_date, order_date) as received_date, 1 as valid_orders,
            net_amount, 0.0 as discount_amount, 0 as coupon_orders, 0 as refunded_orders, valid_orders as placed_orders
        from (select customer_id, cast(order_date as date) as order_date, net_amount,
                cast(null as date) as received_date from given)
        """
    )
    connection.execute(
        "create table interactions (customer_id varchar, interaction_date date, received_date date, kind varchar)"
    )
    connection.execute(
        "create table kinds as select 'review' as kind, 5.0 as points, 30 as half_life_days, true as is_customer_action"
    )
    return connection


def land_by_week(home: Home, orders: pd.DataFrame) -> None:
    """The orders as landed: a partition per week received, with manifests."""
    orders = orders.assign(
        order_id=[f"o{number}" for number in range(len(orders))],
        received_date=[day + timedelta(days=6 - day.weekday()) for day in orders.order_date],
    )
    columns = canonical_tables(PROJECT)["orders"].columns
    values = {
        "status": "'completed'",
        "currency": "'USD'",
        "is_adjustment": "false",
        "ordered_at": "order_date",
        "amount": "net_amount",
        "source": "'web'",
    }
    plain = {"order_id", "customer_id", "order_date"}
    zero = {"refunded_amount", "discount_amount", "coupon_amount"}
    with duckdb.connect() as connection:
        connection.register("given", pa.Table.from_pandas(orders, preserve_index=False))
        values |= {name: name for name in plain} | dict.fromkeys(zero, "0")
        chosen = ", ".join(
            f"cast({values.get(column.name, 'null')} as {column.data_type}) as {column.name}" for column in columns
        )
        for day in sorted(set(orders.received_date)):
            rows = connection.sql(
                f"select {chosen} from given where received_date = date '{day}' order by order_id"
            ).to_arrow_table()
            path = home.partition("orders", day, "web")
            path.parent.mkdir(parents=True)
            pq.write_table(rows, path)
            manifest = {
                "source": "web",
                "table": "orders",
                "received_date": str(day),
                "rows_landed": rows.num_rows,
                "partition_sha256": str(day),
            }
            home.landing("web", day).parent.mkdir(parents=True, exist_ok=True)
            home.landing("web", day).write_text(json.dumps(manifest))
