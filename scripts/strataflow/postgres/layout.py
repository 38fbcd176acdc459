"""What lies where in the database, and who may see it.

==========================  =============================================================================
``strataflow``              views of what readers see now, one per table, and ``published_version``
``strataflow_history``      views of all days that are kept, one per table, and ``published_versions``
``strataflow_store``        the tables below the views, a partition per copy of a day, and the writer's notes
==========================  =============================================================================

``strataflow_writer`` owns it all. ``strataflow_reader`` may select from the views and has no access to the store, so
a column that the views leave out can't be read by any detour.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from string import Template

from strataflow.export import literal, quoted

WRITER, READER = "strataflow_writer", "strataflow_reader"
SCHEMA_SETTING, DEFAULT_SCHEMA = "STRATAFLOW_POSTGRES_SCHEMA", "strataflow"
LONGEST_NAME = 63


@dataclass(frozen=True)
class Layout:
    """The three schemas of one shop, named after the first of them."""

    schema: str = DEFAULT_SCHEMA

    @property
    def history(self) -> str:
        """Schema of the views of all days."""
        return f"{self.schema}_history"

    @property
    def store(self) -> str:
        """Schema of the tables themselves."""
        return f"{self.schema}_store"

    def note(self, name: str) -> str:
        """One of the writer's own tables, as SQL."""
        return f"{quoted(self.store)}.{quoted(name)}"

    def stored(self, table: str, contract_version: int) -> str:
        """The table that holds all days of ``table`` under a contract, as SQL."""
        return f"{quoted(self.store)}.{quoted(stored_name(table, contract_version))}"

    def partition(self, table: str, contract_version: int, day: date, part: int) -> str:
        """Its partition of one copy of a day, as SQL."""
        return f"{quoted(self.store)}.{quoted(partition_name(table, contract_version, day, part))}"

    def current_view(self, name: str) -> str:
        """A view of what readers see now, as SQL."""
        return f"{quoted(self.schema)}.{quoted(name)}"

    def history_view(self, name: str) -> str:
        """A view of all days, as SQL."""
        return f"{quoted(self.history)}.{quoted(name)}"

    @property
    def schemas(self) -> tuple[str, str, str]:
        """Names of the three schemas."""
        return self.schema, self.history, self.store

    def preparation(self) -> list[str]:
        """What an administrator, or a login that may create roles and schemas, runs once."""
        roles = [
            f"do $$ begin if not exists (select from pg_roles where rolname = {literal(role)}) "
            f"then create role {role} nologin; end if; end $$"
            for role in (WRITER, READER)
        ]
        schemas = [f"create schema if not exists {quoted(schema)} authorization {WRITER}" for schema in self.schemas]
        return [*roles, f"grant {WRITER} to current_user", *schemas]

    def script(self, name: str) -> list[str]:
        """The statements of a SQL file of this package, for these schemas.

        ``notes.sql`` makes the writer's own tables, ``runs.sql`` those that follow the logs of runs.
        """
        template = Template((Path(__file__).parent / name).read_text(encoding="utf-8"))
        names = {"current": self.schema, "history": self.history, "store": self.store}
        script = template.substitute({key: quoted(schema) for key, schema in names.items()} | {"reader": READER})
        return [statement for statement in script.split(";\n") if statement.strip()]


def stored_name(table: str, contract_version: int) -> str:
    """Name of the table that holds ``table`` under a contract."""
    return _fitting(f"{table}_v{contract_version}", room=len("_20171231_2147483647"))


def partition_name(table: str, contract_version: int, day: date, part: int) -> str:
    """Name of the partition of one copy of a day; :func:`part_of` reads the copy's number from it."""
    return f"{stored_name(table, contract_version)}_{day:%Y%m%d}_{part}"


def part_of(partition: str) -> int:
    """The number of the copy that a partition holds."""
    return int(partition.rsplit("_", 1)[1])


def view_name(table: str, contract_version: int) -> str:
    """Name of the views of a contract that is not the one in force."""
    return _fitting(f"{table}_v{contract_version}")


def _fitting(name: str, room: int = 0) -> str:
    """``name``, or its beginning and a digest, so that PostgreSQL doesn't cut it."""
    if len(name.encode()) + room <= LONGEST_NAME:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{name[: LONGEST_NAME - room - 9]}_{digest}"
