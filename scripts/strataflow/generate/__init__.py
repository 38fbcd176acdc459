"""A shop that never was, of any size, with the truth about it written beside the data.

Scoring a churn model, a basket rule or a landing needs answers that real data
never gives: who has really left, which products really belong together, which
rows really are broken. Measuring speed needs sizes no real data set at hand
has. So this package draws both from a seed: daily source files as a shop would
deliver them, and the truth that was planted.

Equal parameters and an equal seed give equal bytes, whatever the number of
threads (see ``randomness`` for how). Everything heavy is imported on call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from strataflow.generate.command import generate_command

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import date
    from pathlib import Path

    from strataflow.generate.shop import Generated

__all__ = ["generate", "generate_command"]


def generate(  # noqa: PLR0913  a shop has this many sides, and each has a default
    target: Path,
    *,
    size: str = "S",
    customers: int | None = None,
    orders: int | None = None,
    interactions: int | None = None,
    days: int = 1096,
    start: date | None = None,
    seed: int = 1,
    level: str = "orders",
    file_format: str = "parquet",
    dirt: float = 0.002,
    founders: float | None = None,
    time_zone: str = "Asia/Shanghai",
    currency: str = "CNY",
    threads: int | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Generated:
    """Write a generated shop into ``target``: ``sources/``, ``data/`` and ``truth/``.

    Args:
        target: folder to write to; must be absent or empty.
        size: ``S``, ``M`` or ``L``: customers and a daily volume (see ``plan.SIZES``).
        customers: number of customers instead of the size's.
        orders: orders in the whole history instead of the size's daily volume times ``days``.
        interactions: interactions in the whole history, likewise; 0 makes an orders-only shop.
        days: length of the history in days; a size keeps its daily volume whatever the length.
        start: first business day; 2023-01-01 if not given.
        seed: any whole number from 0; the same seed gives the same bytes.
        level: ``orders`` (one row per order) or ``lines`` (baskets of products, with planted affinities).
        file_format: ``parquet``, ``csv`` or ``csv.gz``.
        dirt: broken rows added to orders and interactions, as a share of the good ones (0 to 0.2).
        founders: share of customers registered before the first day; follows from ``days`` if not given.
        time_zone: IANA zone of the shop's business day.
        currency: ISO 4217 code of all amounts.
        threads: worker threads; as many as the machine has cores if not given. Does not change the bytes.
        progress: called as ``progress(step, done, total)``.

    Returns:
        What was written: counts by table and kind, and where it lies.

    Raises:
        UsageError: a parameter is out of range, the numbers can't be met together, or ``target`` isn't empty.
    """
    from strataflow.generate.plan import make_plan
    from strataflow.generate.shop import write_shop

    plan = make_plan(
        size=size,
        customers=customers,
        orders=orders,
        interactions=interactions,
        days=days,
        start=start,
        seed=seed,
        level=level,
        file_format=file_format,
        dirt=dirt,
        founders=founders,
        time_zone=time_zone,
        currency=currency,
    )
    return write_shop(target, plan, threads=threads, progress=progress)
