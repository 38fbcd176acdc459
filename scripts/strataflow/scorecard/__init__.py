"""Does the segmentation work? Month by month, as one long table of defined figures.

The scorecard is a function of what had been received by the end of the last whole
month, and of the rules: the customers' states at month ends come out of the same dbt
models as every day's, each as of its month end and known by then, and everything on
the scorecard is counted from those states. It is made once a month, not every day;
states of past month ends are kept, so that a month adds one.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from strataflow.durable import json_text, point, sha256, sync_tree
from strataflow.errors import UsageError
from strataflow.scorecard.states import last_month_end, month_ends, state_of

if TYPE_CHECKING:
    import duckdb

    from strataflow.build import Progress
    from strataflow.home import Home
    from strataflow.project import Project
    from strataflow.sources import Shop

LINK, FOLDER, MANIFEST, SPILL = "scorecard", "scorecards", "manifest.json", "spill"
SCHEMA_VERSION = 1
# A month lies between two month ends.
ENDS_AT_LEAST = 2
TABLES = {
    "segmentation_scorecard": ("month", "metric", "segment"),
    "holdout_uplift": ("month", "comparison", "outcome", "segment"),
}


@dataclass(frozen=True)
class Scorecard:
    """A published scorecard: its folder, its manifest, and whether it was made just now."""

    path: Path
    manifest: dict[str, Any]
    changed: bool


def is_due(home: Home, project: Project, day: date) -> bool:
    """Whether the scheduled run of ``day`` makes a scorecard: on a month's last day, with a whole month before it."""
    from strataflow.rules import variables

    months = int(variables(project)["scorecard_months"])
    return last_month_end(day) == day and len(month_ends(home, day, months)) >= ENDS_AT_LEAST


def scorecard(home: Home, project: Project, shop: Shop, day: date, *, progress: Progress | None = None) -> Scorecard:
    """The scorecard of the whole months up to ``day``, at ``published/scorecard``; the caller holds the writer's lock.

    Made anew only if data received by then, rules or code are others than those it was made of.

    Raises:
        UsageError: not one whole month lies between the first day received and ``day``.
        StepFailed: the models don't build.
    """
    from strataflow.build import fingerprint
    from strataflow.rules import code_version, rules_hash, variables

    ends = month_ends(home, day, int(variables(project)["scorecard_months"]))
    if len(ends) < ENDS_AT_LEAST:
        raise UsageError(
            f"there is no whole month before {day} to tell of",
            where=str(home.landings),
            todo="a scorecard needs the data of two month ends; land earlier days, or come back after the next one",
        )
    prints = {str(end): fingerprint(home, project, shop, end) for end in ends}
    made_from = hashlib.sha256(json_text(prints).encode()).hexdigest()
    standing = _standing(home, ends[-1], made_from)
    if standing:
        return standing
    states = []
    # The newest first: it brings the kept ledgers to where all the others find them.
    for done, end in enumerate(reversed(ends), start=1):
        states.append(state_of(home, project, shop, end, prints[str(end)]))
        if progress:
            progress("scorecard", done, len(ends))
    about = {
        "schema_version": SCHEMA_VERSION,
        "as_of": str(ends[-1]),
        "month_ends": [str(end) for end in ends],
        "shop": {"name": shop.name, "currency": shop.currency},
        "rules_hash": rules_hash(project),
        "code_version": code_version(project),
        "fingerprint": made_from,
    }
    return _publish(home, project, ends, states, about)


def tables_of(
    project: Project, states: Sequence[Path], ends: Sequence[date], folder: Path
) -> duckdb.DuckDBPyConnection:
    """A database in memory with both tables, counted from the states at ``ends``.

    Args:
        states: Parquet files of the customers' states (:mod:`strataflow.scorecard.states`).
        ends: their month ends, oldest first, each a month after the one before.
        folder: what doesn't fit into memory goes to ``spill`` in it.
    """
    import duckdb

    from strataflow.sqltext import quoted

    connection = duckdb.connect()
    connection.execute(f"set temp_directory = {quoted(str(folder / SPILL))}")
    files = ", ".join(quoted(str(path)) for path in states)
    connection.execute(f"create temp view states as from read_parquet([{files}], hive_partitioning = false)")
    connection.execute("create temp table month_ends (month_end date, previous_end date, third_end date)")
    rows = [(end, _earlier(ends, n, 1), _earlier(ends, n, 3)) for n, end in enumerate(ends)]
    connection.executemany("insert into month_ends values (?, ?, ?)", rows)
    seed = quoted(str(project.dbt / "seeds" / "lifecycle_stages.csv"))
    connection.execute(
        f"""
        create temp table stages as
        select ladder, stage, position, position = max(position) over (partition by ladder) as is_top
        from read_csv({seed}, header = true)
        where ladder in ('ecommerce', 'high_ticket')
        """
    )
    for name in ("intervals", *TABLES):
        connection.execute((Path(__file__).parent / f"{name}.sql").read_text(encoding="utf-8"))
    return connection


def _earlier(ends: Sequence[date], number: int, months: int) -> date | None:
    return ends[number - months] if number >= months else None


def _standing(home: Home, end: date, made_from: str) -> Scorecard | None:
    """The scorecard of that month end, if it is whole and of the very same data, rules and code."""
    for folder in sorted((home.published / FOLDER).glob(f"{end}-*")):
        try:
            manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        whole = all((folder / entry["path"]).is_file() for entry in manifest["files"])
        if whole and manifest["fingerprint"] == made_from:
            return Scorecard(folder, manifest, _link(home))
    return None


def _publish(
    home: Home, project: Project, ends: Sequence[date], states: Sequence[Path], about: dict[str, Any]
) -> Scorecard:
    """Write the folder aside, give it its name, and lead the link to the newest month."""
    aside = home.scratch / "scorecard"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    with tables_of(project, states, ends, aside) as connection:
        # One thread writes one file the same way every time.
        connection.execute("set threads = 1")
        rows = {table: _export(connection, aside, table, key) for table, key in TABLES.items()}
    shutil.rmtree(aside / SPILL, ignore_errors=True)
    files = [
        {"path": path.name, "bytes": path.stat().st_size, "sha256": sha256(path)} for path in sorted(aside.iterdir())
    ]
    manifest = about | {"rows": rows, "files": files}
    (aside / MANIFEST).write_text(json_text(manifest), encoding="utf-8")
    sync_tree(aside)
    target = home.published / FOLDER / f"{ends[-1]}-{sha256(aside / MANIFEST)[:12]}"
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(target, ignore_errors=True)
    aside.rename(target)
    for other in target.parent.glob(f"{ends[-1]}-*"):
        if other != target:
            shutil.rmtree(other)
    _link(home)
    return Scorecard(target, manifest, changed=True)


def _export(connection: duckdb.DuckDBPyConnection, folder: Path, table: str, key: Sequence[str]) -> int:
    from strataflow.sqltext import quoted

    ordered = f"from {table} order by {', '.join(key)}"
    connection.execute(
        f"copy ({ordered}) to {quoted(str(folder / f'{table}.parquet'))} (format parquet, compression zstd)"
    )
    connection.execute(f"copy ({ordered}) to {quoted(str(folder / f'{table}.csv'))} (format csv, header)")
    return connection.execute(f"select count(*) from {table}").fetchone()[0]


def _link(home: Home) -> bool:
    """Lead ``published/scorecard`` to the scorecard of the newest month end."""
    newest = max(path.name for path in (home.published / FOLDER).iterdir() if (path / MANIFEST).is_file())
    return point(home.published / LINK, f"{FOLDER}/{newest}")
