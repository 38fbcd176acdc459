"""The logs of runs as tables, for whoever asks how long things take and how that changes.

A log is one JSON file per run (:mod:`strataflow.runlog`). Read as two tables, ``runs`` and ``run_steps``, they can be
queried with DuckDB, written as Parquet, and followed by a database.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from strataflow import runlog, summary
from strataflow.export import literal

if TYPE_CHECKING:
    import duckdb
    from rich.console import Console

    from strataflow.home import Home

KEYS = {"runs": ("as_of_date", "run"), "run_steps": ("as_of_date", "run", "position")}


@contextmanager
def opened(home: Home, since: float | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection with the views ``runs`` and ``run_steps`` over a home's logs; times are UTC.

    Args:
        since: only logs written at or after this POSIX time.
    """
    import duckdb
    import pyarrow as pa

    texts = [path.read_text(encoding="utf-8") for path in _logs(home, since)]
    columns = {"text": pa.array(texts, pa.string()), "is_killed": pa.array(map(_is_killed, texts), pa.bool_())}
    with duckdb.connect() as connection:
        connection.execute("set TimeZone = 'UTC'")
        connection.register("log_texts", pa.table(columns))
        connection.execute((Path(__file__).parent / "runs.sql").read_text(encoding="utf-8"))
        yield connection


def write(home: Home, folder: Path) -> list[Path]:
    """Write ``runs.parquet`` and ``run_steps.parquet`` to ``folder``; their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    with opened(home) as connection:
        for table, key in KEYS.items():
            path = folder / f"{table}.parquet"
            order = ", ".join(key)
            connection.execute(f"copy (from {table} order by {order}) to {literal(path)} (format parquet)")
            written.append(path)
    return written


def latest(home: Home, count: int, day: date | None = None) -> list[dict[str, Any]]:
    """The logs of the last ``count`` runs, oldest first, of one day if it is given; a killed run says so."""
    found = runlog.records(home, day)[-count:]
    for record in found:
        if record["outcome"] == "running" and not runlog.is_alive(record):
            record["outcome"] = "killed"
    return found


def render(records: list[dict[str, Any]], console: Console, title: str = "Runs") -> None:
    """Print logs of runs for people: a line per run and a line per step, then errors and what the runs were made by."""
    table = summary.table(title)
    for column in ("run", "what", "began (UTC)", "outcome"):
        table.add_column(column, no_wrap=column != "what", overflow="fold")
    for column in ("seconds", "rows", "peak MB"):
        table.add_column(column, justify="right", no_wrap=True)
    for record in records:
        began = record["started_at"][5:16].replace("T", " ")
        table.add_row(_called(record), record["command"], began, record["outcome"], _seconds(record))
        for step in record["steps"]:
            rows = "" if step["rows"] is None else f"{step['rows']:,}"
            peak = f"{step['peak_memory_bytes'] / 1e6:,.0f}" if step["peak_memory_bytes"] else ""
            table.add_row("", f"  {step['name']}", "", step["outcome"], _seconds(step), rows, peak)
            if found := _found(step):
                table.add_row("", f"    {found}")
        if record["step"]:
            table.add_row("", f"  in {record['step']}")
    console.print(table)
    told = [f"{_called(record)}: {record['error']['what']}" for record in records if record["error"]]
    for line in [*told, *_made_by(records)]:
        console.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)


def _logs(home: Home, since: float | None) -> list[Path]:
    """The logs that are whole; a run killed in its very first moment leaves an empty file."""
    found = sorted((home.root / "runs").glob("*-*-*/[0-9]*.json"))
    states = [(path, path.stat()) for path in found]
    return [path for path, state in states if state.st_size and (since is None or state.st_mtime >= since)]


def _is_killed(text: str) -> bool:
    """Whether a log says ``running`` although its process is gone."""
    if '"outcome": "running"' not in text:
        return False
    record = json.loads(text)
    return record["outcome"] == "running" and not runlog.is_alive(record)


def _seconds(entry: dict[str, Any]) -> str:
    return f"{entry['seconds']:.1f}" if entry["seconds"] else ""


def _called(record: dict[str, Any]) -> str:
    return f"{record['as_of']} #{record['run']}"


def _made_by(records: list[dict[str, Any]]) -> list[str]:
    """Which versions ran, a line for each change of them."""
    wanted, lines, before = ("strataflow", "duckdb", "dbt-core"), [], ""
    for record in records:
        now = ", ".join(f"{name} {record['versions'][name]}" for name in wanted if name in record["versions"])
        if now != before:
            lines.append(f"{_called(record)} and later: {now}" if before else f"made by {now}")
        before = now
    return lines


def _found(step: dict[str, Any]) -> str:
    """What a step's log says of its gate, or the version it was about."""
    detail = step["detail"]
    if "expectations" not in detail:
        return detail.get("version", "")
    warned = f", {len(detail['warnings'])} only warn" if detail.get("warnings") else ""
    return f"{detail['expectations']} expectations{warned}"
