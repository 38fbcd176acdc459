"""
### Ingest interactions

Brings one day of interactions into the lake (visits, messages, campaigns,
coupons, referrals: whatever the shop logs beside orders), each row either
landed or quarantined with its reason. A shop without interaction sources runs
as well: the day is then handed on empty, with a note.

| | |
|---|---|
| **Runs** | each night, for the day that has just ended in the shop's time zone |
| **Partition key** | that day, as `YYYY-MM-DD` |
| **Reads** | the files the source descriptions name for the day |
| **Writes** | `lake/interactions/received_date=<day>/`, `lake/quarantine/`, `lake/landings/` |
| **Hands on** | the day's partition of the asset `lake_interactions`, once gate 1 has passed |

**By hand:** trigger it with a partition key, or with the parameter `date`.
With `since`, all days from then on are landed at once. **Backfill:** `airflow
backfill create --dag-id ingest_interactions --from-date 2017-12-01 --to-date
2017-12-31T23:59`; the time of day is needed for the last day to take part.

**When it fails:** see `ingest_orders`; the same holds here.
"""

from airflow.sdk import chain, dag, task

from strataflow import orchestration
from strataflow.orchestration import INTERACTIONS, WRITER_POOL


@dag(
    dag_id="ingest_interactions",
    dag_display_name="Ingest interactions",
    description="Lands a day of interactions and checks it",
    doc_md=__doc__,
    schedule=orchestration.nightly(),
    end_date=orchestration.last_day(),
    catchup=False,
    max_active_runs=1,
    default_args=orchestration.task_defaults(),
    deadline=orchestration.deadline(),
    params={"date": orchestration.date_param(), "since": orchestration.since_param()},
    tags=["strataflow", "ingest", "interactions"],
)
def ingest_interactions():
    @task(
        pool=WRITER_POOL,
        task_display_name="Land the day",
        doc_md="Sources into the lake, refused rows aside.",
    )
    def land(**context):
        return orchestration.land(context, feeds="interactions")

    @task(outlets=[INTERACTIONS], task_display_name="Gate 1", doc_md="Is the landed day complete and plausible?")
    def check(**context):
        return orchestration.check_landed(context, feeds="interactions", asset=INTERACTIONS)

    chain(land(), check())


ingest_interactions()
