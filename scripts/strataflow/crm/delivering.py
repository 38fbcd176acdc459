"""Delivering changes to a target: finding them, telling them, and keeping what was acknowledged."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from strataflow.crm import changes, sending
from strataflow.crm.outbox import Delivery, Outbox, Source, opened
from strataflow.durable import json_text, sync
from strataflow.errors import UsageError
from strataflow.publish import current_version, read_manifest

if TYPE_CHECKING:
    import httpx

    from strataflow.crm.targets import Target
    from strataflow.home import Home

READABLE_FILE = 0o644
_LINES_AT_ONCE = 10_000


@dataclass(frozen=True)
class Delivered:
    """What a delivery did.

    Attributes:
        target: its name.
        outcome: ``unchanged`` (nothing to tell), ``acknowledged`` (by an endpoint), ``handed_over`` (files are in
            place) or ``waiting`` (they were before, and are not acknowledged).
        delivery: its id, for ``--acknowledge``.
        version: the published version that was told.
        changes: how many entered, changed and left.
        batches: how many batches were sent, or are in the files.
        tries: how often batches were sent, repetitions included.
        files: what was put into the target's folder.
        waiting: ids of the deliveries that nobody has acknowledged, oldest first.
    """

    target: str
    outcome: str
    delivery: str | None = None
    version: str | None = None
    changes: dict[str, int] = field(default_factory=dict)
    batches: int = 0
    tries: int = 0
    files: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """For the run log and JSON."""
        return {**self.__dict__, "files": list(self.files), "waiting": list(self.waiting)}


def deliver(
    home: Home, target: Target, sleep: sending.Sleep = time.sleep, transport: httpx.BaseTransport | None = None
) -> Delivered:
    """Tell a target everything in which it may differ from what readers see now.

    What it acknowledged before is not told again; what it may or may not have heard is. Killed at any moment, calling
    again goes on from there.

    Args:
        sleep: how to wait between tries.
        transport: what carries requests instead of the network.

    Raises:
        UsageError: nothing is published, the table or a column is not there, or no key is set.
        StepFailed: an endpoint refused a batch or did not acknowledge it.
        Busy: another process is delivering to this target.
    """
    key = target.key() if target.url else b""
    source = _seen_now(home, target)
    with opened(home, target.name) as outbox:
        if not target.url:
            return _hand_over(outbox, target, source)
        with _client(target, transport) as client:
            return _send(outbox, target, source, partial(sending.send, client, target, key=key, sleep=sleep))


def acknowledge(home: Home, target: Target, named: str) -> Delivered:
    """Take a delivery of files as acknowledged: the next one tells what changed since.

    Deliveries older than it are taken as replaced by it.

    Raises:
        UsageError: no such delivery waits.
        Busy: another process is delivering to this target.
    """
    with opened(home, target.name) as outbox:
        waiting_now = {delivery.name: delivery for delivery in outbox.open_deliveries()}
        delivery = waiting_now.get(named)
        if delivery is None or not delivery.is_handed_over:
            raise UsageError(
                f"target {target.name} has no delivery {named} that waits for an acknowledgement",
                where=str(outbox.folder),
                todo=f"waiting: {', '.join(waiting_now) or 'none'}",
            )
        outbox.close(delivery, delivery.batches)
        return Delivered(
            target.name, "acknowledged", delivery.name, delivery.about["version"], delivery.about["changes"],
            delivery.batches, waiting=_names(outbox),
        )  # fmt: skip


def waiting(home: Home, target: Target) -> dict[str, Any]:
    """What a target has acknowledged last, and the deliveries that wait for it."""
    with opened(home, target.name) as outbox:
        deliveries = [
            {"delivery": each.name, **{key: each.about[key] for key in ("version", "as_of", "changes", "batches")},
             "acknowledged_batches": each.acknowledged}
            for each in outbox.open_deliveries()
        ]  # fmt: skip
        return {"target": target.name, "acknowledged": outbox.state["acknowledged"], "waiting": deliveries}


def _seen_now(home: Home, target: Target) -> Source:
    version = current_version(home)
    if version is None:
        raise UsageError("nothing is published yet", where=str(home.published), todo="strataflow run --date YYYY-MM-DD")
    manifest = read_manifest(version)
    table = manifest["tables"].get(target.table)
    if table is None or list(table["key"]) != ["customer_id"]:
        told = [name for name, entry in manifest["tables"].items() if list(entry["key"]) == ["customer_id"]]
        raise UsageError(
            f"target {target.name}: there is no published table {target.table} with a row per customer",
            todo=f"choose from: {', '.join(sorted(told))}",
        )
    return Source(
        version=version.name,
        as_of=manifest["as_of"],
        content=" ".join(entry["sha256"] for entry in table["files"]),
        files=tuple(version / entry["path"] for entry in table["files"]),
        columns=target.columns_of(table["columns"]),
    )


def _client(target: Target, transport: httpx.BaseTransport | None) -> httpx.Client:
    import httpx

    return httpx.Client(timeout=target.timeout_seconds, follow_redirects=False, transport=transport)


def _send(outbox: Outbox, target: Target, source: Source, send: Callable[[bytes, int], int]) -> Delivered:
    """Go on with what was begun if it is still what is wanted, else begin anew."""
    delivery = _last(outbox)
    if delivery is not None and not delivery.is_handed_over and not delivery.is_about(source):
        outbox.give_up(delivery)
        delivery = None
    if delivery is None or delivery.is_handed_over:
        delivery = outbox.make(source, target)
    if delivery is None:
        return Delivered(target.name, "unchanged", version=source.version)
    begun, tries = delivery.acknowledged, _send_batches(delivery, send)
    outbox.close(delivery, delivery.batches)
    return Delivered(
        target.name, "acknowledged", delivery.name, source.version, delivery.about["changes"],
        delivery.batches - begun, tries,
    )  # fmt: skip


def _send_batches(delivery: Delivery, send: Callable[[bytes, int], int]) -> int:
    """Send what is not acknowledged, batch by batch; returns the number of tries."""
    tries, begun = 0, delivery.acknowledged
    told = {name: delivery.about[name] for name in ("target", "table", "version", "as_of", "batches")}
    with changes.working(delivery.spill) as connection:
        batches = changes.lines(connection, delivery.changes, delivery.columns, begun, delivery.about["batch_rows"])
        for batch, lines in enumerate(batches, begun + 1):
            sequence = delivery.first_sequence + batch - 1
            about = {"delivery": delivery.name, **told, "batch": batch, "sequence": sequence}
            tries += send(sending.body_of(about, lines), sequence)
            delivery.acknowledge(batch)
    return tries


def _last(outbox: Outbox) -> Delivery | None:
    open_now = outbox.open_deliveries()
    return open_now[-1] if open_now else None


def _hand_over(outbox: Outbox, target: Target, source: Source) -> Delivered:
    """Put the changes into the target's folder, the description last: who finds it finds all of it."""
    delivery = _last(outbox)
    if delivery is not None and delivery.is_about(source) and delivery.is_handed_over:
        return _handed_over(outbox, target, delivery, "waiting")
    if delivery is None or not delivery.is_about(source):
        delivery = outbox.make(source, target)
    if delivery is None:
        return Delivered(target.name, "unchanged", version=source.version)
    folder = target.folder or Path()
    folder.mkdir(parents=True, exist_ok=True)
    data, description = _files(delivery, folder)
    about = {name: value for name, value in delivery.about.items() if name != "content"}
    _write_lines(delivery, data)
    _place(description, json_text(about | {"delivery": delivery.name, "file": data.name}))
    delivery.hand_over()
    return _handed_over(outbox, target, delivery, "handed_over")


def _handed_over(outbox: Outbox, target: Target, delivery: Delivery, outcome: str) -> Delivered:
    files = tuple(str(path) for path in _files(delivery, target.folder or Path()))
    return Delivered(
        target.name, outcome, delivery.name, delivery.about["version"], delivery.about["changes"], delivery.batches,
        files=files, waiting=_names(outbox),
    )  # fmt: skip


def _files(delivery: Delivery, folder: Path) -> tuple[Path, Path]:
    table = delivery.about["table"]
    stem = f"{'segment' if table == 'customer_segments' else table}_changes-{delivery.name}"
    return folder / f"{stem}.jsonl", folder / f"{stem}.json"


def _write_lines(delivery: Delivery, path: Path) -> None:
    aside = path.with_name(f".{path.name}")
    with (
        changes.working(delivery.spill) as connection,
        aside.open("w", encoding="utf-8", newline="\n") as file,
    ):
        for lines in changes.lines(connection, delivery.changes, delivery.columns, 0, _LINES_AT_ONCE):
            file.write("\n".join(lines) + "\n")
    _move(aside, path)


def _place(path: Path, text: str) -> None:
    aside = path.with_name(f".{path.name}")
    aside.write_text(text, encoding="utf-8")
    _move(aside, path)


def _move(aside: Path, path: Path) -> None:
    aside.chmod(READABLE_FILE)
    sync(aside)
    os.replace(aside, path)
    sync(path.parent)


def _names(outbox: Outbox) -> tuple[str, ...]:
    return tuple(delivery.name for delivery in outbox.open_deliveries())
