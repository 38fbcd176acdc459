"""Who has been erased, in a form that names nobody and still keeps them from coming back.

Deliveries of the past are landed again, backfilled and restated; without a list of
who was erased, each of these would bring them back. The list holds keyed hashes of
customer ids. The key is that of the pseudonyms where one is set, else a random salt
kept beside the list: whoever can read the salt could try all ids, so set a key.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from strataflow.durable import write_json
from strataflow.errors import InputError, UsageError
from strataflow.privacy.pseudonyms import SETTING, define_keyed_hash, key_id, key_in_force, keyed_hash
from strataflow.privacy.traces import Persons, names_customers
from strataflow.sqltext import named

if TYPE_CHECKING:
    from pathlib import Path

    import duckdb

    from strataflow.home import Home

SCHEMA_VERSION = 1
SALT = "salt"
_CONTEXT = "erased customer:"
NOTHING_SAID = "(withheld)."
"""Instead of what a reason repeats: nothing of the reason is to be kept."""

_WORD = r"[\p{L}\p{N}_]+"
_TOKEN = r"[\p{L}\p{N}][\p{L}\p{N}_.@+-]*"  # noqa: S105 (a piece of text, no secret)


@dataclass(frozen=True)
class Tombstones:
    """Hashes of erased customer ids, by what they were made with: the identifier of a key, or ``salt``.

    Attributes:
        hashes: hex digits.
        salt: the home's own random key; None until it is needed.
    """

    hashes: Mapping[str, frozenset[str]] = field(default_factory=dict)
    salt: str | None = None

    @classmethod
    def of(cls, home: Home) -> Tombstones:
        """The list of a home; empty if nobody was erased.

        Raises:
            InputError: the file is broken; without it, people who were erased would come back.
        """
        path = _file(home)
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            return cls({made_with: frozenset(found) for made_with, found in content["erased"].items()}, content["salt"])
        except FileNotFoundError:
            return cls()
        except (ValueError, KeyError, TypeError, AttributeError) as fault:
            raise InputError(
                f"the list of erased customers can't be read ({fault})",
                where=str(path),
                todo="restore the file from a backup; without it, a landing would bring them back",
            ) from fault

    @property
    def count(self) -> int:
        """How many ids are on the list."""
        return sum(len(found) for found in self.hashes.values())

    def holds(self, customer_id: str) -> bool:
        """Whether an id is on the list."""
        return any(keyed_hash(key, _CONTEXT + customer_id) in self.hashes[made_with] for made_with, key in self._keys())

    def hashes_of(self, customer_ids: Iterable[str]) -> set[str]:
        """What ids are on the list as, where they are."""
        hashes = {keyed_hash(key, _CONTEXT + one) for one in customer_ids for _, key in self._keys()}
        return hashes & set().union(*self.hashes.values())

    def with_all(self, customer_ids: Iterable[str]) -> Tombstones:
        """The list with more ids on it."""
        wanted = [one for one in customer_ids if not self.holds(one)]
        if not wanted:
            return self
        key, salt = key_in_force(), self.salt
        if key is None:
            salt = salt or secrets.token_hex(32)
        made_with = key_id(key) if key else SALT
        found = {keyed_hash(key or str(salt).encode(), _CONTEXT + one) for one in wanted}
        return Tombstones({**self.hashes, made_with: self.hashes.get(made_with, frozenset()) | found}, salt)

    def save(self, home: Home) -> None:
        """Put this list in force in one step; the caller holds the writer's lock."""
        erased = {made_with: sorted(found) for made_with, found in self.hashes.items()}
        write_json(_file(home), {"schema_version": SCHEMA_VERSION, "salt": self.salt, "erased": erased})
        _file(home).chmod(0o600)

    def define(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Create the SQL function ``is_erased(id)`` on a connection.

        Raises:
            UsageError: the list was made with a key that is not set now.
        """
        tests = []
        for place, (made_with, key) in enumerate(self._keys()):
            define_keyed_hash(connection, f"tombstone_{place}", key)
            connection.execute(f"create or replace temp table tombstones_{place} (hash varchar)")
            connection.executemany(
                f"insert into tombstones_{place} values (?)", [(one,) for one in sorted(self.hashes[made_with])]
            )
            tests.append(f"tombstone_{place}('{_CONTEXT}' || x) in (select hash from tombstones_{place})")
        connection.execute(f"create or replace temp macro is_erased(x) as ({' or '.join(tests) or 'false'})")

    def _keys(self) -> list[tuple[str, bytes]]:
        """What each part of the list was made with."""
        now = key_in_force()
        found = []
        for made_with in sorted(self.hashes):
            if made_with == SALT:
                found.append((made_with, str(self.salt).encode()))
            elif now is not None and key_id(now) == made_with:
                found.append((made_with, now))
            else:
                raise UsageError(
                    f"customers were erased from this home under the key {made_with}, which is not set; without it "
                    "they can't be told from others, and would come back",
                    where=f"environment variable {SETTING}",
                    todo=f"set {SETTING} to the key of before",
                )
        return found


def leave_out(connection: duckdb.DuckDBPyConnection, columns: Mapping[str, str], fault: int) -> None:
    """Treat the rows of ``staged`` as an erasure would have treated them in the lake and in quarantine.

    Args:
        connection: holds ``staged``; :meth:`Tombstones.define` was called on it.
        columns: the canonical columns of ``staged`` with their types.
        fault: the number that ``__fault`` gets in rows of erased customers.
    """
    kinds = {name: kind.upper() for name, kind in columns.items()}
    persons = Persons(tuple(_erased_in(connection, kinds)))
    clauses = persons.clauses(kinds) if persons.ids else None
    if not persons.ids:
        return
    refused = f"__fault is not null and __fault <> {fault}"
    says = f"({persons.has_word('__raw')} or {persons.has_word('__said')})"
    if clauses:
        changed = ", ".join(f"{named(name)} = {value}" for name, value in clauses.values.items())
        gone = f"__fault = {fault}, __said = null, __raw = null"
        connection.execute(f"update staged set {gone} where {clauses.goes}")
        if changed:
            connection.execute(f"update staged set {changed} where not {clauses.goes} and ({clauses.changes})")
    connection.execute(
        f"update staged set __raw = null, __said = '{NOTHING_SAID}' where {refused} and coalesce({says}, false)"
    )


def _erased_in(connection: duckdb.DuckDBPyConnection, kinds: Mapping[str, str]) -> list[str]:
    """The ids of erased customers that ``staged`` holds, in columns of ids or as a word of a text."""
    found = set()
    for column in (name for name, kind in kinds.items() if kind == "VARCHAR" and names_customers(name)):
        found |= _erased_of(connection, f"select {named(column)} as id from staged")
    texts = [
        f"select {named(name)} from staged" for name, kind in kinds.items() if kind == "VARCHAR" and _is_text(name)
    ]
    texts += [f"select {name} from staged where __fault is not null" for name in ("__raw", "__said")]
    for text in texts:
        said = f"(select distinct columns(*) from ({text})) as texts (said)"
        words = " union ".join(
            f"select unnest(regexp_extract_all(said, '{shape}')) as id from {said}" for shape in (_TOKEN, _WORD)
        )
        found |= _erased_of(connection, words)
    return sorted(found)


def _is_text(column: str) -> bool:
    """Ids of orders, products and the like are not looked through for customers, word by word."""
    return not column.endswith("_id")


def _erased_of(connection: duckdb.DuckDBPyConnection, ids: str) -> set[str]:
    query = f"select id from (select distinct id from ({ids}) where id is not null) where is_erased(id)"
    return {one for (one,) in connection.execute(query).fetchall()}


def _file(home: Home) -> Path:
    return home.privacy / "erased.json"
