"""SQL expressions in source descriptions: what they may say, and which columns they read.

A mapping is an expression over the columns of one row. Nothing more is
accepted: no statement, no second expression, no subquery, no aggregate or
window, and no function whose result isn't a pure function of its arguments.
The check works on DuckDB's own parse tree, not on the text, so that quoting
and comments can't get around it. An expression that passes can neither reach
another file nor make a landing depend on the clock.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from strataflow.privacy.pseudonyms import FUNCTIONS
from strataflow.sqltext import named

if TYPE_CHECKING:
    import duckdb

MACROS = ("clean_id", "money", "number", "shop_currency", *FUNCTIONS)
"""Functions that landing defines on top of DuckDB's; see ``strataflow.mapping``."""

CLOCK_WORDS = frozenset({"current_date", "current_time", "current_timestamp", "localtime", "localtimestamp"})

PURE_MACROS = frozenset(
    {
        "array_append", "array_pop_back", "array_pop_front", "array_prepend", "array_push_back", "array_push_front",
        "array_reverse", "array_to_string", "date_add", "days_in_month", "fdiv", "fmod", "if", "json", "list_any_value",
        "list_append", "list_avg", "list_bool_and", "list_bool_or", "list_count", "list_first", "list_last", "list_max",
        "list_median", "list_min", "list_mode", "list_prepend", "list_product", "list_reverse", "list_string_agg",
        "list_sum", "md5_number_lower", "md5_number_upper", "nullif", "split_part",
    }
)  # fmt: skip
"""DuckDB's own macros that a mapping may use. DuckDB doesn't say of a macro whether it is pure (`ago` reads the
clock), so these are listed and all others refused."""

IMPURE = re.compile(
    r"ago|version|user|current_.*|session_.*|inet_.*|has_.*_privilege|pg_.*|get_block_size|.*_description"
)
"""Functions that look at the clock, the session or the catalogue, whatever DuckDB says of them."""


class BadExpression(ValueError):
    """The text is not an expression that a mapping may use; the message says why."""

    key = ""


@dataclass(frozen=True)
class Expression:
    """A checked expression: its text and the columns it reads, each as a path of names.

    ``functions`` are those of ours that it calls; ``in_clear`` the columns, and keys of JSON, whose
    values it may yield as they stand, because no function that makes pseudonyms is around them.
    """

    sql: str
    columns: tuple[tuple[str, ...], ...]
    functions: frozenset[str] = frozenset()
    in_clear: tuple[str, ...] = ()


def parse(sql: str) -> Expression:
    """Check one SQL expression over the columns of a row.

    Raises:
        BadExpression: it is anything but one pure, row-wise expression.
    """
    return parse_all({"": sql})[""]


def parse_all(expressions: Mapping[str, str]) -> dict[str, Expression]:
    """Check SQL expressions, given by the keys they stand under.

    Raises:
        BadExpression: as for ``parse``; its ``key`` tells which one.
    """
    import duckdb

    checked = {}
    with duckdb.connect() as connection:
        for key, sql in expressions.items():
            try:
                checked[key] = _checked(sql, connection)
            except BadExpression as error:
                error.key = key
                raise
    return checked


def _checked(sql: str, connection: duckdb.DuckDBPyConnection) -> Expression:
    try:
        return _expression(sql, connection)
    except BadExpression:
        # A column may be called what SQL has a word for: order, at, end.
        if not sql.strip().isidentifier():
            raise
        return _expression(named(sql.strip()), connection)


def _expression(sql: str, connection: duckdb.DuckDBPyConnection) -> Expression:
    tree = _tree(sql, connection)
    called = {node["function_name"].lower() for node, _ in _nodes(tree, frozenset()) if node["class"] == "FUNCTION"}
    return Expression(sql, _columns(tree), frozenset(called & set(MACROS)), tuple(dict.fromkeys(_in_clear(tree))))


def _in_clear(node: Any) -> Iterator[str]:
    """Names of columns, and last keys of JSON paths, outside of the functions that make pseudonyms."""
    if isinstance(node, list):
        for item in node:
            yield from _in_clear(item)
    elif isinstance(node, dict):
        if node.get("class") == "FUNCTION" and node["function_name"].lower() in FUNCTIONS:
            return
        if node.get("class") == "COLUMN_REF":
            yield node["column_names"][-1]
        said = node.get("literal")
        if isinstance(said, dict) and str(said.get("text", "")).startswith("$"):
            yield said["text"].rpartition(".")[2].strip('"')
        for value in node.values():
            yield from _in_clear(value)


def _columns(tree: dict[str, Any]) -> tuple[tuple[str, ...], ...]:
    """Paths of the columns an expression reads; refuses what it may not say."""
    paths: dict[tuple[str, ...], None] = {}
    for node, bound in _nodes(tree, frozenset()):
        _refuse_impure(node)
        if node.get("class") != "COLUMN_REF":
            continue
        path = tuple(node["column_names"])
        if len(path) == 1 and path[0].lower() in CLOCK_WORDS:
            raise BadExpression(f"{path[0]} reads the clock, so the same file would land differently later")
        if path[0] not in bound:
            paths[path] = None
    return tuple(paths)


def _tree(sql: str, connection: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    if not sql.strip():
        raise BadExpression("the expression is empty")
    answer = json.loads(_serialised(sql, connection))
    if answer["error"]:
        kind, message = answer.get("error_type"), answer["error_message"]
        raise BadExpression(message if kind == "parser" else "only an expression is allowed, no statement")
    statements = answer["statements"]
    node = statements[0]["node"]
    if len(statements) != 1 or node["type"] != "SELECT_NODE":
        raise BadExpression("write one expression, not several statements")
    if node["from_table"]["type"] != "EMPTY" or node.get("where_clause") or node.get("having"):
        raise BadExpression("an expression reads one row: FROM, WHERE and the like are not allowed")
    if node["modifiers"] or node.get("group_expressions") or node.get("qualify") or node["cte_map"]["map"]:
        raise BadExpression("an expression reads one row: DISTINCT, GROUP BY, ORDER BY, LIMIT, WITH are not allowed")
    if len(node["select_list"]) != 1:
        raise BadExpression("write one expression, not several with commas between")
    if node["select_list"][0].get("alias"):
        raise BadExpression(
            "leave out the alias: the key already names the column (a column whose name has blanks needs double quotes)"
        )
    return node["select_list"][0]


def _nodes(node: Any, bound: frozenset[str]) -> Iterator[tuple[dict[str, Any], frozenset[str]]]:
    """All nodes of the tree, each with the names bound by the lambdas around it."""
    if isinstance(node, list):
        for item in node:
            yield from _nodes(item, bound)
    elif isinstance(node, dict):
        if node.get("class") == "LAMBDA":
            bound = bound | {ref["column_names"][0] for ref in _column_refs(node["lhs"])}
            yield from _nodes(node["expr"], bound)
            return
        if "class" in node:
            yield node, bound
        for value in node.values():
            yield from _nodes(value, bound)


def _column_refs(node: Any) -> list[dict[str, Any]]:
    return [found for found, _ in _nodes(node, frozenset()) if found.get("class") == "COLUMN_REF"]


def _refuse_impure(node: dict[str, Any]) -> None:
    kind = node.get("class")
    if kind == "SUBQUERY":
        raise BadExpression("subqueries are not allowed; columns of another file come through `lookups`")
    if kind == "WINDOW":
        raise BadExpression("window functions are not allowed: an expression reads one row")
    if kind in ("STAR", "PARAMETER"):
        raise BadExpression("`*`, `COLUMNS(…)` and parameters are not allowed: name the columns")
    if kind == "FUNCTION":
        name = node["function_name"].lower()
        if name in MACROS:
            return
        if name == "age" and len(node["arguments"]) == 1:
            raise BadExpression("age() with one argument reads the clock; give it both dates")
        impure, aggregates = _function_kinds()
        if name in impure or IMPURE.fullmatch(name):
            raise BadExpression(f"{name}() depends on more than its arguments, so a day could not be landed again")
        if name in aggregates:
            raise BadExpression(f"{name}() is an aggregate: an expression reads one row")


def _serialised(sql: str, connection: duckdb.DuckDBPyConnection) -> str:
    import duckdb

    try:
        return connection.execute("select json_serialize_sql($1)", [f"select {sql}\n"]).fetchone()[0]
    except duckdb.Error as error:
        raise BadExpression(str(error)) from error


@lru_cache(maxsize=1)
def _function_kinds() -> tuple[frozenset[str], frozenset[str]]:
    """Names of DuckDB's functions that aren't pure, and of those that are only aggregates."""
    import duckdb

    # A name counts as impure as soon as one of its forms isn't known to be pure.
    query = """
        select
            coalesce(list(distinct function_name) filter (
                where case when function_type = 'macro' then not list_contains($1, function_name)
                           when function_type in ('table', 'table_macro', 'pragma') then false
                           else stability is distinct from 'CONSISTENT' end
            ), []),
            coalesce(list(distinct function_name) filter (where function_type = 'aggregate'), []),
            coalesce(list(distinct function_name) filter (where function_type in ('scalar', 'macro')), [])
        from duckdb_functions()
    """
    with duckdb.connect() as connection:
        impure, aggregates, scalars = connection.execute(query, [sorted(PURE_MACROS)]).fetchone()
    return frozenset(impure), frozenset(aggregates) - frozenset(scalars)
