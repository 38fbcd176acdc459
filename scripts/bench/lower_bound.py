"""The floor: the work of a day as plain SQL, and whether it gives the numbers that the pipeline publishes."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.measure import bytes_on_disk, measured

if TYPE_CHECKING:
    from datetime import date

    from bench.shops import GeneratedShop

HERE = Path(__file__).parent / "floor"
SEEDS = Path(__file__).parents[2] / "dbt_project" / "seeds"
LANDED = ("orders", "interactions", "customers")
TABLES = {
    "segments_file": "customer_segments",
    "tags_file": "customer_tags",
    "explanations_file": "customer_explanations",
    "profile_file": "customer_profile",
    "coverage_file": "tag_coverage",
    "risk_file": "churn_risk",
    "list_file": "contact_list",
    "suppressed_file": "contact_suppressed",
    "value_file": "customer_lifetime_value",
    "cutoffs_file": "rfm_cutoffs",
    "card_file": "churn_model_card",
}
# Tables of the same rules on both sides. What a trained model decides can be compared only where none is in force.
DEFINED_ALIKE = (
    "customer_segments",
    "customer_tags",
    "customer_profile",
    "tag_coverage",
    "customer_explanations",
    "rfm_cutoffs",
)
ALIKE_WITHOUT_MODEL = ("churn_risk", "contact_list", "contact_suppressed")
OF_A_MODEL = {"customer_segments": "churn_probability"}


@dataclass(frozen=True)
class Floor:
    """Runs the floor's scripts on a generated shop; what they write lies in ``folder``."""

    shop: GeneratedShop
    folder: Path
    log: Path

    def land(self, day: date | None = None) -> dict[str, Any]:
        """Delivered files to typed Parquet, of one day or of the whole history, measured."""
        lake = self.folder / "lake"
        shutil.rmtree(lake, ignore_errors=True)
        lake.mkdir(parents=True)
        took = self._script(
            "land.sql",
            data=str(self.shop.folder / "data"),
            days=f"{day:%Y%m%d}" if day else "*",
            time_zone=str(self.shop.parameters["time_zone"]),
            currency=str(self.shop.parameters["currency"]),
            **{table: str(lake / table) for table in LANDED},
        )
        return took | {"bytes_on_disk": bytes_on_disk(lake)}

    def tables(self, lake: Path, day: date) -> dict[str, Any]:
        """Every published table of ``day`` from the pipeline's own lake, measured."""
        out = self.folder / "tables"
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        files = {name: str(self._file(table)) for name, table in TABLES.items()}
        took = self._script("tables.sql", lake=str(lake), day=str(day), seeds=str(SEEDS), **files)
        return took | {"bytes_on_disk": bytes_on_disk(out)}

    def differences(self, version: Path) -> dict[str, int]:
        """Rows of each table defined alike that only one side has: the floor's last run or a published version."""
        import duckdb

        found = {}
        with duckdb.connect() as connection:
            connection.execute("set enable_progress_bar = false")
            [(has_model,)] = connection.execute(
                f"select bool_or(is_used and candidate <> 'baseline') from {_published(version, 'churn_model_card')}"
            ).fetchall()
            for table in DEFINED_ALIKE if has_model else (*DEFINED_ALIKE, *ALIKE_WITHOUT_MODEL):
                columns = f"* exclude ({OF_A_MODEL[table]})" if has_model and table in OF_A_MODEL else "*"
                ours = f"select {columns} from read_parquet('{self._file(table)}')"
                theirs = f"select {columns} from {_published(version, table)}"
                [(found[table],)] = connection.execute(
                    f"select count(*) from (({ours} except all {theirs}) union all ({theirs} except all {ours}))"
                ).fetchall()
        return found

    def rows(self) -> dict[str, int]:
        """Rows of each table the floor's last run wrote."""
        from pyarrow import parquet

        return {table: parquet.read_metadata(self._file(table)).num_rows for table in TABLES.values()}

    def _file(self, table: str) -> Path:
        return self.folder / "tables" / f"{table}.parquet"

    def _script(self, name: str, **values: str) -> dict[str, Any]:
        given = [f"{key}={value}" for key, value in {**values, "spill": str(self.folder / "spill")}.items()]
        command = [sys.executable, "-m", "bench.sqlscript", str(HERE / name), *given]
        return measured(command, self.log).as_dict()


def _published(version: Path, table: str) -> str:
    return f"read_parquet('{version}/{table}/*/*.parquet', hive_partitioning = false)"
