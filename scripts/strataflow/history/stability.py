"""Where customers stand once flapping at a boundary is taken out, beside where they are published.

Whether a customer has really moved depends on where they stood before, so it is
a fold over the published days and no part of any version: a version stays a
function of its own day. Each day is judged by the settings that it was
published with, so the fold, too, is a function of the published versions alone.
Definitions: docs/stability.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, NoReturn

from strataflow.errors import UsageError
from strataflow.history.causes import ATTRIBUTES, PublishedDay, load_seeds, statement
from strataflow.sqltext import quoted

if TYPE_CHECKING:
    from datetime import date

    import duckdb

DWELL_VAR, MARGIN_VAR = "stability_min_dwell_days", "stability_margin"
# Each margin with the attribute whose boundaries it widens; shares are of the customer's own amount.
MARGINS = {
    "recency_days": "rfm_class",
    "frequency_orders": "rfm_class",
    "monetary_share": "rfm_class",
    "mean_score": "rfm_class",
    "value_tier_share": "value_tier",
    "activity_days": "activity_stage",
}
_WHOLE = ("recency_days", "frequency_orders", "activity_days")
_SHARES = ("monetary_share", "value_tier_share")
_DAY_RULES = ("high_score_at_least", "activity_active_days", "activity_silent_days")


@dataclass(frozen=True)
class Settings:
    """What a day is steadied by.

    Attributes:
        dwell: calendar days that a changed value holds, by attribute; those without a wait are left out.
        margins: how far past a boundary a customer must be, by :data:`MARGINS`; those of 0 are left out.
    """

    dwell: Mapping[str, int]
    margins: Mapping[str, Decimal]

    @classmethod
    def of(cls, rules: Mapping[str, Any], where: str = "dbt_project.yml, vars") -> Settings:
        """The settings among the vars of a project or of a version's manifest; off where they are absent.

        Raises:
            UsageError: an attribute or margin is not known, or a value is out of range; names it.
        """
        dwell = _numbers(rules, DWELL_VAR, ATTRIBUTES, where)
        margins = _numbers(rules, MARGIN_VAR, tuple(MARGINS), where)
        for name, days in dwell.items():
            if days < 0 or days != int(days):
                _refuse(f"{DWELL_VAR}: {name} is {days}; it must be a whole number of days, 0 for none", where)
        for name, margin in margins.items():
            if margin < 0 or (name in _WHOLE and margin != int(margin)) or (name in _SHARES and margin >= 1):
                wanted = "a whole number" if name in _WHOLE else "a share below 1" if name in _SHARES else "a number"
                _refuse(f"{MARGIN_VAR}: {name} is {margin}; it must be {wanted}, 0 for none", where)
        return cls(
            {name: int(days) for name, days in dwell.items() if days},
            {name: margin for name, margin in margins.items() if margin},
        )

    @property
    def attributes(self) -> tuple[str, ...]:
        """What they steady."""
        steadied = {*self.dwell, *(MARGINS[name] for name in self.margins)}
        return tuple(name for name in ATTRIBUTES if name in steadied)

    def parameters(self, rules: Mapping[str, Any]) -> dict[str, Any]:
        """For the statement that judges a day; ``rules`` are the vars that the day was published with."""
        waits = {f"wait_{name}": self.dwell.get(name, 0) for name in ATTRIBUTES}
        whole = {name: int(self.margins.get(name, 0)) for name in _WHOLE}
        exact = {name: self.margins.get(name, Decimal(0)) for name in MARGINS if name not in _WHOLE}
        return waits | whole | exact | {name: rules[name] for name in _DAY_RULES}


def settings_of(published: PublishedDay) -> Settings:
    """The settings that a day was published with.

    Raises:
        UsageError: they are out of range.
    """
    return Settings.of(_rules_of(published), where=f"{published.path / 'manifest.json'}, rules")


class Fold:
    """Where everyone stands, carried from one published day to the next.

    After each day the connection holds ``stable`` (customer_id, attribute, value, previous_value, valid_from: the
    open stretches), ``stable_closed`` (those that the day ended, with valid_to), ``held`` (who stands elsewhere than
    published, and why) and ``stability_moves`` (the day's counts by attribute).

    Args:
        settings: steady every day by these, instead of each by those that it was published with.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, settings: Settings | None = None) -> None:
        self._connection, self._settings = connection, settings
        self._followed: tuple[str, ...] = ()
        connection.execute(statement("stability_empty"))

    def resume(self, files: Sequence[str], before: PublishedDay, after: date) -> None:
        """Take up the stretches that were open before the day ``after``.

        Args:
            files: Parquet files with all stretches that were open then, whether or not they have ended since.
            before: the published day before ``after``.
        """
        listed = ", ".join(quoted(path) for path in files)
        self._connection.execute(
            "create or replace table stable as select customer_id, attribute, value, previous_value, valid_from "
            f"from read_parquet([{listed}], union_by_name = true) where valid_from < date '{after}'"
        )
        self._connection.execute(f"create or replace view before as from {before.table('customer_segments')}")
        self._connection.execute(statement("stability_resumed"), {"day": before.day})
        found = {name for (name,) in self._connection.execute("select distinct attribute from stable").fetchall()}
        self._followed = tuple(name for name in ATTRIBUTES if name in found)

    def begin(self, today: PublishedDay) -> None:
        """Let everyone stand where they are published, in the attributes that the day's settings steady."""
        self._connection.execute(f"create or replace view today as from {today.table('customer_segments')}")
        self._follow(today)

    def step(self, before: PublishedDay, today: PublishedDay) -> None:
        """Go on by a day; ``moves`` between the two days and the views on them must be there."""
        load_seeds(self._connection, today, ("rfm_classes",))
        self._connection.execute(f"create or replace view cutoffs as from {today.table('rfm_cutoffs')}")
        day, attributes = {"day": today.day}, {"attributes": list(self._followed)}
        parameters = self._settings_on(today).parameters(_rules_of(today))
        self._connection.execute(statement("stability_judged"), day | attributes | parameters)
        for name in ("closed", "open", "held"):
            self._connection.execute(statement(f"stability_{name}"), day)
        self._connection.execute(statement("stability_moves"), day | attributes | {"previous": before.day})
        self._follow(today)

    def _follow(self, today: PublishedDay) -> None:
        added = [name for name in self._settings_on(today).attributes if name not in self._followed]
        if added:
            self._connection.execute(statement("stability_begun"), {"attributes": added, "day": today.day})
            self._followed = tuple(name for name in ATTRIBUTES if name in {*self._followed, *added})

    def _settings_on(self, today: PublishedDay) -> Settings:
        return self._settings or settings_of(today)


def _rules_of(published: PublishedDay) -> Mapping[str, Any]:
    return published.manifest.get("rules", {}).get("vars", {})


def _numbers(rules: Mapping[str, Any], var: str, known: Sequence[str], where: str) -> dict[str, Decimal]:
    """The entries of a var that maps names to numbers."""
    given = rules.get(var) or {}
    if not isinstance(given, Mapping):
        _refuse(f"{var} is {given!r}; it must map names to numbers", where)
    for name in given:
        if name not in known:
            _refuse(f"{var}: {name!r} is not known; there are {', '.join(known)}", where)
    try:
        return {name: Decimal(str(value)) for name, value in given.items()}
    except InvalidOperation:
        _refuse(f"{var} holds what is no number: {dict(given)}", where)


def _refuse(what: str, where: str) -> NoReturn:
    raise UsageError(what, where=where, todo="see docs/stability.md for the settings and their units")
