"""Building the tables of one day with dbt, into a DuckDB file of their own.

A build reads the lake and the kept ledgers, writes one new database file and
moves it into place when it is whole: no reader ever waits for it, and a killed
build leaves nothing but a file in the scratch folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

from strataflow import contracts, engines, insights, ledger, totals
from strataflow.dbt_call import Progress, manifest
from strataflow.durable import json_text, sync, write_json
from strataflow.engines import Engine, Work
from strataflow.engines import duckdb as duckdb_engine
from strataflow.errors import UsageError
from strataflow.export import REFERENCES
from strataflow.home import Home
from strataflow.lake import Received, received
from strataflow.prediction import cluster_refits, lifetime_value
from strataflow.prediction.training import model_in_force, score_lifetime_value
from strataflow.project import Project
from strataflow.rules import (
    code_version,
    expectations_hash,
    insight_rules_hash,
    ledger_rules_hash,
    rules_hash,
    totals_rules_hash,
    variables,
)
from strataflow.rules import listed as listed_rules
from strataflow.sources import Shop
from strataflow.tags import Vocabulary, handed
from strataflow.tags.profile import refuse_outdated

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Build:
    """A finished build: its database file and what it was made from.

    ``meta`` is the content of ``build.json``: build_id, fingerprint, as_of,
    known_at, engine, rules_hash, code_version, cutoffs, rows per table, inputs, and the
    contracts of the published tables and of the seeds that come with them.
    """

    path: Path
    as_of: date
    known_at: date
    meta: dict[str, Any]

    @classmethod
    def load(cls, home: Home, as_of: date, known_at: date | None = None) -> Build:
        """The last finished build of a day.

        Raises:
            UsageError: there is none.
        """
        folder = build_folder(home, as_of, known_at or as_of)
        try:
            meta = json.loads((folder / "build.json").read_text(encoding="utf-8"))
        except FileNotFoundError as missing:
            raise UsageError(
                f"there is no build of {as_of}", where=str(folder), todo=f"strataflow build --date {as_of}"
            ) from missing
        return cls(folder / "build.duckdb", as_of, known_at or as_of, meta)


def build_folder(home: Home, as_of: date, known_at: date) -> Path:
    """Where the build of ``as_of`` lies; a restatement lies beside the original."""
    return home.builds / home.named(as_of, known_at)


def fingerprint(home: Home, project: Project, shop: Shop, as_of: date, known_at: date | None = None) -> str:
    """Hex digest of everything a build of ``as_of`` depends on: data, rules, code, dates.

    Raises:
        InputError: nothing has been landed by then.
    """
    return _fingerprint(project, shop, as_of, received(home, known_at or as_of))


def build(
    home: Home,
    project: Project,
    shop: Shop,
    as_of: date,
    known_at: date | None = None,
    *,
    engine: str | None = None,
    progress: Progress | None = None,
) -> Build:
    """Build all tables as of ``as_of`` from what was received up to ``known_at`` (default: ``as_of``).

    Args:
        engine: what computes them (:mod:`strataflow.engines`); ``$STRATAFLOW_ENGINE`` if not given.
            It may change from day to day: the result does not depend on it.

    Raises:
        UsageError: there is no such engine, something it needs is missing, the tag vocabulary has problems, or a
            setting of stability is out of range.
        InputError: nothing has been landed by then.
        StepFailed: a model or a data test of the dbt project failed.
    """
    from strataflow.history.stability import Settings

    name, computing = engines.chosen(engine)
    Vocabulary.load(project)
    refuse_outdated(project)
    Settings.of(variables(project))
    known = received(home, known_at or as_of)
    rules = ledger_rules_hash(project, shop.currency)
    totals_rules = totals_rules_hash(project, shop.currency)
    ledger.clean(home)
    scratch = home.scratch / f"build-{as_of}"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    with computing.ready(home, scratch):
        build_ledgers = partial(_build_ledgers, home, project, shop, computing)
        in_force = model_in_force(home, project, as_of, rules, build_ledgers)
        clusters = cluster_refits.clusters_in_force(home, project, as_of, rules, build_ledgers)
        store = ledger.kept(home, rules)
        valid = ledger.valid_through(store, known)
        settled = totals.kept(home, known, as_of, totals_rules)
        run_vars = _run_vars(home, shop, as_of, known, valid) | in_force.dbt_vars()
        run_vars |= cluster_refits.dbt_vars(clusters)
        run_vars["kept_totals"] = settled.dbt_var() if settled else None
        run_vars["tag_texts"] = handed.hand_over(home, project, known, as_of, scratch / "tag_texts")
        weekly = insights.folder(home, as_of, insight_rules_hash(project, shop.currency))
        run_vars["kept_insights"] = str(insights.kept(weekly) or "") or None
        work = Work(home, project, run_vars, scratch, progress)
        computing.build_tables(work)
    score_lifetime_value(work.database, in_force, as_of, float(variables(project)["ltv_discount_rate"]))
    ledger.keep(home, store, valid, known, work.database)
    totals.keep(home, known, as_of, totals_rules, work.database)
    insights.keep(weekly, work.database)
    meta = _describe(project, home, shop, as_of, known, work.database)
    card = in_force.card | ({"behaviour_clusters": clusters.to_json()} if clusters else {})
    meta |= {"model_card": card, "engine": name}
    folder = build_folder(home, as_of, known.known_at)
    _move_into_place(work.database, folder, meta)
    shutil.rmtree(scratch, ignore_errors=True)
    return Build(folder / "build.duckdb", as_of, known.known_at, meta)


def _build_ledgers(home: Home, project: Project, shop: Shop, computing: Engine, known: Received) -> None:
    """Bring the kept ledgers up to ``known.known_at`` and no further, for training as of that day."""
    store = ledger.kept(home, ledger_rules_hash(project, shop.currency))
    valid = ledger.valid_through(store, known)
    scratch = home.scratch / f"ledgers-{known.known_at}"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    work = Work(home, project, _run_vars(home, shop, known.known_at, known, valid), scratch)
    computing.build_tables(work, select=[f"+int_{name}_appended" for name in ledger.LEDGERS])
    ledger.keep(home, store, valid, known, work.database)
    shutil.rmtree(scratch, ignore_errors=True)


def bring_ledgers_up(home: Home, project: Project, shop: Shop, known: Received) -> ledger.Kept:
    """The kept ledgers, brought up to ``known.known_at`` if they don't reach it or no longer agree with the lake."""
    rules = ledger_rules_hash(project, shop.currency)
    valid = ledger.valid_through(ledger.kept(home, rules), known)
    if valid is None or valid < known.known_at:
        _build_ledgers(home, project, shop, duckdb_engine, known)
    return ledger.kept(home, rules)


def build_models(
    home: Home,
    project: Project,
    shop: Shop,
    as_of: date,
    models: Sequence[str],
    scratch: Path,
) -> Path:
    """Build only ``models``, and what they read, as of a day and known by then, without a trained model in force.

    DuckDB builds them whatever builds the days: views and seeds are wanted, too, and results agree.

    Returns:
        The database file, in ``scratch``, which is emptied first and is the caller's to remove.

    Raises:
        InputError: nothing has been landed by then.
        StepFailed: a model failed.
    """
    known, rules = received(home, as_of), ledger_rules_hash(project, shop.currency)
    valid = ledger.valid_through(ledger.kept(home, rules), known)
    if valid is None or valid < as_of:
        # Kept, so that the next day asked for finds the ledgers there.
        _build_ledgers(home, project, shop, duckdb_engine, known)
        valid = ledger.valid_through(ledger.kept(home, rules), known)
    settled = totals.kept(home, known, as_of, totals_rules_hash(project, shop.currency))
    run_vars = _run_vars(home, shop, as_of, known, valid) | {"kept_totals": settled.dbt_var() if settled else None}
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    run_vars["tag_texts"] = handed.hand_over(home, project, known, as_of, scratch / "tag_texts")
    work = Work(home, project, run_vars, scratch)
    duckdb_engine.build_tables(work, select=[f"+{model}" for model in models], tests=False)
    return work.database


def _fingerprint(project: Project, shop: Shop, as_of: date, known: Received) -> str:
    parts = {
        "as_of": as_of,
        "known_at": known.known_at,
        "data": known.digest(),
        "rules": rules_hash(project),
        "expectations": expectations_hash(project),
        "code": code_version(project),
        "shop": [shop.name, shop.time_zone, shop.currency],
        "schema_version": SCHEMA_VERSION,
    }
    return hashlib.sha256(json_text(parts).encode()).hexdigest()


def _run_vars(home: Home, shop: Shop, as_of: date, known: Received, valid: date | None) -> dict[str, Any]:
    return {
        "as_of": str(as_of),
        "known_at": str(known.known_at),
        "lake": str(home.lake),
        "state": str(home.state),
        "landed_tables": known.tables,
        "ledger_through": str(valid) if valid else None,
        "shop_name": shop.name,
        "shop_time_zone": shop.time_zone,
        "shop_currency": shop.currency,
    }


def _describe(project: Project, home: Home, shop: Shop, as_of: date, known: Received, database: Path) -> dict[str, Any]:
    import duckdb

    published, references = _contracts(home)
    with duckdb.connect(str(database), read_only=True) as connection:
        rows = {table: connection.execute(f'select count(*) from "{table}"').fetchone()[0] for table in published}
        cutoffs = connection.execute(
            "select measure, cutoff_1, cutoff_2, cutoff_3, cutoff_4, mean_score from rfm_cutoffs order by measure"
        ).fetchall()
        held_out, unlisted = connection.execute(
            "select count(*), count(churn_probability) from customer_segments where is_holdout"
        ).fetchone()
    fingerprint = _fingerprint(project, shop, as_of, known)
    return {
        "schema_version": SCHEMA_VERSION,
        "build_id": fingerprint[:16],
        "fingerprint": fingerprint,
        "as_of": str(as_of),
        "known_at": str(known.known_at),
        "shop": {"name": shop.name, "time_zone": shop.time_zone, "currency": shop.currency},
        "rules_hash": rules_hash(project),
        "rules": listed_rules(project),
        "expectations_hash": expectations_hash(project),
        "code_version": code_version(project),
        "cutoffs": {
            measure: {"cutoffs": [str(value) for value in values if value is not None], "mean_score": str(mean)}
            for measure, *values, mean in cutoffs
        },
        "holdout": {"customers": held_out, "kept_out_of_churn_risk": unlisted},
        "tables": rows,
        "published": published,
        "references": references,
        "inputs": {
            "days": len(known.digests()),
            "first": str(known.first),
            "last": str(known.last),
            "tables": known.tables,
            "sha256": known.digest(),
        },
    }


def _contracts(home: Home) -> tuple[dict[str, Any], dict[str, Any]]:
    """Of the published tables and of the seeds that explain their keys, by table (:mod:`strataflow.contracts`)."""
    nodes = manifest(home, "duckdb")["nodes"].values()
    tables = contracts.published(nodes) | {lifetime_value.TABLE: lifetime_value.PUBLISHED}
    return dict(sorted(tables.items())), dict(sorted(contracts.references(nodes, REFERENCES).items()))


def _move_into_place(database: Path, folder: Path, meta: dict[str, Any]) -> None:
    """Old description away first, so that a folder with a description is always whole."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "build.json").unlink(missing_ok=True)
    sync(database)
    os.replace(database, folder / "build.duckdb")
    write_json(folder / "build.json", meta)
