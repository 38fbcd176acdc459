"""The command ``strataflow generate``; ``cli`` adds the options that all commands share."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from strataflow.screen import Screen

if TYPE_CHECKING:
    from strataflow.generate.shop import Generated


@click.command(
    "generate",
    epilog="""\b
Examples:
  strataflow generate /tmp/shop                            20,000 customers, 200,000 orders, three years
  strataflow generate /tmp/shop --size L                   20,000,000 orders, 40,000,000 interactions
  strataflow generate /tmp/shop --size L --days 110        the same days and customers, a tenth of the history
  strataflow generate /tmp/shop --level lines --format csv.gz --dirt 0.02
""",
)
@click.argument("target", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--size",
    type=click.Choice(["S", "M", "L"]),
    default="S",
    show_default=True,
    help="Customers and daily volume: S has 20,000 and about 182 orders a day, M ten times, L a hundred times that.",
)
@click.option("--days", type=int, default=1096, show_default=True, help="Length of the history in days.")
@click.option(
    "--start", type=click.DateTime(["%Y-%m-%d"]), metavar="YYYY-MM-DD", help="First day.  [default: 2023-01-01]"
)
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed gives the same bytes.")
@click.option("--customers", type=int, help="Number of customers instead of the size's.")
@click.option("--orders", type=int, help="Orders in the whole history instead of the size's.")
@click.option("--interactions", type=int, help="Interactions in the whole history; 0 makes an orders-only shop.")
@click.option(
    "--level",
    type=click.Choice(["orders", "lines"]),
    default="orders",
    show_default=True,
    help="One row per order, or baskets of products with planted affinities.",
)
@click.option(
    "--format",
    "file_format",
    type=click.Choice(["parquet", "csv", "csv.gz"]),
    default="parquet",
    show_default=True,
    help="Format of the files.",
)
@click.option("--dirt", type=float, default=0.002, show_default=True, help="Broken rows per good row, 0 to 0.2.")
@click.option("--founders", type=float, help="Share of customers registered before the first day.")
@click.option("--time-zone", default="Asia/Shanghai", show_default=True, help="Zone of the shop's business day.")
@click.option("--currency", default="CNY", show_default=True, help="Currency of all amounts.")
@click.option("--threads", type=int, help="Worker threads; they don't change the bytes.  [default: one per core]")
@click.pass_obj
def generate_command(obj: dict[str, Any] | None, target: Path, start: datetime | None, **parameters: Any) -> None:
    """Make up a realistic shop of any size.

    Writes TARGET/sources, TARGET/data (daily files as received) and TARGET/truth (what was planted).
    """
    from strataflow.generate import generate

    obj = obj or {}
    screen: Screen = obj.get("screen") or Screen()
    screen.quiet = bool(obj.get("quiet"))
    with screen.progress() as progress:
        first = None if start is None else start.date()
        generated = generate(target, start=first, progress=progress, **parameters)
    document = {"ok": True, "command": "generate", "target": str(generated.target), **generated.as_dict()}
    screen.result(document, lambda console: console.print(_told(generated), highlight=False, soft_wrap=True))


def _told(generated: Generated) -> str:
    """The result in words."""
    plan, target = generated.plan, generated.target
    last_day = date.fromordinal(plan.start.toordinal() + plan.days - 1)
    lines = [f"{target}: {plan.customers:,} customers over {plan.days:,} days"]
    for name, table in generated.tables.items():
        refused = f", {table['refused_rows']:,} of them to be refused" if table["refused_rows"] else ""
        lines.append(f"  {table['rows']:>12,}  {name} in {table['files']:,} files{refused}")
    lines.append(
        f"Run it: strataflow run --from {plan.start} --date {last_day} --sources {target / 'sources'} --home DIR"
    )
    return "\n".join(lines)
