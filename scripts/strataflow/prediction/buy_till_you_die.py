"""How many orders to expect from a customer, from how often and how lately they ordered.

Three models of the same idea: a customer orders at random with a rate of their
own and, at some unseen moment, stops for good.

- BG/NBD: may stop after every repeat order (Fader, Hardie, Lee 2005).
- MBG/NBD: may stop after the first order already (Batislam, Denizel, Filiztekin 2007).
  BG/NBD takes every one-time buyer for alive; this one does not.
- Pareto/NBD: may stop at any moment (Schmittlein, Morrison, Colombo 1987, in the form
  of Fader and Hardie 2005).

A customer is ``x`` repeat orders, ``t_x`` the age at the last of them (0 without one),
``age`` the age now; ages count from the first order, all in one unit of time of the
caller's choice. Orders of one day count once. Customers of equal (x, t_x, age) are one
row with a weight: a likelihood needs no more.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import betaln, digamma, gammaln, hyp2f1

from strataflow.prediction.likelihood import Fit, maximise

MODELS = ("bg_nbd", "mbg_nbd", "pareto_nbd")

# Below this spread of P(alive) over the customers a fit says nothing about who is gone.
FLAT_SPREAD = 0.01

# With fewer customers who came back than this, rates can't be told apart.
MIN_REPEATERS = 10

# The textbook formulas divide by a parameter minus 1; closer than this they are taken from both sides.
NEAR_ONE = 1e-4

# Above this many distinct histories the search starts on ages rounded to this many steps.
COARSE_ABOVE, COARSE_STEPS = 50_000, 60


@dataclass(frozen=True)
class Histories:
    """Order histories as counts: arrays of equal length, one entry per distinct history.

    Attributes:
        x: repeat orders (whole numbers, 0 and up).
        t_x: age at the last repeat order; 0 where x is 0.
        age: age now, at least t_x.
        weight: customers with this history.
    """

    x: np.ndarray
    t_x: np.ndarray
    age: np.ndarray
    weight: np.ndarray

    @classmethod
    def of(cls, x: np.ndarray, t_x: np.ndarray, age: np.ndarray, weight: np.ndarray | None = None) -> Histories:
        """Count equal histories.

        Raises:
            ValueError: a value is missing or negative, or lies outside 0 <= t_x <= age.
        """
        table = np.column_stack([np.asarray(part, dtype=float) for part in (x, t_x, age)])
        weights = np.ones(len(table)) if weight is None else np.asarray(weight, dtype=float)
        if not np.isfinite(table).all() or (table < 0).any() or (table[:, 1] > table[:, 2]).any():
            raise ValueError("histories need x >= 0 and 0 <= t_x <= age, without missing values")
        order = np.lexsort(table.transpose()[::-1])
        table, weights = table[order], weights[order]
        first = np.ones(len(table), dtype=bool)
        first[1:] = (table[1:] != table[:-1]).any(axis=1)
        starts = np.flatnonzero(first)
        counts = np.add.reduceat(weights, starts) if len(table) else weights
        return cls(*table[starts].transpose(), counts)

    @property
    def customers(self) -> int:
        """How many customers the histories stand for."""
        return int(self.weight.sum())


def fit(model: str, histories: Histories) -> Fit:
    """Maximum-likelihood parameters of one of :data:`MODELS`.

    Returns:
        r, alpha and a, b (BG/NBD, MBG/NBD) or s, beta (Pareto/NBD); alpha and beta in
        the unit of time of ``histories``. ``problems`` tells of degenerate fits.

    Raises:
        ValueError: no such model.
    """
    names = _parameter_names(model)
    repeaters = float(histories.weight[histories.x > 0].sum())
    if repeaters < MIN_REPEATERS:
        problem = f"{repeaters:.0f} customers with a repeat order, {MIN_REPEATERS} are needed"
        return Fit(model, {}, float("nan"), histories.customers, (problem,))
    # In units of the mean age all parameters are of order 1, whatever the caller's unit.
    unit = float(np.average(histories.age, weights=histories.weight)) or 1.0
    scaled = replace(histories, t_x=histories.t_x / unit, age=histories.age / unit)
    starts = ((0.5, 0.3, 0.5, 1.0), (1.0, 1.0, 1.0, 3.0))
    if len(scaled.x) > COARSE_ABOVE:
        # Ages rounded to a grid lead near the top cheaply; the exact ages decide the last steps.
        rough, _, _ = maximise(_surface(model, _rounded(scaled)).at, names, starts, histories.customers)
        starts = (tuple(rough.values()),)
    found, height, problems = maximise(_surface(model, scaled).at, names, starts, histories.customers)
    moved = float((histories.x * histories.weight).sum() * np.log(unit))
    for name in {"alpha", "beta"} & set(found):
        found[name] *= unit
    result = Fit(model, found, height - moved, histories.customers, problems)
    return replace(result, problems=(*problems, *_flatness(result, histories)))


def probability_alive(fit: Fit, x: np.ndarray, t_x: np.ndarray, age: np.ndarray) -> np.ndarray:
    """P(the customer has not stopped by age | x, t_x, age), elementwise."""
    x, t_x, age = (np.asarray(part, dtype=float) for part in (x, t_x, age))
    value = fit.parameters
    if fit.model == "pareto_nbd":
        still, gone = _pareto_terms(value["r"], value["alpha"], value["s"], value["beta"], x, t_x, age)
        return np.exp(-np.logaddexp(0.0, gone - still))
    stay, leave = _leaving_odds(fit.model, value["a"], value["b"], x)
    with np.errstate(over="ignore", divide="ignore"):
        log_odds_gone = (
            np.log(leave) - np.log(stay) + (value["r"] + x) * np.log((value["alpha"] + age) / (value["alpha"] + t_x))
        )
        return 1.0 / (1.0 + np.exp(log_odds_gone))


def probability_of_order(fit: Fit, x: np.ndarray, t_x: np.ndarray, age: np.ndarray, horizon: float) -> np.ndarray:
    """P(at least one order in (age, age + horizon] | x, t_x, age) under BG/NBD or MBG/NBD.

    A customer who is alive can only stop by ordering, so none of their orders falls
    into the horizon exactly when their Poisson process, with the rate's posterior
    Gamma(r + x, alpha + age), stays silent.
    """
    x, t_x, age = (np.asarray(part, dtype=float) for part in (x, t_x, age))
    r, alpha = fit.parameters["r"], fit.parameters["alpha"]
    silent = np.exp((r + x) * np.log((alpha + age) / (alpha + age + horizon)))
    return probability_alive(fit, x, t_x, age) * (1.0 - silent)


def expected_orders(fit: Fit, x: np.ndarray, t_x: np.ndarray, age: np.ndarray, horizon: float) -> np.ndarray:
    """E[orders in (age, age + horizon] | x, t_x, age], elementwise; horizon in the unit of age."""
    x, t_x, age = (np.asarray(part, dtype=float) for part in (x, t_x, age))
    value = fit.parameters
    alive = probability_alive(fit, x, t_x, age)
    if fit.model == "pareto_nbd":
        r, alpha, s, beta = (value[name] for name in ("r", "alpha", "s", "beta"))
        rate = (r + x) / (alpha + age)
        return alive * rate * _discount_of_death(s, beta + age, horizon)
    return alive * _orders_if_alive(fit, x, age, horizon)


def expected_orders_of_new_customer(fit: Fit, horizon: float) -> float:
    """E[repeat orders in (0, horizon]] of a customer who has just placed the first order."""
    return float(expected_orders(fit, np.zeros(1), np.zeros(1), np.zeros(1), horizon)[0])


def _surface(model: str, histories: Histories) -> _Geometric | _Pareto:
    return _Pareto(histories) if model == "pareto_nbd" else _Geometric(histories, model)


def _rounded(histories: Histories) -> Histories:
    step = float(histories.age.max()) / COARSE_STEPS
    now = np.maximum(np.round(histories.age / step), 1) * step
    last = np.minimum(np.round(histories.t_x / step) * step, now)
    return Histories.of(histories.x, last, now, histories.weight)


def _parameter_names(model: str) -> tuple[str, ...]:
    if model not in MODELS:
        raise ValueError(f"no model {model!r}; there are {', '.join(MODELS)}")
    return ("r", "alpha", "s", "beta") if model == "pareto_nbd" else ("r", "alpha", "a", "b")


def _flatness(fit: Fit, histories: Histories) -> list[str]:
    """Problems seen in what the fit says rather than in its parameters."""
    alive = probability_alive(fit, histories.x, histories.t_x, histories.age)
    if not np.isfinite(alive).all():
        return ["P(alive) is not a number for some customers"]
    mean = np.average(alive, weights=histories.weight)
    spread = float(np.sqrt(np.average((alive - mean) ** 2, weights=histories.weight)))
    if spread < FLAT_SPREAD:
        return [f"P(alive) is flat: {mean:.3f} for everyone (standard deviation {spread:.4f})"]
    return []


def _discount_of_death(s: float, exposure: np.ndarray, horizon: float) -> np.ndarray:
    """Expected time alive within the horizon when the death rate is Gamma(s, exposure)."""
    growth = np.log1p(horizon / exposure)
    if abs(s - 1) < NEAR_ONE * NEAR_ONE:
        return exposure * growth
    return exposure * -np.expm1((1 - s) * growth) / (s - 1)


def _orders_if_alive(fit: Fit, x: np.ndarray, age: np.ndarray, horizon: float) -> np.ndarray:
    r, alpha, a, b = (fit.parameters[name] for name in ("r", "alpha", "a", "b"))
    if abs(a - 1) < NEAR_ONE:
        # The formula is 0/0 at a = 1 and smooth around it: take the middle of both sides.
        sides = [replace(fit, parameters={**fit.parameters, "a": 1 + side}) for side in (-2 * NEAR_ONE, 2 * NEAR_ONE)]
        return sum(_orders_if_alive(side, x, age, horizon) for side in sides) / 2
    # The modified model knows one more chance to stop: at the first order.
    b = b + 1 if fit.model == "mbg_nbd" else b
    z = horizon / (alpha + age + horizon)
    # Euler's transformation keeps the powers of the textbook form from overflowing at large x.
    series = hyp2f1(a + b - 1 - r, a - 1, a + b + x - 1, z)
    return (a + b + x - 1) / (a - 1) * (1 - np.exp((a - 1) * np.log1p(-z)) * series)


def _leaving_odds(model: str, a: float, b: float, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights of staying and of leaving right after the last order."""
    if model == "bg_nbd":
        return np.where(x > 0, b + x - 1, 1.0), np.where(x > 0, a, 0.0)
    return b + x, np.full_like(x, a)


class _Geometric:
    """Log-likelihood and gradient of BG/NBD and MBG/NBD.

    All special functions depend on x, t_x or age alone, so they are computed per
    distinct value; per history remain sums and two exponentials.
    """

    def __init__(self, histories: Histories, model: str) -> None:
        self.modified = model == "mbg_nbd"
        self.weight = histories.weight
        self.x_values, self.x_of = np.unique(histories.x, return_inverse=True)
        self.tx_values, self.tx_of = np.unique(histories.t_x, return_inverse=True)
        self.age_values, self.age_of = np.unique(histories.age, return_inverse=True)
        self.x = histories.x
        self.x_weight = np.bincount(self.x_of, self.weight)
        self.may_leave = np.ones(len(self.x)) if self.modified else (histories.x > 0).astype(float)

    def at(self, parameters: np.ndarray) -> tuple[float, np.ndarray]:
        """Log-likelihood and its derivatives by r, alpha, a, b."""
        r, alpha, a, b = parameters
        xs, weight = self.x_values, self.weight
        seen, per_seen = xs, self.x_weight
        shift = 1.0 if self.modified else 0.0
        base = gammaln(r + seen) - gammaln(r) + r * np.log(alpha) + betaln(a, b + seen + shift) - betaln(a, b)
        left = np.maximum(b + seen - 1 + shift, 1e-300)
        log_age, log_tx = np.log(alpha + self.age_values)[self.age_of], np.log(alpha + self.tx_values)[self.tx_of]
        power = r + self.x
        # odds of having left right after the last order against being alive at age
        gone = (np.log(a) - np.log(left))[self.x_of] + power * (log_age - log_tx)
        gone = self.may_leave * np.exp(np.minimum(gone, 700.0))
        height = float(per_seen @ base + weight @ (np.log1p(gone) - power * log_age))
        alive = weight / (1.0 + gone)
        dead = weight - alive
        by_x_dead = np.bincount(self.x_of, dead, minlength=len(xs))
        inverse_age, inverse_tx = 1 / (alpha + self.age_values), 1 / (alpha + self.tx_values)
        d_r = per_seen @ (digamma(r + seen) - digamma(r) + np.log(alpha)) - (alive @ log_age + dead @ log_tx)
        d_alpha = self.weight.sum() * r / alpha - (
            (alive * power) @ inverse_age[self.age_of] + (dead * power) @ inverse_tx[self.tx_of]
        )
        both = digamma(a + b) - digamma(a + b + seen + shift)
        d_a = per_seen @ both + by_x_dead.sum() / a
        d_b = per_seen @ (both + digamma(b + seen + shift) - digamma(b)) - by_x_dead @ (1 / left)
        return height, np.array([d_r, d_alpha, d_a, d_b])


class _Pareto:
    """Log-likelihood of Pareto/NBD with a gradient by central differences."""

    STEP = 1e-6

    def __init__(self, histories: Histories) -> None:
        self.histories = histories

    def at(self, parameters: np.ndarray) -> tuple[float, np.ndarray]:
        """Log-likelihood and its derivatives by r, alpha, s, beta."""
        slope = np.empty(4)
        for position, value in enumerate(parameters):
            step = value * self.STEP
            sides = []
            for sign in (1, -1):
                moved = parameters.copy()
                moved[position] += sign * step
                sides.append(self._height(moved))
            slope[position] = (sides[0] - sides[1]) / (2 * step)
        return self._height(parameters), slope

    def _height(self, parameters: np.ndarray) -> float:
        r, alpha, s, beta = parameters
        known = self.histories
        still, gone = _pareto_terms(r, alpha, s, beta, known.x, known.t_x, known.age)
        base = gammaln(r + known.x) - gammaln(r) + r * np.log(alpha) + s * np.log(beta)
        return float(known.weight @ (base + np.logaddexp(still, gone)))


def _pareto_terms(
    r: float, alpha: float, s: float, beta: float, x: np.ndarray, t_x: np.ndarray, age: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Logs of the two ways to the same history: alive at age, and died between t_x and age."""
    still = -(r + x) * np.log(alpha + age) - s * np.log(beta + age)
    wide, second = (alpha, s + 1 + 0 * x) if alpha >= beta else (beta, r + x)
    total = r + s + x

    def term(age: np.ndarray) -> np.ndarray:
        z = abs(alpha - beta) / (wide + age)
        # Euler's transformation of 2F1(total, second; total + 1; z)
        series = hyp2f1(1.0, total + 1 - second, total + 1, z)
        return (1 - second) * np.log1p(-z) + np.log(series) - total * np.log(wide + age)

    early, late = term(t_x), term(age)
    with np.errstate(divide="ignore", invalid="ignore"):
        gone = np.log(s / total) + early + np.log(-np.expm1(np.minimum(late - early, 0.0)))
    lost = ~np.isfinite(early) | ~np.isfinite(late)
    if lost.any():
        # The library's series gives up on some extreme histories: integrate over the moment of stopping.
        gone[lost] = _stopping_integral(r, alpha, s, beta, x[lost], t_x[lost], age[lost])
    return still, gone


def _stopping_integral(
    r: float, alpha: float, s: float, beta: float, x: np.ndarray, t_x: np.ndarray, age: np.ndarray
) -> np.ndarray:
    """Log of s times the integral of (alpha + y)^-(r + x) (beta + y)^-(s + 1) over y from t_x to age.

    Gauss-Legendre in log(alpha + y), up to where the integrand has fallen by e^40.
    """
    points, weights = np.polynomial.legendre.leggauss(64)
    start = np.log(alpha + t_x)
    width = np.minimum(np.log(alpha + age) - start, 40.0 / (r + x + min(s, 1.0)))
    scale = start[:, None] + width[:, None] * (points + 1) / 2
    y = np.exp(scale) - alpha
    heights = scale - (r + x[:, None]) * scale - (s + 1) * np.log(beta + y)
    top = heights.max(axis=1)
    with np.errstate(divide="ignore"):
        return np.log(s) + top + np.log(np.exp(heights - top[:, None]) @ weights * width / 2)
