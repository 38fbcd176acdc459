"""Random numbers that don't depend on who draws them first.

A single generator shared by threads would give every run another shop. Here
each piece of work (a table, a chunk of customers) has its own stream, found
from the seed and the name of the piece alone, and pieces have a fixed size.
So the number of threads decides how fast a shop is drawn, not which one.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

# Fixed, because the boundaries between chunks decide which stream draws what.
CUSTOMER_CHUNK = 50_000
EVENT_CHUNK = 1_000_000

Columns = dict[str, np.ndarray]


def stream(seed: int, *place: str | int) -> np.random.Generator:
    """The generator of one piece of work.

    Args:
        seed: the shop's seed.
        place: name and number of the piece, e.g. ``("orders", "repeat", 3)``.
    """
    key = tuple(zlib.crc32(part.encode()) if isinstance(part, str) else part for part in place)
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence(seed, spawn_key=key)))


def chunks(total: int, size: int) -> list[tuple[int, int, int]]:
    """``(number, first, end)`` of consecutive pieces of at most ``size`` that cover ``range(total)``."""
    return [(number, first, min(first + size, total)) for number, first in enumerate(range(0, total, size))]


def concatenated(parts: Iterable[Columns]) -> Columns:
    """Stack equally named columns of several parts, in the order given; needs at least one part."""
    parts = list(parts)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def sort_order(primary: np.ndarray) -> np.ndarray:
    """Positions that sort ``primary`` (whole numbers from 0 below 2**31), equal values in their old order.

    Sorting value and position packed into one integer is several times faster than a stable argsort.
    """
    positions = np.arange(len(primary), dtype=np.int64)
    packed = (primary.astype(np.int64) << 32) | positions
    packed.sort()
    return packed & 0xFFFFFFFF


def taken(columns: Columns, index: np.ndarray, pool: ThreadPoolExecutor) -> Columns:
    """All columns at ``index``, gathered in parallel."""
    return dict(zip(columns, pool.map(lambda name: columns[name].take(index), columns), strict=True))


def mapped(pool: ThreadPoolExecutor, work: Callable[..., Any], pieces: Sequence[Any]) -> list[Any]:
    """``work`` on each piece in parallel; results in the order of the pieces."""
    return list(pool.map(work, pieces))


def geometric_days(draw: np.random.Generator, count: int, mean: float, most: int) -> np.ndarray:
    """Whole days from 0, geometric with about this mean, none above ``most`` (int32)."""
    lengths = draw.standard_exponential(count) * mean
    return np.minimum(lengths, most).astype(np.int32)


def bernoulli(draw: np.random.Generator, count: int, share: float) -> np.ndarray:
    """Positions from ``range(count)``, each taken with probability ``share``, ascending."""
    return np.flatnonzero(draw.random(count, dtype=np.float32) < share)
