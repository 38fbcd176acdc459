"""The order in which a benchmark measures, and the result it keeps."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import proofs
from bench.database import followed
from bench.largefile import land_large_file
from bench.lower_bound import Floor
from bench.measure import bytes_on_disk
from bench.overhead import overhead
from bench.pipeline import COMMAND, Pipeline
from bench.prediction import prediction
from bench.rivals import race
from bench.shops import GeneratedShop, Size, growth_pair, prepare, whole_history

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MONDAY = 1
PARTS = (
    "days",
    "training",
    "postgres",
    "growth",
    "rfm",
    "overhead",
    "large",
    "worlds",
    "causes",
    "backfill",
    "prediction",
)
# At M and L the fixed cost of a day drowns in the data, and what is measured of it at S holds for them too.
# The proofs (worlds, causes, backfill) have shops of their own, so once is enough.
PARTS_OF_SIZE = {
    "XS": ("days", "training", "growth", "rfm"),
    "S": ("days", "training", "postgres", "growth", "rfm", "overhead", "worlds", "causes", "backfill"),
    "M": ("days", "training", "postgres", "growth", "rfm", "prediction"),
    "L": ("days", "training", "postgres", "growth", "rfm", "large", "prediction"),
}
GIB = 1 << 30
LARGE_FILE = {"file_bytes": GIB, "limit_bytes": GIB, "duckdb_bytes": 400 << 20}


@dataclass(frozen=True)
class Suite:
    """One run of the benchmark.

    Attributes:
        work: where homes and whatever the floor and the rivals write go; shops in it are used again.
        shop: an already generated shop to measure on instead, never written to.
        say: takes a line of progress.
    """

    size: Size
    work: Path
    shop: Path | None
    say: Callable[[str], None]

    @property
    def log(self) -> Path:
        """What all measured processes print."""
        return self.work / "bench.log"

    def run(self, parts: Sequence[str]) -> dict[str, Any]:
        """Measure ``parts`` (of :data:`PARTS`) and return what was found, by part."""
        self.work.mkdir(parents=True, exist_ok=True)
        self.log.unlink(missing_ok=True)
        found: dict[str, Any] = {}
        if {"days", "training", "overhead"} & set(parts):
            found |= self._days(parts)
        if "postgres" in parts:
            self.say("A PostgreSQL follows the one more day")
            found["postgres"] = followed(COMMAND, self.work / "home", self._emptied("postgres"), self.log)
        if "growth" in parts:
            found["growth"] = self._growth()
        if "rfm" in parts:
            self.say(f"RFM: {self.size.rfm_rows:,} order rows")
            found["rfm"] = race(self.size, self._emptied("rfm", keeping="orders-"), self.log)
        if "large" in parts:
            self.say("Large file: 1 GiB of CSV under 1 GiB of memory")
            found["large file"] = land_large_file(self._emptied("large", keeping="shop-"), self.log, **LARGE_FILE)
        if "prediction" in parts:
            self.say(f"Prediction: fit, training and scoring of {self.size.predicted_customers:,} customers")
            folder = self._emptied("prediction", keeping="orders-")
            found["prediction"] = prediction(self.size.predicted_customers, folder, self.log)
        return found | self._proofs(parts)

    def _proofs(self, parts: Sequence[str]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if "worlds" in parts:
            self.say(f"{proofs.WORLDS} random shops, each replayed in any order and from an empty home")
            found["worlds"] = proofs.worlds(self.work, self.log)
        if "causes" in parts:
            self.say(f"Why the households of Complete Journey moved, on its last {proofs.JOURNEY_DAYS} days")
            found["causes"] = proofs.causes(self.work, self.log)
        if "backfill" in parts:
            self.say(f"A backfill of {proofs.BACKFILL_DAYS} days through Airflow")
            found["backfill"] = proofs.backfill(self.work, self.log)
        return found

    def _days(self, parts: Sequence[str]) -> dict[str, Any]:
        shop, generated = self._shop()
        floor = Floor(shop, self.work / "floor", self.log)
        pipeline = Pipeline(shop, self._emptied("home"), self.log)
        self.say(f"First run: {shop.first} to {shop.eve}")
        steps = pipeline.day(shop.eve, since=shop.first)
        first = {
            "steps": steps,
            "layers": pipeline.layers(),
            "rows": pipeline.rows(shop.eve),
            "on_disk": pipeline.on_disk(),
        }
        self.say("  its floor")
        first["floor"] = {"land": floor.land(), "tables": floor.tables(pipeline.home / "lake", shop.eve)}
        eve = pipeline.copied_to(self.work / "home-eve")
        self.say(f"One more day: {shop.last}")
        day = {
            "steps": pipeline.day(shop.last),
            "layers": pipeline.layers(),
            "rows": pipeline.rows(shop.last),
            "on_disk": pipeline.on_disk(),
        }
        self.say("  its floor")
        day["floor"] = {"land": floor.land(shop.last), "tables": floor.tables(pipeline.home / "lake", shop.last)}
        found: dict[str, Any] = {
            "shop": {
                "parameters": shop.parameters,
                "generate": generated.as_dict() if generated else None,
                "bytes_on_disk": bytes_on_disk(shop.folder / "data"),
            },
            "first": first,
            "day": day,
            "floor check": {
                "rows_that_differ": floor.differences(pipeline.published(shop.last)),
                "rows": floor.rows(),
                "rows_published": day["rows"],
            },
        }
        if "training" in parts:
            self.say("The same day, had it been a training day")
            found["training"] = self._training(eve.copied_to(self.work / "home-training"), day["steps"]["build"])
        if "overhead" in parts:
            self.say("The same day as one command, and through a running Airflow")
            found["overhead"] = overhead(eve, self.work)
        return found

    def _shop(self) -> tuple[GeneratedShop, Any]:
        if self.shop:
            shop, generated = GeneratedShop.at(self.shop), None
        else:
            self.say(f"Generating the shop of size {self.size.name}")
            shop, generated = prepare(COMMAND, self.work / f"shop-{self.size.name}", whole_history(self.size), self.log)
        _refuse_training_day(shop)
        return shop, generated

    def _training(self, eve: Pipeline, usual: dict[str, Any]) -> dict[str, Any]:
        """The build of the one more day where the week's model and insights are missing, as they are on a Monday."""
        shutil.rmtree(eve.home / "models")
        shutil.rmtree(eve.home / "state" / "insights")
        eve.land(eve.shop.last)
        build = eve.build(eve.shop.last)
        extra = {name: round(build[name] - usual[name], 3) for name in ("seconds", "cpu_seconds")}
        return {"build": build, "extra": extra}

    def _growth(self) -> dict[str, Any]:
        """The one more day of two shops that differ in the length of their history alone."""
        found: dict[str, Any] = {}
        for name, options in growth_pair(self.size).items():
            shop, _ = prepare(COMMAND, self.work / f"shop-{self.size.name}-{name}", options, self.log)
            pipeline = Pipeline(shop, self._emptied(f"home-{name}"), self.log)
            self.say(f"Growth, {options['days']} days: {shop.first} to {shop.eve}")
            pipeline.day(shop.eve, since=shop.first)
            self.say("  one more day")
            steps = pipeline.day(shop.last)
            found[name] = {"days": int(options["days"]), "steps": steps, "rows": pipeline.rows(shop.last)}
        return found

    def _emptied(self, name: str, keeping: str | None = None) -> Path:
        """A folder below ``work`` without what an earlier run left, but for entries that begin with ``keeping``."""
        folder = self.work / name
        folder.mkdir(parents=True, exist_ok=True)
        for entry in folder.iterdir():
            if keeping and entry.name.startswith(keeping):
                continue
            if entry.is_dir():
                shutil.rmtree(entry)
            else:
                entry.unlink()
        return folder


def _refuse_training_day(shop: GeneratedShop) -> None:
    """The usual day is what has to be measured; what training adds is told apart."""
    if shop.last.isoweekday() == MONDAY:
        raise SystemExit(f"{shop.last} is a Monday, which trains; take a shop whose last day is another weekday")
