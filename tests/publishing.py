"""A small build as publishing expects it, and the processes that publish and read it in tests."""

from __future__ import annotations

import json
import os
import signal
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import psycopg

from strataflow.build import Build
from strataflow.durable import write_json
from strataflow.gates.report import GateReport, Judgement
from strataflow.home import Home
from strataflow.publish import publish

PUBLISHED = {
    "customer_segments": {
        "key": ["customer_id"],
        "description": "Customers and their class. 客户分层",
        "columns": {"monetary": {"description": "Net revenue of the window"}},
    },
    "customer_tags": {"key": ["customer_id", "tag_id"]},
    "churn_risk": {"key": ["customer_id"]},
    "rfm_cutoffs": {"key": ["measure"]},
}


def make_build(home: Home, as_of: date, *, customers: int = 500, content: int = 0) -> Build:
    """Write ``builds/<as_of>/`` with its passed gate; other ``content``, other amounts."""
    folder = home.builds / str(as_of)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "build.duckdb"
    path.unlink(missing_ok=True)
    with duckdb.connect(str(path)) as connection:
        _fill(connection, as_of, customers, content)
    meta = {
        "build_id": f"b{content}",
        "as_of": str(as_of),
        "known_at": str(as_of),
        "shop": {"name": "corner shop", "time_zone": "UTC", "currency": "EUR"},
        "rules_hash": f"rules{content}",
        "rules": {"files": {}, "vars": {}},
        "expectations_hash": "expected",
        "code_version": "test",
        "cutoffs": {"recency": ["1.00"]},
        "tables": {"customer_segments": customers},
        "inputs": {"till": f"{content:064x}"},
        "published": PUBLISHED,
        "fingerprint": f"{as_of}/{content}",
    }
    (folder / "build.json").write_text(json.dumps(meta), encoding="utf-8")
    pass_gate(home, as_of, meta["build_id"])
    return Build(path=path, as_of=as_of, known_at=as_of, meta=meta)


def _fill(connection: duckdb.DuckDBPyConnection, as_of: date, customers: int, content: int) -> None:
    connection.execute(
        """
        create table customer_segments as
        select
            'c' || lpad(cast(n as varchar), 7, '0') as customer_id,
            cast($day as date) as as_of_date,
            n % 90 as recency_days,
            cast(1 + n % 7 as bigint) as frequency,
            cast(n * 1.25 + $content as decimal(18, 2)) as monetary,
            (n % 13) / 13.0::double as churn_probability,
            '重要价值客户' as rfm_class_name_zh
        from range($customers) as numbers(n)
        order by hash(n)
        """,
        {"day": as_of, "content": content, "customers": customers},
    )
    connection.execute(
        """
        create table customer_tags as
        select customer_id, as_of_date, tag_id, 'buyer' as tag_group, 'automatic' as source, 'n = 1' as evidence
        from customer_segments cross join (values ('first_buyer'), ('super_buyer')) as tags(tag_id)
        order by hash(customer_id || tag_id)
        """
    )
    connection.execute(
        """
        create table churn_risk as
        select
            customer_id, as_of_date,
            cast(row_number() over (order by churn_probability desc, customer_id) as integer) as rank,
            churn_probability, monetary, 'silent: 沉默' as reasons
        from customer_segments
        """
    )
    connection.execute(
        "create table rfm_cutoffs as select cast($day as date) as as_of_date, measure, "
        "cast(1 as decimal(18, 2)) as cutoff_1 from (values ('recency'), ('monetary')) as t(measure)",
        {"day": as_of},
    )


def pass_gate(home: Home, as_of: date, build_id: str, *, passed: bool = True, known_at: date | None = None) -> Path:
    """Write the report of a gate 2 that found one expectation to hold, or not to."""
    judgement = Judgement(
        name="everyone_once",
        suite="customer_segments",
        table="customer_segments",
        severity="critical",
        success=passed,
        observed=None,
        unexpected_count=0 if passed else 1,
        sample=(),
        rows_file=None,
        why="a test",
        todo="nothing",
    )
    folder = home.gates / home.named(as_of, known_at) / "built"
    report = GateReport(
        gate="built",
        day=as_of,
        since=as_of,
        path=folder / "report.json",
        docs=folder / "page.html",
        expectations=(judgement,),
        build_id=build_id,
    )
    write_json(report.path, report.content())
    return report.path


def published_bytes(home: Home) -> dict[str, bytes]:
    """Every promised byte below ``published``: files, and the links' targets; not the DuckDB files."""
    found = {}
    for folder, folders, names in os.walk(home.published):
        for name in [*folders, *names]:
            path = Path(folder, name)
            if path.is_symlink():
                found[str(path.relative_to(home.published))] = os.readlink(path).encode()
            elif path.is_file() and path.suffix != ".duckdb":
                found[str(path.relative_to(home.published))] = path.read_bytes()
    return found


@dataclass(frozen=True)
class KillSwitch:
    """Kills this process, as ``kill -9`` does, just before its n-th change to the file system."""

    at: int

    EVENTS = ("os.rename", "os.symlink", "os.mkdir", "os.chmod", "os.remove", "os.rmdir", "open")

    def arm(self) -> None:
        """From now on count; there is no way back."""
        seen = 0

        def count(event: str, arguments: Any) -> None:
            nonlocal seen
            only_reads = event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR)
            if event in self.EVENTS and not only_reads:
                seen += 1
                if seen == self.at:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)


def publish_in_process(root: str, day: str, kill_at: int) -> None:
    """Publish the build of ``day``; die at the ``kill_at``-th step (0: live)."""
    home = Home(Path(root))
    build = Build.load(home, date.fromisoformat(day))
    if kill_at:
        KillSwitch(kill_at).arm()
    publish(home, build)


def read_in_loop(root: str, stop: Any, report: Any, pause: float = 0, dsn: str | None = None) -> None:
    """Read ``published/current`` as a BI tool does until told to stop; report reads and what was wrong.

    Args:
        pause: seconds between two reads, so that many readers leave a small machine room to publish.
        dsn: a PostgreSQL that follows the home, to be read as well, over one connection that stays.
    """
    reads, faults, published = 0, [], Path(root) / "published"
    with ExitStack() as kept:
        server = kept.enter_context(psycopg.connect(dsn, autocommit=True)) if dsn else None
        while not stop.is_set():
            try:
                faults += wrong_in_files(published) + wrong_in_database(published)
                faults += wrong_in_postgres(server, published) if server else []
            except Exception as fault:  # noqa: BLE001  whatever a reader meets is a finding
                faults.append(f"{type(fault).__name__}: {fault}")
            reads += 1
            stop.wait(pause)
    report.put((reads, faults))


def wrong_in_postgres(connection: psycopg.Connection, published: Path) -> list[str]:
    """What is missing or mixed in the tables of the current day, asked in one statement."""
    counted = ", ".join(
        f"(select jsonb_build_array(count(*), min(as_of_date), max(as_of_date)) from strataflow.{table})"
        for table in PUBLISHED
    )
    version, day, total, *found = connection.execute(
        "select version, as_of_date::text, (select sum(monetary)::text from strataflow.customer_segments), "
        f"{counted} from strataflow.published_version"
    ).fetchone()
    newest = connection.execute(
        "select count(distinct as_of_date), max(as_of_date)::text from strataflow_history.customer_segments"
    ).fetchone()
    manifest = json.loads((published / "versions" / version / "manifest.json").read_text(encoding="utf-8"))
    expected = [[manifest["tables"][table]["rows"], day, day] for table in PUBLISHED]
    right = (found, total) == (expected, manifest["tables"]["customer_segments"]["sums"]["monetary"])
    return [] if right and newest[1] >= day else [f"{version} in PostgreSQL: {found} {total} {newest}"]


def wrong_in_files(published: Path) -> list[str]:
    """What is missing or mixed in the version that ``current`` leads to, resolved once."""
    version = (published / "current").resolve(strict=True)
    manifest = json.loads((version / "manifest.json").read_text(encoding="utf-8"))
    with duckdb.connect() as connection:
        found = {
            table: connection.execute(
                "select count(*), min(as_of_date)::varchar, max(as_of_date)::varchar from read_parquet(?)",
                [[str(version / entry["path"]) for entry in manifest["tables"][table]["files"]]],
            ).fetchone()
            for table in PUBLISHED
        }
    expected = {table: (manifest["tables"][table]["rows"], manifest["as_of"], manifest["as_of"]) for table in PUBLISHED}
    return [] if found == expected else [f"{version.name}: {found} instead of {expected}"]


def wrong_in_database(published: Path) -> list[str]:
    """What is missing or mixed in ``current.duckdb``, opened by its plain name."""
    with duckdb.connect(str(published / "current.duckdb"), read_only=True) as connection:
        version, day = connection.execute("select version, as_of_date from published_version").fetchone()
        rows, low, high, total = connection.execute(
            "select count(*), min(as_of_date), max(as_of_date), sum(monetary)::varchar from customer_segments"
        ).fetchone()
    manifest = json.loads((published / "versions" / version / "manifest.json").read_text(encoding="utf-8"))
    entry = manifest["tables"]["customer_segments"]
    expected = (entry["rows"], day, day, entry["sums"]["monetary"])
    return [] if (rows, low, high, total) == expected else [f"{version}: {rows, low, high, total}"]
