"""One connection to PostgreSQL, and errors that say what to do.

The driver is ADBC's: it takes Arrow batches and sends them as binary COPY, and runs plain SQL in the same
transaction. It is imported on use, because only who publishes to PostgreSQL has it installed.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from strataflow.errors import InputError, StepFailed, UsageError

if TYPE_CHECKING:
    import pyarrow as pa

SETTING = "STRATAFLOW_POSTGRES_DSN"

LOCK_NOT_AVAILABLE, DEADLOCK = "55P03", "40P01"
INSUFFICIENT_PRIVILEGE, CHARACTER_NOT_STORABLE = "42501", "22021"

# PostgreSQL looks for deadlocks after a second. Whoever takes several locks that readers may hold gives up well
# before, so that no reader is ever chosen as the victim.
LOCK_MILLISECONDS = 300
MILLISECONDS_FOR_ALL_LOCKS = 600

# The server's setting in which a block says which lock it could not get.
LOCKED = "strataflow.locked"

# Of a statement in an error.
LONGEST_LINE = 200


class Locked(Exception):
    """Readers hold what is to be changed; try again."""


class NotStorable(StepFailed):
    """A text holds a character that PostgreSQL has no place for: the one with the code 0."""


def dsn_of(given: str | None) -> str | None:
    """The address of the database: as given, else by ``$STRATAFLOW_POSTGRES_DSN``; None where neither is set.

    A word without ``:`` and ``=`` is the id of an Airflow connection.

    Raises:
        UsageError: there is no such connection.
    """
    chosen = (given or os.environ.get(SETTING, "")).strip()
    if not chosen:
        return None
    if re.fullmatch(r"[\w.-]+", chosen):
        chosen = _from_airflow(chosen)
    return re.sub(r"^postgres(ql)?(\+\w+)?://", "postgresql://", chosen)


def _from_airflow(connection_id: str) -> str:
    from airflow.exceptions import AirflowNotFoundException
    from airflow.sdk import BaseHook

    try:
        return BaseHook.get_connection(connection_id).get_uri()
    except AirflowNotFoundException as missing:
        raise UsageError(
            f"Airflow has no connection {connection_id!r}",
            where=SETTING,
            todo=f"airflow connections add {connection_id} --conn-uri postgresql://..., or give a DSN",
        ) from missing


class Session:
    """A connection in whose transaction everything happens until :meth:`commit`."""

    def __init__(self, dsn: str, *, autocommit: bool = False) -> None:
        """Connect.

        Raises:
            UsageError: the driver is not installed.
            InputError: the server can't be reached or turns the login away.
        """
        try:
            from adbc_driver_postgresql import dbapi
        except ModuleNotFoundError as missing:
            raise UsageError(
                "the driver for PostgreSQL is not installed",
                where="adbc_driver_postgresql",
                todo="install strataflow with its extra `postgres`",
            ) from missing
        self.fault = dbapi.Error
        try:
            self._connection = dbapi.connect(dsn, autocommit=autocommit)
        except dbapi.Error as fault:
            raise InputError(
                f"no connection to PostgreSQL: {_said(fault)}",
                where=f"the DSN in {SETTING} or --dsn",
                todo="check host, database, login and password; then publish again",
            ) from fault

    def run(self, *statements: str) -> int:
        """Execute statements, one after the other; the rows that the last one changed."""
        changed = 0
        for sql in statements:
            with self._cursor(sql) as cursor:
                cursor.execute(sql)
                changed = cursor.rowcount
        return changed

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """The answer to a query."""
        with self._cursor(sql) as cursor:
            cursor.execute(sql)
            return cursor.fetchall()

    def value(self, sql: str) -> Any:
        """The one value that a query answers; None if there is no row."""
        found = self.rows(sql)
        return found[0][0] if found else None

    def copy(self, schema: str, table: str, batches: pa.RecordBatchReader) -> int:
        """Append Arrow batches to a table by binary COPY, columns by name; the number of rows."""
        with self._cursor(f"copy {schema}.{table}") as cursor:
            return cursor.adbc_ingest(table, batches, mode="append", db_schema_name=schema)

    def commit(self) -> None:
        """Make everything since the last commit visible."""
        with self._telling("commit"):
            self._connection.commit()

    def rollback(self) -> None:
        """Forget everything since the last commit."""
        with self._telling("rollback"):
            self._connection.rollback()

    def close(self) -> None:
        """Close the connection; what was not committed is gone."""
        self._connection.close()

    @contextmanager
    def _cursor(self, doing: str) -> Iterator[Any]:
        with self._telling(doing), self._connection.cursor() as cursor:
            yield cursor

    @contextmanager
    def _telling(self, doing: str) -> Iterator[None]:
        try:
            yield
        except self.fault as fault:
            code = getattr(fault, "sqlstate", None)
            if code in (LOCK_NOT_AVAILABLE, DEADLOCK):
                raise Locked(_said(fault)) from fault
            if code == INSUFFICIENT_PRIVILEGE:
                raise UsageError(
                    f"this login may not do that: {_said(fault)}",
                    where=_short(doing),
                    todo="grant it strataflow_writer, or let a database administrator prepare the schemas "
                    "(docs/postgres.md)",
                ) from fault
            kind = NotStorable if code == CHARACTER_NOT_STORABLE else StepFailed
            raise kind(
                f"PostgreSQL: {_said(fault)}",
                where=_short(doing),
                todo="mend what the server names, then publish again; nothing half done is visible",
            ) from fault


@contextmanager
def connected(dsn: str) -> Iterator[Session]:
    """A session that is closed afterwards, whatever happens."""
    session = Session(dsn)
    try:
        yield session
    finally:
        session.close()


def between_readers(session: Session, statements: Callable[[], list[str]], seconds: float) -> None:
    """Run statements that lock what readers use, all or none, without making readers wait for longer than a moment.

    Works within the session's transaction; what it has done so far stays.

    Args:
        statements: called anew for each try.
        seconds: how long to keep trying.

    Raises:
        StepFailed: readers held the tables all the time.
    """
    deadline = time.monotonic() + seconds
    while True:
        session.run(f"set local lock_timeout = {LOCK_MILLISECONDS}", _or_note_the_lock(statements()))
        session.run("set local lock_timeout = 0")
        held = session.value(f"select current_setting('{LOCKED}')")
        if not held:
            return
        if time.monotonic() > deadline:
            raise StepFailed(
                f"queries have held the tables to be changed for {seconds:.0f} s",
                where=held,
                todo="end them (select * from pg_stat_activity), then publish again",
            )
        time.sleep(0.2)


def _or_note_the_lock(statements: list[str]) -> str:
    """One block of PL/pgSQL; where a lock is not to be had in time it undoes itself and leaves a note in a setting.

    The server does this, because for the driver an error ends the whole transaction.
    """
    too_late = (
        f"if clock_timestamp() > started + interval '{MILLISECONDS_FOR_ALL_LOCKS} ms' then "
        "raise lock_not_available using message = 'too many readers to get all locks in one go'; end if;"
    )
    body = "\n".join(f"{too_late}\n{sql};" for sql in statements)
    return f"""do $block$
        declare started timestamptz := clock_timestamp();
        begin
            perform set_config('{LOCKED}', '', true);
            begin
                {body}
            exception when lock_not_available or deadlock_detected then
                perform set_config('{LOCKED}', sqlerrm, true);
            end;
        end $block$"""


def _said(fault: Exception) -> str:
    """The server's words without the driver's."""
    text = re.sub(r"\s*(Query was:.*)?\.?\s*SQLSTATE: \w+\s*$", "", str(fault), flags=re.DOTALL)
    found = re.search(r"ERROR:\s*(.*)", text, flags=re.DOTALL)
    return " ".join((found[1] if found else text).split())


def _short(sql: str) -> str:
    line = " ".join(sql.split())
    return line if len(line) <= LONGEST_LINE else f"{line[:LONGEST_LINE]}…"
