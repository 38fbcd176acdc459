"""The scorecard in a terminal: the last months of the figures that a whole shop is judged by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from strataflow.summary import table

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

MONTHS_SHOWN = 4
# What a person looks at first, of all customers together: metric, words, whether it is a share.
SHOWN = (
    ("customers", "customers", False),
    ("customer_base_growth", "  growth in the month", True),
    ("ecommerce_moved_up", "moved up the e-commerce ladder", True),
    ("ecommerce_moved_down", "moved down", True),
    ("ecommerce_reached_top", "reached its top", True),
    ("lifetime_value_mean", "lifetime value so far, mean", False),
    ("lifetime_value_growth", "  growth in the month", True),
    ("top20_revenue_share", "revenue share of the top 20%", True),
    ("top20_revenue_growth", "  growth in the month", True),
    ("retention", "buyers who ordered in the month", True),
    ("repeat_rate", "buyers with two orders or more", True),
)


def collect(folder: Path, manifest: dict[str, Any]) -> dict[str, Any]:
    """What is told of a published scorecard: where it lies, its months, and its figures of all customers.

    Returns:
        path, as_of, months, rows, currency, figures (month, metric, value, lower, upper) of segment
        ``all``, and classes: what each class earned in the month after it was assigned, against the mean.
    """
    import duckdb

    file = str(folder / "segmentation_scorecard.parquet")
    with duckdb.connect() as connection:
        figures = connection.execute(
            "select month, metric, value, lower, upper from read_parquet(?) where segment = 'all' order by all", [file]
        ).fetchall()
        classes = connection.execute(
            """
            select segment, avg(value) as mean_lift, count(*) as months from read_parquet(?)
            where metric = 'later_revenue_lift_1m' and segment <> 'all' and value is not null
            group by segment order by mean_lift desc, segment
            """,
            [file],
        ).fetchall()
    return {
        "path": str(folder),
        "as_of": manifest["as_of"],
        "currency": manifest["shop"]["currency"],
        "months": sorted({str(month) for month, *_ in figures}),
        "rows": manifest["rows"],
        "figures": [
            {"month": str(month), "metric": metric, "value": value, "lower": lower, "upper": upper}
            for month, metric, value, lower, upper in figures
        ],
        "classes": [
            {"rfm_class": name, "mean_lift": round(lift, 4), "months": months} for name, lift, months in classes
        ],
    }


def render(told: dict[str, Any], console: Console) -> None:
    """Print what :func:`collect` returned."""
    shown = told["months"][-MONTHS_SHOWN:]
    by_key = {(figure["month"], figure["metric"]): figure for figure in told["figures"]}
    grid = table(f"Scorecard as of {told['as_of']} (amounts in {told['currency']})")
    grid.add_column("of all customers")
    for month in shown:
        grid.add_column(month[:7], justify="right")
    grid.add_column("95% interval of the last", justify="right")
    for metric, words, is_share in SHOWN:
        figures = [by_key.get((month, metric)) for month in shown]
        grid.add_row(words, *(_figure(figure, is_share=is_share) for figure in figures), _interval(figures[-1]))
    console.print(grid)
    lifts = table("Does the class predict? Revenue in the month after, against the mean customer (1.00)")
    lifts.add_column("class")
    lifts.add_column("mean", justify="right")
    lifts.add_column("months", justify="right")
    for entry in told["classes"]:
        lifts.add_row(entry["rfm_class"], f"{entry['mean_lift']:.2f}", str(entry["months"]))
    console.print(lifts)
    line = f"All figures with their intervals: {told['path']}/segmentation_scorecard.csv"
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def _figure(figure: dict[str, Any] | None, *, is_share: bool) -> str:
    if figure is None or figure["value"] is None:
        return ""
    return f"{figure['value']:.1%}" if is_share else f"{figure['value']:,.0f}"


def _interval(figure: dict[str, Any] | None) -> str:
    return "" if figure is None or figure["lower"] is None else f"{figure['lower']:.1%} to {figure['upper']:.1%}"
