"""Why customers moved: the moves of a day, each with the one step that made it.

A move leads from what was published for the day before to what is published
for the day. Between the two lies a chain of counterfactuals, in which one
thing changes at a time: today's rules, what is known today about the day
before, time passing, the customer's own new records, today's cut-offs. Each
link is what the daily build's own models say of the movers. The chain must end
at what was published; if it doesn't, the causes would be guesses, and the step
fails.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from strataflow.errors import StepFailed
from strataflow.history.models import CUSTOMERS, CompiledModels, compiled_models
from strataflow.publish import read_manifest
from strataflow.sqltext import quoted

if TYPE_CHECKING:
    import duckdb

    from strataflow.home import Home
    from strataflow.lake import Received
    from strataflow.ledger import Kept
    from strataflow.project import Project
    from strataflow.sources import Shop

ATTRIBUTES = ("rfm_class", "ecommerce_stage", "high_ticket_stage", "activity_stage", "value_tier")
CAUSES = (
    "rules_edited",
    "late_or_corrected_data",
    "passage_of_time",
    "registered",
    "interacted",
    "ordered",
    "cutoffs_moved",
)
# What of a customer's own is taken up to the day instead of to the day before, link by link.
_OWN_STEPS = {
    "time_passed": (),
    "registered": ("customers",),
    "interacted": ("customers", "interactions"),
    "ordered": ("customers", "interactions", "orders"),
}
_DATED = {
    "customers": ("stg_lake__customers", "own_customers", "coalesce(registered_date, received_date)"),
    "interactions": ("int_interaction_ledger", "own_interactions", "interaction_date"),
    "orders": ("int_order_ledger", "own_orders", "order_date"),
}


@dataclass(frozen=True)
class PublishedDay:
    """A published day as history reads it.

    Attributes:
        day: the day.
        path: folder of its version.
        manifest: the version's manifest; empty once the version was pruned.
        snapshot: of a pruned version, the file that history kept of it.
    """

    day: date
    path: Path
    manifest: dict[str, Any]
    snapshot: Path | None = None

    @classmethod
    def at(cls, day: date, path: Path) -> PublishedDay:
        """The published day whose version lies at ``path``."""
        return cls(day, path, read_manifest(path))

    @property
    def rules(self) -> tuple[str, str]:
        """What decides how the day's data becomes its result: hash of the rules, version of the code."""
        return self.manifest["rules_hash"], self.manifest["code_version"]

    def table(self, name: str) -> str:
        """SQL that reads a published table of this day; of a pruned one only ``customer_segments``, no measures."""
        if self.snapshot:
            return f"read_parquet({quoted(str(self.snapshot))}, hive_partitioning = false)"
        listed = ", ".join(quoted(str(self.path / entry["path"])) for entry in self.manifest["tables"][name]["files"])
        return f"read_parquet([{listed}], hive_partitioning = false)"


@dataclass(frozen=True)
class Evidence:
    """What the links of the chains are computed from.

    Attributes:
        models: the models by the rules in force.
        home: whose lake holds the customers' attributes.
        ledgers: kept ledgers that agree with the lake, at least up to the last day's ``known_at``.
    """

    models: CompiledModels
    home: Home
    ledgers: Kept

    @classmethod
    def gather(cls, home: Home, project: Project, shop: Shop, known: Received) -> Evidence:
        """Bring the kept ledgers and the compiled models up to date.

        Raises:
            StepFailed: dbt can't build or compile the project.
        """
        from strataflow.build import bring_ledgers_up

        ledgers = bring_ledgers_up(home, project, shop, known)
        models = compiled_models(home, project, shop, known.tables)
        return cls(models, home, ledgers)

    def ledger(self, name: str, known_at: date) -> str:
        """SQL for the rows of a kept ledger received up to ``known_at``."""
        listed = ", ".join(quoted(str(self.home.state / name / segment)) for _, _, segment in self.ledgers.segments)
        return f"(select * from read_parquet([{listed}]) where received_date <= date '{known_at}')"


@contextmanager
def database(spill: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database in memory for one day's history, which spills into ``spill``."""
    import os

    import duckdb

    with duckdb.connect() as connection:
        connection.execute(f"set temp_directory = {quoted(str(spill))}; set TimeZone = 'UTC'")
        if limit := os.environ.get("STRATAFLOW_MEMORY_LIMIT"):
            connection.execute(f"set memory_limit = {quoted(limit)}")
        yield connection


def statement(name: str) -> str:
    """The SQL file ``name`` of this package."""
    return files("strataflow.history").joinpath("sql", f"{name}.sql").read_text(encoding="utf-8")


def look_at(connection: duckdb.DuckDBPyConnection, before: PublishedDay, today: PublishedDay) -> None:
    """Create the views ``before`` and ``today`` on the segments of two published days."""
    connection.execute(f"create or replace view before as from {before.table('customer_segments')}")
    connection.execute(f"create or replace view today as from {today.table('customer_segments')}")


def find_moves(connection: duckdb.DuckDBPyConnection, before: PublishedDay, today: PublishedDay) -> None:
    """Create ``moves`` (customer_id, attribute, from_value, to_value) beside the views of :func:`look_at`.

    ``from_value`` is null where the customer was not published before, ``to_value`` where no longer.
    """
    look_at(connection, before, today)
    connection.execute(statement("moves"))


def name_kinds(connection: duckdb.DuckDBPyConnection, today: PublishedDay) -> None:
    """Create ``kinds`` (attribute, from_value, to_value, kind) from the seeds published with ``today``."""
    load_seeds(connection, today, ("rfm_classes", "lifecycle_stages", "value_tiers"))
    connection.execute(statement("kinds"))


def load_seeds(connection: duckdb.DuckDBPyConnection, today: PublishedDay, names: tuple[str, ...]) -> None:
    """Create seeds as tables, as published with ``today``."""
    database_file = quoted(str(today.path / "current.duckdb"))
    connection.execute(f"attach {database_file} as published (read_only)")
    for seed in names:
        connection.execute(f"create or replace table {seed} as from published.main.{seed}")
    connection.execute("detach published")


def find_causes(
    connection: duckdb.DuckDBPyConnection, evidence: Evidence, before: PublishedDay, today: PublishedDay
) -> None:
    """Create ``transitions``, the moves of :func:`find_moves` with kind, cause and chain.

    Raises:
        StepFailed: the chain does not end at what was published, or causes and moves don't add up.
    """
    known_at = date.fromisoformat(today.manifest["known_at"])
    evidence.models.load_seeds(connection)
    connection.execute("create or replace table movers as select distinct customer_id from moves")
    connection.execute(
        "create or replace table links (step varchar, customer_id varchar, attribute varchar, value varchar)"
    )
    if before.rules == today.rules:
        _take_context_of(connection, before)
        _keep_link(connection, "todays_rules", "before")
    else:
        _rebuild(connection, evidence, before)
        _keep_link(connection, "todays_rules", "customer_segments")
    _gather_own_records(connection, evidence, known_at)
    _run_on_own(connection, evidence.models, before.day, before.day, {"known_today": tuple(_DATED)})
    _keep_own_links(connection)
    _run_on_own(connection, evidence.models, today.day, before.day, _OWN_STEPS)
    _keep_own_links(connection)
    _check_the_chains_end(connection, evidence.models, before, today)
    name_kinds(connection, today)
    connection.execute(statement("transitions"), {"as_of": today.day, "previous": before.day})
    _check_that_causes_add_up(connection, today)


def _take_context_of(connection: duckdb.DuckDBPyConnection, published: PublishedDay) -> None:
    """Cut-offs, means and tier bounds as published."""
    connection.execute(f"create or replace view context_segments as from {published.table('customer_segments')}")
    connection.execute(f"create or replace view context_cutoffs as from {published.table('rfm_cutoffs')}")
    connection.execute(statement("context_published"))


def _rebuild(connection: duckdb.DuckDBPyConnection, evidence: Evidence, before: PublishedDay) -> None:
    """The day before, as known then, under the rules in force now: everybody's segments and the context."""
    known_at = date.fromisoformat(before.manifest["known_at"])
    connection.execute(
        f"create or replace view {CUSTOMERS} as {evidence.models.customers_known(evidence.home, known_at)}"
    )
    for name in ("order_ledger", "interaction_ledger"):
        connection.execute(f"create or replace view int_{name} as from {evidence.ledger(name, known_at)}")
    evidence.models.run(connection, before.day, given_context=False)


def _gather_own_records(connection: duckdb.DuckDBPyConnection, evidence: Evidence, known_at: date) -> None:
    """All that is known by ``known_at`` of the movers, once, so that each link reads only that."""
    sources = {
        "own_customers": f"({evidence.models.customers_known(evidence.home, known_at)})",
        "own_interactions": evidence.ledger("interaction_ledger", known_at),
        "own_orders": evidence.ledger("order_ledger", known_at),
    }
    for name, source in sources.items():
        connection.execute(
            f"create or replace table {name} as "
            f"select known.* from {source} as known semi join movers using (customer_id)"
        )


def _run_on_own(
    connection: duckdb.DuckDBPyConnection,
    models: CompiledModels,
    as_of: date,
    before: date,
    steps: Mapping[str, tuple[str, ...]],
) -> None:
    """The movers' segments as of a day, once per step, all in one run of the models.

    A step takes of some kinds of records all that is dated by ``as_of``, and of the rest what is dated by
    ``before``. Each mover stands in ``customer_segments`` once per step, as ``<step>:<customer_id>``.
    """
    for kind, (relation, own, dated) in _DATED.items():
        parts = [
            f"select * replace ('{step}:' || customer_id as customer_id) from {own} "
            f"where {dated} <= date '{as_of if kind in taken else before}'"
            for step, taken in steps.items()
        ]
        connection.execute(f"create or replace view {relation} as {' union all '.join(parts)}")
    models.run(connection, as_of, given_context=True)


def _keep_own_links(connection: duckdb.DuckDBPyConnection) -> None:
    listed = ", ".join(ATTRIBUTES)
    connection.execute(
        "insert into links select split_part(customer_id, ':', 1), "
        "substr(customer_id, strpos(customer_id, ':') + 1), attribute, value from ("
        f"unpivot (select customer_id, {listed} from customer_segments) "
        f"on {listed} into name attribute value value)"
    )


def _keep_link(connection: duckdb.DuckDBPyConnection, step: str, segments: str) -> None:
    listed = ", ".join(ATTRIBUTES)
    connection.execute(
        f"insert into links select '{step}', customer_id, attribute, value from ("
        f"unpivot (select customer_id, {listed} from {segments} semi join movers using (customer_id)) "
        f"on {listed} into name attribute value value)"
    )


def _check_the_chains_end(
    connection: duckdb.DuckDBPyConnection, models: CompiledModels, before: PublishedDay, today: PublishedDay
) -> None:
    """The last link, with today's cut-offs, must be what was published for the movers."""
    _take_context_of(connection, today)
    _run_on_own(connection, models, today.day, today.day, {"published": tuple(_DATED)})
    compared = " or ".join(f"own.{name} is distinct from published.{name}" for name in ATTRIBUTES)
    strangers = connection.execute(
        f"""
        select movers.customer_id
        from movers
        left join customer_segments as own on 'published:' || movers.customer_id = own.customer_id
        left join today as published on movers.customer_id = published.customer_id
        where {compared}
        order by movers.customer_id
        """
    ).fetchall()
    if strangers:
        raise StepFailed(
            f"the moves from {before.day} to {today.day} can't be explained: of {len(strangers)} customers the ledgers "
            f"say otherwise than what was published, {strangers[0][0]} the first",
            where=str(today.path),
            todo=f"build and publish {today.day} again: strataflow run --skip-land --date {today.day}",
        )


def _check_that_causes_add_up(connection: duckdb.DuckDBPyConnection, today: PublishedDay) -> None:
    """Counts the moves anew, column by column, and compares with the moves that have a cause and a kind."""
    counted = ", ".join(
        f"count(*) filter (before.{name} is distinct from today.{name}) as {name}" for name in ATTRIBUTES
    )
    listed = ", ".join(quoted(cause) for cause in CAUSES)
    rows = connection.execute(
        f"""
        with counted as (
            select {counted} from before full join today on before.customer_id = today.customer_id
        ),
        moved as (unpivot counted on {", ".join(ATTRIBUTES)} into name attribute value moves),
        explained as (
            select attribute, count(*) as moves from transitions
            where cause in ({listed}) and kind is not null
            group by attribute
        )
        select moved.attribute, moved.moves, coalesce(explained.moves, 0)
        from moved left join explained on moved.attribute = explained.attribute
        where moved.moves <> coalesce(explained.moves, 0)
        """
    ).fetchall()
    if rows:
        told = "; ".join(
            f"{attribute}: {moves} moves, {explained} with a cause" for attribute, moves, explained in rows
        )
        raise StepFailed(
            f"the causes of {today.day} do not add up to its moves: {told}",
            where=str(today.path),
            todo="give each class, stage and tier its level in the seeds rfm_classes, lifecycle_stages and value_tiers",
        )
