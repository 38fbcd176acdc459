"""Shops made for a test: a folder with shop.yml, source descriptions and delivered files, and a home beside it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from textwrap import dedent

import duckdb

from strataflow.home import Home
from strataflow.landing import LandingReport, land
from strataflow.project import Project
from strataflow.sources import Sources, load_sources

PROJECT = Project.locate()

ORDERS = """
    name: orders
    table: orders
    description: Orders, a file per day.
    format:
      type: csv
    files:
      root: delivered
      path: orders_{date}.csv
    columns:
      order_id: order_id
      customer_id: customer_id
      ordered_at: ordered_at
      amount: amount
"""
CUSTOMERS_ONLY = """
    name: members
    table: customers
    description: All members as of now.
    format: {type: csv}
    files: {root: delivered, path: members.csv}
    columns: {customer_id: id, region: region}
"""
HEADER = "order_id,customer_id,ordered_at,amount\n"


@dataclass
class SmallShop:
    """A shop in a folder of its own."""

    folder: Path

    @property
    def home(self) -> Home:
        return Home(self.folder / "home")

    @property
    def delivered(self) -> Path:
        return self.folder / "sources" / "delivered"

    def describe(self, text: str, name: str | None = None) -> Path:
        """Write a source description; its file is named like the source."""
        text = dedent(text)
        named = name or next(line.split()[1] for line in text.splitlines() if line.startswith("name:"))
        path = self.folder / "sources" / f"{named}.yml"
        path.write_text(text, encoding="utf-8")
        return path

    def deliver(self, name: str, content: str | bytes) -> Path:
        path = self.delivered / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def sources(self) -> Sources:
        return load_sources(self.folder / "sources", PROJECT)

    def land(self, first: str, last: str | None = None, **options: object) -> LandingReport:
        return land(
            self.home,
            PROJECT,
            self.sources(),
            date.fromisoformat(first),
            date.fromisoformat(last or first),
            **options,
        )

    def landed(self, table: str, columns: str = "*", where: str = "true") -> list[tuple]:
        """Rows in the lake, in the order of days, sources, files and lines."""
        files = self.home.lake / table / "*" / "*.parquet"
        if not list(self.home.lake.glob(f"{table}/*/*.parquet")):
            return []
        return duckdb.sql(
            f"select {columns} from read_parquet('{files}', hive_partitioning = true) where {where}"
            " order by received_date, source, source_file, source_line"
        ).fetchall()

    def quarantined(self, columns: str = "source_line, reason_code, raw") -> list[tuple]:
        if not list(self.home.quarantine.glob("*/*.parquet")):
            return []
        return duckdb.sql(
            f"select {columns} from read_parquet('{self.home.quarantine}/*/*.parquet', hive_partitioning = true)"
            " order by received_date, source, source_file, source_line"
        ).fetchall()

    def manifest(self, source: str, day: str) -> dict:
        return json.loads(self.home.landing(source, date.fromisoformat(day)).read_text("utf-8"))

    def bytes_in_lake(self) -> dict[str, str]:
        """Digest of every file below the lake."""
        return {
            str(path.relative_to(self.home.lake)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(self.home.lake.rglob("*"))
            if path.is_file()
        }


def small_shop(folder: Path, *descriptions: str, time_zone: str = "UTC", currency: str = "EUR") -> SmallShop:
    """A shop with the given source descriptions and nothing delivered yet."""
    (folder / "sources").mkdir(parents=True)
    (folder / "sources" / "shop.yml").write_text(
        f"name: small shop\ntime_zone: {time_zone}\ncurrency: {currency}\n", encoding="utf-8"
    )
    shop = SmallShop(folder)
    shop.delivered.mkdir()
    for description in descriptions:
        shop.describe(description)
    return shop
