"""What the parts of a build took, from dbt's own account of each node.

dbt works on one node at a time (``threads: 1`` in the profile), so that the seconds of its nodes add up to a part of
the build's wall time; the rest is Python's start, parsing, training, and keeping ledgers and totals.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from strataflow.dbt_call import manifest, node_seconds
from strataflow.home import Home

if TYPE_CHECKING:
    from pathlib import Path

# Tables beside the folder models/tags that building tags consists of.
TAG_TABLES = (
    "customer_tags",
    "customer_profile",
    "tag_coverage",
    "tag_conflicts",
    "tag_review_queue",
    "manual_tag_outcomes",
)
TAGS = "tags"


def seconds_by_layer(home: Path) -> dict[str, float]:
    """Seconds of dbt's last run for a home by folder of models; data tests go with the model that they test.

    The tables of :data:`TAG_TABLES` are told among the tags, wherever they lie.
    """
    at = Home.at(home)
    ran = json.loads(node_seconds(at, "duckdb").read_text(encoding="utf-8"))
    nodes = manifest(at, "duckdb")["nodes"]
    found: dict[str, float] = {}
    for unique_id, seconds in ran.items():
        layer = _layer(unique_id, nodes)
        found[layer] = found.get(layer, 0.0) + seconds
    return {layer: round(seconds, 3) for layer, seconds in sorted(found.items())}


def _layer(unique_id: str, nodes: dict[str, Any]) -> str:
    node = nodes.get(unique_id, {"resource_type": unique_id.partition(".")[0], "fqn": [], "name": unique_id})
    tested = nodes.get(node.get("attached_node"))
    if tested:
        node = tested
    if node["resource_type"] != "model":
        return f"{node['resource_type']}s"
    return TAGS if node["name"] in TAG_TABLES else node["fqn"][1]
