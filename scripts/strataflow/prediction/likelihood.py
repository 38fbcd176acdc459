"""Maximum likelihood for models with a handful of positive parameters.

The models of this package share one way of being fitted and one way of being
distrusted: on logarithms of the parameters, within bounds, and a fit that ends
at a bound is reported, because its numbers describe the bound and not the shop.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

LOWER, UPPER = 1e-5, 1e5
IMPOSSIBLE = 1e300


@dataclass(frozen=True)
class Fit:
    """Parameters found for one model.

    Attributes:
        model: name of the model.
        parameters: value by name, in the units of the data.
        log_likelihood: at the maximum.
        customers: how many customers were fitted.
        problems: why the fit should not be trusted, in words; empty for a sound fit.
    """

    model: str
    parameters: dict[str, float]
    log_likelihood: float
    customers: int
    problems: tuple[str, ...] = field(default=())

    @property
    def is_sound(self) -> bool:
        """Whether nothing speaks against using the fit."""
        return not self.problems


def maximise(
    gradient: Callable[[np.ndarray], tuple[float, np.ndarray]],
    names: tuple[str, ...],
    starts: tuple[tuple[float, ...], ...],
    customers: float,
) -> tuple[dict[str, float], float, tuple[str, ...]]:
    """Maximise a log-likelihood over positive parameters.

    Args:
        gradient: parameters -> (log-likelihood, its derivative by each parameter).
        names: parameter names, in the order of ``gradient``.
        starts: where to start from; the best end wins, the first on a tie.
        customers: what the log-likelihood is a sum over; the search looks at the mean,
            so that it ends as precisely for two million as for two thousand.

    Returns:
        parameters by name, the log-likelihood, and problems in words.
    """
    from scipy.optimize import minimize

    def negative(logs: np.ndarray) -> tuple[float, np.ndarray]:
        values = np.exp(logs)
        height, slope = gradient(values)
        if not np.isfinite(height):
            return IMPOSSIBLE, np.zeros_like(logs)
        return -height / customers, -slope * values / customers

    box = [(np.log(LOWER), np.log(UPPER))] * len(names)
    ends = [
        minimize(
            negative, np.log(start), jac=True, method="L-BFGS-B", bounds=box,
            options={"maxiter": 1000, "maxcor": 20, "ftol": 1e-14, "gtol": 1e-8},
        )
        for start in starts
    ]  # fmt: skip
    best = min(ends, key=lambda end: end.fun)
    found = dict(zip(names, np.exp(best.x).tolist(), strict=True))
    return found, float(-best.fun * customers), (*_problems(best, found),)


def _problems(end: object, found: dict[str, float]) -> list[str]:
    problems = []
    if not np.isfinite(end.fun) or end.fun >= IMPOSSIBLE:
        problems.append("the likelihood is not finite anywhere the search went")
    for name, value in found.items():
        if value < LOWER * 10 or value > UPPER / 10:
            problems.append(f"{name} ran to its bound ({value:.3g})")
    return problems
