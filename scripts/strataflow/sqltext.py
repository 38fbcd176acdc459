"""Writing SQL: names and texts quoted, so that no file name or header can say anything else."""

from __future__ import annotations


def quoted(text: str) -> str:
    """``text`` as a SQL string."""
    return "'" + text.replace("'", "''") + "'"


def named(name: str) -> str:
    """``name`` as a SQL identifier."""
    return '"' + name.replace('"', '""') + '"'
