"""The generated shops a benchmark runs on, made once and taken up again by the next run."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from bench.measure import Measured, measured

if TYPE_CHECKING:
    from collections.abc import Mapping

SEED = 1
DAYS = 1096
LAST_DAY = date(2025, 12, 31)
TENTHS = 10


@dataclass(frozen=True)
class Size:
    """What ``SIZE`` stands for.

    Attributes:
        options: of ``strataflow generate``: customers and daily volume.
        rfm_rows: order rows that the rivals score.
        days: length of the history.
        rfm_runs: how often each rival scores them; the fastest counts.
        growth_customers: customers of the two shops that differ in the length of their history alone; a tenth of
            the size's, so that most have ordered within the short one, too.
        predicted_customers: customers whose orders prediction is measured on.
    """

    name: str
    options: Mapping[str, str]
    rfm_rows: int
    days: int = DAYS
    rfm_runs: int = 3
    growth_customers: int = 400
    predicted_customers: int = 2_000

    @property
    def first(self) -> date:
        """First day of the history; the last is the same for every length of it."""
        return LAST_DAY - timedelta(days=self.days - 1)


SIZES = {
    # For tests: too small to learn a churn model from, and for a limit on the share of refused rows.
    "XS": Size("XS", {"customers": "800", "orders": "6000", "interactions": "9000", "dirt": "0"}, 20_000, 120, 1),
    "S": Size("S", {"size": "S"}, 200_000, growth_customers=2_000),
    "M": Size("M", {"size": "M"}, 5_000_000, growth_customers=20_000, predicted_customers=200_000),
    "L": Size("L", {"size": "L"}, 5_000_000, growth_customers=200_000, predicted_customers=2_000_000),
}


@dataclass(frozen=True)
class GeneratedShop:
    """A generated shop on disk and the days of its history."""

    folder: Path
    parameters: Mapping[str, object]

    @classmethod
    def at(cls, folder: Path) -> GeneratedShop:
        """The shop that ``strataflow generate`` wrote to ``folder``."""
        told = json.loads((folder / "generated.json").read_text(encoding="utf-8"))
        return cls(folder, told["parameters"])

    @property
    def sources(self) -> Path:
        """What to give as ``--sources``."""
        return self.folder / "sources"

    @property
    def first(self) -> date:
        """First day received."""
        return date.fromisoformat(str(self.parameters["start"]))

    @property
    def last(self) -> date:
        """Last day received: the one more day."""
        return self.first + timedelta(days=int(str(self.parameters["days"])) - 1)

    @property
    def eve(self) -> date:
        """The day before the last: what the first run builds."""
        return self.last - timedelta(days=1)


def whole_history(size: Size) -> dict[str, str]:
    """Options of ``strataflow generate`` for the shop of ``size``."""
    return {**size.options, "days": str(size.days), "start": str(size.first), "seed": str(SEED)}


def growth_pair(size: Size) -> dict[str, dict[str, str]]:
    """Options of two shops of the same customers and volume a day: the whole ``history`` and its last ``tenth``.

    All customers are there from the first day on. Were there too many of them to order within
    the tenth, the long shop would have more customers to score and not only more history.
    """
    lengths = {"history": size.days, "tenth": round(size.days / TENTHS)}
    return {name: _of_length(size, days) for name, days in lengths.items()}


def _of_length(size: Size, days: int) -> dict[str, str]:
    # A size is customers and a volume per day; totals have to be cut to keep the volume.
    totals = {
        name: str(round(int(total) * days / size.days))
        for name, total in size.options.items()
        if name in ("orders", "interactions")
    }
    own = {"customers": str(size.growth_customers), "founders": "1", "seed": str(SEED)}
    return {**size.options, **totals, **own, "days": str(days), "start": str(LAST_DAY - timedelta(days=days - 1))}


def rfm_orders(size: Size) -> dict[str, str]:
    """A shop with the order rows that the rivals score, ten per customer, and nothing else."""
    rows = size.rfm_rows
    options = {"customers": str(rows // 10), "orders": str(rows), "interactions": "0"}
    return {**options, "days": str(DAYS), "start": "2023-01-01", "seed": str(SEED)}


def prepare(
    command: list[str], folder: Path, options: Mapping[str, str], log: Path
) -> tuple[GeneratedShop, Measured | None]:
    """The shop in ``folder``; generated now, and measured, unless one of these very options is there.

    Args:
        command: how ``strataflow`` is started.
    """
    wanted = folder.with_suffix(".options.json")
    text = json.dumps(options, sort_keys=True)
    is_there = (folder / "generated.json").is_file()
    if is_there and wanted.is_file() and wanted.read_text(encoding="utf-8") == text:
        return GeneratedShop.at(folder), None
    if is_there:
        shutil.rmtree(folder)
    given = [part for name, value in options.items() for part in (f"--{name}", value)]
    wanted.unlink(missing_ok=True)
    took = measured([*command, "generate", str(folder), *given], log)
    wanted.write_text(text, encoding="utf-8")
    return GeneratedShop.at(folder), took
