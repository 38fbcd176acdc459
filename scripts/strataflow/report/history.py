"""What published versions of earlier days add to the page: what changed, who moved, did forecasts hold.

Earlier days are read from the Parquet files that were published then, never
from a build: what readers saw is what the page compares with.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from strataflow.publish import published_days, read_manifest, version_of
from strataflow.report.facts import SEGMENTS, Headline, Row, headline, rows
from strataflow.sqltext import quoted

if TYPE_CHECKING:
    import duckdb

    from strataflow.home import Home

# A "month earlier" is the nearest published day within so many days of the same day last month.
MONTH_TOLERANCE_DAYS = 10
# A forecast whose horizon ended longer ago than this says little about today's model.
FORECAST_AGE_DAYS = 31
_COMPARED = {"customer_id", "rfm_class", "monetary", "frequency", "lifetime_orders", "churn_probability"}


@dataclass(frozen=True)
class EarlierDay:
    """A published day that can be compared with: ``segments`` is SQL for its customer_segments."""

    day: date
    segments: str


def last_published(connection: duckdb.DuckDBPyConnection, home: Home, as_of: date) -> EarlierDay | None:
    """The last published day before ``as_of``; None if there is none to compare with."""
    return _first_comparable(connection, home, reversed(_days_before(home, as_of)))


def month_earlier(connection: duckdb.DuckDBPyConnection, home: Home, as_of: date) -> EarlierDay | None:
    """The published day nearest to the same day of last month, the earlier of two; None if none is near."""
    wanted = same_day_last_month(as_of)
    near = [day for day in _days_before(home, as_of) if abs((day - wanted).days) <= MONTH_TOLERANCE_DAYS]
    return _first_comparable(connection, home, sorted(near, key=lambda day: (abs((day - wanted).days), day)))


def forecast_due(
    connection: duckdb.DuckDBPyConnection, home: Home, as_of: date, horizon_days: int
) -> EarlierDay | None:
    """The latest published day whose forecasts over ``horizon_days`` can be judged by now."""
    latest = as_of - timedelta(days=horizon_days)
    due = [day for day in _days_before(home, as_of) if latest - timedelta(days=FORECAST_AGE_DAYS) <= day <= latest]
    return _first_comparable(connection, home, reversed(due))


def same_day_last_month(day: date) -> date:
    """31 December becomes 30 November."""
    end_of_last_month = day.replace(day=1) - timedelta(days=1)
    return end_of_last_month.replace(day=min(day.day, end_of_last_month.day))


def headline_of(connection: duckdb.DuckDBPyConnection, earlier: EarlierDay) -> Headline:
    """The headline numbers of an earlier day."""
    return headline(connection, earlier.segments)


def moves(connection: duckdb.DuckDBPyConnection, earlier: EarlierDay) -> list[Row]:
    """Customers by class then and class now; None then = not known yet, None now = no longer there.

    Rows: class_then, class_now, customers, revenue (in today's window, of those still there).
    """
    return rows(
        connection,
        f"""
        select
            before.rfm_class as class_then,
            today.rfm_class as class_now,
            count(*) as customers,
            cast(coalesce(sum(today.monetary), 0) as decimal(18, 2)) as revenue
        from {earlier.segments} as before
        full join {SEGMENTS} as today on before.customer_id = today.customer_id
        group by all
        order by all
        """,
    )


def calibration(connection: duckdb.DuckDBPyConnection, earlier: EarlierDay, horizon_days: int) -> list[Row]:
    """Forecast against outcome, by tenth of the probability published on ``earlier.day``.

    Rows: tenth (0 to 9), customers, predicted (mean probability), stayed_away
    (customers without a valid order in the ``horizon_days`` after that day, as
    the ledger knows it now).
    """
    return rows(
        connection,
        f"""
        with returned as (
            select distinct customer_id
            from (
                select customer_id, order_date
                from main.int_order_ledger
                where order_date > $day and order_date <= $day + to_days($horizon)
                group by all
                having sum(valid_orders) > 0
            )
        )
        select
            least(9, cast(floor(before.churn_probability * 10) as integer)) as tenth,
            count(*) as customers,
            cast(sum(cast(before.churn_probability as decimal(9, 6))) as double) / count(*) as predicted,
            count(*) filter (returned.customer_id is null) as stayed_away
        from {earlier.segments} as before
        left join returned on before.customer_id = returned.customer_id
        where before.churn_probability is not null
        group by tenth
        order by tenth
        """,
        {"day": earlier.day, "horizon": horizon_days},
    )


def _days_before(home: Home, as_of: date) -> list[date]:
    return [day for day in published_days(home) if day < as_of]


def _first_comparable(connection: duckdb.DuckDBPyConnection, home: Home, days: object) -> EarlierDay | None:
    """The first of ``days`` whose version has the columns that are compared (an older contract may lack some)."""
    for day in days:
        version = version_of(home, day)
        segments = _segments(version) if version else None
        if segments and _columns(connection, segments) >= _COMPARED:
            return EarlierDay(day, segments)
    return None


def _segments(version: Path) -> str | None:
    """SQL that reads customer_segments of a version."""
    table = read_manifest(version)["tables"].get("customer_segments")
    if not table:
        return None
    files = ", ".join(quoted(str(version / entry["path"])) for entry in table["files"])
    return f"read_parquet([{files}], hive_partitioning = false)"


def _columns(connection: duckdb.DuckDBPyConnection, relation: str) -> set[str]:
    return {row["column_name"] for row in rows(connection, f"describe select * from {relation}")}
