"""Fingerprints of the rules and of the code that a result came from.

Two runs with the same fingerprint over the same data give the same bytes; the
manifest of a published version carries them, so that a number can be traced to
the rule that was in force.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

from strataflow import __version__, yamltext
from strataflow.durable import json_text
from strataflow.errors import UsageError
from strataflow.project import Project

# What a ledger row depends on: everything up to the ledgers, the two seeds and the vars they read.
_LEDGER_PATHS = (
    "models/staging",
    "models/ledgers",
    "macros/ledger.sql",
    "macros/read_lake.sql",
    "macros/run_parameters.sql",
    "seeds/order_statuses.csv",
    "seeds/currency_rates.csv",
)
_LEDGER_VARS = ("interaction_redelivery_days", "bulk_line_units")

# What lifetime totals depend on beside the ledgers.
_TOTALS_PATHS = (
    "macros/customer_totals.sql",
    "models/customers/int_customer_order_totals.sql",
    "models/customers/int_customer_interaction_totals.sql",
    "models/customers/int_customer_consents.sql",
    "seeds/interaction_kinds.csv",
)

# What the weekly insights depend on beside the ledgers; a var belongs to them by the first word of its name.
_INSIGHT_PATHS = ("models/insights", "macros/insights.sql", "macros/next_best.sql")
_INSIGHT_VARS = ("repurchase_", "hook_", "basket_", "affinity_", "next_best_", "referral_", "advocate_")

# What counts as a rule or as code; the last three are the report's page.
_SUFFIXES = {".sql", ".yml", ".yaml", ".csv", ".py", ".html", ".css", ".js"}
# Beside the models, pages hold what columns mean, and a published version says it with every table.
_DESCRIPTIONS = ".md"


def variables(project: Project) -> dict[str, Any]:
    """The vars in dbt_project.yml by name.

    Raises:
        UsageError: the file is missing or has no vars.
    """
    path = project.dbt / "dbt_project.yml"
    try:
        return yamltext.load(path.read_text(encoding="utf-8"))["vars"]
    except (OSError, yaml.YAMLError, KeyError, TypeError) as fault:
        raise UsageError(f"the rules can't be read: {fault!r}", where=str(path)) from fault


def rules_hash(project: Project) -> str:
    """Hex digest of the rules an analyst edits: seeds and the vars in dbt_project.yml."""
    return _tree_digest(project.dbt, ("seeds", "dbt_project.yml"))


def expectations_hash(project: Project) -> str:
    """Hex digest of the expectation suites of both gates."""
    return _tree_digest(project.root, ("expectations",))


def ledger_rules_hash(project: Project, currency: str) -> str:
    """Hex digest of the rules that ledger rows depend on; a kept ledger of another digest is stale.

    Args:
        currency: the shop's reporting currency, into which ledger amounts are converted.
    """
    rules = variables(project)
    settings = [f"{name}={rules[name]}" for name in _LEDGER_VARS]
    return _digest([_tree_digest(project.dbt, _LEDGER_PATHS), currency, *settings])


def totals_rules_hash(project: Project, currency: str) -> str:
    """Hex digest of the rules that lifetime totals depend on; kept totals of another digest are stale.

    Args:
        currency: as for :func:`ledger_rules_hash`.
    """
    return _digest([ledger_rules_hash(project, currency), _tree_digest(project.dbt, _TOTALS_PATHS)])


def insight_rules_hash(project: Project, currency: str) -> str:
    """Hex digest of the rules that weekly insights depend on; kept insights of another digest are stale.

    Args:
        currency: as for :func:`ledger_rules_hash`.
    """
    rules = variables(project)
    settings = [f"{name}={rules[name]}" for name in sorted(rules) if name.startswith(_INSIGHT_VARS)]
    return _digest([ledger_rules_hash(project, currency), _tree_digest(project.dbt, _INSIGHT_PATHS), *settings])


def code_version(project: Project) -> str:
    """Package version and a short digest of models, macros, data tests and the package's code."""
    models = _tree_digest(project.dbt, ("models", "macros", "tests"))
    package = _tree_digest(Path(__file__).parent, (".",))
    return f"{__version__}+{_digest([models, package])[:12]}"


def listed(project: Project) -> dict[str, Any]:
    """The rules file by file, for a reader who wants to know which of them differ from another version's.

    Returns:
        ``files``: hex digest by path below ``dbt_project``, of seeds, models, macros, data tests and
        ``dbt_project.yml``; ``vars``: their values as JSON holds them.
    """
    parts = ("dbt_project.yml", "seeds", "models", "macros", "tests")
    return {
        "files": dict(sorted(_file_digests(project.dbt, parts))),
        "vars": json.loads(json_text(variables(project))),
    }


def project_hash(project: Project) -> str:
    """Hex digest of all that dbt parses; of a seed's rows that is nothing, they are read when it is built."""
    parts = ("models", "macros", "seeds", "tests", "dbt_project.yml", "profiles.yml")
    found = _file_digests(project.dbt, parts)
    return _digest(path if path.endswith(".csv") else f"{path} {content}" for path, content in found)


def _tree_digest(root: Path, parts: Iterable[str]) -> str:
    return _digest(f"{path} {content}" for path, content in _file_digests(root, parts))


def _file_digests(root: Path, parts: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Path below ``root`` and hex digest of each rule or code file, line ends made equal."""
    for part in parts:
        path = root / part
        files = [path] if path.is_file() else sorted(path.rglob("*"))
        suffixes = _SUFFIXES | {_DESCRIPTIONS} if part == "models" else _SUFFIXES
        for file in files:
            if file.is_file() and file.suffix in suffixes:
                content = hashlib.sha256(file.read_bytes().replace(b"\r\n", b"\n")).hexdigest()
                yield file.relative_to(root).as_posix(), content


def _digest(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
