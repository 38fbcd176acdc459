"""Since when a customer has had each tag, from the days that are published.

A version is a function of its day and can't know the days before it, so the answer is folded over the published
days when somebody asks. Tags are sorted by customer: one customer costs little of each day's file.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

from strataflow.errors import UsageError
from strataflow.publish import published_days, version_of

if TYPE_CHECKING:
    from pathlib import Path

    from strataflow.home import Home


@dataclass(frozen=True)
class Since:
    """First day of an unbroken run of published days.

    Attributes:
        day: that day.
        is_first_published: nothing is published of the days before, so it may be longer.
    """

    day: date
    is_first_published: bool


def tagged_since(home: Home, customer_id: str, day: date) -> dict[tuple[str, str | None], Since]:
    """By tag and value, since when the customer has had what they have on ``day``; a day not published breaks no run.

    Raises:
        UsageError: published days were taken away while they were read.
    """
    import duckdb

    files = {each: path for each in published_days(home) if each <= day and (path := _file(home, each))}
    if not files:
        return {}
    try:
        found = duckdb.execute(_SQL, [list(files), [str(path) for path in files.values()], customer_id]).fetchall()
    except duckdb.IOException as gone:
        raise UsageError(
            f"a published day was taken away while it was read ({gone})", where=str(home.published), todo="ask again"
        ) from gone
    first = min(files)
    return {(tag_id, tag_value): Since(since, since == first) for tag_id, tag_value, since in found}


def _file(home: Home, day: date) -> Path | None:
    version = version_of(home, day)
    path = version and version / "customer_tags" / f"as_of_date={day}" / "customer_tags.parquet"
    return path if path and path.is_file() else None


_SQL = """
    with published as (
        select unnest($1::date[]) as as_of_date, generate_subscripts($1::date[], 1) as day_number
    ),
    tagged as (
        select tags.tag_id, tags.tag_value, published.as_of_date, published.day_number,
            published.day_number
                - row_number() over (partition by tags.tag_id, tags.tag_value order by published.day_number) as run
        from read_parquet($2, hive_partitioning = false, union_by_name = true) as tags
        join published using (as_of_date)
        where tags.customer_id = $3
    )
    select tag_id, tag_value, min(as_of_date)
    from tagged
    group by tag_id, tag_value, run
    having max(day_number) = (select max(day_number) from published)
"""
