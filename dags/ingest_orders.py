"""
### Ingest orders

Brings one day of orders into the lake: every table but the interactions
(orders, order lines, customers, products, manual tags), each row either landed or
quarantined with its reason.

| | |
|---|---|
| **Runs** | each night, for the day that has just ended in the shop's time zone |
| **Partition key** | that day, as `YYYY-MM-DD` |
| **Reads** | the files the source descriptions name for the day |
| **Writes** | `lake/<table>/received_date=<day>/`, `lake/quarantine/`, `lake/landings/` |
| **Hands on** | the day's partition of the asset `lake_orders`, once gate 1 has passed |

**By hand:** trigger it with a partition key, or with the parameter `date`.
With `since`, all days from then on are landed at once; that is how a shop's
history comes in. **Backfill:** `airflow backfill create --dag-id ingest_orders
--from-date 2017-12-01 --to-date 2017-12-31T23:59`; the time of day is needed
for the last day to take part.

**When it fails:** a missing or broken file is tried again, because late
deliveries are the usual cause. If gate 1 fails, its report names expectation
and rows; mend the delivery, then clear the task. Landing a day again replaces it.
"""

from airflow.sdk import chain, dag, task

from strataflow import orchestration
from strataflow.orchestration import ORDERS, WRITER_POOL


@dag(
    dag_id="ingest_orders",
    dag_display_name="Ingest orders",
    description="Lands a day of orders, order lines, customers, products and manual tags, and checks it",
    doc_md=__doc__,
    schedule=orchestration.nightly(),
    end_date=orchestration.last_day(),
    catchup=False,
    max_active_runs=1,
    default_args=orchestration.task_defaults(),
    deadline=orchestration.deadline(),
    params={"date": orchestration.date_param(), "since": orchestration.since_param()},
    tags=["strataflow", "ingest", "orders"],
)
def ingest_orders():
    @task(
        pool=WRITER_POOL,
        task_display_name="Land the day",
        doc_md="Sources into the lake, refused rows aside.",
    )
    def land(**context):
        return orchestration.land(context, feeds="orders")

    @task(outlets=[ORDERS], task_display_name="Gate 1", doc_md="Is the landed day complete and plausible?")
    def check(**context):
        return orchestration.check_landed(context, feeds="orders", asset=ORDERS)

    chain(land(), check())


ingest_orders()
