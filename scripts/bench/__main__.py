"""``python -m bench --size S|M|L``, which is what ``make bench`` calls."""

from __future__ import annotations

import json
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench import environment, report
from bench.comparison import compared
from bench.pipeline import use_this_checkout
from bench.shops import SIZES, Size
from bench.suite import PARTS, PARTS_OF_SIZE, Suite
from bench.targets import verdicts

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).parents[2]
RESULTS = Path("docs") / "bench"
SCHEMA_VERSION = 1


def measure(
    size: Size, work: Path, results: Path, *, shop: Path | None = None, parts: Sequence[str] | None = None
) -> dict[str, Any]:
    """Run the benchmark and write ``<size>.json``, ``<size>.md`` and ``<size>.svg`` to ``results``.

    Args:
        work: folder for everything written on the way; give it again and its shops are used again.
        shop: an already generated shop to measure on.
        parts: which of :data:`bench.suite.PARTS`; all that belong to the size by default. Some alone take their
            place in the result that ``results`` holds, which says of each when it was measured.

    Raises:
        ClickException: the floor's numbers are not the pipeline's; the results are written all the same.
        CommandFailed: something measured ended with an error.
    """
    use_this_checkout()
    started, before = time.monotonic(), environment.load()
    about = {
        "schema_version": SCHEMA_VERSION,
        "size": size.name,
        "date": str(datetime.now(UTC).date()),
        "commit": environment.commit(ROOT),
        "machine": environment.machine(),
        "versions": environment.versions(),
    }
    suite = Suite(size, work.resolve(), shop.resolve() if shop else None, click.echo)
    measured = suite.run(parts or PARTS_OF_SIZE[size.name])
    minutes = round((time.monotonic() - started) / 60, 2)
    kept = results / f"{size.name}.json"
    if parts and kept.is_file():
        found = json.loads(kept.read_text(encoding="utf-8")) | measured
        again = {"date": about["date"], "commit": about["commit"], "minutes": minutes}
        found["measured_again"] = found.get("measured_again", {}) | dict.fromkeys(measured, again)
    else:
        found = about | measured | {"load": [before, environment.load()], "minutes": minutes}
    judged = verdicts(found)
    found["targets"] = [verdict.as_dict() for verdict in judged]
    last = environment.committed(ROOT, f"{RESULTS}/{size.name}.json")
    if last:
        found["compared_with"] = compared(found, json.loads(last))
    results.mkdir(parents=True, exist_ok=True)
    (results / f"{size.name}.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (results / f"{size.name}.md").write_text(report.page(found, judged), encoding="utf-8")
    drawing = report.chart(found)
    if drawing:
        (results / f"{size.name}.svg").write_text(drawing, encoding="utf-8")
    click.echo(report.told(found, judged))
    _refuse_other_work(found)
    return found


def _refuse_other_work(found: dict[str, Any]) -> None:
    """A ratio to a floor that computes something else would mean nothing."""
    differing = {
        **found.get("floor check", {}).get("rows_that_differ", {}),
        "RFM scores": found.get("rfm", {}).get("customers_scored_differently", 0),
    }
    wrong = [f"{name}: {rows} rows" for name, rows in differing.items() if rows]
    if wrong:
        raise click.ClickException(f"the plain SQL gives other numbers than the pipeline ({', '.join(wrong)})")


@click.command()
@click.option("--size", type=click.Choice(list(SIZES)), default="S", show_default=True)
@click.option(
    "--work", type=click.Path(file_okay=False, path_type=Path), help="Keep everything here, use its shops again."
)
@click.option("--shop", type=click.Path(exists=True, path_type=Path), help="An already generated shop to measure on.")
@click.option("--parts", multiple=True, type=click.Choice(PARTS), help="Only these.  [default: what the size has]")
@click.option("--results", type=click.Path(file_okay=False, path_type=Path), default=ROOT / RESULTS)
def main(size: str, work: Path | None, shop: Path | None, parts: tuple[str, ...], results: Path) -> None:
    """Measure what a day costs, against its floor and against what a user would pick instead."""
    if work is not None:
        measure(SIZES[size], work, results, shop=shop, parts=parts)
        return
    with tempfile.TemporaryDirectory(prefix="strataflow-bench-") as folder:
        measure(SIZES[size], Path(folder), results, shop=shop, parts=parts)


if __name__ == "__main__":
    main()
