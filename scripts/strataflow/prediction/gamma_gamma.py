"""What an order of a customer is worth, from how many they placed and their mean value.

Gamma-Gamma model of spend (Fader, Hardie: "The Gamma-Gamma Model of Monetary Value",
2013): orders of a customer scatter around a mean of their own, the means scatter over
the shop. A customer with few orders is drawn towards the shop, one with many stays
where their own orders put them.
"""

from __future__ import annotations

import numpy as np
from scipy.special import digamma, gammaln

from strataflow.prediction.likelihood import Fit, maximise

MIN_CUSTOMERS = 20

# The model assumes that how often and how much are unrelated; beyond this correlation it is not.
MAX_CORRELATION = 0.5


def fit(orders: np.ndarray, mean_value: np.ndarray, weight: np.ndarray | None = None) -> Fit:
    """Maximum-likelihood p, q, gamma over customers with at least one order to average.

    Args:
        orders: how many orders each customer's mean is taken over.
        mean_value: mean value of those orders, in the shop's currency.
        weight: customers each entry stands for; 1 without it.

    Entries without orders or without a positive finite value are left out.
    """
    orders, value = np.asarray(orders, dtype=float), np.asarray(mean_value, dtype=float)
    weights = np.ones(len(orders)) if weight is None else np.asarray(weight, dtype=float)
    usable = (orders > 0) & np.isfinite(value) & (value > 0)
    orders, value, weights = orders[usable], value[usable], weights[usable]
    names = ("p", "q", "gamma")
    if weights.sum() < MIN_CUSTOMERS:
        problem = f"{weights.sum():.0f} customers with an order value, {MIN_CUSTOMERS} are needed"
        return Fit("gamma_gamma", {}, float("nan"), int(weights.sum()), (problem,))
    # In units of the mean value gamma is of order 1 in any currency.
    unit = float(np.average(value, weights=weights))
    found, height, problems = maximise(
        _Surface(orders, value / unit, weights).at, names, ((1.0, 3.0, 2.0), (5.0, 5.0, 0.5)), weights.sum()
    )
    found["gamma"] *= unit
    height -= float(weights.sum() * np.log(unit))
    return Fit(
        "gamma_gamma", found, height, int(weights.sum()),
        (*problems, *_doubts(found, correlation(orders, value, weights))),
    )  # fmt: skip


def expected_value(fit: Fit, orders: np.ndarray, mean_value: np.ndarray) -> np.ndarray:
    """E[value of an order | orders, their mean], elementwise; the shop's mean where there are no orders."""
    p, q, gamma = (fit.parameters[name] for name in ("p", "q", "gamma"))
    orders = np.asarray(orders, dtype=float)
    spent = np.where(orders > 0, np.nan_to_num(np.asarray(mean_value, dtype=float)) * orders, 0.0)
    # Without an order the formula is the shop's mean p gamma / (q - 1), without the shrinking of others.
    return p * (gamma + spent) / (p * orders + q - 1)


def correlation(orders: np.ndarray, value: np.ndarray, weight: np.ndarray) -> float:
    """Weighted correlation of how often and how much; 0 where one of them does not vary."""
    x, m = orders - np.average(orders, weights=weight), value - np.average(value, weights=weight)
    spread = np.sqrt(np.average(x * x, weights=weight) * np.average(m * m, weights=weight))
    return float(np.average(x * m, weights=weight) / spread) if spread > 0 else 0.0


def _doubts(found: dict[str, float], together: float) -> list[str]:
    doubts = []
    if found["q"] <= 1:
        doubts.append(f"q is {found['q']:.3f}: the shop's mean order value is not finite")
    if abs(together) > MAX_CORRELATION:
        doubts.append(f"order count and order value are correlated ({together:.2f})")
    return doubts


class _Surface:
    """Log-likelihood and gradient; what depends on the order count alone is computed once per count."""

    def __init__(self, orders: np.ndarray, value: np.ndarray, weight: np.ndarray) -> None:
        self.counts, self.count_of = np.unique(orders, return_inverse=True)
        self.weight, self.spent = weight, orders * value
        self.per_count = np.bincount(self.count_of, weight)
        self.log_spent = np.bincount(self.count_of, weight * np.log(self.spent))
        self.log_value = float(weight @ np.log(value))

    def at(self, parameters: np.ndarray) -> tuple[float, np.ndarray]:
        """Log-likelihood and its derivatives by p, q, gamma."""
        p, q, gamma = parameters
        px = p * self.counts
        logs = np.log(gamma + self.spent)
        by_count = np.bincount(self.count_of, self.weight * logs)
        total = self.weight.sum()
        height = (
            self.per_count @ (gammaln(px + q) - gammaln(px) - gammaln(q) + q * np.log(gamma))
            + self.log_spent @ px
            - self.log_value
            - by_count @ (px + q)
        )
        inverse = np.bincount(self.count_of, self.weight / (gamma + self.spent))
        d_p = (self.per_count * self.counts) @ (digamma(px + q) - digamma(px)) + (
            self.counts @ (self.log_spent - by_count)
        )
        d_q = self.per_count @ digamma(px + q) - total * (digamma(q) - np.log(gamma)) - by_count.sum()
        d_gamma = total * q / gamma - inverse @ (px + q)
        return float(height), np.array([d_p, d_q, d_gamma])
