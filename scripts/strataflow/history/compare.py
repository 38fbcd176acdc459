"""What was said of a day then, and what is known of it now.

A restatement lies beside the day's own version, so both can be read; this
module puts them side by side for people who have to explain the difference.
"""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any

from strataflow.errors import UsageError
from strataflow.history.causes import PublishedDay, database, find_moves, name_kinds, statement
from strataflow.publish import restated_at, version_of

if TYPE_CHECKING:
    import duckdb
    from rich.console import Console

    from strataflow.home import Home

LARGEST = 10
MOVES_SHOWN = 12
AMOUNTS = ("revenue_in_window", "lifetime_value")
HEADINGS = {
    "rfm_class": "Class",
    "ecommerce_stage": "E-commerce stage",
    "high_ticket_stage": "High-ticket stage",
    "activity_stage": "Activity stage",
    "value_tier": "Value tier",
}


def compare(home: Home, day: date, known_at: date | None = None) -> dict[str, Any]:
    """The version of ``day`` against one of its restatements.

    Args:
        known_at: which restatement; by default the latest there is.

    Returns:
        as_of, known_at, currency, said and known (the versions' names), measures (measure, said,
        known, difference; counts are numbers), moves (attribute, from_value, to_value, kind, customers, revenue_said,
        revenue_known), movers (customer_id, class, tier and revenue as said and as known,
        difference: the largest ones). Amounts are text.

    Raises:
        UsageError: the day or the restatement is not published.
    """
    said = _published(home, day, None)
    known = _published(home, day, known_at or max(restated_at(home, day), default=None) or _refuse(home, day, None))
    with database(home.scratch / "compare") as connection:
        find_moves(connection, said, known)
        name_kinds(connection, known)
        measures = _rows(connection, "compared_measures")
        moves = _rows(connection, "compared_moves")
        movers = _rows(connection, "compared_movers", {"most": LARGEST})
    return {
        "as_of": str(day),
        "known_at": known.manifest["known_at"],
        "currency": known.manifest["shop"]["currency"],
        "said": said.path.name,
        "known": known.path.name,
        "measures": [_as_text(_counted(row | {"difference": row["known"] - row["said"]})) for row in measures],
        "moves": [_as_text(row) for row in moves],
        "movers": [_as_text(row) for row in movers],
    }


def render(told: dict[str, Any], console: Console) -> None:
    """Print what :func:`compare` returned, for people."""
    from strataflow import summary

    console.rule(f"[bold]{told['as_of']}: said then, known at {told['known_at']}[/]")
    grid = summary.table(f"Totals (amounts in {told['currency']})")
    grid.add_column("measure")
    for column in ("said", "known", "difference"):
        grid.add_column(column, justify="right")
    for row in told["measures"]:
        grid.add_row(row["measure"], *(str(row[name]) for name in ("said", "known", "difference")))
    console.print(grid)
    for attribute, heading in HEADINGS.items():
        moves = [row for row in told["moves"] if row["attribute"] == attribute]
        if moves:
            _print_moves(moves, heading, console)
    if told["movers"]:
        _print_movers(told["movers"], console)
    if not told["moves"] and not told["movers"]:
        console.print("Nobody stands elsewhere and no amount differs.", highlight=False)


def _print_moves(moves: list[dict[str, Any]], heading: str, console: Console) -> None:
    from strataflow import summary

    grid = summary.table(f"{heading}: {sum(row['customers'] for row in moves):,} customers stand elsewhere")
    for column in ("said", "known", ""):
        grid.add_column(column)
    for column in ("customers", "revenue said", "revenue known"):
        grid.add_column(column, justify="right")
    for row in moves[:MOVES_SHOWN]:
        grid.add_row(
            row["from_value"] or "not known",
            row["to_value"] or "not known",
            row["kind"],
            f"{row['customers']:,}",
            row["revenue_said"],
            row["revenue_known"],
        )
    if len(moves) > MOVES_SHOWN:
        grid.add_row("…", "", "", f"{sum(row['customers'] for row in moves[MOVES_SHOWN:]):,}", "", "")
    console.print(grid)


def _print_movers(movers: list[dict[str, Any]], console: Console) -> None:
    from strataflow import summary

    grid = summary.table("Largest differences in revenue")
    for column in ("customer", "class said", "class known"):
        grid.add_column(column)
    for column in ("said", "known", "difference"):
        grid.add_column(column, justify="right")
    for row in movers:
        grid.add_row(
            row["customer_id"],
            row["class_said"] or "not known",
            row["class_known"] or "not known",
            row["revenue_said"] or "",
            row["revenue_known"] or "",
            row["difference"],
        )
    console.print(grid)


def _published(home: Home, day: date, known_at: date | None) -> PublishedDay:
    path = version_of(home, day, known_at)
    return PublishedDay.at(day, path) if path else _refuse(home, day, known_at)


def _refuse(home: Home, day: date, known_at: date | None) -> Any:
    said = version_of(home, day)
    if said is None:
        raise UsageError(
            f"{day} is not published, so there is nothing that was said of it",
            where=str(home.published),
            todo=f"strataflow run --date {day}",
        )
    there = ", ".join(str(known) for known in restated_at(home, day)) or "none"
    raise UsageError(
        f"{day} has no restatement known at {known_at}" if known_at else f"{day} has no restatement",
        where=f"{home.published / 'restatements'} (known at: {there})",
        todo=f"strataflow run --skip-land --date {day} --known-at {known_at or 'LATER_DAY'}",
    )


def _rows(
    connection: duckdb.DuckDBPyConnection, name: str, values: dict[str, Any] | None = None
) -> list[dict[str, Any]]:
    found = connection.execute(statement(name), values) if values else connection.execute(statement(name))
    columns = [column[0] for column in found.description]
    return [dict(zip(columns, row, strict=True)) for row in found.fetchall()]


def _counted(row: dict[str, Any]) -> dict[str, Any]:
    """A measure that is no amount, as whole numbers."""
    if row["measure"] in AMOUNTS:
        return row
    return {name: value if name == "measure" else int(value) for name, value in row.items()}


def _as_text(row: dict[str, Any]) -> dict[str, Any]:
    """Amounts as text, exactly; counts and names as they are."""
    from decimal import Decimal

    return {name: str(value) if isinstance(value, Decimal) else value for name, value in row.items()}
