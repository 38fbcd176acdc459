"""
### Segment customers

Turns what is in the lake into customer segments, tags and churn risk as of one
day, checks them, and publishes them in one atomic step.

| | |
|---|---|
| **Runs** | when both `lake_orders` and `lake_interactions` have the partition of a day |
| **Partition key** | that day, as `YYYY-MM-DD` |
| **Reads** | everything received up to the day, and the ledgers kept from earlier days |
| **Writes** | `models/`, `builds/<day>/`, `gates/<day>/`, `published/`; PostgreSQL, if one is set |
| **Hands on** | the day's partition of every published table |
| **Optional** | *PostgreSQL* and *Tell others* are there where the deployment names a database, and targets |

Results are a function of the day, the data received up to it and the rules, so
days may come in any order, and running a day again gives the same bytes.

**By hand:** trigger it with a partition key or the parameter `date`, for
example after a rule was edited. **Backfill:** backfill the two ingest DAGs;
this one follows.

**When it fails:** nothing is published and readers keep the last good version.
If only *History and report*, *PostgreSQL* or *Tell others* fails, the day is published in the
files; mend what it names and clear that task. *PostgreSQL* waits for the history, to show it with the day, and goes
without if that fails. If gate 2 fails, its report names expectation
and rows; mend rule or data, then clear the run. A task that was killed is repaired by running it again.
"""

from airflow.sdk import PartitionedAssetTimetable, TriggerRule, chain, dag, task

from strataflow import orchestration
from strataflow.orchestration import INTERACTIONS, ORDERS, PUBLISHED, WRITER_POOL


@dag(
    dag_id="segment_customers",
    dag_display_name="Segment customers",
    description="Builds, checks and publishes customer segments, tags and churn risk of a day",
    doc_md=__doc__,
    schedule=PartitionedAssetTimetable(assets=ORDERS & INTERACTIONS),
    catchup=False,
    max_active_runs=orchestration.days_at_once(),
    default_args=orchestration.task_defaults(),
    deadline=orchestration.deadline(),
    params={"date": orchestration.date_param()},
    tags=["strataflow", "segments"],
)
def segment_customers():
    @task(pool=WRITER_POOL, task_display_name="Build the tables", doc_md="One dbt build into a file of its own.")
    def build(**context):
        return orchestration.build(context)

    @task(task_display_name="Gate 2", doc_md="Are the tables complete, consistent and reconciled to the cent?")
    def check(**context):
        return orchestration.check_built(context)

    @task(
        pool=WRITER_POOL,
        outlets=list(PUBLISHED),
        task_display_name="Publish",
        doc_md="A new version becomes visible in one step.",
    )
    def publish(**context):
        return orchestration.publish(context)

    @task(
        pool=WRITER_POOL,
        trigger_rule=TriggerRule.ALL_DONE_MIN_ONE_SUCCESS,
        task_display_name="PostgreSQL",
        doc_md="What is published, with the history as far as it was made, in the database for BI.",
    )
    def publish_to_postgres(**context):
        return orchestration.publish_to_postgres(context)

    @task(
        task_display_name="Tell others",
        doc_md="What changed since the last acknowledgement, for a CRM and the like.",
    )
    def deliver(**context):
        return orchestration.deliver(context)

    @task(
        pool=WRITER_POOL,
        task_display_name="History and report",
        doc_md="`published/history` and `published/report`; after a month's last day also `published/scorecard`.",
    )
    def report(**context):
        return orchestration.report(context)

    @task(task_display_name="Summary", doc_md="What the run did, in its log.")
    def summarise(**context):
        return orchestration.summarise(context)

    published, reported = publish(), report()
    chain(build(), check(), published, reported, summarise())
    if orchestration.has_database():
        chain([published, reported], publish_to_postgres())
    if orchestration.has_targets():
        chain(published, deliver())


segment_customers()
