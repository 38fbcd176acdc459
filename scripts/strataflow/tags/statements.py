"""From what a person types to a statement, and from statements to what has become of them."""

from __future__ import annotations

import csv
import getpass
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from strataflow.errors import InputError, UsageError
from strataflow.tags.inbox import SOURCE, Statement, waiting
from strataflow.tags.spelling import fold
from strataflow.tags.vocabulary import Vocabulary, split

if TYPE_CHECKING:
    from strataflow.home import Home
    from strataflow.sources import Shop

COLUMNS = ("customer_id", "tag", "tagged_by", "tagged_at", "reason", "expires_at", "action")
NEEDED = ("customer_id", "tag")
ACTIONS = ("add", "remove")
FAULTS_SHOWN = 20
NEAREST = 3
# Over and done with: shown on request.
PAST = ("replaced", "removed", "expired")


@dataclass(frozen=True)
class Defaults:
    """What stands in for what a person did not say: who, when, and on which clock."""

    tagged_by: str
    tagged_at: datetime
    shop: Shop

    @classmethod
    def of(cls, shop: Shop, by: str | None, at: str | None) -> Defaults:
        """Defaults from options; without them whoever is logged in, now.

        Raises:
            UsageError: ``at`` is no time.
        """
        try:
            moment = datetime.now(UTC) if at is None else _instant(at, shop)
        except ValueError as wrong:
            raise UsageError(f"--at: {wrong}", todo="write it as 2017-12-31 or 2017-12-31T14:30") from wrong
        return cls(by or os.environ.get("STRATAFLOW_USER") or getpass.getuser(), moment, shop)

    def business_date(self, moment: datetime) -> date:
        """What the calendar in the shop shows at an instant."""
        return moment.astimezone(ZoneInfo(self.shop.time_zone)).date()


def statement(cells: Mapping[str, Any], defaults: Defaults) -> Statement:
    """A statement from cells of text by the names of :data:`COLUMNS`; a cell that is missing or blank has its default.

    Raises:
        ValueError: a cell can't be read or must not be empty; names it.
    """
    said = {name: _cell(name, cells.get(name)) for name in COLUMNS}
    for name in NEEDED:
        if not fold(said[name]):
            raise ValueError(f"{name} is empty")
    action = said["action"].lower() or "add"
    if action not in ACTIONS:
        raise ValueError(f"action is {said['action']!r}, neither add nor remove")
    return Statement(
        customer_id=said["customer_id"],
        tag=said["tag"],
        action=action,
        tagged_by=said["tagged_by"] or defaults.tagged_by,
        tagged_at=_instant(said["tagged_at"], defaults.shop) if said["tagged_at"] else defaults.tagged_at,
        reason=said["reason"] or None,
        expires_at=_day(said["expires_at"]) if said["expires_at"] else None,
    )


def from_file(path: Path, defaults: Defaults) -> list[Statement]:
    """The statements in a CSV file with a header, or in a file of one JSON object per line.

    Raises:
        InputError: the file can't be read, or rows in it can't; names each of them, and no row is returned.
    """
    rows = _json_lines(path) if path.suffix.lower() in (".jsonl", ".ndjson", ".json") else _csv_rows(path)
    found, faults = [], []
    for line, cells in rows:
        try:
            found.append(statement(cells, defaults))
        except ValueError as wrong:
            faults.append(f"{path.name}:{line}: {wrong}")
    if faults:
        more = f"\n    and {len(faults) - FAULTS_SHOWN} more" if len(faults) > FAULTS_SHOWN else ""
        raise InputError(
            f"{len(faults)} of {len(faults) + len(found)} rows can't be read, so none is imported:\n    "
            + "\n    ".join(faults[:FAULTS_SHOWN])
            + more,
            where=str(path),
            todo="correct these rows and import the file again",
        )
    return found


def meaning(vocabulary: Vocabulary, text: str, on: date) -> dict[str, Any]:
    """What a text is taken for on a day: ``tag_id`` and ``tag_value``, or the ``nearest`` tags if it is for none."""
    found = vocabulary.understand(text, on)
    if found:
        return {"tag_id": found.tag_id, "tag_value": found.value, "nearest": []}
    near = vocabulary.nearest(split(text)[0], NEAREST, on=on)
    return {"tag_id": None, "tag_value": None, "nearest": [vars(one) for one in near]}


def over_already(statements: Iterable[Statement], defaults: Defaults) -> list[Statement]:
    """Tags that are set with a last day before the one on which they are said: they never are in force."""
    return [
        one
        for one in statements
        if one.action == "add" and one.expires_at and one.expires_at < defaults.business_date(one.tagged_at)
    ]


def strangers(home: Home, statements: Iterable[Statement]) -> tuple[date | None, list[str]]:
    """The day readers see, None if nothing is published, and the ids among these that it has no customer of."""
    import duckdb

    from strataflow.publish import current_version, read_manifest

    version = current_version(home)
    manifest = read_manifest(version) if version else {"tables": {}}
    entry = manifest["tables"].get("customer_segments")
    if entry is None:
        return None, []
    ids = list(dict.fromkeys(one.customer_id for one in statements))
    with duckdb.connect() as connection:
        known = connection.execute(
            "select customer_id from read_parquet($files, hive_partitioning = false) "
            "where customer_id in (select unnest($ids))",
            {"files": [str(version / file["path"]) for file in entry["files"]], "ids": ids},
        ).fetchall()
    there = {one for (one,) in known}
    return date.fromisoformat(manifest["as_of"]), [one for one in ids if one not in there]


def listed(
    home: Home, vocabulary: Vocabulary, defaults: Defaults, customer: str | None, tag: str | None, *, past: bool
) -> dict[str, Any]:
    """Statements and what has become of them: as published, then those that no published day has received.

    Args:
        customer: only of this customer.
        tag: only those that mean the same as this text, or are the same word.
        past: also those that are replaced, removed or expired.

    Returns:
        ``as_of``, the day readers see, None if nothing is published; ``statements``, each with ``state``, an
        outcome of docs/tags.md or ``waiting``, and ``tag_id``, None where the text is not understood.
    """
    as_of, known_at, told = _published(home, customer)
    for day, cells in waiting(home, known_at):
        said = statement(cells, defaults)
        said_on = defaults.business_date(said.tagged_at)
        if customer in (None, said.customer_id):
            told.append(
                {**cells, "tagged_at": said.tagged_at, "state": "waiting", "received_date": day, "source_name": SOURCE}
                | {name: meaning(vocabulary, said.tag, said_on)[name] for name in ("tag_id", "tag_value")}
            )
    if tag is not None:
        meant = {one.tag_id for one in vocabulary.meanings(tag)}
        told = [row for row in told if row["tag_id"] in meant or fold(row["tag"]) == fold(tag)]
    if not past:
        told = [row for row in told if row["state"] not in PAST]
    return {"as_of": as_of, "statements": told}


def _published(home: Home, customer: str | None) -> tuple[date | None, date | None, list[dict[str, Any]]]:
    """The day readers see, the day it was known at, and the statements in it."""
    import duckdb

    from strataflow.publish import current_version, read_manifest

    version = current_version(home)
    manifest = read_manifest(version) if version else {"tables": {}}
    entry = manifest["tables"].get("manual_tag_outcomes")
    if entry is None:
        return None, None, []
    files = [str(version / file["path"]) for file in entry["files"]]
    with duckdb.connect() as connection:
        found = connection.execute(
            "select customer_id, tag_text as tag, action, tagged_by, tagged_at, reason, expires_at, tag_id, tag_value, "
            "outcome as state, against_tag_id, received_date, source_name "
            "from read_parquet($files, hive_partitioning = false) where customer_id = coalesce($customer, customer_id) "
            "order by customer_id, tagged_at, received_date, source_name, source_file, source_line",
            {"files": files, "customer": customer},
        )
        names = [column[0] for column in found.description]
        rows = [dict(zip(names, row, strict=True)) for row in found.fetchall()]
    for row in rows:
        row["tagged_at"] = row["tagged_at"].replace(tzinfo=UTC)
    return date.fromisoformat(manifest["as_of"]), date.fromisoformat(manifest["known_at"]), rows


def _csv_rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows by the header's names, each with the line on which it begins."""
    text = _text(path)
    reader = csv.reader(text.splitlines(keepends=True), strict=True)
    try:
        header = [name.strip().lower() for name in next(reader, [])]
        _check_header(path, header)
        begins = reader.line_num + 1
        for row in reader:
            if row:
                if len(row) != len(header):
                    raise InputError(
                        f"the row has {len(row)} cells and the header {len(header)}",
                        where=f"{path}:{begins}",
                        todo='put a text that holds a comma in "quotes"',
                    )
                yield begins, dict(zip(header, row, strict=True))
            begins = reader.line_num + 1
    except csv.Error as broken:
        raise InputError(f"this is not CSV: {broken}", where=f"{path}:{reader.line_num}") from broken


def _json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(_text(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            cells = json.loads(line)
        except ValueError as broken:
            raise InputError(f"the line is no JSON object: {broken}", where=f"{path}:{number}") from broken
        if not isinstance(cells, dict):
            raise InputError("the line is no JSON object", where=f"{path}:{number}")
        _check_header(path, list(cells), number)
        yield number, cells


def _check_header(path: Path, names: list[str], line: int = 1) -> None:
    strange = [name for name in names if name not in COLUMNS]
    missing = [name for name in NEEDED if name not in names]
    twice = sorted({name for name in names if names.count(name) > 1})
    if strange or missing or twice:
        faults = [f"has {', '.join(strange)}, which is no column of tags"] if strange else []
        faults += [f"lacks {', '.join(missing)}"] if missing else []
        faults += [f"has {', '.join(twice)} twice"] if twice else []
        raise InputError(
            f"the file {' and '.join(faults)}", where=f"{path}:{line}", todo=f"its columns are {', '.join(COLUMNS)}"
        )


def _cell(name: str, value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError(f"{name} is no text: {value!r}")  # noqa: TRY004 (of a cell, told like any other fault)
    text = str(value).strip()
    # Neither can be written to a file of text and read back as it was.
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError(f"{name} holds a character that is no text: {text!r}")
    return text


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as broken:
        raise InputError(f"the file is not UTF-8: {broken}", where=str(path), todo="save it as UTF-8") from broken
    except OSError as broken:
        raise InputError(f"the file can't be read: {broken.strerror}", where=str(path)) from broken


def _instant(text: str, shop: Shop) -> datetime:
    """A date or time in ISO 8601; without an offset it is on the shop's clock."""
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError as wrong:
        raise ValueError(f"tagged_at is {text!r}, no time such as 2017-12-31T14:30") from wrong
    return moment if moment.tzinfo else moment.replace(tzinfo=ZoneInfo(shop.time_zone))


def _day(text: str) -> date:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        day = None
    if day is None or str(day) != text:
        raise ValueError(f"expires_at is {text!r}, no date such as 2017-12-31")
    return day
