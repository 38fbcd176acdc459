"""What a day of history takes at scale: bytes and seconds for invented customers, by the step's own statements.

Customers are drawn at random (orders, last order, amounts), scored by quantiles and classified, so
that scores, class and stages hang together as they do in a shop. Ids are numbered, as the generator
and most shops number them, or random, as UUIDs are:

    PYTHONPATH=scripts:tests python tests/history_size.py --customers 2000000 --ids numbered
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from strataflow.history.causes import database, statement
from strataflow.history.writing import write_parquet

IDS = {"numbered": "'C' || lpad(cast(n as varchar), 8, '0')", "random": "cast(uuid() as varchar)"}
# Share of customers that move on any attribute from one day to the next.
MOVERS = 0.03


def invent(connection, customers: int, ids: str) -> None:
    """Create ``today``, a day's customer_segments as far as history reads them."""
    connection.execute("select setseed(0.5)")
    connection.execute(
        f"""
        create table drawn as
        select
            {IDS[ids]} as customer_id,
            cast(floor(-ln(random()) * 3) as integer) as orders,
            cast(floor(-ln(random()) * 120) as integer) as recency,
            exp(3 + 1.2 * sqrt(-2 * ln(random())) * cos(6.283185 * random())) as basket,
            cast(floor(random() * 6) as integer) as interactions
        from range({customers}) as numbers(n)
        """
    )
    connection.execute(
        """
        create table scored as
        select
            *,
            orders * basket as monetary,
            ntile(5) over (order by recency desc) as r,
            ntile(5) over (order by orders) as f,
            ntile(5) over (order by orders * basket) as m
        from drawn
        """
    )
    connection.execute(
        """
        create table today as
        select
            customer_id,
            date '2024-06-30' as as_of_date,
            case when orders = 0 then 'no_orders' else
                case when m > 3 then 'important_' else 'general_' end
                || case when r > 3 then case when f > 3 then 'value' else 'develop' end
                    when f > 3 then 'keep' else 'winback' end
            end as rfm_class,
            case when orders >= 5 then 'super' when orders >= 2 then 'repeat'
                when orders = 1 then 'first_purchase' else 'new' end as ecommerce_stage,
            case when orders >= 5 then 'super' when orders >= 2 then 'repeat' when orders = 1 then 'first_order'
                when interactions > 4 then 'intent' when interactions > 0 then 'prospect' else 'stranger'
            end as high_ticket_stage,
            case when recency < 30 then 'active' when recency < 90 then 'silent' else 'churned' end as activity_stage,
            case when m = 5 then 'high' when m > 2 then 'mid' else 'low' end as value_tier,
            case when orders > 0 then cast(r as tinyint) end as recency_score,
            case when orders > 0 then cast(f as tinyint) end as frequency_score,
            case when orders > 0 then cast(m as tinyint) end as monetary_score
        from scored
        """
    )


def measure(connection, folder: Path) -> None:
    """Write a snapshot and a day's intervals, and print bytes and seconds."""
    started = time.perf_counter()
    written = write_parquet(connection, statement("snapshot"), folder / "snapshot.parquet")
    seconds = time.perf_counter() - started
    year = 365 * written["bytes"] / 1e9
    print(f"snapshot: {written['bytes'] / 1e6:.2f} MB a day, {year:.2f} GB a year, written in {seconds:.1f} s")
    connection.execute(statement("intervals_first"), {"day": "2024-06-29"})
    connection.execute(
        f"create table moves as select customer_id, attribute, value as from_value, 'elsewhere' as to_value "
        f"from open_intervals where hash(customer_id) % 1000 < {int(1000 * MOVERS)}"
    )
    started = time.perf_counter()
    connection.execute(statement("intervals_closed"), {"day": "2024-06-30"})
    connection.execute(statement("intervals_open"), {"day": "2024-06-30"})
    closed = write_parquet(
        connection, "from closed_intervals order by customer_id, attribute", folder / "closed.parquet"
    )
    opened = write_parquet(
        connection,
        "select *, cast(null as date) as valid_to from open_intervals order by customer_id, attribute",
        folder / "open.parquet",
    )
    print(
        f"intervals: {closed['rows']:,} ended in {closed['bytes'] / 1e6:.2f} MB, {opened['rows']:,} open in "
        f"{opened['bytes'] / 1e6:.2f} MB, {time.perf_counter() - started:.1f} s"
    )


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--customers", type=int, default=2_000_000)
    parser.add_argument("--ids", choices=sorted(IDS), default="numbered")
    given = parser.parse_args()
    with TemporaryDirectory() as folder, database(Path(folder) / "spill") as connection:
        invent(connection, given.customers, given.ids)
        measure(connection, Path(folder))
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)
