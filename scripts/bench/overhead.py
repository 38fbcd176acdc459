"""What a day costs where there is next to nothing to do: the daily run from the command line and from a scheduler."""

from __future__ import annotations

import json
import sys
import time
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.measure import measured

if TYPE_CHECKING:
    from bench.pipeline import Pipeline


def overhead(eve: Pipeline, work: Path) -> dict[str, Any]:
    """Run the one more day twice, each from the same state: as one command, and through a running Airflow.

    Args:
        eve: a home whose first run is published.
    """
    day = eve.shop.last
    command = eve.copied_to(work / "home-command").run(day)
    home = eve.copied_to(work / "home-airflow").home
    told = work / "airflow-day.json"
    arguments = [str(home), str(eve.shop.sources.resolve()), str(day), str(told)]
    whole = measured([sys.executable, "-m", "bench.overhead", *arguments], eve.log)
    return {"command line": command, "airflow": whole.as_dict() | json.loads(told.read_text(encoding="utf-8"))}


def main(home: str, sources: str, day: str, told: str) -> None:
    """In a process of its own: start Airflow, trigger the day, write the seconds to its result and end to ``told``."""
    from strataflow.embedded import Watch
    from strataflow.home import Home
    from strataflow.local_airflow import LocalAirflow
    from strataflow.project import Project

    place, asked = Home.at(home), date.fromisoformat(day)
    started = time.time()
    with LocalAirflow(place, Project.locate(), Path(sources), last_day=asked) as airflow:
        ready = time.time()
        Watch(airflow, print).day(asked)
        ended = time.time()
    published = (place.published / "days" / day).lstat().st_mtime
    if published < ready:
        raise SystemExit(f"{day} was published before it was triggered")
    seconds = {
        "start_seconds": round(ready - started, 3),
        "trigger_to_published_seconds": round(published - ready, 3),
        "trigger_to_end_seconds": round(ended - ready, 3),
    }
    Path(told).write_text(json.dumps(seconds), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
