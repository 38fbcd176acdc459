"""The targets, as ratios of figures of one run wherever they can be."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from bench.layers import TAGS

if TYPE_CHECKING:
    from collections.abc import Callable

Results = dict[str, Any]

# What a day is measured by; the page about it is told beside, because the floor has none.
COUNTED = ("land", "gate 1", "build", "gate 2", "publish")
GATES = ("gate 1", "gate 2")
GIB = 1 << 30


@dataclass(frozen=True)
class Verdict:
    """One target and what was found.

    ``is_met`` is None where the target is set for another size: the figure is for information there.
    """

    target: str
    limit: str
    found: float
    unit: str
    is_met: bool | None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"found": round(self.found, 3)}


@dataclass(frozen=True)
class Target:
    """A limit for a figure at one size (``size`` None: at every size that has the figure)."""

    name: str
    figure: Callable[[Results], float]
    limit: float
    unit: str
    size: tuple[str, ...]
    at_least: bool = False

    def judge(self, results: Results) -> Verdict | None:
        """What was found; None where the run did not measure it."""
        try:
            found = self.figure(results)
        except KeyError:
            return None
        holds = found >= self.limit if self.at_least else found <= self.limit
        words = f"{'at least' if self.at_least else 'at most'} {self.limit:g} {self.unit}"
        return Verdict(self.name, words, found, self.unit, holds if results["size"] in self.size else None)


def total(steps: dict[str, dict[str, float]], names: tuple[str, ...] = COUNTED) -> float:
    """Wall seconds of some steps together."""
    return sum(steps[name]["seconds"] for name in names)


def _floor(part: dict[str, Any]) -> float:
    return sum(step["seconds"] for step in part["floor"].values())


def _peak(results: Results) -> float:
    steps = [step for part in ("first", "day") for step in results[part]["steps"].values()]
    return max(step["peak_memory_bytes"] for step in steps) / GIB


def _scoring(results: Results, name: str) -> float:
    """Seconds of the whole process: start, imports, reading, scoring."""
    return results["rfm"]["by_name"][name]["seconds"]


TARGETS = (
    Target(
        "one more day : first run", lambda r: total(r["day"]["steps"]) / total(r["first"]["steps"]), 0.2, "×", ("L",)
    ),
    Target("one more day : its floor", lambda r: total(r["day"]["steps"]) / _floor(r["day"]), 2.5, "×", ("L",)),
    Target("first run : its floor", lambda r: total(r["first"]["steps"]) / _floor(r["first"]), 2, "×", ("L",)),
    Target("peak memory of any step", _peak, 8, "GiB", ("L",)),
    Target(
        "one more day, history ten times as long : a tenth",
        lambda r: total(r["growth"]["history"]["steps"]) / total(r["growth"]["tenth"]["steps"]),
        1.3, "×", ("S", "M", "L"),
    ),
    Target(
        "gates : one more day",
        lambda r: total(r["day"]["steps"], GATES) / total(r["day"]["steps"]), 0.15, "×", ("L",),
    ),
    Target(
        "building tags : the build of one more day",
        lambda r: r["day"]["layers"][TAGS] / r["day"]["steps"]["build"]["seconds"], 0.25, "×", ("L",),
    ),
    Target("a day into PostgreSQL", lambda r: r["postgres"]["client"]["seconds"], 60, "s", ("L",)),
    Target(
        "a day replaced in PostgreSQL", lambda r: r["postgres"]["replaced"]["client"]["seconds"], 60, "s", ("L",)
    ),
    Target("one more day as one command", lambda r: r["overhead"]["command line"]["seconds"], 20, "s", ("S",)),
    Target(
        "one more day in a running Airflow, trigger to published",
        lambda r: r["overhead"]["airflow"]["trigger_to_published_seconds"], 60, "s", ("S",),
    ),
    Target(
        "random shops replayed without a differing byte", lambda r: r["worlds"]["same"] / r["worlds"]["worlds"],
        1, "of them", ("S",), at_least=True,
    ),
    Target(
        "days of Complete Journey whose causes add up", lambda r: r["causes"]["add_up"] / r["causes"]["days"],
        1, "of them", ("S",), at_least=True,
    ),
    Target("a day of a backfill through Airflow", lambda r: r["backfill"]["seconds_per_day"], 12, "s", ("S",)),
    Target(
        "RFM, pymc-marketing : Strataflow's queries",
        lambda r: _scoring(r, "pymc-marketing") / _scoring(r, "Strataflow's queries"),
        5, "×", ("M", "L"), at_least=True,
    ),
    Target(
        "RFM, Strataflow's queries : plain DuckDB query",
        lambda r: _scoring(r, "Strataflow's queries") / _scoring(r, "plain DuckDB query"), 1.2, "×", ("M", "L"),
    ),
    Target("BG/NBD fitted, start to end", lambda r: r["prediction"]["bg_nbd"]["seconds"], 20, "s", ("L",)),
    Target("churn and lifetime value trained", lambda r: r["prediction"]["train"]["seconds"], 180, "s", ("L",)),
    Target(
        "churn and lifetime value trained, peak memory",
        lambda r: r["prediction"]["train"]["peak_memory_bytes"] / GIB, 6, "GiB", ("L",),
    ),
    Target("churn and lifetime value scored", lambda r: r["prediction"]["score"]["seconds"], 20, "s", ("L",)),
    Target(
        "1 GiB of CSV lands, peak memory", lambda r: r["large file"]["peak_memory_bytes"] / GIB, 1, "GiB",
        ("XS", "S", "M", "L"),
    ),
)  # fmt: skip


def verdicts(results: Results) -> list[Verdict]:
    """Every target that the run has a figure for."""
    return [verdict for target in TARGETS if (verdict := target.judge(results))]
