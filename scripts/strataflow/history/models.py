"""The project's own models, compiled once, to be run over a part of the data or under other cut-offs.

Counterfactuals ask what the very rules of the daily build would have said had
one thing been different. A second copy of the rules would drift; so dbt
compiles the models with marks in place of dates and paths, and history fills
the marks in and gives the models other tables to read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from strataflow.durable import json_text, write_json
from strataflow.errors import StepFailed
from strataflow.rules import code_version, rules_hash

if TYPE_CHECKING:
    import duckdb

    from strataflow.home import Home
    from strataflow.project import Project
    from strataflow.sources import Shop

# From the ledgers to the published row, in an order in which each finds what it reads.
MODELS = (
    "int_customer_order_totals",
    "int_customer_orders_summed",
    "int_customer_interaction_totals",
    "int_customer_interactions_summed",
    "int_customer_attributes",
    "int_customers_known",
    "int_rfm_cutoffs_computed",
    "int_customer_rfm_scored",
    "int_rfm_means_computed",
    "int_customer_rfm_classified",
    "int_value_tiers_bounded",
    "int_customer_value_tiered",
    "int_customer_lifecycle_staged",
    "customer_segments",
)
# What of these is about everybody: it can be given instead of computed.
CONTEXT = ("int_rfm_cutoffs_computed", "int_rfm_means_computed", "int_value_tiers_bounded")
SEEDS = ("rfm_classes", "lifecycle_stages", "value_tiers", "interaction_kinds")
CUSTOMERS = "stg_lake__customers"

_AS_OF, _KNOWN_AT, _LAKE = "__as_of__", "__known_at__", "__lake__"


@dataclass(frozen=True)
class CompiledModels:
    """SQL of the models by name, with marks for the dates and the lake, and the seeds they read.

    Attributes:
        models: SQL by model; :data:`CUSTOMERS` is among them.
        seeds: for each seed its file and the types of its columns, as far as the project gives them.
    """

    models: dict[str, str]
    seeds: dict[str, dict[str, Any]]

    def load_seeds(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Create the seeds as tables."""
        for name, seed in self.seeds.items():
            listed = ", ".join(f"'{column}': '{kind}'" for column, kind in seed["types"].items())
            types = f", types = {{{listed}}}" if listed else ""
            connection.execute(
                f"create or replace table {name} as from read_csv($path, header = true{types})", {"path": seed["path"]}
            )

    def customers_known(self, home: Home, known_at: date) -> str:
        """SQL for the customers' attributes delivered up to ``known_at``, from the lake of ``home``."""
        return _filled(self.models[CUSTOMERS], _KNOWN_AT, known_at).replace(_LAKE, str(home.lake).replace("'", "''"))

    def run(self, connection: duckdb.DuckDBPyConnection, as_of: date, *, given_context: bool) -> None:
        """Create the tables of all models as of a day, ``customer_segments`` being the last.

        Args:
            connection: holds the seeds, ``int_order_ledger``, ``int_interaction_ledger``, ``stg_lake__customers``,
                and the tables of :data:`CONTEXT` if they are given.
            given_context: take cut-offs, means and tier bounds as they are there, instead of computing them.
        """
        # Churn is no part of class, stage or tier, but the published row has it.
        connection.execute(
            "create or replace view int_customer_churn_scored as "
            "select cast(null as varchar) as customer_id, cast(null as double) as churn_probability where false"
        )
        for name in MODELS:
            if not (given_context and name in CONTEXT):
                connection.execute(f"create or replace table {name} as {_filled(self.models[name], _AS_OF, as_of)}")


def compiled_models(home: Home, project: Project, shop: Shop, tables: Sequence[str]) -> CompiledModels:
    """The models of the rules and code in force, compiled by dbt or kept from the last time they were.

    Args:
        tables: canonical tables that have landed; others read as empty.

    Raises:
        StepFailed: dbt can't compile the project.
    """
    parts = [rules_hash(project), code_version(project), str(project.dbt), shop.model_dump_json(), sorted(tables)]
    digest = hashlib.sha256(json_text(parts).encode()).hexdigest()
    folder = home.root / "dbt" / "history"
    kept = folder / f"compiled-{digest[:16]}.json"
    if not kept.is_file():
        content = _compiled(home, project, shop, tables)
        for outdated in folder.glob("compiled-*.json"):
            outdated.unlink()
        write_json(kept, content)
    content = json.loads(kept.read_text(encoding="utf-8"))
    return CompiledModels(content["models"], content["seeds"])


def _compiled(home: Home, project: Project, shop: Shop, tables: Sequence[str]) -> dict[str, Any]:
    from strataflow.engines.duckdb import compile_models

    run_vars = {
        "as_of": _AS_OF,
        "known_at": _KNOWN_AT,
        "lake": _LAKE,
        "ledger_through": None,
        "kept_totals": None,
        "landed_tables": list(tables),
        "shop_name": shop.name,
        "shop_time_zone": shop.time_zone,
        "shop_currency": shop.currency,
    }
    nodes = compile_models(home, project, "history", run_vars, (*MODELS, CUSTOMERS, *SEEDS))
    lacking = {name for name in (*MODELS, CUSTOMERS, *SEEDS) if name not in nodes}
    if lacking:
        raise StepFailed(
            f"the dbt project lacks {', '.join(sorted(lacking))}, from which the causes of moves are worked out",
            where=str(project.dbt),
            todo="restore them, or tell history what took their place (strataflow/history/models.py)",
        )
    return {
        "models": {name: nodes[name]["compiled_code"] for name in (*MODELS, CUSTOMERS)},
        "seeds": {
            name: {
                "path": str(project.dbt / nodes[name]["original_file_path"]),
                "types": dict(nodes[name]["config"]["column_types"]),
            }
            for name in SEEDS
        },
    }


def _filled(sql: str, mark: str, day: date) -> str:
    return sql.replace(mark, str(day))
