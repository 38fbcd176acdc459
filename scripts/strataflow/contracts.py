"""What readers of a published table are promised: its key, columns and meaning, and since which version of the promise.

Read once, from what dbt has parsed, and carried in the manifest of every published version. Whoever serves a version
(a database, a catalogue) then needs neither dbt nor the project, and an older version is served by the contract it
was published under.

In the dbt YAML, below ``config: meta`` of a published model:

====================  =========================================================================================
``published: true``   the table is published
``key``               columns that name a row
``zh``                the description in Chinese; of a column below the column's ``config: meta``
``contract_version``  1 if not given; to be raised with a change that breaks readers: a column that goes, or has
                      another type, or another key. A column that is added needs no new version
``indexes``           lists of columns that readers filter by, beside the key
``contact: true``     of a column: reaches a person (address, number), so that common readers never see it
====================  =========================================================================================
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from strataflow import yamltext

# What is made of many days and published beside their versions; each has a ``tables.yml`` in its package.
ACROSS_DAYS = ("history", "scorecard")
_ANCHORS = "anchors"


def published(nodes: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The contracts of the models marked ``meta.published``, by table.

    Args:
        nodes: of dbt's manifest.
    """
    return {node["name"]: of_node(node) for node in nodes if _meta(node).get("published")}


def references(nodes: Iterable[Mapping[str, Any]], names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The contracts of the seeds that explain keys in published tables, by table."""
    wanted = set(names)
    return {node["name"]: of_node(node) for node in nodes if node["resource_type"] == "seed" and node["name"] in wanted}


def across_days(collection: str) -> dict[str, dict[str, Any]]:
    """The contracts of the tables of one of :data:`ACROSS_DAYS`, by table.

    Beside what the others have: ``current``, a condition in SQL for the rows that a database shows as of the day its
    readers see; ``may_be_empty``, columns of the key that may be null; ``excerpt_of``, the table of a version whose
    columns it has: a database then shows it as a view of that one instead of copying it.
    """
    path = Path(__file__).parent / collection / "tables.yml"
    content = yamltext.load(path.read_text(encoding="utf-8"))
    return {
        table: {
            "key": told["key"],
            "description": _line(told["description"]),
            "zh": _line(told["zh"]),
            "contract_version": int(told.get("contract_version", 1)),
            "indexes": told.get("indexes", []),
            "columns": told["columns"],
            "current": told.get("current"),
            "may_be_empty": told.get("may_be_empty", []),
            "excerpt_of": told.get("excerpt_of"),
        }
        for table, told in content.items()
        if table != _ANCHORS
    }


def of_node(node: Mapping[str, Any]) -> dict[str, Any]:
    """The contract of one model or seed of dbt's manifest."""
    meta = _meta(node)
    return {
        "key": list(meta.get("key", ())),
        "description": _line(node["description"]),
        "zh": _line(meta.get("zh", "")),
        "contract_version": int(meta.get("contract_version", 1)),
        "indexes": [list(columns) for columns in meta.get("indexes", ())],
        "columns": {name: _column(column) for name, column in node["columns"].items()},
    }


def in_both_languages(told: Mapping[str, Any]) -> str:
    """The description of a table or column in English, then in Chinese, as far as there is one."""
    return "\n".join(text for text in (told.get("description"), told.get("zh")) if text)


def _column(column: Mapping[str, Any]) -> dict[str, Any]:
    meta = _meta(column)
    told = {
        "data_type": column.get("data_type"),
        "description": _line(column["description"]),
        "zh": _line(meta.get("zh", "")),
    }
    return told | ({"contact": True} if meta.get("contact") else {})


def _meta(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    return entry.get("config", {}).get("meta") or {}


def _line(text: str) -> str:
    return " ".join(text.split())
