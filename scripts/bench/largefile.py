"""One day in one large CSV file, landed under a memory limit that is far below the file's size."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, date, datetime, timedelta
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.measure import can_limit_memory, measured
from bench.pipeline import Pipeline
from bench.shops import GeneratedShop

if TYPE_CHECKING:
    from collections.abc import Iterator

DAY = date(2025, 12, 31)
ROWS_PER_PIECE = 100_000
CUSTOMERS = 500_000
ROWS_PER_NAMELESS = 5000
# After so many rows times and amounts repeat.
_SECONDS, _CENTS = 57_600, 50_000
DESCRIPTION = """\
name: orders
table: orders
description: Orders, a CSV file per day.
format: {type: csv}
files: {root: delivered, path: "orders_{date}.csv"}
columns:
  order_id: order_id
  customer_id: customer_id
  ordered_at: ordered_at
  status: status
  amount: amount
  channel: channel
"""


def write_shop(folder: Path, file_bytes: int) -> GeneratedShop:
    """A shop with one day of orders in one CSV file of about ``file_bytes``; the same bytes each time.

    Each :data:`ROWS_PER_NAMELESS`-th row names no customer and has to be refused: those are carried along as well.
    """
    (folder / "sources" / "delivered").mkdir(parents=True, exist_ok=True)
    shop_text = "name: large file\ntime_zone: Asia/Shanghai\ncurrency: CNY\n"
    (folder / "sources" / "shop.yml").write_text(shop_text, encoding="utf-8")
    (folder / "sources" / "orders.yml").write_text(DESCRIPTION, encoding="utf-8")
    path = folder / "sources" / "delivered" / f"orders_{DAY}.csv"
    if not path.exists() or abs(path.stat().st_size - file_bytes) > 64 * ROWS_PER_PIECE:
        with path.open("w", encoding="ascii", newline="") as file:
            file.write("order_id,customer_id,ordered_at,status,amount,channel\n")
            for piece in _pieces():
                if file.tell() >= file_bytes:
                    break
                file.write(piece)
    return GeneratedShop(folder, {"start": str(DAY), "days": 1})


def land_large_file(work: Path, log: Path, file_bytes: int, *, limit_bytes: int, duckdb_bytes: int) -> dict[str, Any]:
    """Land the day in a new home under ``limit_bytes`` of memory.

    The kernel enforces the limit where this user may set one: a process that needed more would be killed,
    and the benchmark with it. Elsewhere the peak is compared with it afterwards.

    Args:
        duckdb_bytes: what ``STRATAFLOW_MEMORY_LIMIT`` gives to DuckDB within the limit.

    Returns:
        What was measured, with ``file_bytes``, ``rows``, ``limit_bytes`` and ``is_enforced``.
    """
    shop = write_shop(work / f"shop-{file_bytes}", file_bytes)
    home = work / f"home-{file_bytes}"
    shutil.rmtree(home, ignore_errors=True)
    is_enforced = can_limit_memory()
    command = Pipeline(shop, home, log).land_command(DAY)
    limits = {"STRATAFLOW_MEMORY_LIMIT": f"{duckdb_bytes >> 20}MiB"}
    took = measured(command, log, environment=limits, memory_limit_bytes=limit_bytes if is_enforced else None)
    return took.as_dict() | {
        "file_bytes": (shop.sources / "delivered" / f"orders_{DAY}.csv").stat().st_size,
        "rows": _landed_rows(home),
        "limit_bytes": limit_bytes,
        "duckdb_bytes": duckdb_bytes,
        "is_enforced": is_enforced,
    }


def _landed_rows(home: Path) -> int:
    manifest = home / "lake" / "landings" / "orders" / f"{DAY}.json"
    return json.loads(manifest.read_text(encoding="utf-8"))["rows_landed"]


def _pieces() -> Iterator[str]:
    """Rows without end, in pieces of text; ids go on, the rest repeats with a long period."""
    midnight = datetime(DAY.year, DAY.month, DAY.day, tzinfo=UTC)
    # What repeats is written once: millions of rows take the time of their ids.
    times = [f"{midnight - timedelta(seconds=second):%Y-%m-%d %H:%M:%S}" for second in range(_SECONDS)]
    amounts = [f"{cents / 100 + 1:.2f}" for cents in range(_CENTS)]
    channels, statuses = cycle(("app", "web", "wechat", "shop")), cycle(("completed", "paid", "delivered"))
    first = 0
    while True:
        yield "".join(
            f"O{row:011d},{10_000_000 + row * 7919 % CUSTOMERS if row % ROWS_PER_NAMELESS else ''},"
            f"{times[row * 37 % _SECONDS]},{next(statuses)},{amounts[row * 104_729 % _CENTS]},{next(channels)}\n"
            for row in range(first, first + ROWS_PER_PIECE)
        )
        first += ROWS_PER_PIECE
