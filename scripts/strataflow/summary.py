"""What a run did, for the person who started it.

Collected from what readers see (the published version and its manifest) and
from the manifests of the landed days, never from a process's memory, so that
a run through Airflow, a run from the command line and a run that found
nothing to do all end with the same account.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from strataflow.publish import current_version, read_manifest

if TYPE_CHECKING:
    import duckdb
    from rich.console import Console
    from rich.table import Table

    from strataflow.build import Build
    from strataflow.home import Home

WIDTH = 100
STEPS_WIDTH = 82


def collect(home: Home, version: Path, *, first: date | None = None) -> dict[str, Any]:
    """Everything the summary tells about a published version.

    Args:
        version: the version's folder, resolved.
        first: first day whose landing is counted; by default all days known to the version.

    Returns:
        as_of, known_at, version, landed (per source and in total), classes, ladders, tiers, gates, files.
    """
    import duckdb

    manifest = read_manifest(version)
    known_at = date.fromisoformat(manifest["known_at"])
    day = date.fromisoformat(manifest["as_of"])
    with duckdb.connect(str(version / "current.duckdb"), read_only=True) as connection:
        results = _results(connection, manifest["tables"]["customer_segments"]["rows"])
    return {
        "as_of": str(day),
        "known_at": str(known_at),
        "version": version.name,
        "path": str(version),
        "is_current": current_version(home) == version,
        "currency": manifest["shop"]["currency"],
        "landed": landed(home, first, known_at),
        **results,
        "holdout": manifest.get("holdout"),
        "gates": gates(home, day, known_at),
        "files": _files(manifest),
    }


def of_build(build: Build) -> dict[str, Any]:
    """What a build that nobody has published yet holds, told as :func:`collect` tells a version.

    Returns:
        as_of, known_at, path of the database file, currency, customers, classes, ladders, tiers.
    """
    import duckdb

    with duckdb.connect(str(build.path), read_only=True) as connection:
        results = _results(connection, build.meta["tables"]["customer_segments"])
    return {
        "as_of": str(build.as_of),
        "known_at": str(build.known_at),
        "path": str(build.path),
        "holdout": build.meta.get("holdout"),
        "currency": build.meta["shop"]["currency"],
        **results,
    }


def landed(home: Home, first: date | None, last: date, tables: list[str] | None = None) -> dict[str, Any]:
    """Rows read, landed and quarantined per source over the days received from ``first`` to ``last``.

    Args:
        tables: count only sources that feed these tables.
    """
    sources = []
    for folder in sorted(path for path in home.landings.glob("*") if path.is_dir()):
        manifests = [
            json.loads(path.read_text(encoding="utf-8"))
            for path in sorted(folder.glob("*.json"))
            if (first is None or str(first) <= path.stem) and path.stem <= str(last)
        ]
        if manifests and (tables is None or manifests[-1]["table"] in tables):
            sources.append(_landed_of_source(folder.name, manifests))
    totals = {name: sum(entry[name] for entry in sources) for name in ("rows_read", "rows_landed", "rows_quarantined")}
    reasons = _added(entry["reasons"] for entry in sources)
    return {
        "first": min((entry["first"] for entry in sources), default=None),
        "last": max((entry["last"] for entry in sources), default=None),
        "sources": sources,
        **totals,
        "reasons": reasons,
    }


def gates(home: Home, day: date, known_at: date | None = None) -> list[dict[str, Any]]:
    """The gates' reports of ``day``, or of its restatement as known at a later day, in short, gate 1 first.

    Returns:
        Per report: gate (``landed`` or ``built``), tables (None for all), passed,
        expectations (how many), warnings, notes, report (its file).
    """
    folder = home.gates / home.named(day, known_at)
    paths = sorted(folder.glob("*/report.json"), key=lambda path: (path.parent.name == "built", path))
    return [_gate(path, json.loads(path.read_text(encoding="utf-8"))) for path in paths]


def render(summary: dict[str, Any], console: Console) -> None:
    """Print a summary for people; readable at 100 columns, Chinese names aligned."""
    console.print()
    console.rule(f"[bold]Strataflow, as of {summary['as_of']}[/]")
    print_landed(summary["landed"], console)
    console.print(_classes_table(summary))
    console.print(_ladders_table(summary))
    _print_holdout(summary.get("holdout"), console)
    print_gates(summary["gates"], console)
    _print_files(summary, console)


def print_build(summary: dict[str, Any], console: Console) -> None:
    """Print what :func:`of_build` returned, and a command that looks into the build."""
    console.print(_classes_table(summary))
    console.print(_ladders_table(summary))
    _print_holdout(summary["holdout"], console)
    query = "select rfm_class, count(*) as customers from customer_segments group by all order by all"
    look = f"duckdb.connect('{_short(Path(summary['path']))}', read_only=True).sql('{query}').show()"
    known = "" if summary["known_at"] == summary["as_of"] else f" --known-at {summary['known_at']}"
    for line in (
        f"Built as of {summary['as_of']}, known at {summary['known_at']}; nothing is published.",
        f'  query it    {_python()} -c "import duckdb; {look}"',
        f"  publish it  strataflow run --skip-land --date {summary['as_of']}{known}",
    ):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def rendered(summary: dict[str, Any], *, width: int = WIDTH) -> str:
    """The summary as plain text, for logs and for Airflow."""
    from io import StringIO

    from rich.console import Console

    text = StringIO()
    render(summary, Console(file=text, width=width, no_color=True))
    return text.getvalue()


def _landed_of_source(source: str, manifests: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "source": source,
        "table": manifests[-1]["table"],
        "first": manifests[0]["received_date"],
        "last": manifests[-1]["received_date"],
        "days": len(manifests),
        "rows_read": sum(manifest["rows_read"] for manifest in manifests),
        "rows_landed": sum(manifest["rows_landed"] for manifest in manifests),
        "rows_quarantined": sum(manifest["rows_quarantined"] for manifest in manifests),
        "reasons": _added(manifest["reasons"] for manifest in manifests),
    }


def _added(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for count in counts:
        total.update(count)
    return dict(sorted(total.items()))


def _results(connection: duckdb.DuckDBPyConnection, customers: int) -> dict[str, Any]:
    return {
        "customers": customers,
        "classes": _classes(connection),
        "ladders": _ladders(connection),
        "tiers": _tiers(connection),
    }


def _classes(connection: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    rows = connection.execute(
        """
        select names.rfm_class, names.name_en, names.name_zh, count(segments.customer_id),
            coalesce(sum(segments.monetary), 0)
        from rfm_classes as names
        left join customer_segments as segments using (rfm_class)
        group by all
        order by min(names.position)
        """
    ).fetchall()
    customers, revenue = sum(row[3] for row in rows), sum(row[4] for row in rows)
    return [
        {
            "rfm_class": key,
            "name_en": name_en,
            "name_zh": name_zh,
            "customers": count,
            "customer_share": _share(count, customers),
            "revenue": str(amount),
            "revenue_share": _share(amount, revenue),
        }
        for key, name_en, name_zh, count, amount in rows
    ]


def _ladders(connection: duckdb.DuckDBPyConnection) -> dict[str, list[dict[str, Any]]]:
    rows = connection.execute(
        """
        with counted as (
            unpivot (select ecommerce_stage, high_ticket_stage, activity_stage from customer_segments)
            on columns(*) into name ladder_column value stage
        ),
        named as (
            select *, min(rowid) over (partition by ladder) as ladder_place from lifecycle_stages
        )
        select names.ladder, names.stage, names.name_en, names.name_zh, count(counted.stage)
        from named as names
        left join counted
            on counted.ladder_column = names.ladder || '_stage' and counted.stage = names.stage
        group by all
        order by min(names.ladder_place), min(names.position)
        """
    ).fetchall()
    ladders: dict[str, list[dict[str, Any]]] = {}
    for ladder, stage, name_en, name_zh, count in rows:
        ladders.setdefault(ladder, []).append(
            {"stage": stage, "name_en": name_en, "name_zh": name_zh, "customers": count}
        )
    return ladders


def _tiers(connection: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    rows = connection.execute(
        """
        select names.value_tier, names.name_en, names.name_zh, count(segments.customer_id),
            coalesce(sum(segments.monetary), 0)
        from value_tiers as names
        left join customer_segments as segments using (value_tier)
        group by all
        order by min(names.position)
        """
    ).fetchall()
    return [
        {"value_tier": key, "name_en": name_en, "name_zh": name_zh, "customers": count, "revenue": str(amount)}
        for key, name_en, name_zh, count, amount in rows
    ]


def _gate(path: Path, report: dict[str, Any]) -> dict[str, Any]:
    return {
        "gate": report["gate"],
        "tables": report["tables"],
        "passed": report["passed"],
        "expectations": len(report["expectations"]),
        "warnings": report["warnings"],
        "notes": report["notes"],
        "report": str(path),
    }


def _files(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    of_tables = [
        {"path": entry["path"], "bytes": entry["bytes"], "rows": table["rows"]}
        for table in manifest["tables"].values()
        for entry in table["files"]
    ]
    spreadsheets = [
        {"path": entry["path"], "bytes": entry["bytes"], "rows": entry["rows"]}
        for entry in manifest["spreadsheets"].values()
    ]
    return [*of_tables, *spreadsheets]


def _share(part: Any, whole: Any) -> float | None:
    return round(float(part) / float(whole), 6) if whole else None


def print_landed(landed: dict[str, Any], console: Console) -> None:
    """Print what :func:`landed` returned."""
    grid = table(f"Rows received, {landed['first']} to {landed['last']}")
    for column in ("source", "feeds"):
        grid.add_column(column)
    for column in ("days", "read", "landed", "quarantined"):
        grid.add_column(column, justify="right")
    grid.add_column("quarantined because")
    for entry in landed["sources"]:
        grid.add_row(
            entry["source"],
            entry["table"],
            _number(entry["days"]),
            _number(entry["rows_read"]),
            _number(entry["rows_landed"]),
            _number(entry["rows_quarantined"]),
            _counts(entry["reasons"]),
        )
    totals = [_number(landed[name]) for name in ("rows_read", "rows_landed", "rows_quarantined")]
    grid.add_row("all", "", "", *totals, "", style="bold")
    console.print(grid)


def _classes_table(summary: dict[str, Any]) -> Table:
    grid = table(f"Classes of {_number(summary['customers'])} customers (revenue: net, in the RFM window)")
    for column in ("class", "名称", "key"):
        grid.add_column(column)
    for column in ("customers", "share", f"revenue {summary['currency']}", "share"):
        grid.add_column(column, justify="right")
    for entry in summary["classes"]:
        grid.add_row(
            entry["name_en"],
            entry["name_zh"],
            entry["rfm_class"],
            _number(entry["customers"]),
            _percent(entry["customer_share"]),
            _money(entry["revenue"]),
            _percent(entry["revenue_share"]),
        )
    return grid


def _ladders_table(summary: dict[str, Any]) -> Table:
    grid = table("Lifecycle stages and value tiers")
    grid.add_column("ladder")
    grid.add_column("customers per stage, in order", no_wrap=True)
    for ladder, stages in summary["ladders"].items():
        grid.add_row(ladder, _steps(stages))
    grid.add_row("value tier", _steps(summary["tiers"]))
    return grid


def print_gates(reports: list[dict[str, Any]], console: Console, title: str = "Gates") -> None:
    """Print what :func:`gates` returned."""
    grid = table(title)
    for column in ("gate", "outcome", "expectations", "warnings and notes"):
        grid.add_column(column)
    for gate in reports:
        about = ", ".join(gate["tables"] or ())
        grid.add_row(
            f"{gate['gate']}\n{about}".strip(),
            "passed" if gate["passed"] else "FAILED",
            _number(gate["expectations"]),
            "\n".join([*gate["warnings"], *gate["notes"]]) or "none",
        )
    console.print(grid)


def _print_holdout(holdout: dict[str, int] | None, console: Console) -> None:
    """Who is held out by lot, if anyone is."""
    if holdout and holdout["customers"]:
        console.print(
            f"Held out by lot: {_number(holdout['customers'])} customers, of whom "
            f"{_number(holdout['kept_out_of_churn_risk'])} would stand in churn_risk.\n",
            highlight=False,
        )


def _print_files(summary: dict[str, Any], console: Console) -> None:
    # Soft wrapping leaves lines whole, so that a command can be copied from a narrow terminal.
    version, published = Path(summary["path"]), Path(summary["path"]).parents[1]
    restated = summary["known_at"] != summary["as_of"]
    beside = f"restatements/{summary['as_of']}@{summary['known_at']}" if restated else f"days/{summary['as_of']}"
    place = _short(published / "current") if summary["is_current"] else _short(published / beside)
    console.print(f"\n[bold]Published[/] {summary['version']}  in {place}", highlight=False, soft_wrap=True)
    for entry in summary["files"]:
        console.print(
            f"  {entry['path']}  ({_number(entry['rows'])} rows, {_number(-(-entry['bytes'] // 1024))} KB)",
            highlight=False,
            soft_wrap=True,
        )
    segments = next(entry["path"] for entry in summary["files"] if entry["path"].startswith("customer_segments/"))
    console.print("\n[bold]Open it[/]")
    look = f"duckdb.connect('{place}/current.duckdb', read_only=True).sql('from customer_segments limit 10').show()"
    frame = f"print(pandas.read_parquet('{_short(version)}/{segments}'))"
    for purpose, command in (
        ("DuckDB", f'{_python()} -c "import duckdb; {look}"'),
        ("pandas", f'{_python()} -c "import pandas; {frame}"'),
        ("spreadsheet", f"{place}/churn_risk.csv"),
        *(
            [("report", f"{_short(page)}")]
            if (page := version.parent.parent / "report" / "index.html").is_file()
            else []
        ),
    ):
        console.print(f"  {purpose:<12}{command}", highlight=False, markup=False, soft_wrap=True)


def table(title: str) -> Table:
    """An empty table in the style of all our output."""
    from rich import box
    from rich.table import Table

    # One blank beside the separator, which is one too: names in two languages need the room.
    return Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )


def _steps(entries: list[dict[str, Any]]) -> str:
    """Stages in order, wrapped between stages only."""
    from rich.cells import cell_len

    lines: list[str] = []
    for entry in entries:
        step = f"{entry['name_en']} {entry['name_zh']} {_number(entry['customers'])}"
        if lines and cell_len(f"{lines[-1]} → {step}") <= STEPS_WIDTH:
            lines[-1] += f" → {step}"
        else:
            lines.append(f"→ {step}" if lines else step)
    return "\n".join(lines)


def _counts(reasons: dict[str, int]) -> str:
    return ", ".join(f"{reason} {_number(count)}" for reason, count in reasons.items())


def _number(value: int) -> str:
    return f"{value:,}"


def _money(value: str) -> str:
    return f"{float(value):,.0f}"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"


def _python() -> str:
    """The Python that has our packages, as one would type it here; a shell's own may not have them."""
    return _short(Path(sys.executable))


def _short(path: Path) -> str:
    """``path`` as one would type it here."""
    here = os.path.relpath(path)
    return str(path) if here.startswith("..") else here
