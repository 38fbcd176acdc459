"""Runs one plain SQL script in one DuckDB process: ``python -m bench.sqlscript FILE NAME=VALUE …``.

A name in the script, ``$name``, stands for its value as an SQL string.
"""

from __future__ import annotations

import string
import sys
from pathlib import Path


def filled(script: Path, values: dict[str, str]) -> str:
    """The script with each ``$name`` replaced by its value as a literal; KeyError for a name without a value."""
    literals = {name: "'" + value.replace("'", "''") + "'" for name, value in values.items()}
    return string.Template(script.read_text(encoding="utf-8")).substitute(literals)


def main(arguments: list[str]) -> None:
    """Execute the script given first with the values that follow."""
    import duckdb

    values = dict(argument.split("=", 1) for argument in arguments[1:])
    with duckdb.connect() as connection:
        connection.execute("set enable_progress_bar = false")
        connection.execute(filled(Path(arguments[0]), values))


if __name__ == "__main__":
    main(sys.argv[1:])
