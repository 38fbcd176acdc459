"""Erasing persons from a home, for good: what is kept of them goes, and nothing brings them back.

    tombstones ▶ lake, quarantine ▶ ledgers ▶ what can be made again ▶ published versions,
    history, report ▶ gates, logs ▶ look everywhere ▶ proof

The tombstones come first: from then on a landing leaves these persons out, whenever it
is run. Every step replaces whole files and finds by itself what is left to do, so an
erasure that is killed is finished by running it again. Until then a note in the home
says so, without saying who.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
from filelock import FileLock, Timeout

from strataflow import ledger
from strataflow.crm.outbox import forget
from strataflow.durable import json_text, write_json
from strataflow.errors import Busy, InputError, StepFailed, UsageError
from strataflow.lake import received
from strataflow.privacy.received import erase_received, relation_of
from strataflow.privacy.search import files_of, find
from strataflow.privacy.tombstones import Tombstones
from strataflow.privacy.traces import Persons, columns_of
from strataflow.privacy.versions import (
    erase_history,
    erase_published,
    erase_report,
    rewrite_csv,
    rewrite_parquet,
    rewrite_text,
)

if TYPE_CHECKING:
    from strataflow.home import Home

    Progress = Callable[[str, int, int], None]

SCHEMA_VERSION = 1
TEXTS = (".txt", ".log", ".md", ".html", ".sql", ".yml", ".yaml", ".jsonl", ".json", "")
SHOWN = 5
SECONDS_TO_WAIT = 60
NOTICE = "This page named a customer who was erased. To see it again: strataflow validate."


@dataclass(frozen=True)
class Erasure:
    """What an erasure did.

    Attributes:
        proof: content of the proof, which names nobody.
        path: where it is kept.
        versions: new names of published versions, by their old ones.
    """

    proof: dict[str, Any]
    path: Path
    versions: dict[str, str]


def erase(
    home: Home,
    customer_ids: Iterable[str],
    *,
    erased_at: str,
    reason: str | None = None,
    dsn: str | None = None,
    progress: Progress | None = None,
) -> Erasure:
    """Erase customers from everything a home holds; the caller holds the writer's lock.

    Args:
        customer_ids: as they stand in the tables; pseudonyms where ids are pseudonyms.
        erased_at: when, for the proof.
        reason: why, for the proof; must not name the person.
        dsn: address of the PostgreSQL database that follows the home; None if none does.
        progress: told (step, done, total).

    Raises:
        UsageError: no id is given, the reason names one, or an erasure of others has not been finished.
        StepFailed: something still names them at the end; names the files.
    """
    persons = _persons(customer_ids, reason)
    tombstones = Tombstones.of(home)
    _refuse_other_unfinished(home, tombstones, persons)
    begun = _begin(home, tombstones.with_all(persons.ids), persons)
    tally: Counter[str] = Counter(begun["rows"])
    versions: dict[str, str] = {}
    told: dict[str, int] = {}
    steps: tuple[tuple[str, Callable[[], Any]], ...] = (
        ("lake", lambda: erase_received(home, persons, tally)),
        ("ledgers", lambda: _erase_ledgers(home, persons, begun["days"], tally)),
        ("builds", lambda: _remove_what_can_be_made_again(home, persons)),
        ("published versions", lambda: versions.update(erase_published(home, persons, tally))),
        ("history", lambda: erase_history(home, persons, tally)),
        ("report", lambda: erase_report(home, persons, tally)),
        ("other systems", lambda: told.update(forget(home, persons.ids))),
        ("gates and logs", lambda: _erase_from_the_rest(home, persons, tally)),
        ("database", lambda: _erase_from_database(dsn, persons, tally)),
    )
    for done, (name, step) in enumerate(steps):
        if progress:
            progress(f"erase: {name}", done, len(steps) + 1)
        step()
        # Kept between steps, so that the proof of an erasure in two goes counts both.
        write_json(_begun(home), begun | {"rows": dict(tally)})
    shutil.rmtree(home.scratch / "erase", ignore_errors=True)
    _refuse_remains(home, persons)
    proof = {
        "schema_version": SCHEMA_VERSION,
        "erased_at": erased_at,
        "reason": reason,
        "customers": len(persons.ids),
        "rows": {place: rows for place, rows in sorted(tally.items()) if rows},
        "versions_replaced": len(versions),
        "to_be_told": {target: customers for target, customers in sorted(told.items()) if customers},
        "files_looked_through": sum(1 for _ in files_of(home)),
        "files_that_still_name_them": 0,
        "customers_erased_so_far": Tombstones.of(home).count,
    }
    path = _next_proof(home)
    write_json(path, proof)
    _begun(home).unlink()
    return Erasure(proof, path, versions)


def unfinished(home: Home) -> int:
    """How many customers an erasure that was not finished is about; 0 if there is none."""
    try:
        return json.loads(_begun(home).read_text(encoding="utf-8"))["customers"]
    except FileNotFoundError:
        return 0


def places(home: Home, customer_ids: Iterable[str]) -> dict[str, int]:
    """What :func:`erase` would find: rows or mentions by path below the home."""
    persons = _persons(customer_ids, None)
    found = find(home, persons) | find(home, persons, home.crm)
    return {path.relative_to(home.root).as_posix(): count for path, count in found.items()}


def _persons(customer_ids: Iterable[str], reason: str | None) -> Persons:
    ids = tuple(dict.fromkeys(one.strip() for one in customer_ids if one.strip()))
    if not ids:
        raise UsageError("no customer is named", todo="give --customer-id ID, or --from-file FILE with an id per line")
    persons = Persons(ids)
    if reason and persons.without_words(reason) != reason:
        raise UsageError("the reason names the customer; it is kept for good", todo="give a ticket's number instead")
    return persons


def _refuse_other_unfinished(home: Home, tombstones: Tombstones, persons: Persons) -> None:
    """Raise if an erasure was begun of customers who are not all among these."""
    begun = unfinished(home)
    if not begun:
        return
    content = json.loads(_begun(home).read_text(encoding="utf-8"))
    if set(content["who"]) - tombstones.hashes_of(persons.ids):
        raise UsageError(
            f"an erasure of {begun} customers was begun and not finished, and not all of them are named now",
            where=str(_begun(home)),
            todo="give the same ids again, more may come with them; the request that led to it has them",
        )


def _begin(home: Home, tombstones: Tombstones, persons: Persons) -> dict[str, Any]:
    """Put the tombstones in force and note that an erasure is going on, and what the days were before."""
    tombstones.save(home)
    if unfinished(home):
        begun = json.loads(_begun(home).read_text(encoding="utf-8"))
    else:
        begun = {"days": {str(day): digest for day, digest in _digests(home).items()}, "rows": {}}
    begun |= {"customers": len(persons.ids), "who": sorted(tombstones.hashes_of(persons.ids))}
    write_json(_begun(home), begun)
    return begun


def _digests(home: Home) -> dict[date, str]:
    try:
        return received(home, date.max).digests()
    except InputError:
        return {}


def _erase_ledgers(home: Home, persons: Persons, days_before: dict[str, str], tally: Counter[str]) -> None:
    """Take the persons' rows out of the kept ledgers, which then agree with what is left of the days."""

    def kept_rows(connection: duckdb.DuckDBPyConnection, relation: str) -> str | None:
        clauses = persons.clauses(columns_of(connection, relation))
        return clauses.kept(relation) if clauses and any(clauses.counted(connection, relation)) else None

    now = _digests(home)
    changed = {day: (days_before[str(day)], now.get(day)) for day in map(date.fromisoformat, days_before)}
    tally["state"] += ledger.edit(home, kept_rows, changed)


def _remove_what_can_be_made_again(home: Home, persons: Persons) -> None:
    """Builds, totals and insights are of data that is no more; unfinished writes are nobody's."""
    for folder in (home.builds, home.state / "totals", home.state / "insights"):
        shutil.rmtree(folder, ignore_errors=True)
    for left in home.scratch.glob("*"):
        if left.is_dir():
            shutil.rmtree(left)
        elif left.suffix != ".lock":
            left.unlink()
    with duckdb.connect() as connection:
        for path in home.month_ends.glob("*.parquet"):
            clauses = persons.clauses(columns_of(connection, relation_of(path)))
            if clauses and any(clauses.counted(connection, relation_of(path))):
                path.with_suffix(".json").unlink(missing_ok=True)
                path.unlink()


def _erase_from_the_rest(home: Home, persons: Persons, tally: Counter[str]) -> None:
    """Rows kept by the gates, their pages, what ran, and whatever else lies in the home as a table or text."""
    done = (home.lake, home.published, home.privacy, home.crm)
    aside = home.scratch / "erase" / "file"
    aside.parent.mkdir(parents=True, exist_ok=True)
    with _nobody_typing(home):
        for path in list(files_of(home)):
            if any(path.is_relative_to(folder) for folder in done):
                continue
            rows, is_changed = _without(home, path, aside, persons)
            if is_changed:
                aside.chmod(path.stat().st_mode & 0o777)
                os.replace(aside, path)
                tally[path.relative_to(home.root).parts[0]] += max(rows, 1)


def _erase_from_database(dsn: str | None, persons: Persons, tally: Counter[str]) -> None:
    """Take the persons out of the database that follows the home; what was replaced there is copied by the next run."""
    if dsn:
        from strataflow import postgres

        tally["postgres"] += postgres.forget(dsn, persons.ids)


@contextmanager
def _nobody_typing(home: Home) -> Iterator[None]:
    """Keep those out who set tags from the command line, which doesn't wait for the writer's lock."""
    typed = home.manual_tags
    if not typed.is_dir():
        yield
        return
    lock = FileLock(typed / ".lock", timeout=SECONDS_TO_WAIT)
    try:
        with lock:
            yield
    except Timeout as busy:
        raise Busy("others are setting tags", where=str(typed), todo="run the same command again") from busy


def _without(home: Home, path: Path, aside: Path, persons: Persons) -> tuple[int, bool]:
    """Write a file without the persons to ``aside``, if it names one."""
    if path.suffix == ".parquet":
        with duckdb.connect() as connection:
            return rewrite_parquet(connection, path, aside, persons)
    if path.suffix == ".csv":
        return rewrite_csv(path, aside, persons)
    if path.is_relative_to(home.root / "data_docs"):
        return 0, _blank_page(path, aside, persons)
    if path.is_relative_to(home.root / "runs") or path.is_relative_to(home.gates) or path.name == "alerts.jsonl":
        return 0, _rewrite_messages(path, aside, persons)
    # A log that was rolled over ends in a number.
    is_text = path.suffix in TEXTS or (path.suffix[1:].isdecimal() and path.stem.endswith(".log"))
    return 0, is_text and rewrite_text(path, aside, persons)


def _rewrite_messages(path: Path, aside: Path, persons: Persons) -> bool:
    """Write a report, a record of a run or alerts without the persons, if their messages or samples name one."""
    text = path.read_text(encoding="utf-8")
    if not persons.may_be_in(text):
        return False
    if path.suffix == ".json":
        content = json.loads(text)
        told = persons.cleaned(content, of_messages=True)
        cleaned = text if told == content else json_text(told)
    else:
        cleaned = persons.without_words(text)
    if cleaned == text:
        return False
    aside.write_text(cleaned, encoding="utf-8")
    return True


def _blank_page(path: Path, aside: Path, persons: Persons) -> bool:
    """Values are rendered in many ways: a page with one of the ids goes whole, but what the index tells of it."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".html" or persons.without_words(text) == text:
        return False
    start = text.find("<!--facts ")
    facts = text[start : text.find("-->", start) + 3] if start >= 0 else ""
    aside.write_text(f'<!doctype html>\n<meta charset="utf-8">\n{facts}\n<p>{NOTICE}</p>\n', encoding="utf-8")
    return True


def _refuse_remains(home: Home, persons: Persons) -> None:
    left = find(home, persons)
    if left:
        listed = [str(path.relative_to(home.root)) for path in left]
        more = f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
        raise StepFailed(
            f"{len(listed)} files still name them: {', '.join(listed[:SHOWN])}{more}",
            where=str(home.root),
            todo="remove these files, which this version does not know, and run the same command again",
        )


def _begun(home: Home) -> Path:
    return home.privacy / "erasing.json"


def _next_proof(home: Home) -> Path:
    folder = home.privacy / "erasures"
    number = 1 + max((int(path.stem) for path in folder.glob("[0-9]*.json")), default=0)
    return folder / f"{number}.json"
