"""What a target has acknowledged and what is on its way to it, on disk, so that a kill loses and repeats nothing.

::

    crm/<target>/
      state.json                  which of the files below holds; replaced in one step
      known-00000012.parquet      the customers and values that the target has acknowledged
      doubted-00000012.parquet    customers of whom it may hold something else: told, never answered
      open/00000013-3f9ac01b52de/
        delivery.json             what is told: version, batches, counts
        changes.parquet           the changes, numbered by batch
        progress.json             batches acknowledged so far; whether the files were handed over

A batch has a number that only rises. A delivery covers everything in which the target may differ from what readers see,
whether or not it got the deliveries before. It can therefore replace them, and they can be given up at any batch.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from strataflow.crm import changes
from strataflow.durable import sha256, sync, sync_tree, write_json
from strataflow.errors import Busy, InputError, UsageError

if TYPE_CHECKING:
    from strataflow.crm.targets import Target
    from strataflow.home import Home

SCHEMA_VERSION = 1
_STATE, _DELIVERY, _CHANGES, _PROGRESS = "state.json", "delivery.json", "changes.parquet", "progress.json"
_ASIDE = ".making"
_NOTHING_TOLD = {
    "schema_version": SCHEMA_VERSION,
    "table": None,
    "known": None,
    "doubted": None,
    "acknowledged": None,
    "next_sequence": 1,
}


@dataclass(frozen=True)
class Source:
    """What readers see of a table.

    Attributes:
        version: name of the published version.
        as_of: the day it is about.
        content: names the table's content: digests of its files.
        files: the table's Parquet files.
        columns: DuckDB type by name of what the target is told.
    """

    version: str
    as_of: str
    content: str
    files: tuple[Path, ...]
    columns: dict[str, str]


@dataclass(frozen=True)
class Delivery:
    """One telling of changes that is not acknowledged as a whole."""

    path: Path
    about: dict[str, Any]

    @property
    def name(self) -> str:
        """Its id: the number of its first batch, and a digest of the changes."""
        return self.path.name

    @property
    def first_sequence(self) -> int:
        """Number of its first batch."""
        return self.about["first_sequence"]

    @property
    def batches(self) -> int:
        """How many batches it has."""
        return self.about["batches"]

    @property
    def columns(self) -> dict[str, str]:
        """DuckDB type by name of what it tells, in order."""
        return dict(self.about["columns"])

    @property
    def changes(self) -> Path:
        """Its changes, as :func:`strataflow.crm.changes.find` writes them."""
        return self.path / _CHANGES

    @property
    def spill(self) -> Path:
        """Where reading it may spill; emptied by the next one who opens the outbox."""
        return self.path.parent.parent / _ASIDE

    @property
    def acknowledged(self) -> int:
        """How many of its batches are acknowledged, counted from the first."""
        return self._progress().get("acknowledged", 0)

    @property
    def is_handed_over(self) -> bool:
        """Whether its files lie where the target looks for them, or did."""
        return self._progress().get("handed_over", False)

    def acknowledge(self, batch: int) -> None:
        """Note that the batches up to ``batch`` are acknowledged."""
        write_json(self.path / _PROGRESS, self._progress() | {"acknowledged": batch})

    def hand_over(self) -> None:
        """Note that its files are in place."""
        write_json(self.path / _PROGRESS, self._progress() | {"handed_over": True})

    def is_about(self, source: Source) -> bool:
        """Whether it tells of the very content and columns that are wanted now."""
        return self.about["content"] == source.content and list(self.columns.items()) == list(source.columns.items())

    def _progress(self) -> dict[str, Any]:
        try:
            return json.loads((self.path / _PROGRESS).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}


class Outbox:
    """The state of one target; made by :func:`opened`, which holds its lock."""

    def __init__(self, folder: Path, target: str) -> None:
        self.folder, self.target = folder, target
        self._tidy()

    @property
    def state(self) -> dict[str, Any]:
        """The content of ``state.json``.

        Raises:
            InputError: it is broken.
        """
        path = self.folder / _STATE
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return dict(_NOTHING_TOLD)
        except ValueError as broken:
            raise InputError(
                f"what target {self.target} has acknowledged can't be read ({broken})",
                where=str(path),
                todo="restore the folder from a backup; without it, empty the target and remove the folder",
            ) from broken

    def open_deliveries(self) -> list[Delivery]:
        """Those not acknowledged as a whole, oldest first."""
        paths = sorted((self.folder / "open").glob("[0-9]*"))
        return [Delivery(path, json.loads((path / _DELIVERY).read_text(encoding="utf-8"))) for path in paths]

    def make(self, source: Source, target: Target) -> Delivery | None:
        """A new delivery of everything that the target may hold otherwise than ``source``; None if that is nothing.

        Raises:
            UsageError: the target was told of another table before.
        """
        state = self.state
        if state["table"] not in (None, target.table):
            raise UsageError(
                f"target {self.target} was told of {state['table']} until now, not of {target.table}",
                where=str(self.folder),
                todo="give the new table a target of its own",
            )
        aside = self._aside()
        with changes.working(aside / "spill") as connection:
            found = changes.find(
                connection, source.files, self._file(state["known"]), self._doubts(state), source.columns,
                target.batch_rows, aside / _CHANGES,
            )  # fmt: skip
        if not found:
            shutil.rmtree(aside)
            return None
        shutil.rmtree(aside / "spill", ignore_errors=True)
        rows = sum(found.values())
        first = max([state["next_sequence"], *(each.first_sequence + each.batches for each in self.open_deliveries())])
        digest = sha256(aside / _CHANGES)
        about = {
            "schema_version": SCHEMA_VERSION,
            "target": self.target,
            "table": target.table,
            "version": source.version,
            "as_of": source.as_of,
            "content": source.content,
            "columns": list(source.columns.items()),
            "first_sequence": first,
            "batch_rows": target.batch_rows,
            "batches": -(-rows // target.batch_rows),
            "rows": rows,
            "changes": {kind: found.get(kind, 0) for kind in changes.CHANGES},
            "sha256": digest,
        }
        write_json(aside / _DELIVERY, about)
        sync_tree(aside)
        path = self.folder / "open" / f"{first:08d}-{digest[:12]}"
        path.parent.mkdir(exist_ok=True)
        os.replace(aside, path)
        sync(path.parent)
        return Delivery(path, about)

    def close(self, delivery: Delivery, through: int, doubted: Sequence[str] = ()) -> None:
        """Take the batches up to ``through`` as acknowledged, the older deliveries as replaced, and end this one.

        Args:
            doubted: queries for further ids of whom the target may hold something else.
        """
        state = self.state
        number = delivery.first_sequence + delivery.batches - 1
        known, doubts = (f"{kind}-{number:08d}.parquet" for kind in ("known", "doubted"))
        aside = self._aside()
        with changes.working(aside / "spill") as connection:
            changes.fold(
                connection, self._file(state["known"]), delivery.changes, through, delivery.columns,
                aside / "known.parquet",
            )  # fmt: skip
            told = changes.ids(delivery.changes, 1, through)
            queries = [*self._doubts(state, older_than=delivery), *doubted]
            changes.keep_doubts(connection, queries, told, aside / "doubted.parquet")
        for name, target in (("known.parquet", known), ("doubted.parquet", doubts)):
            sync(aside / name)
            os.replace(aside / name, self.folder / target)
        sync(self.folder)
        is_whole = through == delivery.batches
        last = {"delivery": delivery.name, **{key: delivery.about[key] for key in ("version", "as_of")}}
        write_json(
            self.folder / _STATE,
            state
            | {
                "table": delivery.about["table"],
                "known": known,
                "doubted": doubts,
                "acknowledged": last if is_whole else state["acknowledged"],
                "next_sequence": number + 1,
            },
        )
        self._tidy()

    def give_up(self, delivery: Delivery) -> None:
        """End a delivery to an endpoint: what it acknowledged holds, the batch after that may have been heard."""
        heard = delivery.acknowledged + 1
        self.close(delivery, delivery.acknowledged, [changes.ids(delivery.changes, heard, heard)])

    def forget(self, customer_ids: Sequence[str]) -> int:
        """Keep nothing of these customers but what it takes to have the target delete them.

        Their values go and their ids stay until the target has acknowledged that they left. Deliveries on their way
        are ended; the next one tells everything that they would have.

        Returns:
            How many of them the target was told of.
        """
        for delivery in self.open_deliveries():
            told = [changes.ids(delivery.changes, delivery.acknowledged + 1, delivery.batches)]
            self.close(delivery, delivery.acknowledged, told)
        state = self.state
        known, doubted = self._file(state["known"]), self._file(state["doubted"])
        if known is None:
            return 0
        aside = self._aside()
        with changes.working(aside / "spill") as connection:
            found = changes.blank(connection, known, doubted, customer_ids, aside / "known.parquet")
        sync(aside / "known.parquet")
        os.replace(aside / "known.parquet", known)
        sync(self.folder)
        self._tidy()
        return found

    def _doubts(self, state: Mapping[str, Any], older_than: Delivery | None = None) -> list[str]:
        """Queries for the ids in doubt: kept ones, and those of the open deliveries, all or the older ones."""
        kept = self._file(state["doubted"])
        queries = [changes.all_ids(kept)] if kept else []
        queries += [
            changes.ids(delivery.changes, delivery.acknowledged + 1, delivery.batches)
            for delivery in self.open_deliveries()
            if older_than is None or delivery.name < older_than.name
        ]
        return queries

    def _file(self, name: str | None) -> Path | None:
        return self.folder / name if name else None

    def _aside(self) -> Path:
        aside = self.folder / _ASIDE
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        return aside

    def _tidy(self) -> None:
        """Remove what a kill left, and what the state no longer names."""
        state = self.state
        wanted = {_STATE, ".lock", state["known"], state["doubted"], "open"}
        if self.folder.is_dir():
            for path in self.folder.iterdir():
                if path.name not in wanted:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
        for path in (self.folder / "open").glob("[0-9]*"):
            if int(path.name.partition("-")[0]) < state["next_sequence"]:
                shutil.rmtree(path)


@contextmanager
def opened(home: Home, target: str) -> Iterator[Outbox]:
    """The outbox of a target, held by this process alone.

    Raises:
        Busy: another process is delivering to this target.
    """
    folder = home.crm / target
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as busy:
        raise Busy(
            f"another process is delivering to {target}", where=str(folder), todo="wait for it to end, then try again"
        ) from busy
    try:
        yield Outbox(folder, target)
    finally:
        lock.release()


def forget(home: Home, customer_ids: Sequence[str]) -> dict[str, int]:
    """Erase customers from what is kept of every target; the next delivery tells each target to delete them.

    Returns:
        By target, how many of them it was told of.

    Raises:
        Busy: a delivery is under way.
    """
    found = {}
    for folder in sorted(path for path in home.crm.glob("*") if (path / _STATE).is_file() or (path / "open").is_dir()):
        with opened(home, folder.name) as outbox:
            found[folder.name] = outbox.forget(customer_ids)
    return found
