"""A published version and a build, compared customer by customer.

All of it is SQL over the published Parquet files and the build's tables: a few
hash joins, whatever the number of customers.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import duckdb

from strataflow.sqltext import named, quoted

if TYPE_CHECKING:
    from strataflow.build import Build
    from strataflow.preview import Version

ATTRIBUTES = ("rfm_class", "ecommerce_stage", "high_ticket_stage", "activity_stage", "value_tier")
LARGEST_MOVERS = 20
SEGMENTS, TAGS = "customer_segments", "customer_tags"


def compare(version: Version, made: Build) -> dict[str, Any]:
    """What would move if ``made`` were published instead of ``version``.

    Money is the net amount in the RFM window as published, of customers the version doesn't
    know as newly built; all amounts are text, to the cent.

    Returns:
        ``customers`` and ``revenue`` before and after; ``would_move``, the customers of whom any
        attribute changes; ``moves``, per attribute the customers and revenue by from and to;
        ``largest_movers``; ``tags`` gained, lost and with another value; ``tables``, rows added,
        removed and changed; ``is_same``, whether every row of every table stays as it is.
    """
    spill = made.path.parent / "spill"
    with duckdb.connect() as connection:
        connection.execute(f"set temp_directory = {quoted(str(spill))}")
        connection.execute(f"attach {quoted(str(made.path))} as built (read_only)")
        shared = [table for table in version.manifest["tables"] if table in made.meta["published"]]
        for table in shared:
            files = ", ".join(quoted(file) for file in version.files(table))
            connection.execute(
                f"create temp view {named('before_' + table)} as "
                f"from read_parquet([{files}], hive_partitioning = false)"
            )
            connection.execute(f"create temp view {named('after_' + table)} as from built.main.{named(table)}")
        _pair_movers(connection)
        tables = [_rows_changed(connection, table, made.meta["published"][table]["key"]) for table in shared]
        one_sided = sorted({*version.manifest["tables"]} ^ {*made.meta["published"]})
        compared = {
            **_totals(connection),
            "moves": {attribute: _moves(connection, attribute) for attribute in ATTRIBUTES},
            "largest_movers": _largest_movers(connection),
            "tags": _tags(connection),
            "tables": tables,
            "tables_of_one_side": one_sided,
            "names": _names(connection),
            "is_same": not one_sided and all(_is_untouched(table) for table in tables),
        }
    shutil.rmtree(spill, ignore_errors=True)
    return compared


def _pair_movers(connection: duckdb.DuckDBPyConnection) -> None:
    """Table ``movers``: one row per customer of whom an attribute would change, or who would come or go."""
    pairs = ", ".join(f"b.{name} as {name}_before, a.{name} as {name}_after" for name in ATTRIBUTES)
    differs = " or ".join(f"b.{name} is distinct from a.{name}" for name in ATTRIBUTES)
    connection.execute(
        f"""
        create temp table movers as
        select
            coalesce(b.customer_id, a.customer_id) as customer_id,
            coalesce(b.monetary, a.monetary) as monetary,
            {pairs}
        from before_{SEGMENTS} as b
        full join after_{SEGMENTS} as a on b.customer_id = a.customer_id
        where b.customer_id is null or a.customer_id is null or {differs}
        """
    )


def _totals(connection: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    sides = {
        side: connection.execute(
            f"select count(*), cast(coalesce(sum(monetary), 0) as varchar) from {side}_{SEGMENTS}"
        ).fetchone()
        for side in ("before", "after")
    }
    moving, revenue = connection.execute(
        "select count(*), cast(coalesce(sum(monetary), 0) as varchar) from movers"
    ).fetchone()
    return {
        "customers": {side: count for side, (count, _) in sides.items()},
        "revenue": {side: amount for side, (_, amount) in sides.items()},
        "would_move": moving,
        "would_move_revenue": revenue,
    }


def _moves(connection: duckdb.DuckDBPyConnection, attribute: str) -> list[dict[str, Any]]:
    return _rows(
        connection,
        f"""
        select {attribute}_before as "from", {attribute}_after as "to", count(*) as customers,
            cast(sum(monetary) as varchar) as revenue
        from movers
        where {attribute}_before is distinct from {attribute}_after
        group by all
        order by customers desc, "from", "to"
        """,
    )


def _largest_movers(connection: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    found = _rows(
        connection,
        f"""
        select * replace (cast(monetary as varchar) as monetary)
        from movers
        order by movers.monetary desc, customer_id
        limit {LARGEST_MOVERS}
        """,
    )
    return [
        {
            "customer_id": row["customer_id"],
            "monetary": row["monetary"],
            "changes": [
                {"attribute": name, "from": row[f"{name}_before"], "to": row[f"{name}_after"]}
                for name in ATTRIBUTES
                if row[f"{name}_before"] != row[f"{name}_after"]
            ],
        }
        for row in found
    ]


def _tags(connection: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    """Customers who would gain a tag, lose it, or have it with another value; tags that stay are left out."""
    return _rows(
        connection,
        f"""
        select
            coalesce(b.tag_id, a.tag_id) as tag_id,
            count(*) filter (where b.customer_id is null) as gained,
            count(*) filter (where a.customer_id is null) as lost,
            count(*) filter (where b.customer_id is not null and a.customer_id is not null) as changed
        from before_{TAGS} as b
        full join after_{TAGS} as a on b.customer_id = a.customer_id and b.tag_id = a.tag_id
        where b.customer_id is null or a.customer_id is null or b.tag_value is distinct from a.tag_value
        group by all
        order by gained + lost + changed desc, tag_id
        """,
    )


def _rows_changed(connection: duckdb.DuckDBPyConnection, table: str, key: Sequence[str]) -> dict[str, Any]:
    """How many rows of a table would be added, removed and changed, and in which columns."""
    before, after = _columns(connection, f"before_{table}"), _columns(connection, f"after_{table}")
    values = [column for column in before if column in after and column not in key]
    join = " and ".join(f"b.{named(column)} is not distinct from a.{named(column)}" for column in key)
    first = named(key[0])
    differs = {column: f"b.{named(column)} is distinct from a.{named(column)}" for column in values}
    both = f"b.{first} is not null and a.{first} is not null"
    counts = "".join(f", count(*) filter (where {both} and {test})" for test in differs.values())
    added, removed, changed, *by_column = connection.execute(
        f"""
        select count(*) filter (where b.{first} is null), count(*) filter (where a.{first} is null),
            count(*) filter (where {both} and ({" or ".join(differs.values()) or "false"})){counts}
        from {named("before_" + table)} as b full join {named("after_" + table)} as a on {join}
        """
    ).fetchone()
    return {
        "table": table,
        "added": added,
        "removed": removed,
        "changed": changed,
        "columns": {column: count for column, count in zip(values, by_column, strict=True) if count},
        "columns_added": [column for column in after if column not in before],
        "columns_removed": [column for column in before if column not in after],
    }


def _is_untouched(table: dict[str, Any]) -> bool:
    return not any(table[part] for part in ("added", "removed", "changed", "columns_added", "columns_removed"))


def _names(connection: duckdb.DuckDBPyConnection) -> dict[str, dict[str, list[str]]]:
    """Names in English and Chinese by attribute and value, and of tags, as the edited seeds give them."""
    rows = connection.execute(
        """
        select 'rfm_class', rfm_class, name_en, name_zh from built.main.rfm_classes
        union all
        select ladder || '_stage', stage, name_en, name_zh from built.main.lifecycle_stages
        union all
        select 'value_tier', value_tier, name_en, name_zh from built.main.value_tiers
        union all
        select 'tag_id', tag_id, name_en, name_zh from built.main.tag_dictionary
        """
    ).fetchall()
    names: dict[str, dict[str, list[str]]] = {}
    for attribute, value, name_en, name_zh in rows:
        names.setdefault(attribute, {})[value] = [name_en, name_zh]
    return names


def _columns(connection: duckdb.DuckDBPyConnection, view: str) -> list[str]:
    return [row[0] for row in connection.execute(f"describe {named(view)}").fetchall()]


def _rows(connection: duckdb.DuckDBPyConnection, query: str) -> list[dict[str, Any]]:
    found = connection.execute(query)
    names = [column[0] for column in found.description]
    return [dict(zip(names, row, strict=True)) for row in found.fetchall()]
