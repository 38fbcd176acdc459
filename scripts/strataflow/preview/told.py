"""The preview in a terminal."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from strataflow.preview.page import cutoffs_of, name_of, step_of, verdict, warnings
from strataflow.summary import table

if TYPE_CHECKING:
    from rich.console import Console

MOVES_SHOWN = 12


def render(told: dict[str, Any], console: Console) -> None:
    """Print what :func:`strataflow.preview.preview` told."""
    _say(console, f"{verdict(told).en}\n  compared with {told['against']['version']} of {told['against']['as_of']}")
    for warning in warnings(told):
        _say(console, f"  note: {warning.en}")
    _print_rules(told["rules"], console)
    for entry in told["cutoffs"]:
        sides = " → ".join(cutoffs_of(entry[side]) for side in ("before", "after"))
        _say(console, f"  cut-offs of {entry['measure']} (mean score): {sides}")
    for attribute, moves in told["moves"].items():
        if moves:
            console.print(_moves(told, attribute, moves))
    if told["largest_movers"]:
        console.print(_movers(told))
    if told["tags"]:
        console.print(_tags(told))
    _print_tables(told, console)


def _print_tables(told: dict[str, Any], console: Console) -> None:
    for entry in told["tables"]:
        changes = ", ".join(f"{entry[part]:,} {part}" for part in ("added", "removed", "changed") if entry[part])
        columns = ", ".join(f"{name} {rows:,}" for name, rows in entry["columns"].items())
        parts = [f"{changes}{f' ({columns})' if columns else ''}"] if changes else []
        parts += [f"with {', '.join(entry['columns_added'])}"] if entry["columns_added"] else []
        parts += [f"without {', '.join(entry['columns_removed'])}"] if entry["columns_removed"] else []
        if parts:
            _say(console, f"{entry['table']}: {', '.join(parts)}")
    for name in told["tables_of_one_side"]:
        _say(console, f"{name}: a table on one side only")


def _print_rules(rules: dict[str, Any], console: Console) -> None:
    for entry in rules["vars"] or ():
        _say(console, f"  {entry['name']}: {entry['before']} → {entry['after']}")
    files = [entry for entry in rules["files"] or () if not (entry["name"] == "dbt_project.yml" and rules["vars"])]
    for entry in files:
        _say(console, f"  {entry['name']} {entry['change']}")


def _moves(told: dict[str, Any], attribute: str, moves: list[dict[str, Any]]) -> Any:
    more = f", the {MOVES_SHOWN} largest of {len(moves)} kinds of moves" if len(moves) > MOVES_SHOWN else ""
    grid = table(f"{attribute}{more}")
    for column in ("from", "to"):
        grid.add_column(column)
    for column in ("customers", f"revenue {told['currency']}"):
        grid.add_column(column, justify="right")
    for move in moves[:MOVES_SHOWN]:
        names = [name_of(told, attribute, move[side]).en for side in ("from", "to")]
        grid.add_row(*names, f"{move['customers']:,}", _money(move["revenue"]))
    return grid


def _movers(told: dict[str, Any]) -> Any:
    grid = table("The largest movers")
    grid.add_column("customer")
    grid.add_column(f"revenue {told['currency']}", justify="right")
    grid.add_column("moves")
    for mover in told["largest_movers"]:
        steps = [step_of(told, step).en for step in mover["changes"]]
        grid.add_row(mover["customer_id"], _money(mover["monetary"]), "; ".join(steps))
    return grid


def _tags(told: dict[str, Any]) -> Any:
    grid = table("Tags")
    grid.add_column("tag")
    for column in ("gained", "lost", "other value"):
        grid.add_column(column, justify="right")
    for tag in told["tags"]:
        grid.add_row(tag["tag_id"], *(f"{tag[part]:,}" for part in ("gained", "lost", "changed")))
    return grid


def _money(amount: str) -> str:
    return f"{Decimal(amount):,.0f}"


def _say(console: Console, line: str) -> None:
    console.print(line, highlight=False, markup=False, soft_wrap=True)
