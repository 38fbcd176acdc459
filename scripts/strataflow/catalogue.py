"""The catalogue of published tables, metrics and their readers, as one Markdown page made from dbt's manifest.

Descriptions stand once, beside the models, and travel with every version; this
page is the same words for people who look before they query. A shop that adds
tables makes its own page with the same command.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from strataflow import contracts
from strataflow.export import REFERENCES
from strataflow.home import Home
from strataflow.prediction import lifetime_value
from strataflow.project import Project

# Vars that publish further tables: the page tells of those, too, whether or not this project has them switched on.
OPTIONAL = {"clusters": True}

HEAD = """# Catalogue

Every table that is published, column by column, made from the dbt project by `strataflow catalogue`; edit the
descriptions beside the models and make it again. How numbers are defined: [metrics.md](metrics.md). How tables are
read: [published.md](published.md). The tables of the history, of stability and of the scorecard span days and lie
beside the versions; they have pages of their own: [history.md](history.md), [stability.md](stability.md),
[scorecard.md](scorecard.md).
"""


def catalogue(project: Project) -> str:
    """The page for a project, in Markdown; equal projects make equal pages.

    Raises:
        StepFailed: dbt can't parse the project.
    """
    manifest = _manifest(project)
    nodes = manifest["nodes"].values()
    tables = contracts.published(nodes) | {lifetime_value.TABLE: lifetime_value.PUBLISHED}
    for collection in contracts.ACROSS_DAYS:
        tables |= contracts.across_days(collection)
    references = contracts.references(nodes, REFERENCES)
    sections = [
        HEAD,
        _overview(tables),
        *(_table(name, tables[name]) for name in sorted(tables)),
        "## Tables that explain keys\n\nSeeds an analyst edits; they come along in `current.duckdb`.\n",
        *(_reference(name, references[name]) for name in sorted(references)),
        _metrics(manifest["metrics"].values()),
        _exposures(manifest["exposures"].values()),
    ]
    return "\n".join(sections)


def _manifest(project: Project) -> dict[str, Any]:
    from strataflow.dbt_call import manifest
    from strataflow.engines.duckdb import compile_models

    with TemporaryDirectory() as folder:
        home = Home(Path(folder))
        compile_models(home, project, "catalogue", OPTIONAL, ["customer_segments"])
        return manifest(home, "catalogue")


def _overview(tables: Mapping[str, Any]) -> str:
    rows = [f"| [`{name}`](#{name}) | {_list(told['key'])} | {told['description']} |" for name, told in tables.items()]
    return "\n".join(["| table | key | what it holds |", "|---|---|---|", *sorted(rows), ""])


def _table(name: str, told: Mapping[str, Any]) -> str:
    rows = [
        f"| `{column}` | {one['data_type']} | {_cell(one['description'])} | {_cell(one['zh'])} |"
        for column, one in told["columns"].items()
    ]
    return "\n".join(
        [
            f"## {name}\n",
            f"{told['description']}\n",
            f"{told['zh']}\n",
            f"Key: {_list(told['key'])}. Contract version {told['contract_version']}.\n",
            "| column | type | meaning | 含义 |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )


def _reference(name: str, told: Mapping[str, Any]) -> str:
    rows = [
        f"| `{column}` | {_cell(one['description'])} | {_cell(one['zh'])} |" for column, one in told["columns"].items()
    ]
    words = [f"### {name}\n", f"{told['description']}\n", f"{told['zh']}\n", f"Key: {_list(told['key'])}.\n"]
    return "\n".join([*words, "| column | meaning | 含义 |", "|---|---|---|", *rows, ""])


def _metrics(metrics: Iterable[Mapping[str, Any]]) -> str:
    rows = [
        f"| `{one['name']}` | {one['label']} | {one['config']['meta']['zh']} | {_cell(one['description'])} |"
        for one in sorted(metrics, key=lambda one: one["name"])
    ]
    head = (
        "## Metrics\n\nDefined once in `dbt_project/models/semantics/`, for any tool that speaks dbt's semantic layer: "
        "`mf query --metrics revenue,repeat_rate --group-by customer__rfm_class`.\n"
    )
    return "\n".join([head, "| metric | name | 名称 | definition |", "|---|---|---|---|", *rows, ""])


def _exposures(exposures: Iterable[Mapping[str, Any]]) -> str:
    rows = []
    for one in sorted(exposures, key=lambda one: one["name"]):
        reads = sorted(node.rpartition(".")[2] for node in one["depends_on"]["nodes"])
        rows.append(f"- **{one['label']}** reads {_list(reads)}. {' '.join(one['description'].split())}")
    return "\n".join(["## Who reads them\n", *rows, ""])


def _list(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
