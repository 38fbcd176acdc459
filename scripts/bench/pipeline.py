"""The pipeline's own steps, each as the process a user would start."""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.layers import seconds_by_layer
from bench.measure import bytes_on_disk, measured

if TYPE_CHECKING:
    from datetime import date

    from bench.shops import GeneratedShop

SCRIPTS = Path(__file__).parents[1]
COMMAND = [sys.executable, "-m", "strataflow.cli"]
PARTS = ("lake", "state", "models", "builds", "published")

Took = dict[str, dict[str, Any]]


def use_this_checkout() -> None:
    """Have every process started from here use the package and the rules beside this one, and no other home."""
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(SCRIPTS), os.environ.get("PYTHONPATH")]))
    os.environ["STRATAFLOW_PROJECT"] = str(SCRIPTS.parent)
    for name in ("STRATAFLOW_HOME", "STRATAFLOW_SOURCES"):
        os.environ.pop(name, None)


@dataclass(frozen=True)
class Pipeline:
    """One home that a generated shop is run on; ``log`` gets what the steps print."""

    shop: GeneratedShop
    home: Path
    log: Path

    def day(self, day: date, since: date | None = None) -> Took:
        """All steps of one day in their order, each measured.

        Args:
            since: land all days from here on, as the first run does.
        """
        landed = ["--from", str(since)] if since else []
        steps = {
            "land": self._cli("land", day, *landed),
            "gate 1": self._own("gate-1", str(day), str(since))
            if since
            else self._cli("validate", day, "--gate", "landed"),
            "build": self._cli("build", day),
            "gate 2": self._cli("validate", day, "--gate", "built"),
            "publish": self._cli("publish", day),
            "report": self._own("report", str(day)),
        }
        return {step: self._measured(command) for step, command in steps.items()}

    def build(self, day: date) -> dict[str, Any]:
        """The build of a day that has landed, measured."""
        return self._measured(self._cli("build", day))

    def land(self, day: date) -> dict[str, Any]:
        """The landing of one day, measured."""
        return self._measured(self.land_command(day))

    def land_command(self, day: date) -> list[str]:
        """The command that lands one day."""
        return self._cli("land", day)

    def run(self, day: date) -> dict[str, Any]:
        """The whole daily job in one process, as cron would start it, measured."""
        return self._measured(self._cli("run", day))

    def published(self, day: date) -> Path:
        """Folder of the version that readers of ``day`` see."""
        return (self.home / "published" / "days" / str(day)).resolve(strict=True)

    def rows(self, day: date) -> dict[str, int]:
        """Rows of each published table."""
        manifest = json.loads((self.published(day) / "manifest.json").read_text(encoding="utf-8"))
        return {name: table["rows"] for name, table in manifest["tables"].items()}

    def layers(self) -> dict[str, float]:
        """Seconds of the last build by layer of the dbt project."""
        return seconds_by_layer(self.home)

    def on_disk(self) -> dict[str, int]:
        """Bytes by part of the home."""
        return {part: bytes_on_disk(self.home / part) for part in PARTS}

    def copied_to(self, home: Path) -> Pipeline:
        """The same state of affairs in another home; files that are never written in place are shared with it."""
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        for entry in self.home.iterdir():
            if entry.is_dir() and entry.name not in ("scratch", "airflow"):
                # Files of these folders are never written in place: a new one takes the name, a link keeps the old.
                share = os.link if entry.name in PARTS else shutil.copy2
                shutil.copytree(entry, home / entry.name, symlinks=True, copy_function=share)
        return Pipeline(self.shop, home, self.log)

    def _cli(self, command: str, day: date, *options: str) -> list[str]:
        at = ["--home", str(self.home), "--sources", str(self.shop.sources)]
        return [*COMMAND, command, "--date", str(day), *options, *at, "--quiet"]

    def _own(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "bench.step", str(self.home), str(self.shop.sources), *arguments]

    def _measured(self, command: list[str]) -> dict[str, Any]:
        return measured(command, self.log).as_dict()
