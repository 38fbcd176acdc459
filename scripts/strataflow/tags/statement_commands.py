"""The commands ``strataflow tags add|remove|import|list``; ``cli`` adds the options that all commands share."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from strataflow.errors import UsageError
from strataflow.screen import Screen
from strataflow.tags.command import tags_group

if TYPE_CHECKING:
    from rich.console import Console

    from strataflow.home import Home
    from strataflow.tags.inbox import Statement
    from strataflow.tags.statements import Defaults
    from strataflow.tags.vocabulary import Vocabulary

SHOWN = 5

by_option = click.option("--by", metavar="NAME", help="Who says so.  [default: $STRATAFLOW_USER, else the login name]")
at_option = click.option("--at", metavar="TIME", help="When it was said, on the shop's clock.  [default: now]")
reason_option = click.option("--reason", metavar="TEXT", help="Why, in words.")


@tags_group.command(
    "add",
    epilog="""\b
Examples:
  strataflow tags add c0000007 'night owl' --reason 'asked for late delivery'
  strataflow tags add c0000007 '区域：柏林' --by li --expires 2017-12-31
""",
)
@click.argument("customer")
@click.argument("tag")
@by_option
@at_option
@reason_option
@click.option("--expires", metavar="DATE", help="Last day on which it is in force.  [default: until it is removed]")
@click.pass_obj
def add_command(obj: dict[str, Any] | None, customer: str, tag: str, **said: Any) -> None:
    """Set a tag on a customer, in any spelling.

    It is received on the business day it is said, or, once that day has landed, on the next; the run of that day is
    the first to show it. A text that nobody has a tag for is kept, too, and waits in tag_review_queue.
    """
    _say(obj, "tags add", customer, tag, "add", said)


@tags_group.command("remove", epilog="\b\nExample:\n  strataflow tags remove c0000007 'night owl'")
@click.argument("customer")
@click.argument("tag")
@by_option
@at_option
@reason_option
@click.pass_obj
def remove_command(obj: dict[str, Any] | None, customer: str, tag: str, **said: Any) -> None:
    """Take back a tag that was set on a customer.

    Received as `add` is. What the data says of the customer is not taken away by it.
    """
    _say(obj, "tags remove", customer, tag, "remove", said)


@tags_group.command(
    "import",
    epilog="""\b
Examples:
  strataflow tags import calls.csv --by li
  strataflow tags import calls.jsonl
""",
)
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@by_option
@at_option
@click.pass_obj
def import_command(obj: dict[str, Any] | None, file: Path, by: str | None, at: str | None, **where: Any) -> None:
    """Set and take back tags from a file.

    CSV with a header, or one JSON object per line (.jsonl): customer_id and tag, and if wanted tagged_by, tagged_at,
    reason, expires_at and action (add or remove). All rows or none; rows that are there already are left out.
    """
    from strataflow.tags import inbox
    from strataflow.tags.statements import from_file

    desk = _Desk.open(by, at, **where)
    found = from_file(file, desk.defaults)
    kept = inbox.keep(desk.home, [(one, desk.defaults.business_date(one.tagged_at)) for one in found])
    unknown = _unknown(desk, found)
    document = {
        "ok": True,
        "command": "tags import",
        "imported": sum(kept.by_day.values()),
        "repeated": kept.repeated,
        "received": [{"date": str(day), "statements": count} for day, count in kept.by_day.items()],
        "not_understood": unknown,
    } | (doubts := _doubts(desk, found))
    lines = [f"{document['imported']:,} statements kept, {kept.repeated:,} were there already."]
    lines += [f"  to be received on {day}: {count:,}" for day, count in kept.by_day.items()]
    lines += [_told_unknown(text, near) for text, near in unknown.items()]
    lines += _told_doubts(doubts)
    _screen(obj).result(document, lambda console: _print(console, lines))


@tags_group.command(
    "list",
    epilog="""\b
Examples:
  strataflow tags list --customer c0000007
  strataflow tags list --tag 'night owl' --all
""",
)
@click.option("--customer", metavar="ID", help="Only of this customer.")
@click.option("--tag", metavar="TEXT", help="Only what means this tag, or is this text.")
@click.option("--all", "past", is_flag=True, help="Also what was replaced, taken back or has expired.")
@click.pass_obj
def list_command(obj: dict[str, Any] | None, customer: str | None, tag: str | None, past: bool, **where: Any) -> None:
    """Show what staff said of customers, by whom, why, until when, and what has become of it.

    As of the day readers see; statements that no published day has received yet are `waiting`.
    """
    from strataflow.tags.statements import listed

    desk = _Desk.open(None, None, **where)
    told = listed(desk.home, desk.vocabulary, desk.defaults, customer, tag, past=past)
    lines = [_told_statement(row) for row in told["statements"]] or ["Nothing that fits."]
    as_of = f"As of {told['as_of']}:" if told["as_of"] else "No published day has received any:"
    document = {"ok": True, "command": "tags list", **told}
    _screen(obj).result(document, lambda console: _print(console, [as_of, *lines]))


@dataclass(frozen=True)
class _Desk:
    """Where statements are typed: the home, who types, and the words in force."""

    home: Home
    defaults: Defaults
    vocabulary: Vocabulary

    @classmethod
    def open(cls, by: str | None, at: str | None, *, home: Path | None, sources: Path | None) -> _Desk:
        from strataflow.home import Home
        from strataflow.project import Project
        from strataflow.sources import load_shop
        from strataflow.tags.statements import Defaults
        from strataflow.tags.vocabulary import Vocabulary

        folder = sources or os.environ.get("STRATAFLOW_SOURCES")
        if not folder:
            raise UsageError("no sources are set", todo="give --sources DIR or set STRATAFLOW_SOURCES")
        shop = load_shop(Path(folder).expanduser() / "shop.yml")
        return cls(Home.at(home), Defaults.of(shop, by, at), Vocabulary.load(Project.locate()))


def _say(obj: dict[str, Any] | None, command: str, customer: str, tag: str, action: str, said: dict[str, Any]) -> None:
    from strataflow.tags import inbox
    from strataflow.tags.statements import meaning, statement

    reason, expires = said.pop("reason"), said.pop("expires", None)
    desk = _Desk.open(said.pop("by"), said.pop("at"), **said)
    cells = {"customer_id": customer, "tag": tag, "action": action, "reason": reason, "expires_at": expires}
    try:
        made = statement(cells, desk.defaults)
    except ValueError as wrong:
        raise UsageError(str(wrong)) from wrong
    said_on = desk.defaults.business_date(made.tagged_at)
    kept = inbox.keep(desk.home, [(made, said_on)])
    (day,) = kept.by_day
    meant = meaning(desk.vocabulary, made.tag, said_on)
    document = {"ok": True, "command": command, "received_date": str(day), "understood": bool(meant["tag_id"])} | meant
    document |= (doubts := _doubts(desk, [made]))
    value = f" with the value {meant['tag_value']}" if meant["tag_value"] else ""
    lines = [f"{made.customer_id}: {made.tag} means {meant['tag_id']}{value}."]
    if not meant["tag_id"]:
        lines = [_told_unknown(made.tag, meant["nearest"])]
    elif action == "add" and meant["tag_value"] is None and desk.vocabulary.needs_value(meant["tag_id"]):
        lines.append(f"It says nothing without a value and will stand in tag_conflicts: type '{made.tag}: VALUE'.")
    lines += _told_doubts(doubts)
    lines.append(f"To be received on {day}.")
    _screen(obj).result(document, lambda console: _print(console, lines))


def _unknown(desk: _Desk, found: list[Statement]) -> dict[str, list[dict[str, Any]]]:
    """Texts that mean nothing on the day they are said, each with the tags nearest to it."""
    from strataflow.tags.statements import meaning

    asked: dict[tuple[str, date], None] = {}
    for one in found:
        asked.setdefault((one.tag, desk.defaults.business_date(one.tagged_at)))
    unknown = {text: on for text, on in asked if desk.vocabulary.understand(text, on) is None}
    return {text: meaning(desk.vocabulary, text, on)["nearest"] for text, on in unknown.items()}


def _doubts(desk: _Desk, found: list[Statement]) -> dict[str, Any]:
    """What is kept all the same, and is likely a slip."""
    from strataflow.tags.statements import over_already, strangers

    as_of, ids = strangers(desk.home, found)
    return {
        "as_of": str(as_of) if as_of else None,
        "unknown_customers": ids,
        "over_already": len(over_already(found, desk.defaults)),
    }


def _told_doubts(doubts: dict[str, Any]) -> list[str]:
    ids, lines = doubts["unknown_customers"], []
    if ids:
        more = f" and {len(ids) - SHOWN:,} more" if len(ids) > SHOWN else ""
        lines.append(
            f"No customer on {doubts['as_of']} is called {', '.join(ids[:SHOWN])}{more}: "
            "what is said counts once one is, and stands in tag_conflicts until then."
        )
    if over := doubts["over_already"]:
        what = "It" if over == 1 else f"{over:,} of them"
        lines.append(f"{what} ended before the day on which it was said, and will never be in force.")
    return lines


def _told_unknown(text: str, near: list[dict[str, Any]]) -> str:
    likely = ", ".join(f"{one['tag_id']} ({one['spelling']}, {one['score']:.2f})" for one in near)
    return f"Nobody has a tag for {text!r} yet; it is kept and waits in tag_review_queue. Nearest: {likely}."


def _told_statement(row: dict[str, Any]) -> str:
    meant = row["tag_id"] or "not understood"
    value = f"={row['tag_value']}" if row["tag_value"] else ""
    parts = [f"{row['customer_id']}  {row['state']}  {meant}{value}"]
    parts += [f"{row['action']} {row['tag']!r} by {row['tagged_by']} at {row['tagged_at']:%Y-%m-%d %H:%M} UTC"]
    parts += [f"until {row['expires_at']}"] if row["expires_at"] else []
    parts += [f"because {row['reason']}"] if row["reason"] else []
    parts += [f"against {row['against_tag_id']}"] if row.get("against_tag_id") else []
    parts += [f"to be received on {row['received_date']}"] if row["state"] == "waiting" else []
    return ", ".join(parts)


def _print(console: Console, lines: list[str]) -> None:
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _screen(obj: dict[str, Any] | None) -> Screen:
    return (obj or {}).get("screen") or Screen()


COMMANDS: tuple[click.Command, ...] = (add_command, remove_command, import_command, list_command)
"""What ``cli`` gives the options of a deployment."""
