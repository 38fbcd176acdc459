"""A model that is a sum: written to JSON, computed in SQL, explained term by term.

Every candidate of the churn training ends as log-odds = intercept + a coefficient times
a column + a step function of a column. The sum is rebuilt from a text file that a
person can read, so nothing is unpickled; it is computed by the database, so nothing
runs row by row; and a customer's own terms are the reasons for the result.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Steps:
    """A step function: ``values[i]`` up to and including ``thresholds[i]``, the last value beyond."""

    thresholds: tuple[float, ...]
    values: tuple[float, ...]

    def sql(self, column: str) -> str:
        """The function of ``column``, as nested CASE: a search tree, so that many steps cost little."""
        return self._between(column, 0, len(self.thresholds))

    def at(self, value: float) -> float:
        """The function at one value."""
        return self.values[bisect_left(self.thresholds, value)]

    def scaled(self, factor: float) -> Steps:
        """The function times ``factor``."""
        return Steps(self.thresholds, tuple(value * factor for value in self.values))

    def plus(self, other: Steps) -> Steps:
        """The sum of two step functions."""
        thresholds = sorted({*self.thresholds, *other.thresholds})
        points = [*thresholds, float("inf")]
        return Steps.simplest(thresholds, [self.at(point) + other.at(point) for point in points])

    @classmethod
    def simplest(cls, thresholds: Iterable[float], values: Iterable[float]) -> Steps:
        """Without the thresholds at which nothing changes."""
        values = list(values)
        kept = [(edge, values[i]) for i, edge in enumerate(thresholds) if values[i] != values[i + 1]]
        return cls(tuple(edge for edge, _ in kept), (*(value for _, value in kept), values[-1]))

    def _between(self, column: str, low: int, high: int) -> str:
        if low == high:
            return double_sql(self.values[low])
        middle = (low + high) // 2
        return (
            f"case when {column} <= {double_sql(self.thresholds[middle])} "
            f"then {self._between(column, low, middle)} else {self._between(column, middle + 1, high)} end"
        )


@dataclass(frozen=True)
class Additive:
    """log-odds = intercept + sum of ``linear`` coefficients times columns + sum of ``steps`` of columns."""

    intercept: float = 0.0
    linear: Mapping[str, float] = field(default_factory=dict)
    steps: Mapping[str, Steps] = field(default_factory=dict)

    @property
    def columns(self) -> list[str]:
        """Columns it reads, sorted."""
        return sorted({*self.linear, *self.steps})

    def term_sql(self, column: str) -> str:
        """What ``column`` adds to the log-odds."""
        parts = []
        if column in self.linear:
            parts.append(f"{double_sql(self.linear[column])} * {column}")
        if column in self.steps:
            parts.append(self.steps[column].sql(column))
        return "(" + " + ".join(parts or ["0e0"]) + ")"

    def log_odds_sql(self) -> str:
        """The log-odds as one SQL expression over the columns."""
        return " + ".join([double_sql(self.intercept), *(self.term_sql(column) for column in self.columns)])

    def scaled(self, slope: float, intercept: float = 0.0) -> Additive:
        """``intercept + slope * log-odds`` as a model of the same kind."""
        return Additive(
            intercept + slope * self.intercept,
            {column: slope * value for column, value in self.linear.items()},
            {column: steps.scaled(slope) for column, steps in self.steps.items()},
        )

    def plus(self, other: Additive) -> Additive:
        """The sum of the log-odds of two models."""
        linear, steps = dict(self.linear), dict(self.steps)
        for column, value in other.linear.items():
            linear[column] = linear.get(column, 0.0) + value
        for column, function in other.steps.items():
            steps[column] = steps[column].plus(function) if column in steps else function
        return Additive(self.intercept + other.intercept, linear, steps)

    def to_json(self) -> dict[str, Any]:
        """As a structure for JSON; :meth:`from_json` gives the equal model back."""
        return {
            "intercept": self.intercept,
            "linear": dict(sorted(self.linear.items())),
            "steps": {
                column: {"thresholds": list(function.thresholds), "values": list(function.values)}
                for column, function in sorted(self.steps.items())
            },
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Additive:
        """The model that :meth:`to_json` wrote."""
        return cls(
            float(content["intercept"]),
            {column: float(value) for column, value in content["linear"].items()},
            {
                column: Steps(tuple(map(float, function["thresholds"])), tuple(map(float, function["values"])))
                for column, function in content["steps"].items()
            },
        )


def probability_sql(log_odds: str) -> str:
    """A probability from log-odds, kept off 0 and 1, to six decimals as it is published."""
    return f"round(1e0 / (1e0 + exp(-least(greatest({log_odds}, -13e0), 13e0))), 6)"


def double_sql(value: float) -> str:
    """A double in SQL that reads back as the very same double."""
    text = repr(float(value))
    return f"({text})" if "e" in text else f"({text}e0)"
