"""A small landed day and a small build that every expectation is content with, to plant faults in.

Both follow the contracts of the lake and of the build, so that what a test
changes is the only thing wrong. The build is worked out from its own orders
with the project's seeds; its classes are dealt out, as no gate judges the rule.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb

from strataflow.build import Build
from strataflow.durable import sha256
from strataflow.home import Home
from strataflow.project import Project, canonical_tables
from strataflow.sources import Sources, load_sources

PROJECT = Project.locate()
TABLES = canonical_tables(PROJECT)
DAY = date(2024, 3, 14)
FEEDS = {
    "till": "orders",
    "till_lines": "order_lines",
    "clicks": "interactions",
    "crm": "customers",
    "range": "products",
    "notes": "manual_tags",
}

# What makes a good row of each canonical table; n counts the rows.
ROWS = {
    "orders": {
        "order_id": "'o' || n", "customer_id": "'c' || n % 7", "status": "'completed'", "amount": "10 + n",
        "channel": "'web'", "currency": "'EUR'", "is_adjustment": "false",
    },
    "order_lines": {
        "order_id": "'o' || n", "customer_id": "'c' || n % 7", "status": "'completed'", "amount": "10 + n",
        "product_id": "'p' || n % 3", "quantity": "1", "currency": "'EUR'", "is_adjustment": "false",
    },
    "interactions": {"interaction_id": "'i' || n", "customer_id": "'c' || n % 7", "kind": "'page_view'"},
    "customers": {"customer_id": "'c' || n", "region": "'north'"},
    "products": {"product_id": "'p' || n", "category": "'tea'", "unit_price": "2.50"},
    "manual_tags": {"customer_id": "'c' || n", "tag": "'night owl'", "tagged_by": "'li'", "action": "'add'"},
}  # fmt: skip


@dataclass(frozen=True)
class Shop:
    """A home with landed days, and the sources they came from."""

    home: Home
    sources: Sources

    def land(self, source: str, day: date = DAY, rows: int = 100, refused: int = 0, **values: str) -> None:
        """Write a partition, its quarantine and its manifest as landing would.

        ``values`` replace columns' SQL, in which ``n`` counts the rows from 0.
        """
        table = FEEDS[source]
        lake, refusals = self.home.partition(table, day, source), self.home.quarantined(day, source)
        for path in (lake, refusals):
            path.unlink(missing_ok=True)
        if rows:
            copy_to(lake, _partition_sql(table, source, day, rows, values))
        if refused:
            copy_to(refusals, f"select '{source}' as source, n as source_line from range({refused}) as r(n)")
        self.write_manifest(source, day, rows, refused)

    def write_manifest(self, source: str, day: date, rows: int, refused: int, **changes: Any) -> None:
        """Write the manifest of a delivery; ``changes`` replace what it says."""
        lake, refusals = self.home.partition(FEEDS[source], day, source), self.home.quarantined(day, source)
        counts = {"rows_read": rows + refused, "rows_landed": rows, "rows_quarantined": refused}
        manifest = {
            "schema_version": 1, "source": source, "table": FEEDS[source], "received_date": str(day), **counts,
            "reasons": {"unparseable": refused} if refused else {},
            "files": [{"path": f"{source}.csv", "bytes": 1, "sha256": "0" * 64, **counts}],
            "partition_sha256": sha256(lake) if lake.is_file() else None,
            "quarantine_sha256": sha256(refusals) if refusals.is_file() else None,
            "quarantine_ratio": refused / (rows + refused) if refused else 0.0,
            "limits": {"max_quarantine_ratio": 0.05, "expected": []},
        }  # fmt: skip
        path = self.home.landing(source, day)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(manifest | changes), encoding="utf-8")

    def land_all(self, day: date, **rows: int) -> None:
        """Let every source deliver 100 rows on ``day``, or as many as given for it."""
        for source in FEEDS:
            self.land(source, day, rows.get(source, 100))


def make_shop(folder: Path) -> Shop:
    """A shop with a source for every canonical table, nothing landed yet."""
    described = folder / "sources"
    described.mkdir(parents=True)
    (described / "shop.yml").write_text("name: corner shop\ntime_zone: UTC\ncurrency: EUR\n", encoding="utf-8")
    for source, table in FEEDS.items():
        required = {column.name: column.name for column in TABLES[table].mappable if column.required}
        content = {
            "name": source, "table": table, "description": "made for a test", "format": {"type": "csv"},
            "files": {"path": source + "-{date}.csv"}, "columns": required,
        }  # fmt: skip
        (described / f"{source}.yml").write_text(json.dumps(content), encoding="utf-8")
    return Shop(Home.at(folder / "home"), load_sources(described, PROJECT))


def good_values(table: str, source: str, day: date) -> dict[str, str]:
    """SQL of a good value for every column of a canonical table."""
    canonical = TABLES[table]
    return {
        **{column.name: "null" for column in canonical.columns},
        **dict.fromkeys(("refunded_amount", "discount_amount", "coupon_amount"), "0"),
        "source": f"'{source}'", "source_file": f"'{source}.csv'", "source_line": "n + 1",
        canonical.event_time or "": f"timestamp '{day} 12:00:00'", canonical.date_column or "": f"date '{day}'",
        canonical.hour_column or "": "12", **ROWS[table],
    }  # fmt: skip


def _partition_sql(table: str, source: str, day: date, rows: int, values: dict[str, str]) -> str:
    given = good_values(table, source, day) | values
    canonical = TABLES[table]
    columns = [f"cast({given[column.name]} as {column.data_type}) as {column.name}" for column in canonical.columns]
    return f"select {', '.join(columns)} from range({rows}) as r(n)"


def copy_to(path: Path, sql: str) -> None:
    """Write a query as Parquet."""
    path.parent.mkdir(parents=True, exist_ok=True)
    duckdb.sql(f"copy ({sql}) to '{path}' (format parquet)")


def project_of(folder: Path, gate: str, *suites: str) -> Project:
    """The project with only some suites of one gate, to judge quickly and to edit."""
    (folder / "expectations" / gate).mkdir(parents=True)
    (folder / "dbt_project").symlink_to(PROJECT.dbt)
    (folder / "expectations" / "data_docs").symlink_to(PROJECT.expectations / "data_docs")
    for suite in suites:
        shutil.copy(PROJECT.expectations / gate / f"{suite}.yml", folder / "expectations" / gate)
    return Project(folder)


# ---------------------------------------------------------------- a build

CUSTOMERS, ORDERING, WINDOW_DAYS = 40, 32, 365
STAGES = ("new", "active", "silent", "churned")


def make_build(home: Home, as_of: date = DAY, build_id: str = "b1") -> Build:
    """A build of 40 customers, 32 of them with orders, and the lake that its ledger comes from."""
    path = home.builds / str(as_of) / "build.duckdb"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    with duckdb.connect(str(path)) as build:
        for seed in sorted((PROJECT.dbt / "seeds").glob("*.csv")):
            build.execute(f"create table {seed.stem} as select * from read_csv('{seed}', header = true)")
        _make_ledger(build, as_of)
        _make_segments(build, as_of)
        _make_tags(build, as_of)
        _make_manual_tags(build, home, as_of)
        _make_coverage(build, as_of)
        _make_lists(build, as_of)
        _make_predictions(build, as_of)
        _make_groups(build, as_of)
        days = [day for (day,) in build.execute("select distinct received_date from orders order by all").fetchall()]
        for day in days:
            _write_orders(build, home, day)
        build.execute("drop table orders")
    return Build(path, as_of, as_of, {"build_id": build_id})


def _make_ledger(build: duckdb.DuckDBPyConnection, as_of: date) -> None:
    """One to six orders per customer; the first ones lie before the RFM window."""
    build.execute(
        f"""
        create table orders as
        select
            'o' || c || '-' || k as order_id,
            'c' || lpad(c::varchar, 2, '0') as customer_id,
            date '{as_of}' - ((c * 13 + k * 97) % 500)::integer as order_date,
            order_date as received_date,
            (5 + c * 1.25 + k)::decimal(18, 2) as net_amount
        from range({ORDERING}) as customers(c), range(6) as orders(k)
        where k <= c % 6;
        create table int_order_ledger_appended as
        select
            customer_id, order_date, received_date, net_amount,
            1::smallint as placed_orders, 1::smallint as valid_orders
        from orders;
        create view int_order_ledger as select * from int_order_ledger_appended;
        create table int_customers_known as
        select 'c' || lpad(n::varchar, 2, '0') as customer_id, date '{as_of - timedelta(days=600)}' as first_seen_date
        from range({CUSTOMERS}) as r(n);
        """
    )


def _make_segments(build: duckdb.DuckDBPyConnection, as_of: date) -> None:
    build.execute(
        f"""
        create table customer_segments as
        with summed as (
            select
                customer_id, min(order_date) as first_order_date, max(order_date) as last_order_date,
                sum(valid_orders)::bigint as lifetime_orders, sum(net_amount)::decimal(18, 2) as lifetime_value,
                sum(case when is_recent then valid_orders else 0 end)::bigint as frequency,
                sum(case when is_recent then net_amount else 0 end)::decimal(18, 2) as monetary
            from (select *, order_date > date '{as_of}' - {WINDOW_DAYS} as is_recent from int_order_ledger)
            group by customer_id
        ),
        classes as (select list(rfm_class order by position) as names from rfm_classes where rfm_class <> 'no_orders')
        select
            customer_id, date '{as_of}' as as_of_date, first_seen_date, first_order_date, last_order_date,
            coalesce(last_order_date, first_seen_date) as last_activity_date,
            date_diff('day', last_order_date, date '{as_of}')::integer as recency_days,
            coalesce(frequency, 0) as frequency, coalesce(monetary, 0) as monetary,
            coalesce(lifetime_orders, 0) as lifetime_orders, coalesce(lifetime_value, 0) as lifetime_value,
            case when lifetime_orders > 0 then 1 + number % 5 end as recency_score,
            case when lifetime_orders > 0 then 1 + number % 4 end as frequency_score,
            case when lifetime_orders > 0 then 1 + number % 3 end as monetary_score,
            case when lifetime_orders > 0 then number / {CUSTOMERS}.0::double end as churn_probability,
            case when lifetime_orders > 0 then names[1 + number % 8] else 'no_orders' end as rfm_class,
            case when monetary > 100 then 'high' when monetary > 20 then 'mid' else 'low' end as value_tier,
            case
                when lifetime_orders >= 5 then 'super' when lifetime_orders >= 2 then 'repeat'
                when lifetime_orders = 1 then 'first_purchase' else 'new'
            end as ecommerce_stage,
            case
                when lifetime_orders >= 5 then 'super' when lifetime_orders >= 2 then 'repeat'
                when lifetime_orders = 1 then 'first_order' else 'stranger'
            end as high_ticket_stage,
            {list(STAGES)}[1 + number % 4] as activity_stage, ecommerce_stage as lifecycle_stage,
            false as is_holdout
        from (select *, substr(customer_id, 2)::integer as number from int_customers_known)
        left join summed using (customer_id)
        cross join classes
        """
    )


def _make_tags(build: duckdb.DuckDBPyConnection, as_of: date) -> None:
    facts = "rfm_class, ecommerce_stage, high_ticket_stage, activity_stage, value_tier"
    build.execute(
        f"""
        create table customer_tags as
        with said as (
            select customer_id, tag_id, null as tag_value
            from (unpivot (select customer_id, {facts} from customer_segments) on {facts}
                into name agrees_with value agrees_value)
            join tag_dictionary using (agrees_with, agrees_value)
            union all
            select customer_id, case when lifetime_orders > 0 then 'has_ordered' else 'never_ordered' end, null
            from customer_segments
            union all
            select customer_id, 'main_channel', 'web' from customer_segments where lifetime_orders > 1
        )
        select
            customer_id, date '{as_of}' as as_of_date, tag_id, tag_group, tag_value::varchar as tag_value,
            'automatic' as source, 'orders counted' as evidence, null::date as since_date,
            null::varchar as tagged_by, null::varchar as reason, null::date as expires_at
        from said join tag_dictionary using (tag_id)
        """
    )


def _make_coverage(build: duckdb.DuckDBPyConnection, as_of: date) -> None:
    build.execute(
        f"""
        create table tag_coverage as
        with reached as (
            select 'tag' as level, tag_id as subject, any_value(tag_group) as tag_group, count(*) as customers
            from customer_tags group by tag_id
            union all
            select 'group', tag_group, tag_group, count(distinct customer_id) from customer_tags group by tag_group
            union all
            select 'optional', 'any', null, count(distinct customer_id) from customer_tags
            where tag_group in ('purchase_count', 'main_channel', 'active_hours')
        )
        select
            *, date '{as_of}' as as_of_date, (select count(*) from customer_segments) - customers as untagged_customers
        from reached
        """
    )


def _make_predictions(build: duckdb.DuckDBPyConnection, as_of: date) -> None:
    sunday = as_of - timedelta(days=as_of.isoweekday() % 7 or 7)
    build.execute(
        f"""
        create table next_best_products as
        select
            customer_id, as_of_date, rank, product_id, 0.5::decimal(18, 6) as confidence,
            0.1::decimal(18, 6) as base_share, 4.2::decimal(18, 6) as drawn_lift,
            'goes_with: 50.0% of the orders with Tea hold it, 10.0% of all orders' as reason
        from customer_segments, (values (1, 'pot'), (2, 'cup')) as offers (rank, product_id)
        where last_order_date is not null;
        create table customer_lifetime_value as
        select
            customer_id, as_of_date, 365 as horizon_days, 2.000000::decimal(18, 6) as expected_orders,
            12.34::decimal(18, 2) as expected_order_value, 23.50::decimal(18, 2) as expected_value,
            0.00::decimal(18, 2) as expected_value_low, 47.00::decimal(18, 2) as expected_value_high,
            0.750000::decimal(18, 6) as alive_probability, 'model' as method
        from customer_segments where last_order_date is not null;
        create table churn_model_card as
        select
            date '{as_of}' as as_of_date, candidate, date '{sunday}' as trained_at, 90 as horizon_days,
            candidate = 'boosting' as is_used, 'log loss' as reason,
            auc::double as auc, log_loss::double as log_loss, brier::double as brier
        from (values ('recency', 0.7, 0.5, 0.2), ('boosting', 0.8, 0.4, 0.1))
            as judged (candidate, auc, log_loss, brier)
        """
    )


def _make_groups(build: duckdb.DuckDBPyConnection, as_of: date) -> None:
    """Two groups, and a third that nobody belongs to today."""
    sunday = as_of - timedelta(days=as_of.isoweekday() % 7 or 7)
    build.execute(
        f"""
        create table groups as
        from (
            values ('cluster_1', 'frequent', '下单频繁'), ('cluster_2', 'new', '新客户'), ('cluster_4', 'other', '普通')
        ) as given (cluster_id, name_en, name_zh);
        create table behaviour_cluster as
        select
            customer_id, as_of_date, cluster_id, name_en, name_zh, 0.5::decimal(18, 6) as distance,
            'cluster_4' as next_cluster_id, 1.5::decimal(18, 6) as next_distance
        from customer_segments
        join groups on cluster_id = 'cluster_' || (1 + customer_id[-1:]::integer % 2)::varchar
        where last_order_date is not null;
        create table behaviour_clusters as
        select
            date '{as_of}' as as_of_date, cluster_id, name_en, name_zh, count(monetary) as customers,
            coalesce(sum(monetary), 0)::decimal(18, 2) as net_revenue, date '{sunday}' - 28 as first_fitted_on,
            date '{sunday}' as fitted_on, 0.4::decimal(18, 6) as silhouette, 'k = 3' as reason
        from groups left join (
            select cluster_id, monetary from behaviour_cluster join customer_segments using (customer_id)
        ) as members using (cluster_id) group by all;
        drop table groups
        """
    )


def _make_manual_tags(build: duckdb.DuckDBPyConnection, home: Home, as_of: date) -> None:
    """Five statements of c03, c04 and c05: in force to the last day, in the queue twice, expired, against the data."""
    path = home.partition("manual_tags", as_of, "notes")
    path.parent.mkdir(parents=True, exist_ok=True)
    build.execute(
        f"""
        create table manual_tag_outcomes as
        select
            customer_id, date '{as_of}' as as_of_date, tag_text, tagged_by, expires_at::date as expires_at,
            tag_id, null::varchar as tag_value, outcome, against_tag_id, date '{as_of}' as received_date,
            'notes' as source_name, 'notes.csv' as source_file, line::bigint as source_line
        from (values
            (1, 'c03', 'night owl', 'li', '{as_of}', 'hours_night', 'in_force', null),
            (2, 'c03', '夜 猫', 'li', null, null, 'queued', null),
            (3, 'c04', '夜猫', 'wu', null, null, 'queued', null),
            (4, 'c04', 'night owl', 'li', '{as_of - timedelta(days=1)}', 'hours_night', 'expired', null),
            (5, 'c05', 'never ordered', 'li', null, 'never_ordered', 'against_data', 'has_ordered')
        ) as said (line, customer_id, tag_text, tagged_by, expires_at, tag_id, outcome, against_tag_id);
        create table int_manual_tag_texts as
        select distinct tag_text, replace(tag_text, ' ', '') as word from manual_tag_outcomes;
        create table tag_review_queue as
        select '夜猫' as word, date '{as_of}' as as_of_date, '夜 猫' as tag_text, 2::bigint as times;
        insert into customer_tags
        select
            customer_id, as_of_date, tag_id, 'active_hours', null, 'manual', 'said by li', received_date, tagged_by,
            null, expires_at
        from manual_tag_outcomes where outcome = 'in_force';
        create table tag_conflicts as
        select customer_id, as_of_date, tag_id, 'manual' as source, tag_value, outcome as conflict, against_tag_id
        from manual_tag_outcomes where outcome = 'against_data'
        union all
        select customer_id, as_of_date, 'hours_mixed', 'automatic', null, 'outranked', 'hours_night'
        from manual_tag_outcomes where outcome = 'in_force';
        copy (
            select
                customer_id, tag_text as tag, source_name as source, source_file, source_line
            from manual_tag_outcomes
        ) to '{path}' (format parquet)
        """
    )


def _make_lists(build: duckdb.DuckDBPyConnection, as_of: date) -> None:
    build.execute(
        f"""
        create table churn_risk as
        select
            customer_id, as_of_date,
            row_number() over (order by churn_probability desc, monetary desc, customer_id)::integer as rank,
            churn_probability, rfm_class, value_tier, monetary, 'single_order: ordered once' as reasons,
            'Call' as suggested_action
        from customer_segments where last_order_date is not null and not is_holdout;
        create table customer_explanations as
        select
            customer_id, as_of_date, rfm_class, classes.recency_high as recency_is_high,
            classes.frequency_high as frequency_is_high, classes.monetary_high as monetary_is_high,
            case when last_order_date is null then 'general_develop' when not monetary_high then 'important_value' end
                as next_rfm_class,
            case when next_rfm_class is not null then 1 end as next_rfm_class_orders,
            case when next_rfm_class is not null then 0.01::decimal(18, 2) end as next_rfm_class_amount,
            as_of_date + 40 as next_rfm_class_by_date,
            case when recency_high then as_of_date + 1 end as recency_lost_date,
            case when value_tier = 'low' then 'mid' when value_tier = 'mid' then 'high' end as next_value_tier,
            case when value_tier <> 'high' then 5.00::decimal(18, 2) end as next_value_tier_amount,
            as_of_date + 40 as next_value_tier_by_date,
            case when lifetime_orders < 5 then 'super' end as next_ecommerce_stage,
            case when lifetime_orders < 5 then 5 - lifetime_orders end as next_ecommerce_stage_orders,
            case when lifetime_orders = 0 then 'prospect' when lifetime_orders < 5 then 'super' end
                as next_high_ticket_stage,
            case when lifetime_orders between 1 and 4 then 5 - lifetime_orders end as next_high_ticket_stage_orders,
            case when lifetime_orders = 0 then 1 end as next_high_ticket_stage_interactions,
            case when activity_stage <> 'churned' then 'churned' end as next_activity_stage,
            case when activity_stage <> 'churned' then as_of_date + 1 end as next_activity_stage_date
        from customer_segments join rfm_classes as classes using (rfm_class);
        create table rfm_cutoffs as
        select
            date '{as_of}' as as_of_date, measure, 'quantile' as method, 1::decimal(18, 2) as cutoff_1,
            2::decimal(18, 2) as cutoff_2, 2::decimal(18, 2) as cutoff_3, 9::decimal(18, 2) as cutoff_4,
            3::decimal(9, 6) as mean_score, (select count(recency_score) from customer_segments) as scored_customers
        from (values ('recency'), ('frequency'), ('monetary')) as measures(measure)
        """
    )
    _make_contacts(build, as_of)


def _make_contacts(build: duckdb.DuckDBPyConnection, as_of: date) -> None:
    """Every third customer was called today and has had enough; every seventh has withdrawn from all channels."""
    build.execute(
        f"""
        create table int_interaction_ledger as
        select customer_id, date '{as_of}' as interaction_date, 'contact' as kind, 'phone' as channel
        from customer_segments where substr(customer_id, 2)::integer % 3 = 0;
        create table int_customer_consents as
        select customer_id, '' as channel, date '{as_of}' as said_date, 9 as said_hour, 'withdrawn' as consent
        from customer_segments where substr(customer_id, 2)::integer % 7 = 0;
        create table decided as
        select
            segments.*, number % 7 = 0 as is_withheld, number % 3 = 0 as is_called, playbook.* exclude (rfm_class),
            (coalesce(churn_probability::decimal(9, 6), 0) * monetary)::decimal(18, 2) as at_stake
        from (select *, substr(customer_id, 2)::integer as number from customer_segments) as segments
        join (
            select rfm_class, why_en, why_zh, action_en, action_zh, channel, offer, playbook_id, is_contacted
            from playbook qualify row_number() over (partition by rfm_class order by playbook_id) = 1
        ) as playbook using (rfm_class);
        create table contact_suppressed as
        select
            customer_id, as_of_date,
            case when not is_contacted then 'left_alone' when is_withheld then 'no_consent' else 'channel_cap' end
                as suppressed_reason
        from decided where is_withheld or not is_contacted or is_called and channel = 'phone';
        create table contact_list as
        select
            customer_id, as_of_date, row_number() over (order by at_stake desc, customer_id)::integer as rank,
            at_stake as priority, churn_probability, monetary, rfm_class, lifecycle_stage, value_tier,
            why_en, why_zh, playbook_id, action_en, action_zh, channel, offer
        from decided anti join contact_suppressed using (customer_id);
        drop table decided
        """
    )


def _write_orders(build: duckdb.DuckDBPyConnection, home: Home, day: date) -> None:
    path = home.partition("orders", day, "till")
    path.parent.mkdir(parents=True, exist_ok=True)
    build.execute(f"copy (select order_id from orders where received_date = date '{day}') to '{path}' (format parquet)")


def publish_classes(home: Home, day: date, shares: dict[str, int]) -> None:
    """Publish an earlier day with so many customers per class, as far as gate 2 looks at it."""
    version = home.published / "versions" / f"{day}-aaaaaaaaaaaa"
    rows = ", ".join(f"('{name}', {count})" for name, count in shares.items())
    copy_to(
        version / "customer_segments" / f"as_of_date={day}" / "customer_segments.parquet",
        f"select date '{day}' as as_of_date, rfm_class from (values {rows}) as v(rfm_class, n), range(n)",
    )
    (version / "manifest.json").write_text(json.dumps({"as_of": str(day), "known_at": str(day)}), encoding="utf-8")
    days = home.published / "days"
    days.mkdir(parents=True, exist_ok=True)
    (days / str(day)).symlink_to(f"../versions/{version.name}")
