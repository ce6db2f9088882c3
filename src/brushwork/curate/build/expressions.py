"""Expressions of users: one condition over the columns of the metadata, and nothing else.

    check(connection, "width >= 512 AND caption NOT ILIKE '%logo%'", columns={"width", "caption"})

DuckDB's own parser reads the expression, and every node of the tree must be of a kind that is known to be harmless:
columns, constants, comparisons and functions of a list. Reading files, other tables, settings and extensions would
need others; behind this the connection itself is locked (:mod:`brushwork.curate.build.tables`).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from brushwork.errors import ConfigError, nearest

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    import duckdb

KINDS = {
    "BETWEEN",
    "CASE",
    "CAST",
    "COLUMN_REF",
    "COMPARISON",
    "CONJUNCTION",
    "CONSTANT",
    "FUNCTION",
    "OPERATOR",
    "TYPE",
}
OPERATORS = {"+", "-", "*", "/", "//", "%", "**", "^", "||", "~~", "!~~", "~~*", "!~~*", "~~~"}
FUNCTIONS = OPERATORS | {
    "abs", "ceil", "concat", "contains", "ends_with", "exp", "floor", "greatest", "ilike_escape", "isfinite", "isnan",
    "least", "left", "length", "like_escape", "ln", "log", "lower", "ltrim", "not_ilike_escape", "not_like_escape",
    "pow", "power", "prefix", "regexp_extract", "regexp_full_match", "regexp_matches", "replace", "reverse", "right",
    "round", "rtrim", "sqrt", "starts_with", "strlen", "strpos", "substring", "suffix", "trim", "trunc", "upper",
}  # fmt: skip
"""What an expression may call."""


def check(connection: duckdb.DuckDBPyConnection, expression: str, columns: Collection[str]) -> str:
    """Return the expression as it can stand in a query.

    Raises:
        ConfigError: It cannot be read, or holds more than a condition over these columns.
    """
    where = f"filter.where: {expression!r}"
    query = f"SELECT 1 FROM t WHERE (\n{expression}\n)"  # noqa: S608  (it is only parsed)
    row = connection.execute("SELECT json_serialize_sql(?)", [query]).fetchone()
    assert row is not None
    tree = json.loads(row[0])
    if tree.get("error"):
        message = f"{where} is not an expression: {tree.get('error_message')}."
        raise ConfigError(message)
    for node in _nodes(_condition(tree, where)):
        _check_node(node, where, columns)
    return f"(\n{expression}\n)"


def _condition(tree: dict[str, Any], where: str) -> Any:
    """Return the tree of the condition, if that is all there is."""
    message = f"{where} is not one expression. Write what would stand behind WHERE, such as width >= 512."
    statements = tree["statements"]
    node = statements[0]["node"] if len(statements) == 1 else {}
    expected: dict[str, Any] = {
        "type": "SELECT_NODE",
        "modifiers": [],
        "cte_map": {"map": []},
        "group_expressions": [],
        "having": None,
    }
    if any(node.get(key) != value for key, value in expected.items()) or node.get("qualify") or node.get("sample"):
        raise ConfigError(message)
    if node["from_table"].get("type") != "BASE_TABLE" or not node.get("where_clause"):
        raise ConfigError(message)
    return node["where_clause"]


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """Yield every node of an expression."""
    for each in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        yield from _nodes(each)
    if isinstance(tree, dict) and "class" in tree:
        yield tree


def _check_node(node: dict[str, Any], where: str, columns: Collection[str]) -> None:
    kind = node["class"]
    if kind not in KINDS:
        message = f"{where}: {kind.lower()} cannot stand in it. It may compare columns and constants."
        raise ConfigError(message)
    if kind == "FUNCTION":
        name = node["function_name"].lower()
        if name not in FUNCTIONS or node.get("schema") or node.get("catalog"):
            message = f"{where}: the function {name} cannot stand in it.{nearest(name, FUNCTIONS - OPERATORS)}"
            raise ConfigError(message)
    if kind == "COLUMN_REF":
        names = node["column_names"]
        if len(names) != 1 or names[0].lower() not in {each.lower() for each in columns}:
            message = f"{where}: there is no column {'.'.join(names)!r}.{nearest('.'.join(names), columns)}"
            raise ConfigError(message)
