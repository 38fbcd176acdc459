"""Published days written by hand: what history reads of a version, without a build before it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from strataflow.durable import json_text
from strataflow.history.causes import PublishedDay
from strataflow.home import Home
from strataflow.project import Project

RULES = {"high_score_at_least": 4, "activity_active_days": 30, "activity_silent_days": 90}
# Up to 30 days are recent, five orders and more frequent, more than 250 much: a score of 4 and 5.
CUTOFFS = {"recency": (7, 30, 90, 180), "frequency": (1, 2, 4, 8), "monetary": (50, 100, 250, 1000)}
MEASURES = tuple(CUTOFFS)
LANDED = {
    "source": "orders",
    "table": "orders",
    "received_date": "2000-01-01",
    "rows_landed": 0,
    "partition_sha256": "",
}
COLUMNS = pa.schema(
    {
        "customer_id": pa.string(), "as_of_date": pa.date32(), "last_activity_date": pa.date32(),
        "recency_days": pa.int32(), "frequency": pa.int64(), "monetary": pa.decimal128(18, 2),
        "recency_score": pa.int32(), "frequency_score": pa.int32(), "monetary_score": pa.int32(),
        "rfm_class": pa.string(), "value_tier": pa.string(), "ecommerce_stage": pa.string(),
        "high_ticket_stage": pa.string(), "activity_stage": pa.string(),
    }
)  # fmt: skip
CUTOFF_COLUMNS = pa.schema(
    {
        "measure": pa.string(), "high_rule": pa.string(), "mean_score": pa.decimal128(9, 6),
        "mean_value": pa.decimal128(18, 6), **{f"cutoff_{n}": pa.decimal128(18, 2) for n in (1, 2, 3, 4)},
    }
)  # fmt: skip


@dataclass
class HandDay:
    """A day as it is to be published.

    Attributes:
        customers: by id, the columns that matter; the rest stands still.
        cutoffs: four per measure, None where a method gives fewer.
        means: mean score and mean value per measure.
        rules: vars that the day is published with, beside :data:`RULES`.
    """

    day: date
    customers: Mapping[str, Mapping[str, Any]]
    cutoffs: Mapping[str, tuple] = field(default_factory=lambda: CUTOFFS)
    means: Mapping[str, tuple] = field(default_factory=lambda: dict.fromkeys(MEASURES, (3, 100)))
    high_rule: str = "score_at_least"
    rules: Mapping[str, Any] = field(default_factory=dict)

    @property
    def vars(self) -> dict[str, Any]:
        """All vars that the day is published with."""
        return {**RULES, **self.rules}

    def publish(self, home: Home) -> PublishedDay:
        """Write the version and lead the day to it, in a home in which something has landed."""
        landing = home.landing("orders", date(2000, 1, 1))
        landing.parent.mkdir(parents=True, exist_ok=True)
        landing.write_text(json.dumps(LANDED))
        content = hashlib.sha256(repr(self).encode()).hexdigest()[:12]
        path = home.published / "versions" / f"{self.day}-{content}"
        if not path.exists():
            self._write(path)
        link = home.published / "days" / str(self.day)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(f"../versions/{path.name}")
        return PublishedDay.at(self.day, path)

    def _write(self, path: Path) -> None:
        path.mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(self._segments(), COLUMNS), path / "customer_segments.parquet")
        pq.write_table(pa.Table.from_pylist(self._cutoffs(), CUTOFF_COLUMNS), path / "rfm_cutoffs.parquet")
        os.link(_seeds(path.parents[1]), path / "current.duckdb")
        manifest = {
            "as_of": str(self.day),
            "known_at": str(self.day),
            "rules_hash": "by hand",
            "code_version": "by hand",
            "rules": {"vars": json.loads(json_text(self.vars))},
            "shop": {"time_zone": "UTC", "currency": "USD"},
            "tables": {name: {"files": [{"path": f"{name}.parquet"}]} for name in ("customer_segments", "rfm_cutoffs")},
        }
        (path / "manifest.json").write_text(json.dumps(manifest))

    def _segments(self) -> list[dict[str, Any]]:
        still = {
            "as_of_date": self.day, "frequency": 0, "monetary": Decimal(0), "last_activity_date": self.day,
            "rfm_class": "no_orders", "value_tier": "low", "ecommerce_stage": "new",
            "high_ticket_stage": "stranger", "activity_stage": "active",
        }  # fmt: skip
        rows = []
        for who, given in sorted(self.customers.items()):
            row = {**still, "customer_id": who, **given}
            row["last_activity_date"] = self.day - timedelta(days=row.pop("silent_days", 0))
            row["monetary"] = Decimal(row["monetary"])
            rows.append(row)
        return rows

    def _cutoffs(self) -> list[dict[str, Any]]:
        return [
            {
                "measure": measure,
                "high_rule": self.high_rule,
                "mean_score": Decimal(str(self.means[measure][0])),
                "mean_value": Decimal(str(self.means[measure][1])),
                **{f"cutoff_{n}": None if cut is None else Decimal(cut) for n, cut in enumerate(cutoffs, 1)},
            }
            for measure, cutoffs in self.cutoffs.items()
        ]


def _seeds(folder: Path) -> Path:
    """The database with the seeds that every version carries, made once."""
    path = folder / "seeds.duckdb"
    if not path.is_file():
        with duckdb.connect(str(path)) as connection:
            for name in ("rfm_classes", "lifecycle_stages", "value_tiers"):
                seed = Project.locate().dbt / "seeds" / f"{name}.csv"
                connection.execute(f"create table {name} as from read_csv('{seed}', header = true)")
    return path
