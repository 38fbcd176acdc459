"""The numbers of one build, added up inside DuckDB.

Everything that depends on the number of customers happens in SQL on the build
file; what comes back is a few hundred rows at most. Money is added as decimals
and probabilities are cast to decimals first, because parallel sums of floats
depend on the order of the rows and the page must not.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from strataflow.errors import StepFailed
from strataflow.sqltext import quoted

if TYPE_CHECKING:
    import duckdb

Row = dict[str, Any]

LADDERS = ("ecommerce", "high_ticket", "activity")
TOP_SHARE = 20
LIKELY = 0.5
COHORT_MONTHS = 12
AT_RISK_ROWS = 15
TAG_VALUES = 8
SEGMENTS = "main.customer_segments"
# Six decimals is what the model rounds to; as a decimal the sum is exact.
_PROBABILITY = "cast(churn_probability as decimal(9, 6))"


@dataclass(frozen=True)
class Headline:
    """The day in a handful of numbers; money in the shop's currency, ``window`` is the RFM window.

    Attributes:
        customers: everyone known.
        buyers: with a valid order in the window.
        orders: valid orders in the window.
        revenue: net amount of those orders.
        ever_bought: with a valid order at any time.
        bought_again: with a second valid order at any time.
        top_customers: size of the top 20% of the buyers.
        top_revenue: what they bring.
        likely_to_leave: whose churn probability is at least 50%.
        revenue_of_leavers: what they brought in the window.
    """

    customers: int
    buyers: int
    orders: int
    revenue: Decimal
    ever_bought: int
    bought_again: int
    top_customers: int
    top_revenue: Decimal
    likely_to_leave: int
    revenue_of_leavers: Decimal


@contextmanager
def opened(path: Path, spill: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A build, read-only; what does not fit into memory goes to ``spill``.

    Raises:
        StepFailed: a table or column that the page is made from is not there.
    """
    import duckdb

    with duckdb.connect(str(path), read_only=True) as connection:
        connection.execute(f"set temp_directory = {quoted(str(spill))}")
        try:
            yield connection
        except (duckdb.BinderException, duckdb.CatalogException) as fault:
            raise StepFailed(
                f"the report can't be made from this build: {fault}",
                where=str(path),
                todo="build the day again; if a model changed, change scripts/strataflow/report/ with it",
            ) from fault


def rows(connection: duckdb.DuckDBPyConnection, query: str, parameters: Row | None = None) -> list[Row]:
    """The result of a query whose result is small, as dictionaries by column."""
    cursor = connection.execute(query, parameters) if parameters else connection.execute(query)
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def headline(connection: duckdb.DuckDBPyConnection, segments: str = SEGMENTS) -> Headline:
    """The day in a handful of numbers, from any relation with the columns of customer_segments."""
    (total,) = rows(
        connection,
        f"""
        select
            count(*) as customers,
            count(*) filter (frequency > 0) as buyers,
            cast(coalesce(sum(frequency), 0) as bigint) as orders,
            coalesce(sum(monetary), 0) as revenue,
            count(*) filter (lifetime_orders > 0) as ever_bought,
            count(*) filter (lifetime_orders > 1) as bought_again,
            count(*) filter (churn_probability >= {LIKELY}) as likely_to_leave,
            coalesce(sum(monetary) filter (churn_probability >= {LIKELY}), 0) as revenue_of_leavers
        from {segments}
        """,
    )
    top = concentration(connection, [TOP_SHARE], segments)
    return Headline(
        **total,
        top_customers=top[0]["customers"] if top else 0,
        top_revenue=top[0]["revenue"] if top else Decimal(0),
    )


def concentration(connection: duckdb.DuckDBPyConnection, percents: list[int], segments: str = SEGMENTS) -> list[Row]:
    """What the best customers bring: the top 1%, 2%, ... of those who bought in the window.

    The top p% of n customers are the first ``ceil(n * p / 100)`` by revenue, so
    one customer is a top 20%. Rows: percent, customers, revenue; none without a buyer.
    """
    return rows(
        connection,
        f"""
        with amounts as (
            select monetary, count(*) as customers
            from {segments}
            where frequency > 0
            group by monetary
        ),
        running as (
            select
                monetary,
                cast(sum(customers) over best_first as bigint) as customers_through,
                sum(monetary * customers) over best_first as revenue_through
            from amounts
            window best_first as (order by monetary desc rows unbounded preceding)
        ),
        wanted as (
            select
                percent,
                cast((total.customers * percent + 99) // 100 as bigint) as customers
            from unnest($percents) as asked(percent)
            cross join (select sum(customers) as customers from amounts) as total
            where total.customers > 0
        )
        select
            wanted.percent,
            wanted.customers,
            cast(
                coalesce(
                    running.revenue_through - (running.customers_through - wanted.customers) * running.monetary, 0
                ) as decimal(18, 2)
            ) as revenue
        from wanted
        asof left join running on wanted.customers <= running.customers_through
        order by wanted.percent
        """,
        {"percents": percents},
    )


def classes(connection: duckdb.DuckDBPyConnection) -> list[Row]:
    """Size and revenue of every class, empty ones too: rfm_class, names, is_important, customers, orders, revenue."""
    return rows(
        connection,
        f"""
        with counted as (
            select rfm_class, count(*) as customers, sum(frequency) as orders, sum(monetary) as revenue
            from {SEGMENTS}
            group by rfm_class
        )
        select
            names.rfm_class,
            names.name_en,
            names.name_zh,
            names.recency_high is not null as has_ordered,
            names.is_important,
            names.position,
            coalesce(counted.customers, 0) as customers,
            cast(coalesce(counted.orders, 0) as bigint) as orders,
            cast(coalesce(counted.revenue, 0) as decimal(18, 2)) as revenue
        from main.rfm_classes as names
        left join counted using (rfm_class)
        order by names.position
        """,
    )


def scores(connection: duckdb.DuckDBPyConnection) -> list[Row]:
    """Customers and revenue per recency and frequency score; only pairs that occur."""
    return rows(
        connection,
        f"""
        select recency_score, frequency_score, count(*) as customers, sum(monetary) as revenue
        from {SEGMENTS}
        where recency_score is not null
        group by all
        order by all
        """,
    )


def cutoffs(connection: duckdb.DuckDBPyConnection) -> dict[str, Row]:
    """The cut-offs in force by measure; a measure that could not be cut has none."""
    found = rows(connection, "from main.rfm_cutoffs order by measure")
    numbered = [f"cutoff_{number}" for number in range(1, 5)]
    return {
        row["measure"]: {**row, "cutoffs": [row[name] for name in numbered if row[name] is not None]} for row in found
    }


def stages(connection: duckdb.DuckDBPyConnection) -> dict[str, list[Row]]:
    """Customers per stage of each ladder, in the ladder's order: stage, names, customers."""
    listed = ", ".join(f"{ladder}_stage" for ladder in LADDERS)
    found = rows(
        connection,
        f"""
        with counted as (
            select {listed}, count(*) as customers from {SEGMENTS} group by all
        ),
        standing as (
            unpivot counted on {listed} into name ladder_column value stage
        )
        select
            names.ladder, names.stage, names.name_en, names.name_zh, names.position,
            cast(coalesce(sum(standing.customers), 0) as bigint) as customers
        from main.lifecycle_stages as names
        left join standing on standing.ladder_column = names.ladder || '_stage' and standing.stage = names.stage
        group by all
        order by names.ladder, names.position
        """,
    )
    return {ladder: [row for row in found if row["ladder"] == ladder] for ladder in LADDERS}


def tiers(connection: duckdb.DuckDBPyConnection) -> list[Row]:
    """Customers and revenue of each value tier, in order: names, customers, revenue."""
    return rows(
        connection,
        f"""
        with counted as (
            select value_tier, count(*) as customers, sum(monetary) as revenue from {SEGMENTS} group by value_tier
        )
        select
            names.value_tier, names.name_en, names.name_zh, names.position,
            coalesce(counted.customers, 0) as customers,
            cast(coalesce(counted.revenue, 0) as decimal(18, 2)) as revenue
        from main.value_tiers as names
        left join counted using (value_tier)
        order by names.position
        """,
    )


def ledger_agrees(connection: duckdb.DuckDBPyConnection, as_of: date) -> bool:
    """Whether the kept order ledger still adds up to this build.

    The ledger lies outside the build file. After a day was landed again it
    speaks of other data, and what it says no longer belongs on this page.
    """
    (found,) = rows(
        connection,
        """
        select
            (
                select [coalesce(sum(valid_orders), 0), coalesce(sum(net_amount), 0)]
                from main.int_order_ledger
                where order_date <= $as_of
            ) = (
                select [coalesce(sum(lifetime_orders), 0), coalesce(sum(lifetime_value), 0)]
                from main.int_customer_orders_summed
            ) as agrees
        """,
        {"as_of": as_of},
    )
    return found["agrees"]


def cohorts(connection: duckdb.DuckDBPyConnection, as_of: date) -> list[Row]:
    """Who came back: customers of one first-order month who ordered again n months later.

    The latest cohorts, each followed for at most :data:`COHORT_MONTHS` months.
    Within a customer's month the corrections of the ledger cancel out, so a
    positive sum means at least one order that still counts.

    Rows: cohort (first of the month), months_since (0 = the first month), customers.
    """
    return rows(
        connection,
        f"""
        with months as (
            select
                customer_id,
                cast(date_trunc('month', first_order_date) as date) as cohort
            from {SEGMENTS}
            where first_order_date >= date_trunc('month', $as_of::date) - to_months({COHORT_MONTHS})
        ),
        active as (
            select
                customer_id,
                cast(date_trunc('month', order_date) as date) as active_month
            from main.int_order_ledger
            where order_date <= $as_of::date
                and order_date >= date_trunc('month', $as_of::date) - to_months({COHORT_MONTHS})
            group by all
            having sum(valid_orders) > 0
        )
        select
            months.cohort,
            date_diff('month', months.cohort, active.active_month) as months_since,
            count(*) as customers
        from months
        inner join active using (customer_id)
        group by all
        order by all
        """,
        {"as_of": as_of},
    )


def first_order_month(connection: duckdb.DuckDBPyConnection) -> date | None:
    """The month of the first valid order of all."""
    query = f"select cast(date_trunc('month', min(first_order_date)) as date) as month from {SEGMENTS}"
    return rows(connection, query)[0]["month"]


def churn_by_class(connection: duckdb.DuckDBPyConnection) -> list[Row]:
    """How the churn probability spreads within each class.

    Rows: rfm_class, names, is_important, customers, p10, p25, p50, p75, p90
    (discrete quantiles, so each is a probability that a customer has).
    """
    quantiles = ", ".join(
        f"quantile_disc(churn_probability, {share / 100}) as p{share}" for share in (10, 25, 50, 75, 90)
    )
    return rows(
        connection,
        f"""
        with spread as (
            select rfm_class, count(*) as customers, {quantiles}
            from {SEGMENTS}
            where churn_probability is not null
            group by rfm_class
        )
        select names.name_en, names.name_zh, names.is_important, names.position, spread.*
        from spread
        inner join main.rfm_classes as names using (rfm_class)
        order by names.position
        """,
    )


def churn_histogram(connection: duckdb.DuckDBPyConnection) -> list[Row]:
    """Customers per tenth of churn probability: tenth (0 to 9), is_important, customers, revenue."""
    return rows(
        connection,
        f"""
        with counted as (
            select
                least(9, cast(floor(churn_probability * 10) as integer)) as tenth,
                rfm_class,
                count(*) as customers,
                sum(monetary) as revenue
            from {SEGMENTS}
            where churn_probability is not null
            group by all
        )
        select
            counted.tenth,
            names.is_important,
            cast(sum(counted.customers) as bigint) as customers,
            cast(sum(counted.revenue) as decimal(18, 2)) as revenue
        from counted
        inner join main.rfm_classes as names using (rfm_class)
        group by all
        order by all
        """,
    )


def at_risk(connection: duckdb.DuckDBPyConnection) -> list[Row]:
    """The most valuable customers who are likely to leave, by what the shop stands to lose.

    Expected loss is churn probability × revenue in the window. Rows:
    customer_id, class names, tier names, monetary, churn_probability,
    expected_loss, last_order_date, reasons, suggested_action, suggested_action_zh.
    """
    return rows(
        connection,
        f"""
        with worst as (
            select
                customer_id, churn_probability, monetary, value_tier, rfm_class,
                reasons, suggested_action, suggested_action_zh,
                cast({_PROBABILITY} * monetary as decimal(18, 2)) as expected_loss
            from main.churn_risk
            where churn_probability >= {LIKELY} and monetary > 0
            order by expected_loss desc, customer_id
            limit {AT_RISK_ROWS}
        )
        select
            worst.*,
            segments.last_order_date,
            names.name_en, names.name_zh,
            tier_names.name_en as tier_en, tier_names.name_zh as tier_zh
        from worst
        inner join {SEGMENTS} as segments using (customer_id)
        left join main.rfm_classes as names on worst.rfm_class = names.rfm_class
        left join main.value_tiers as tier_names on worst.value_tier = tier_names.value_tier
        order by worst.expected_loss desc, worst.customer_id
        """,
    )


def tags(connection: duckdb.DuckDBPyConnection) -> list[Row]:
    """Customers per tag, unused tags too, in the dictionary's order.

    Rows: tag_group, tag_id, names, value_kind, is_mandatory, customers.
    """
    return rows(
        connection,
        """
        with counted as (
            select tag_id, count(*) as customers from main.customer_tags group by tag_id
        ),
        dictionary as (
            select *, rowid as position from main.tag_dictionary
        )
        select
            dictionary.tag_group, dictionary.tag_id, dictionary.name_en, dictionary.name_zh,
            dictionary.value_kind, dictionary.is_mandatory, dictionary.is_exclusive,
            coalesce(counted.customers, 0) as customers
        from dictionary
        left join counted using (tag_id)
        order by min(dictionary.position) over (partition by dictionary.tag_group), dictionary.position
        """,
    )


def tagged_customers(connection: duckdb.DuckDBPyConnection, group: str) -> int:
    """Customers with at least one tag of a group; needed only where a group is not exclusive."""
    query = "select count(distinct customer_id) as customers from main.customer_tags where tag_group = $group"
    return rows(connection, query, {"group": group})[0]["customers"]


def tag_values(connection: duckdb.DuckDBPyConnection) -> list[Row]:
    """The most frequent values of every tag that has values: tag_id, names, tag_value, customers, different."""
    return rows(
        connection,
        f"""
        with counted as (
            select tag_id, tag_value, count(*) as customers
            from main.customer_tags
            where tag_value is not null
            group by all
        ),
        ranked as (
            select
                *,
                row_number() over (partition by tag_id order by customers desc, tag_value) as position,
                count(*) over (partition by tag_id) as different
            from counted
        )
        select
            ranked.tag_id, dictionary.name_en, dictionary.name_zh,
            ranked.tag_value, ranked.customers, ranked.different
        from ranked
        inner join main.tag_dictionary as dictionary using (tag_id)
        where ranked.position <= {TAG_VALUES}
        order by ranked.tag_id, ranked.position
        """,
    )


def last_events(connection: duckdb.DuckDBPyConnection) -> Row:
    """The newest business dates that the build has seen: last_order_date, last_activity_date."""
    query = (
        f"select max(last_order_date) as last_order_date, max(last_activity_date) as last_activity_date from {SEGMENTS}"
    )
    return rows(connection, query)[0]
