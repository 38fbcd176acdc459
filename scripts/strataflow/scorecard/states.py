"""Where every customer stood at a month's end, as a build of that day would say.

The states come out of ``customer_segments`` itself, built as of the month end from what
had been received by then, so no rule stands a second time. They are kept beside the lake
with the fingerprint of what they came from; another fingerprint means building again.
Removing the folder costs time, nothing else.
"""

from __future__ import annotations

import json
import os
import shutil
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from strataflow.durable import sync, write_json
from strataflow.errors import InputError
from strataflow.sqltext import quoted

if TYPE_CHECKING:
    from strataflow.home import Home
    from strataflow.project import Project
    from strataflow.sources import Shop

# What the scorecard counts; whoever was treated in the month is looked up in the interaction ledger.
_STATE = """
    with treated as (
        select distinct interactions.customer_id
        from int_interaction_ledger as interactions
        inner join interaction_kinds as kinds on interactions.kind = kinds.kind
        where kinds.is_treatment and interactions.interaction_date between {first} and {end}
    )

    select
        segments.as_of_date as month_end,
        segments.customer_id,
        segments.last_order_date,
        segments.frequency,
        segments.monetary,
        segments.lifetime_orders,
        segments.lifetime_value,
        segments.rfm_class,
        segments.value_tier,
        segments.ecommerce_stage,
        segments.high_ticket_stage,
        segments.activity_stage,
        segments.is_holdout,
        treated.customer_id is not null as is_treated
    from customer_segments as segments
    left join treated on segments.customer_id = treated.customer_id
    order by segments.customer_id
"""


def last_month_end(day: date) -> date:
    """The last day of a month on or before ``day``."""
    tomorrow = day + timedelta(days=1)
    return tomorrow.replace(day=1) - timedelta(days=1)


def month_ends(home: Home, day: date, months: int) -> list[date]:
    """The month ends around the last ``months`` whole months up to ``day``, oldest first.

    One more than months, as a month lies between two; fewer where nothing had been received by then.
    """
    from strataflow.lake import received

    ends: list[date] = []
    end = last_month_end(day)
    try:
        while len(ends) <= months:
            received(home, end)
            ends.append(end)
            end = last_month_end(end.replace(day=1) - timedelta(days=1))
    except InputError:
        pass
    return ends[::-1]


def state_of(home: Home, project: Project, shop: Shop, end: date, fingerprint: str) -> Path:
    """The Parquet file of the customers' states at the month end ``end``, built now if it isn't kept.

    Args:
        fingerprint: of a build as of ``end``.
    """
    from strataflow.build import build_models

    path, about = home.month_ends / f"{end}.parquet", home.month_ends / f"{end}.json"
    if path.is_file() and _is_of(about, fingerprint):
        return path
    scratch = home.scratch / f"month-end-{end}"
    database = build_models(home, project, shop, end, ["customer_segments"], scratch)
    home.month_ends.mkdir(parents=True, exist_ok=True)
    # The old description first: a file with a description is always the one it describes.
    about.unlink(missing_ok=True)
    _write(database, end, scratch / path.name)
    os.replace(scratch / path.name, path)
    write_json(about, {"fingerprint": fingerprint})
    shutil.rmtree(scratch, ignore_errors=True)
    return path


def _is_of(about: Path, fingerprint: str) -> bool:
    try:
        return json.loads(about.read_text(encoding="utf-8"))["fingerprint"] == fingerprint
    except (OSError, ValueError, KeyError):
        return False


def _write(database: Path, end: date, target: Path) -> None:
    import duckdb

    query = _STATE.format(first=f"date '{end.replace(day=1)}'", end=f"date '{end}'")
    with duckdb.connect(str(database), read_only=True) as connection:
        connection.execute(f"copy ({query}) to {quoted(str(target))} (format parquet, compression zstd)")
    sync(target)
