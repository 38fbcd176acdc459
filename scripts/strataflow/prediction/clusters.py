"""Groups of customers who behave alike, found in the shop's own data where nobody wrote a rule.

K-means over a few standardised numbers of each customer. The number of groups is the one
with the best silhouette; where no number separates customers better than it would
separate a shapeless cloud, there are no groups, and the reason is said. A group keeps its
id from one fit to the next as long as its centre stays where it was. What a fit found is
a handful of numbers, written to JSON and computed in SQL: a customer belongs to the group
whose centre is nearest. It describes; it says nothing of what would happen if one acted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields, replace
from datetime import date
from typing import Any

import numpy as np

from strataflow.errors import UsageError
from strataflow.prediction.additive import double_sql
from strataflow.prediction.cluster_words import Words, names

FORMAT = 1
SEED = 20170101

# A group's centre does not get sharper with more customers than this; the silhouette compares every
# customer with every other, so it is taken of fewer.
SAMPLED_CUSTOMERS = 20_000
JUDGED_CUSTOMERS = 3_000
STARTS = 4

# Of each measure, values beyond these quantiles count as the quantile: one customer who bought for a
# hundred would be a group of one.
TAILS = (0.05, 0.95)
DIGITS = 9

# Of groups and of measures: one of either tells nothing apart that a cut-off would not.
FEWEST = 2

# Costs more than any number of good matches saves.
_NEVER = 1e6


@dataclass(frozen=True)
class Settings:
    """The vars ``cluster_*``, see ``dbt_project.yml``."""

    refit_weeks: int
    min_k: int
    max_k: int
    min_customers: int
    min_share: float
    min_silhouette: float
    min_gain: float
    keep_k_margin: float
    match_distance: float
    max_same_share: float

    @classmethod
    def of(cls, rules: Mapping[str, Any]) -> Settings:
        """The settings among the vars of a project.

        Raises:
            UsageError: one is missing or out of range; names it.
        """
        given = {}
        for field in fields(cls):
            value = rules.get(f"cluster_{field.name}")
            if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
                _refuse(f"cluster_{field.name} is {value!r}; it must be a number that is not negative")
            if field.type == "int" and value != int(value):
                _refuse(f"cluster_{field.name} is {value}; it must be a whole number")
            given[field.name] = int(value) if field.type == "int" else float(value)
        settings = cls(**given)
        if settings.refit_weeks < 1:
            _refuse("cluster_refit_weeks is 0; groups are fitted every week (1) or less often")
        if not FEWEST <= settings.min_k <= settings.max_k <= len(_LETTERS):
            _refuse(
                f"cluster_min_k is {settings.min_k}, cluster_max_k {settings.max_k}; they must rise, from {FEWEST} to "
                f"{len(_LETTERS)}"
            )
        if not 0 < settings.max_same_share < 1:
            _refuse(f"cluster_max_same_share is {settings.max_same_share}; it must be a share between 0 and 1")
        return settings


@dataclass(frozen=True)
class Scale:
    """How a measure of :class:`~strataflow.prediction.cluster_words.Words` becomes comparable with the others.

    Attributes:
        measure: a column of the customer's features.
        is_log: whether its logarithm is taken, ``ln(1 + x)``.
        low: the least value that counts (after the logarithm), ``high`` the greatest.
        centre: mean of what counts, ``spread`` its standard deviation.
    """

    measure: str
    is_log: bool
    low: float
    high: float
    centre: float
    spread: float

    def standardised(self, values: np.ndarray) -> np.ndarray:
        """``values`` of :func:`measured_sql` in standard deviations from the mean customer."""
        return (np.clip(values, self.low, self.high) - self.centre) / self.spread

    def sql(self) -> str:
        """The same as SQL over the features' columns."""
        measured = measured_sql(self.measure, self.is_log)
        counted = f"least(greatest({measured}, {double_sql(self.low)}), {double_sql(self.high)})"
        return f"({counted} - {double_sql(self.centre)}) / {double_sql(self.spread)}"

    def natural(self, standardised: float) -> float:
        """A standardised value in the measure's own unit."""
        value = standardised * self.spread + self.centre
        return float(np.expm1(value)) if self.is_log else value


@dataclass(frozen=True)
class Cluster:
    """A group that was found.

    Attributes:
        cluster_id: kept over fits; never given to another group.
        centre: standardised, in the order of the partition's scales.
        share: of the customers that were fitted.
        first_fitted: the fit in which the id was given.
    """

    cluster_id: str
    centre: tuple[float, ...]
    share: float
    first_fitted: date
    name_en: str
    name_zh: str


@dataclass(frozen=True)
class Partition:
    """All groups of a fit, by id, and the scales their centres are measured in."""

    scales: tuple[Scale, ...]
    clusters: tuple[Cluster, ...]

    def assignment_sql(self, features: str) -> str:
        """The query for the nearest and the second nearest group over the relation ``features``.

        One row per row of ``features``: customer_id, cluster_id, distance, next_cluster_id,
        next_distance. Distances are settled at nine decimals before they are compared, so that
        engines agree; at equal distances the group named first is the nearest.
        """
        placed = ",\n        ".join(f"{scale.sql()} as at_{_LETTERS[n]}" for n, scale in enumerate(self.scales))
        squares = ",\n        ".join(
            f"cast({self._square_sql(cluster)} as decimal(18, {DIGITS})) as to_{_LETTERS[n]}"
            for n, cluster in enumerate(self.clusters)
        )
        ways = [f"to_{_LETTERS[n]}" for n in range(len(self.clusters))]
        nearest = _first_least(ways, range(len(ways)))
        second = " ".join(
            f"when {n} then {_first_least([*ways[:n], *ways[n + 1 :]], [m for m in range(len(ways)) if m != n])}"
            for n in range(len(ways))
        )
        label = " ".join(f"when {n} then '{cluster.cluster_id}'" for n, cluster in enumerate(self.clusters))
        away = " ".join(f"when {n} then {way}" for n, way in enumerate(ways))
        return f"""select
    customer_id,
    case nearest {label} end as cluster_id,
    sqrt(cast(case nearest {away} end as double)) as distance,
    case second_nearest {label} end as next_cluster_id,
    sqrt(cast(case second_nearest {away} end as double)) as next_distance
from (
    select *, case nearest {second} end as second_nearest
    from (
        select *, {nearest} as nearest
        from (
            select customer_id,
        {squares}
            from (
                select customer_id,
        {placed}
                from {features}
            ) as placed
        ) as measured
    ) as compared
) as ranked"""

    def _square_sql(self, cluster: Cluster) -> str:
        gaps = [f"(at_{_LETTERS[n]} - {double_sql(value)})" for n, value in enumerate(cluster.centre)]
        return " + ".join(f"{gap} * {gap}" for gap in gaps)

    def typical(self, cluster: Cluster) -> dict[str, float]:
        """The centre of a group in the measures' own units, by measure."""
        return {
            scale.measure: round(scale.natural(value), 6)
            for scale, value in zip(self.scales, cluster.centre, strict=True)
        }

    def to_json(self) -> dict[str, Any]:
        """As a structure for JSON; :meth:`from_json` gives the equal partition back."""
        return {
            "scales": [{field.name: getattr(scale, field.name) for field in fields(Scale)} for scale in self.scales],
            "clusters": [
                {
                    "cluster_id": cluster.cluster_id, "name_en": cluster.name_en, "name_zh": cluster.name_zh,
                    "share": cluster.share, "first_fitted": str(cluster.first_fitted), "centre": list(cluster.centre),
                    "typical": self.typical(cluster),
                }
                for cluster in self.clusters
            ],
        }  # fmt: skip

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Partition:
        """The partition that :meth:`to_json` wrote."""
        return cls(
            tuple(Scale(**scale) for scale in content["scales"]),
            tuple(
                Cluster(
                    one["cluster_id"], tuple(map(float, one["centre"])), float(one["share"]),
                    date.fromisoformat(one["first_fitted"]), one["name_en"], one["name_zh"],
                )
                for one in content["clusters"]
            ),
        )  # fmt: skip


@dataclass(frozen=True)
class ClusterFit:
    """What one fit came to, and what the next one has to know of the fits so far.

    Attributes:
        fitted_on: what was known by that day was looked at.
        reason: why there are as many groups as there are, or why there are none.
        customers: who were fitted; a sample of a large shop.
        tried: per number of groups its silhouette and the share of the smallest group.
        silhouette: of the groups in force, and of a shapeless cloud cut into as many; None without groups.
        left_out: measures that were not used, and why.
        found: the groups; None where there are none.
        remembered: the newest groups that were ever found, these included; ids are matched against them.
        next_number: of the next new id.
    """

    fitted_on: date
    reason: str
    customers: int = 0
    tried: tuple[Mapping[str, float], ...] = ()
    silhouette: float | None = None
    shapeless_silhouette: float | None = None
    left_out: Mapping[str, str] | None = None
    found: Partition | None = None
    remembered: Partition | None = None
    next_number: int = 1

    def to_json(self) -> dict[str, Any]:
        """As a structure for JSON; :meth:`from_json` gives the equal fit back."""
        return {
            "format": FORMAT, "fitted_on": str(self.fitted_on), "reason": self.reason, "customers": self.customers,
            "tried": [dict(one) for one in self.tried], "silhouette": self.silhouette,
            "shapeless_silhouette": self.shapeless_silhouette, "left_out": dict(self.left_out or {}),
            "found": self.found.to_json() if self.found else None,
            "remembered": self.remembered.to_json() if self.remembered else None, "next_number": self.next_number,
        }  # fmt: skip

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> ClusterFit:
        """The fit that :meth:`to_json` wrote.

        Raises:
            ValueError: it was written in another format.
        """
        if content.get("format") != FORMAT:
            raise ValueError(f"format {content.get('format')} of clusters, this version reads {FORMAT}")
        partitions = {
            name: Partition.from_json(content[name]) if content[name] else None for name in ("found", "remembered")
        }
        kept = {name: content[name] for name in ("reason", "customers", "silhouette", "shapeless_silhouette")}
        return cls(
            date.fromisoformat(content["fitted_on"]), tried=tuple(content["tried"]), left_out=content["left_out"],
            next_number=int(content["next_number"]), **kept, **partitions,
        )  # fmt: skip

    def without_groups(self, fitted_on: date, reason: str, **seen: Any) -> ClusterFit:
        """The fit after this one, where it finds no groups: ids and centres are kept in mind."""
        return ClusterFit(fitted_on, reason, remembered=self.remembered, next_number=self.next_number, **seen)


def measured_sql(measure: str, is_log: bool) -> str:
    """A measure as it is clustered: on a logarithmic scale where it is skewed; alike on every engine."""
    value = f"ln(1e0 + greatest({measure}, 0))" if is_log else f"({measure})"
    return f"cast(cast({value} as decimal(18, {DIGITS})) as double)"


def fit(
    values: Mapping[str, np.ndarray], words: Words, settings: Settings, fitted_on: date, before: ClusterFit | None
) -> ClusterFit:
    """Find groups among customers.

    Args:
        values: per measure what :func:`measured_sql` gives, customers in an order that is a lottery
            (the first :data:`JUDGED_CUSTOMERS` stand for all where the silhouette is taken).
        words: which measures count, and what they are called.
        before: the fit before this one; None for the first.

    Returns:
        the groups with their ids, or none and the reason. Equal arguments give an equal fit.
    """
    before = before or ClusterFit(fitted_on, "")
    customers = len(next(iter(values.values()), ()))
    if customers < settings.min_customers:
        reason = f"{customers} customers with an order, {settings.min_customers} are needed"
        return before.without_groups(fitted_on, reason, customers=customers)
    scales, left_out = _scales(values, words, settings)
    seen = {"customers": customers, "left_out": left_out}
    if len(scales) < FEWEST:
        return before.without_groups(fitted_on, _too_few_measures(scales), **seen)
    places = np.column_stack([scale.standardised(values[scale.measure]) for scale in scales])
    with _one_thread():
        outcome = _search(places, settings, before)
    seen |= {"tried": outcome.tried, "silhouette": outcome.silhouette, "shapeless_silhouette": outcome.shapeless}
    if outcome.centres is None or outcome.shares is None:
        return before.without_groups(fitted_on, outcome.reason, **seen)
    found, number = _named(scales, outcome.centres, outcome.shares, words, settings, fitted_on, before)
    return ClusterFit(fitted_on, outcome.reason, found=found, remembered=found, next_number=number, **seen)


@dataclass(frozen=True)
class _Outcome:
    """What a search over numbers of groups came to; no centres where it found nothing to keep."""

    reason: str
    tried: tuple[Mapping[str, float], ...]
    silhouette: float | None = None
    shapeless: float | None = None
    centres: np.ndarray | None = None
    shares: np.ndarray | None = None


def _scales(
    values: Mapping[str, np.ndarray], words: Words, settings: Settings
) -> tuple[tuple[Scale, ...], dict[str, str]]:
    scales, left_out = [], {}
    for measure, is_log in words.is_log.items():
        known = values[measure]
        _, counts = np.unique(known, return_counts=True)
        share = counts.max() / len(known)
        low, high = (round(float(edge), DIGITS) for edge in np.quantile(known, TAILS, method="inverted_cdf"))
        counted = np.clip(known, low, high)
        spread = round(float(counted.std()), DIGITS)
        if share > settings.max_same_share or spread <= 0:
            left_out[measure] = f"the same for {share:.0%} of the customers"
            continue
        scales.append(Scale(measure, is_log, low, high, round(float(counted.mean()), DIGITS), spread))
    return tuple(scales), left_out


def _too_few_measures(scales: Sequence[Scale]) -> str:
    if not scales:
        return "customers are the same in every measure: there is nothing to tell apart"
    return f"customers differ in {scales[0].measure} alone: a cut-off says all there is to say"


def _search(places: np.ndarray, settings: Settings, before: ClusterFit) -> _Outcome:
    """The number of groups with the best silhouette, held against the floor and a shapeless cloud."""
    judged = places[:JUDGED_CUSTOMERS]
    most = min(settings.max_k, len(np.unique(places, axis=0)) - 1)
    tried, groups = [], {}
    for k in range(settings.min_k, most + 1):
        centres, labels = _k_means(places, k)
        smallest = float(np.bincount(labels, minlength=k).min() / len(labels))
        silhouette = _silhouette(judged, labels[: len(judged)])
        tried.append({"k": k, "silhouette": silhouette, "smallest_share": round(smallest, 6)})
        if smallest >= settings.min_share:
            groups[k] = (silhouette, centres, labels)
    if not groups:
        return _Outcome(_nothing_to_choose(settings, tried), tuple(tried))
    k, why = _chosen({k: found[0] for k, found in groups.items()}, settings, before)
    silhouette, centres, labels = groups[k]
    shapeless = _of_shapeless(judged, k)
    if silhouette < max(settings.min_silhouette, shapeless + settings.min_gain):
        reason = (
            f"no groups that stand apart: the best silhouette is {silhouette:.3f} (k = {k}), needed are "
            f"{settings.min_silhouette} and {settings.min_gain} more than the {shapeless:.3f} of a shapeless cloud"
        )
        return _Outcome(reason, tuple(tried), silhouette, shapeless)
    reason = f"{why}; a shapeless cloud cut into as many has {shapeless:.3f}"
    shares = np.bincount(labels, minlength=k) / len(labels)
    return _Outcome(reason, tuple(tried), silhouette, shapeless, np.round(centres, DIGITS), np.round(shares, 6))


def _nothing_to_choose(settings: Settings, tried: Sequence[Mapping[str, float]]) -> str:
    if not tried:
        return f"customers are too alike for {settings.min_k} groups"
    return f"every number of groups has one with fewer than {settings.min_share:.1%} of the customers"


def _chosen(silhouettes: Mapping[int, float], settings: Settings, before: ClusterFit) -> tuple[int, str]:
    """The best number of groups; the one in force stays unless another is better by the margin."""
    best = max(silhouettes, key=lambda k: (silhouettes[k], -k))
    said = f"k = {best} has the best silhouette, {silhouettes[best]:.3f}"
    held = len(before.found.clusters) if before.found else best
    if held != best and silhouettes.get(held, -1.0) >= silhouettes[best] - settings.keep_k_margin:
        return held, f"k = {held} stays with silhouette {silhouettes[held]:.3f}, {said}: not better by enough"
    return best, said


def _k_means(places: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.cluster import KMeans

    model = KMeans(k, n_init=STARTS, random_state=SEED, algorithm="lloyd").fit(places)
    return model.cluster_centers_, model.labels_


def _silhouette(places: np.ndarray, labels: np.ndarray) -> float:
    """Mean silhouette (Rousseeuw 1987), six decimals; -1 where one group holds all, or each holds one."""
    from sklearn.metrics import silhouette_score

    if not FEWEST <= len(np.unique(labels)) < len(labels):
        return -1.0
    return round(float(silhouette_score(places, labels)), 6)


def _of_shapeless(judged: np.ndarray, k: int) -> float:
    """The silhouette of k groups cut from a normal cloud with the spread and the correlations of ``judged``.

    Groups can be cut from anything; those worth telling are further apart than these.
    """
    generator = np.random.default_rng(SEED)
    covariance = np.cov(judged, rowvar=False)
    cloud = generator.multivariate_normal(judged.mean(axis=0), covariance, size=len(judged), method="eigh")
    cloud = np.clip(cloud, *np.quantile(cloud, TAILS, axis=0))
    return _silhouette(cloud, _k_means(cloud, k)[1])


def _named(
    scales: tuple[Scale, ...], centres: np.ndarray, shares: np.ndarray, words: Words, settings: Settings,
    fitted_on: date, before: ClusterFit,
) -> tuple[Partition, int]:  # fmt: skip
    """Groups with ids that go on where they match, and new ones where they don't; and the next number."""
    known = before.remembered
    same = matches(known, scales, centres, settings.match_distance) if known else {}
    number, found = before.next_number, []
    for position in sorted(range(len(centres)), key=lambda n: (-shares[n], tuple(centres[n]))):
        centre, share = tuple(float(value) for value in centres[position]), float(shares[position])
        if position in same:
            found.append(replace(same[position], centre=centre, share=share))
        else:
            found.append(Cluster(f"cluster_{number}", centre, share, fitted_on, "", ""))
            number += 1
    found.sort(key=lambda cluster: int(cluster.cluster_id.rpartition("_")[2]))
    said = names([{s.measure: v for s, v in zip(scales, one.centre, strict=True)} for one in found], words)
    named = (replace(one, name_en=en, name_zh=zh) for one, (en, zh) in zip(found, said, strict=True))
    return Partition(scales, tuple(named)), number


def matches(known: Partition, scales: Sequence[Scale], centres: np.ndarray, within: float) -> dict[int, Cluster]:
    """Which earlier group each new centre continues, by position; centres that continue none are left out.

    How far a centre has moved is measured twice, over the measures that both fits use: with the
    earlier centre put on the new scales, and relative to the mean customer of its own day. The
    lesser counts. In a shop of a year everybody's orders and days grow from fit to fit, and
    groups that only grew along are the same ones. The pairs are those with the least sum of
    distances (Kuhn 1955) among all that make as many pairs as possible, none further apart than
    ``within`` standard deviations.
    """
    from scipy.optimize import linear_sum_assignment

    new_of = {(one.measure, one.is_log): number for number, one in enumerate(scales)}
    shared = [(old, new_of[one.measure, one.is_log]) for old, one in enumerate(known.scales)
              if (one.measure, one.is_log) in new_of]  # fmt: skip
    if not shared:
        return {}
    relative = np.array([[cluster.centre[old] for old, _ in shared] for cluster in known.clusters])
    stretch = np.array([known.scales[old].spread / scales[new].spread for old, new in shared])
    shift = np.array([(known.scales[old].centre - scales[new].centre) / scales[new].spread for old, new in shared])
    found = centres[:, [new for _, new in shared]]
    moved = [
        np.sqrt(((earlier[:, None, :] - found) ** 2).sum(axis=2)) for earlier in (relative, relative * stretch + shift)
    ]
    distances = np.round(np.minimum(*moved), DIGITS)
    rows, columns = linear_sum_assignment(np.where(distances <= within, distances, _NEVER))
    pairs = zip(rows, columns, strict=True)
    return {int(new): known.clusters[old] for old, new in pairs if distances[old, new] <= within}


# Columns of the query are numbered by letters: a name with a digit would read like a value.
_LETTERS = "abcdefghijklmnop"


def _first_least(ways: Sequence[str], positions: Iterable[int]) -> str:
    """SQL for the position of the least of ``ways``, of equal ones the first."""
    positions = list(positions)
    if len(ways) == 1:
        return str(positions[0])
    cases = " ".join(
        f"when {way} <= least({', '.join(ways[n + 1 :])}) then {positions[n]}" if len(ways) > n + 2
        else f"when {way} <= {ways[n + 1]} then {positions[n]}"
        for n, way in enumerate(ways[:-1])
    )  # fmt: skip
    return f"case {cases} else {positions[-1]} end"


def _one_thread() -> AbstractContextManager[Any]:
    """Sums over several threads depend on who finishes first; one thread gives the same bytes."""
    from threadpoolctl import threadpool_limits

    return threadpool_limits(limits=1)


def _refuse(what: str) -> None:
    raise UsageError(what, where="dbt_project.yml, vars", todo="docs/prediction.md#clusters tells what it means")
