"""A home and the schemas of a real PostgreSQL that follow it, as tests look into them (fixture ``server``)."""

from __future__ import annotations

from dataclasses import dataclass

import psycopg

from strataflow.home import Home
from strataflow.postgres.layout import Layout


@dataclass
class Follower:
    """A home, the address of a server, and the schemas there."""

    home: Home
    dsn: str
    layout: Layout

    def rows(self, sql: str, role: str | None = None) -> list[tuple]:
        """The answer to SQL in which CURRENT, HISTORY and STORE stand for the schemas; asked by a role, if given."""
        for name, schema in zip(("CURRENT", "HISTORY", "STORE"), self.layout.schemas, strict=True):
            sql = sql.replace(f"{name}.", f"{schema}.")
        with psycopg.connect(self.dsn) as connection:
            if role:
                connection.execute(f"set role {role}")
            found = connection.execute(sql)
            return found.fetchall() if found.description else []
