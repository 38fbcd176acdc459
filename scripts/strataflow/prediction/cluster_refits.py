"""Which groups of customers a day has, and fitting them when they are not there yet.

Groups are fitted on fixed Sundays, every ``cluster_refit_weeks`` weeks, from what had been
received by each. A group's id goes on from the fit before, so the fits are a chain that
begins with the shop's data: a build walks back to the newest fit on file that still holds
and fits forward from there, from nothing in an empty home. Which fits there are and what
each has seen depends on dates and data alone, so every replay, in any order, gets the same
groups under the same ids. Each fit is kept in ``models/<day>/`` with the fingerprint of
what it came from.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from strataflow import ledger
from strataflow.durable import json_text, write_json
from strataflow.errors import InputError
from strataflow.home import Home
from strataflow.lake import Received, received
from strataflow.prediction.cluster_words import MEASURES, SEED_FILE, Words
from strataflow.prediction.clusters import SAMPLED_CUSTOMERS, ClusterFit, Settings, fit, measured_sql
from strataflow.prediction.features import Ledgers, features_sql, sampled
from strataflow.prediction.training import FEATURES, fingerprint_of, kept_ledgers, training_day
from strataflow.project import Project
from strataflow.rules import variables

if TYPE_CHECKING:
    import duckdb

FILE = "behaviour_clusters.json"

# Weeks are counted from a Sunday, so that which Sundays are fitted on does not depend on the shop.
_FIRST_SUNDAY = date(1970, 1, 4)


@dataclass(frozen=True)
class _Rules:
    """What fits depend on beside the data: settings, words, days of the features' windows, digest of the rest."""

    settings: Settings
    words: Words
    horizon: int
    fingerprint: Callable[[Received], str]

    @classmethod
    def of(cls, project: Project, ledger_rules: str) -> _Rules:
        given = variables(project)
        settings, horizon = Settings.of(given), int(given["churn_horizon_days"])
        words = Words.load(project)
        seed = (project.dbt / "seeds" / SEED_FILE).read_text(encoding="utf-8")
        own = (ledger_rules, str(horizon), json_text(settings.__dict__), seed)
        return cls(settings, words, horizon, lambda known: fingerprint_of(project, *own, known.digest()))


def refit_day(as_of: date, weeks: int) -> date:
    """The last Sunday before ``as_of`` on which groups are fitted, ``weeks`` weeks apart."""
    sunday = training_day(as_of)
    return sunday - timedelta(weeks=(sunday - _FIRST_SUNDAY).days // 7 % weeks)


def clusters_in_force(
    home: Home, project: Project, as_of: date, ledger_rules: str, build_ledgers: Callable[[Received], None]
) -> ClusterFit | None:
    """The groups for the build of ``as_of``, fitted now as far as they are not kept; None where they are off.

    Args:
        ledger_rules: digest of the rules that ledger rows depend on.
        build_ledgers: brings the kept ledgers up to what had been received by a day;
            called only if they don't reach the newest fit.

    Raises:
        UsageError: a setting is out of range, or the seed of the measures has a fault.
    """
    if not variables(project)["clusters"]:
        return None
    rules = _Rules.of(project, ledger_rules)
    newest = refit_day(as_of, rules.settings.refit_weeks)
    try:
        known = received(home, newest)
    except InputError:
        return ClusterFit(newest, f"nothing had been received by {newest}")
    before, lacking = _newest_kept(home, known, rules)
    if any(_orders(known.by(day)) >= rules.settings.min_customers for day in lacking):
        reach = ledger.valid_through(ledger.kept(home, ledger_rules), known)
        if reach is None or reach < newest:
            build_ledgers(known)
    for day in lacking:
        by_then = known.by(day)
        before = _fit(home, project, by_then, rules, before)
        _keep(home, day, before, rules.fingerprint(by_then))
    return before


def dbt_vars(in_force: ClusterFit | None) -> dict[str, Any]:
    """What the dbt project needs of the groups: the query that assigns them and the rows of their table."""
    if in_force is None:
        return {}
    found = in_force.found
    rows = [
        {
            "cluster_id": cluster.cluster_id, "name_en": cluster.name_en, "name_zh": cluster.name_zh,
            "first_fitted_on": str(cluster.first_fitted),
            "typical": {name: found.typical(cluster).get(name) for name in MEASURES},
        }
        for cluster in (found.clusters if found else ())
    ]  # fmt: skip
    tried = ", ".join(f"{int(one['k'])}: {one['silhouette']:.3f}" for one in in_force.tried)
    return {
        "cluster_assignment_sql": found.assignment_sql(FEATURES) if found else None,
        "cluster_fit": {
            "fitted_on": str(in_force.fitted_on), "reason": in_force.reason, "customers": in_force.customers,
            "silhouette": in_force.silhouette if found else None, "tried": tried, "clusters": rows,
        },
    }  # fmt: skip


def read_measures(
    connection: duckdb.DuckDBPyConnection, project: Project, ledgers: Ledgers, day: date, horizon: int, words: Words
) -> dict[str, np.ndarray]:
    """The measures of a sample of customers as they were on ``day``, in the order of the md5 of their ids."""
    columns = ", ".join(f"{measured_sql(name, is_log)} as {name}" for name, is_log in words.is_log.items())
    with sampled(connection, ledgers, day, SAMPLED_CUSTOMERS) as sample:
        return connection.execute(
            f"select {columns} from ({features_sql(project, sample, day, horizon)}) "
            "order by md5(customer_id), customer_id"
        ).fetchnumpy()


def _fit(home: Home, project: Project, known: Received, rules: _Rules, before: ClusterFit | None) -> ClusterFit:
    day, orders = known.known_at, _orders(known)
    if orders < rules.settings.min_customers:
        reason = f"{orders} order rows by {day}: too few customers for groups"
        return before.without_groups(day, reason) if before else ClusterFit(day, reason)
    with kept_ledgers(home, project) as (connection, ledgers):
        values = read_measures(connection, project, ledgers, day, rules.horizon, rules.words)
    return fit(values, rules.words, rules.settings, day, before)


def _newest_kept(home: Home, known: Received, rules: _Rules) -> tuple[ClusterFit | None, Sequence[date]]:
    """The newest fit on file that still holds, and the days after it that lack theirs, oldest first.

    A fingerprint covers all data up to its day and thereby all fits before it.
    """
    lacking: list[date] = []
    for day in _days_back(known.known_at, known.first, rules.settings.refit_weeks):
        kept = _kept(home, day, rules.fingerprint(known.by(day)))
        if kept:
            return kept, lacking[::-1]
        lacking.append(day)
    return None, lacking[::-1]


def _days_back(newest: date, first: date, weeks: int) -> Iterator[date]:
    day = newest
    while day >= first:
        yield day
        day -= timedelta(weeks=weeks)


def _keep(home: Home, day: date, found: ClusterFit, fingerprint: str) -> None:
    content = found.to_json()
    write_json(home.models / str(day) / FILE, content | {"fingerprint": fingerprint, "sha256": _digest(content)})


def _kept(home: Home, day: date, fingerprint: str) -> ClusterFit | None:
    """The fit on file, if it came from what there is now and is as it was written."""
    try:
        content = json.loads((home.models / str(day) / FILE).read_text(encoding="utf-8"))
        told = {name: content.pop(name) for name in ("fingerprint", "sha256")}
        return (
            ClusterFit.from_json(content) if told == {"fingerprint": fingerprint, "sha256": _digest(content)} else None
        )
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json_text(content).encode()).hexdigest()


def _orders(known: Received) -> int:
    return sum(delivery.rows for delivery in known.deliveries if delivery.table in {"orders", "order_lines"})
