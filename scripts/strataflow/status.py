"""Where a home stands: what has landed, been built, checked and published, and what the next run lacks.

Reads only small files (manifests, reports, links, run records), takes no lock
and changes nothing, so it can be asked at any time.
"""

from __future__ import annotations

import json
import os
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from strataflow import runs, summary
from strataflow.publish import current_version, published_days, read_manifest, version_of

if TYPE_CHECKING:
    from rich.console import Console

    from strataflow.home import Home
    from strataflow.sources import Sources

RECENT = 5


def collect(home: Home, sources: Sources | None = None, day: date | None = None) -> dict[str, Any]:
    """The state of a home.

    Args:
        sources: the shop's sources, if known: then sources that never landed
            are noticed, and whether the next day's files have been delivered.
        day: whose gates and runs are told; by default the gates of the most
            recent landed day and the latest runs of any day.

    Returns:
        home, is_writing, last_day, landed (per source, with gaps), builds, gates_of, gates,
        published, missing (what and todo), next_day, runs.
    """
    landed = [_landed(folder) for folder in sorted(home.landings.glob("*")) if any(folder.glob("*.json"))]
    last_day = max((date.fromisoformat(entry["last"]) for entry in landed), default=None)
    gates_of = day or last_day
    is_writing = _is_writing(home)
    published = _published(home)
    return {
        "home": str(home.root),
        "is_writing": is_writing,
        "last_day": str(last_day) if last_day else None,
        "landed": landed,
        "builds": _builds(home)[-RECENT:],
        "gates_of": str(gates_of) if gates_of else None,
        "gates": summary.gates(home, gates_of) if gates_of else [],
        "published": published,
        "missing": [*_unfinished_erasure(home), *_refused(home), *_missing(landed, last_day, published, sources)],
        "next_day": _next_day(last_day, sources),
        "runs": runs.latest(home, RECENT, day),
    }


def render(state: dict[str, Any], console: Console) -> None:
    """Print the state of a home for people."""
    console.rule(f"[bold]{state['home']}[/]")
    if state["is_writing"]:
        console.print("A run is writing to this home now.")
    if state["landed"]:
        _print_landed(state["landed"], console)
    if state["published"]["recent"]:
        _print_published(state["published"], console)
    if state["builds"]:
        _print_builds(state["builds"], console)
    if state["gates"]:
        summary.print_gates(state["gates"], console, f"Gates of {state['gates_of']}")
    if state["runs"]:
        runs.render(state["runs"], console, "Last runs")
    console.print("\n[bold]Missing[/]")
    for lack in state["missing"]:
        console.print(f"  {lack['what']}\n    {lack['todo']}", highlight=False, soft_wrap=True)
    if not state["missing"]:
        console.print("  nothing")
    if state["next_day"]:
        _print_next_day(state["next_day"], console)


def _unfinished_erasure(home: Home) -> list[dict[str, str]]:
    from strataflow.privacy.erase import unfinished

    customers = unfinished(home)
    if not customers:
        return []
    what = (
        f"an erasure of {customers} customers was begun and has not ended; some of what was kept of them is still there"
    )
    return [{"what": what, "todo": "run the same strataflow erase again"}]


def _landed(folder: Path) -> dict[str, Any]:
    days = sorted(date.fromisoformat(path.stem) for path in folder.glob("*.json"))
    last = json.loads((folder / f"{days[-1]}.json").read_text(encoding="utf-8"))
    return {
        "source": folder.name,
        "table": last["table"],
        "first": str(days[0]),
        "last": str(days[-1]),
        "days": len(days),
        "rows_landed_last": last["rows_landed"],
        "rows_quarantined_last": last["rows_quarantined"],
        "gaps": _gaps(days),
    }


def _gaps(days: list[date]) -> list[dict[str, str]]:
    """Runs of days without a landing between the first and the last."""
    one = timedelta(days=1)
    return [
        {"first": str(before + one), "last": str(after - one)}
        for before, after in pairwise(days)
        if after - before > one
    ]


def _builds(home: Home) -> list[dict[str, Any]]:
    found = []
    for path in sorted(home.builds.glob("*/build.json")):
        meta = json.loads(path.read_text(encoding="utf-8"))
        found.append({name: meta[name] for name in ("as_of", "known_at", "build_id", "code_version")})
    return found


def _published(home: Home) -> dict[str, Any]:
    days = published_days(home)
    current = current_version(home)
    return {
        "current": current.name if current else None,
        "days": len(days),
        "first": str(days[0]) if days else None,
        "last": str(days[-1]) if days else None,
        "versions": sum(1 for path in (home.published / "versions").glob("*") if path.is_dir()),
        "recent": [_version(home, day) for day in days[-RECENT:]],
    }


def _version(home: Home, day: date) -> dict[str, Any]:
    path = version_of(home, day)
    manifest = read_manifest(path) if path else {}
    return {
        "as_of": str(day),
        "version": path.name if path else None,
        "known_at": manifest.get("known_at"),
        "customers": manifest.get("tables", {}).get("customer_segments", {}).get("rows"),
        "rules_hash": manifest.get("rules_hash"),
    }


def _missing(
    landed: list[dict[str, Any]], last_day: date | None, published: dict[str, Any], sources: Sources | None
) -> list[dict[str, str]]:
    """What stands between the most recent landed day and its published version, and holes before it."""
    if last_day is None:
        return [{"what": "nothing has landed", "todo": "strataflow run --from FIRST_DAY --date LAST_DAY"}]
    again = f"strataflow land --date {last_day}"
    lacks = [
        {"what": f"{entry['source']} has landed only up to {entry['last']}, not {last_day}", "todo": again}
        for entry in landed
        if entry["last"] < str(last_day)
    ]
    known = {entry["source"] for entry in landed}
    lacks += [
        {"what": f"{source.name} has never landed", "todo": again}
        for source in (sources.sources if sources else ())
        if source.name not in known
    ]
    lacks += [
        {
            "what": f"{entry['source']} lacks {gap['first']} to {gap['last']}",
            "todo": f"strataflow land --from {gap['first']} --date {gap['last']}",
        }
        for entry in landed
        for gap in entry["gaps"]
    ]
    if published["last"] != str(last_day):
        lacks.append({"what": f"{last_day} is not published", "todo": f"strataflow run --skip-land --date {last_day}"})
    return lacks


def _refused(home: Home) -> list[dict[str, str]]:
    """Days that landing turned away because too many rows were refused, with where the rows are kept."""
    return [
        {
            "what": f"{path.parent.parent.name} of {path.parent.name} was turned away: too many bad rows, see {path}",
            "todo": f"mend file or mapping, then: strataflow land --date {path.parent.name}",
        }
        for path in sorted(home.root.glob("refused/*/*/quarantine.parquet"))
    ]


def _next_day(last_day: date | None, sources: Sources | None) -> dict[str, Any] | None:
    """The day after the last landed one, and which sources have delivered a file for it.

    ``delivered`` is None for a source whose path tells no day: only landing can say.
    """
    if last_day is None or sources is None:
        return None
    day = last_day + timedelta(days=1)
    return {
        "day": str(day),
        "sources": [
            {
                "source": source.name,
                "delivered": bool(source.files_of(day)) if source.kind == "dated" else None,
            }
            for source in sources.sources
        ],
    }


def _is_writing(home: Home) -> bool:
    """Whether a process holds the writer's lock, asked without waiting and without creating anything."""
    path = home.root / ".writer.lock"
    if not os.access(path, os.W_OK):
        return False
    try:
        with FileLock(path, timeout=0):
            return False
    except Timeout:
        return True


def _print_landed(landed: list[dict[str, Any]], console: Console) -> None:
    table = summary.table("Landed")
    for column in ("source", "feeds", "first", "last"):
        table.add_column(column)
    for column in ("days", "last day's rows", "refused"):
        table.add_column(column, justify="right")
    table.add_column("gaps")
    for entry in landed:
        gaps = [
            gap["first"] if gap["first"] == gap["last"] else f"{gap['first']}..{gap['last']}" for gap in entry["gaps"]
        ]
        table.add_row(
            entry["source"],
            entry["table"],
            entry["first"],
            entry["last"],
            f"{entry['days']:,}",
            f"{entry['rows_landed_last']:,}",
            f"{entry['rows_quarantined_last']:,}",
            "\n".join([*gaps[:RECENT], *(["…"] if len(gaps) > RECENT else [])]) or "none",
        )
    console.print(table)


def _print_published(published: dict[str, Any], console: Console) -> None:
    table = summary.table(f"Published: {published['days']} days, {published['versions']} versions")
    for column in ("day", "version", "customers", "known at", ""):
        table.add_column(column)
    for entry in published["recent"]:
        here = "current" if entry["version"] == published["current"] else ""
        table.add_row(entry["as_of"], entry["version"], f"{entry['customers'] or 0:,}", entry["known_at"], here)
    console.print(table)


def _print_builds(builds: list[dict[str, Any]], console: Console) -> None:
    table = summary.table("Last builds")
    for column in ("day", "known at", "build", "code"):
        table.add_column(column)
    for build in builds:
        table.add_row(build["as_of"], build["known_at"], build["build_id"], build["code_version"])
    console.print(table)


def _print_next_day(next_day: dict[str, Any], console: Console) -> None:
    """The sources by what can be said of their delivery."""
    console.print(f"\n[bold]Next day[/] {next_day['day']}", highlight=False)
    said = {True: "delivered", False: "not delivered yet", None: "no dated files; landing looks into them"}
    for delivered, words in said.items():
        names = [one["source"] for one in next_day["sources"] if one["delivered"] is delivered]
        if names:
            console.print(f"  {words}: {', '.join(names)}", highlight=False, soft_wrap=True)
