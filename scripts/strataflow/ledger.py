"""The ledgers kept between days, so that yesterday's work is not done again.

A build appends to each ledger the signed rows of the days that the kept files
don't cover yet. Kept rows stay valid as long as the days they came from hold
what they held and the rules they depend on are the same: a digest per day
tells. From the first day that differs on, the ledger is built again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import duckdb

from strataflow.durable import sync, write_json
from strataflow.home import Home
from strataflow.lake import Received
from strataflow.sqltext import quoted

LEDGERS = ("order_ledger", "interaction_ledger", "category_ledger")


@dataclass(frozen=True)
class Kept:
    """What is on file: days covered with their digests, and the files in order.

    ``segments`` are (first day, last day, file name), the same names for every ledger.
    """

    rules: str
    days: dict[date, str]
    through: date | None
    segments: tuple[tuple[date, date, str], ...]

    @classmethod
    def nothing(cls, rules: str) -> Kept:
        """An empty store for ledgers of these rules."""
        return cls(rules, {}, None, ())


def kept(home: Home, rules: str) -> Kept:
    """The ledgers on file for ``rules``; nothing where there are none, or not whole, or of other rules."""
    store = _on_file(home)
    files = [home.state / ledger / name for _, _, name in store.segments for ledger in LEDGERS]
    return store if store.rules == rules and all(file.is_file() for file in files) else Kept.nothing(rules)


def _on_file(home: Home) -> Kept:
    """What the index names, of whatever rules."""
    index = _index(home)
    if not index.is_file():
        return Kept.nothing("")
    content = json.loads(index.read_text(encoding="utf-8"))
    return Kept(
        rules=content["rules"],
        days={date.fromisoformat(day): digest for day, digest in content["days"].items()},
        through=date.fromisoformat(content["through"]) if content["through"] else None,
        segments=tuple(
            (date.fromisoformat(first), date.fromisoformat(last), name) for first, last, name in content["segments"]
        ),
    )


def valid_through(store: Kept, received: Received) -> date | None:
    """The last day up to which the kept ledgers agree with the lake, None where they never do.

    Days after ``received.known_at`` are not looked at: a run of a past day
    neither needs nor harms what later days added.
    """
    if store.through is None:
        return None
    now = received.digests()
    horizon = min(store.through, received.known_at)
    days = sorted(day for day in {*now, *store.days} if day <= horizon)
    changed = next((day for day in days if now.get(day) != store.days.get(day)), None)
    if changed is None:
        return store.through
    before = changed - timedelta(days=1)
    return before if store.segments and before >= store.segments[0][0] else None


def clean(home: Home) -> None:
    """Remove files that a killed run left beside the index.

    What the index names stays, also where it is of other rules than today's: an edit of the rules
    that is taken back, or whose build fails, must find the ledgers as they were.
    """
    named = {name for _, _, name in _on_file(home).segments}
    for ledger in LEDGERS:
        for path in (home.state / ledger).glob("*.parquet"):
            if path.name not in named:
                path.unlink()


def keep(home: Home, store: Kept, valid: date | None, received: Received, database: Path) -> None:
    """Keep the rows that the build in ``database`` appended for the days after ``valid``.

    Files first, the index last: until the index is replaced the old state holds.
    """
    if valid is not None and valid >= received.known_at:
        return
    segments = _kept_up_to(home, store, valid)
    first = valid + timedelta(days=1) if valid else received.first
    digests = received.digests()
    name = f"{first}_{received.known_at}_{received.digest()[:8]}{store.rules[:8]}.parquet"
    with duckdb.connect(str(database), read_only=True) as connection:
        for ledger in LEDGERS:
            _write(connection, f"select * from int_{ledger}_appended", home.state / ledger / name)
    state = Kept(store.rules, digests, received.known_at, (*segments, (first, received.known_at, name)))
    _save(home, state)
    clean(home)


def edit(
    home: Home,
    kept_rows: Callable[[duckdb.DuckDBPyConnection, str], str | None],
    digests: Mapping[date, tuple[str, str | None]],
) -> int:
    """Replace rows of the kept ledgers, as where a customer is taken out of them and of the lake.

    New files beside the old ones, then the index: until it is replaced the old state holds.

    Args:
        home: the caller holds its writer's lock.
        kept_rows: given a connection and a relation of ledger rows, a SELECT of what takes its
            place; None where it stays as it is.
        digests: per day its digest before and after; ledgers that agreed with the day before are
            taken to agree with it after. None where nothing is left of the day.

    Returns:
        How many rows went.
    """
    if not _index(home).is_file():
        clean(home)
        return 0
    store, segments, gone = _on_file(home), [], 0
    with duckdb.connect() as connection:
        for first, last, name in store.segments:
            edited, went = _edited_segment(home, connection, name, kept_rows)
            segments.append((first, last, edited))
            gone += went
    days = {}
    for day, digest in store.days.items():
        before, after = digests.get(day, (None, None))
        days[day] = after if digest == before else digest
    state = Kept(store.rules, {day: digest for day, digest in days.items() if digest}, store.through, tuple(segments))
    if state != store:
        _save(home, state)
    clean(home)
    return gone


def _edited_segment(
    home: Home,
    connection: duckdb.DuckDBPyConnection,
    name: str,
    kept_rows: Callable[[duckdb.DuckDBPyConnection, str], str | None],
) -> tuple[str, int]:
    """The name of a segment once edited, and how many rows went; its files bear one name in all ledgers."""
    files = {ledger: home.state / ledger / name for ledger in LEDGERS if (home.state / ledger / name).is_file()}
    relations = {ledger: f"read_parquet({quoted(str(path))})" for ledger, path in files.items()}
    queries = {ledger: kept_rows(connection, relation) for ledger, relation in relations.items()}
    if not any(queries.values()):
        return name, 0
    edited = f"{name.rpartition('_')[0]}_{hashlib.sha256(name.encode()).hexdigest()[:16]}.parquet"
    gone = 0
    for ledger, path in files.items():
        target = path.with_name(edited)
        _write(connection, queries[ledger] or f"from {relations[ledger]}", target)
        rows = f"select (select count(*) from {relations[ledger]}) - count(*) from read_parquet({quoted(str(target))})"
        gone += connection.execute(rows).fetchone()[0]
    return edited, gone


def _save(home: Home, state: Kept) -> None:
    write_json(
        _index(home),
        {
            "rules": state.rules,
            "through": state.through,
            "days": {str(day): digest for day, digest in sorted(state.days.items())},
            "segments": state.segments,
        },
    )


def _kept_up_to(home: Home, store: Kept, valid: date | None) -> tuple[tuple[date, date, str], ...]:
    """The segments of ``store`` cut at ``valid``; a segment that reaches over it is written anew."""
    if valid is None:
        return ()
    segments = []
    for first, last, name in store.segments:
        if first > valid:
            continue
        if last <= valid:
            segments.append((first, last, name))
            continue
        cut = f"{first}_{valid}_{name.rsplit('_', 1)[1]}"
        with duckdb.connect() as connection:
            for ledger in LEDGERS:
                source = home.state / ledger / name
                query = f"select * from read_parquet({quoted(str(source))}) where received_date <= date '{valid}'"
                _write(connection, query, home.state / ledger / cut)
        segments.append((first, valid, cut))
    return tuple(segments)


def _write(connection: duckdb.DuckDBPyConnection, query: str, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    connection.execute(f"copy ({query}) to {quoted(str(target))} (format parquet, compression zstd)")
    sync(target)


def _index(home: Home) -> Path:
    return home.state / "ledgers.json"
