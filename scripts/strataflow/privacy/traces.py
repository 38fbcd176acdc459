"""Where a person can stand in what a home holds: in columns of ids, in texts, in pages and messages.

Whether an id can be told from anything else decides what may be done to text. ``C0012345``
stands for a customer wherever it is found; ``718`` may as well be a price. Columns that hold
customer ids are therefore matched exactly, whatever the id; free text only by ids that can't
be anything else.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from strataflow.sqltext import named, quoted

if TYPE_CHECKING:
    import duckdb

REPLACEMENT = "(erased)"
SUBJECT = "customer_id"
"""The column that says who a row is about: rows of an erased customer go, mentions of one in other rows are blanked."""

MESSAGES = ("what", "where", "todo", "notes", "warnings", "text", "named", "customer", "customer_id", "reason")
_NAMES_CUSTOMERS = re.compile(r"(^|_)customer_id$|(^|_)(referrer|inviter|invitee)(_id)?$")
_SHORTEST_WITH_LETTERS, _SHORTEST_NUMBER = 5, 7


@dataclass(frozen=True)
class Persons:
    """The customers to be erased, by their ids."""

    ids: tuple[str, ...]

    @cached_property
    def telling(self) -> tuple[str, ...]:
        """The ids that, found in any text, can be nothing else."""
        return tuple(one for one in self.ids if _is_telling(one))

    @cached_property
    def _anywhere(self) -> re.Pattern[str] | None:
        return _tokens(self.telling)

    @cached_property
    def _as_words(self) -> re.Pattern[str]:
        return _tokens(self.ids) or re.compile("(?!)")

    # -- text

    def may_be_in(self, text: str) -> bool:
        """Whether a text holds one of the ids, as a word or within another; to look no closer where it doesn't."""
        return any(one in text or html.escape(one) in text for one in self.ids)

    def without(self, text: str) -> str:
        """``text`` with telling ids replaced."""
        return self._anywhere.sub(REPLACEMENT, text) if self._anywhere else text

    def without_words(self, text: str) -> str:
        """``text`` with all ids replaced where they stand as a word: for messages, where it may as well be a number."""
        return self._as_words.sub(REPLACEMENT, text)

    def without_rows(self, page: str) -> str:
        """An HTML page without the table rows that begin with an id, and without telling ids."""
        cells = "|".join(re.escape(html.escape(one)) for one in self.ids)
        rows = re.compile(rf"<tr\b[^>]*>\s*<t[dh]\b[^>]*>(?:\s|<[^>]*>)*(?:{cells})\s*<.*?</tr>", re.DOTALL)
        return self.without(rows.sub("", page))

    def cleaned(self, content: Any, key: str = "", *, of_messages: bool = False) -> Any:
        """JSON content without the persons: records in lists that name one go, texts that do are edited.

        Args:
            content: what JSON holds.
            key: under which it stands.
            of_messages: whether texts under the keys of :data:`MESSAGES` are edited as :meth:`without_words` does.
        """
        if isinstance(content, dict):
            return {name: self.cleaned(value, name, of_messages=of_messages) for name, value in content.items()}
        if isinstance(content, list):
            return [self.cleaned(item, key, of_messages=of_messages) for item in content if not self.is_record(item)]
        if isinstance(content, str):
            if names_customers(key) and content in self.ids:
                return REPLACEMENT
            return self.without_words(content) if of_messages and key in MESSAGES else self.without(content)
        return content

    def is_record(self, item: Any) -> bool:
        """Whether JSON content is a record of one of the persons."""
        return isinstance(item, dict) and any(
            value in self.ids for name, value in item.items() if isinstance(value, str) and names_customers(name)
        )

    # -- SQL

    def is_in(self, column: str) -> str:
        """SQL for whether a column of ids holds one of them."""
        return f"{named(column)} in ({', '.join(map(quoted, self.ids))})"

    def mentions(self, column: str) -> str:
        """SQL for whether a text has a telling id as a word, or any id in JSON's quotes."""
        signs = []
        for one in self.ids:
            json_text = quoted(json.dumps(one, ensure_ascii=False))
            whole = f"regexp_matches({named(column)}, {quoted(_sql_tokens([one]))})"
            certain = whole if one in self.telling else f"contains({named(column)}, {json_text})"
            signs.append(f"(contains({named(column)}, {quoted(one)}) and {certain})")
        return f"({' or '.join(signs)})"

    def has_word(self, column: str) -> str:
        """SQL for whether a text has any of the ids as a word, telling or not."""
        return f"regexp_matches({named(column)}, {quoted(_sql_tokens(self.ids))})"

    @cached_property
    def _sql_tokens(self) -> str:
        return _sql_tokens(self.telling)

    def erased_text(self, column: str) -> str:
        """SQL for a text with what :meth:`mentions` finds replaced."""
        sql = named(column)
        for one in self.ids:
            sql = f"replace({sql}, {quoted(json.dumps(one, ensure_ascii=False))}, {quoted(json.dumps(REPLACEMENT))})"
        if self.telling:
            # Twice, because two ids with one sign between them share it.
            for _ in range(2):
                sql = f"regexp_replace({sql}, {quoted(self._sql_tokens)}, '\\1{REPLACEMENT}\\3', 'g')"
        return sql

    def clauses(self, columns: Mapping[str, str]) -> Clauses | None:
        """How to find and clean the rows of a relation; None if it has no column that could name anyone."""
        named_columns = [name for name, kind in columns.items() if names_customers(name) and kind == "VARCHAR"]
        texts = [name for name, kind in columns.items() if kind in ("VARCHAR", "JSON") and name not in named_columns]
        goes = self.is_in(SUBJECT) if SUBJECT in named_columns else "false"
        changes = [self.is_in(name) for name in named_columns if name != SUBJECT]
        changes += [f"coalesce({self.mentions(name)}, false)" for name in texts]
        if goes == "false" and not changes:
            return None
        values = {
            name: f"case when not coalesce({self.is_in(name)}, false) then {named(name)} end"
            for name in named_columns
            if name != SUBJECT
        } | {name: self.erased_text(name) for name in texts}
        items = [f"{values[name]} as {named(name)}" if name in values else named(name) for name in columns]
        return Clauses(f"coalesce({goes}, false)", " or ".join(changes) or "false", ", ".join(items), values)


@dataclass(frozen=True)
class Clauses:
    """SQL over the columns of one relation.

    Attributes:
        goes: whether a row is of an erased customer.
        changes: whether another row names one.
        items: the select list of the rows that stay.
        values: what columns of other rows hold then, by column.
    """

    goes: str
    changes: str
    items: str
    values: dict[str, str]

    def counted(self, connection: duckdb.DuckDBPyConnection, relation: str) -> tuple[int, int]:
        """Rows that go and rows that change."""
        return connection.execute(
            f"select count(*) filter ({self.goes}), count(*) filter (not {self.goes} and ({self.changes}))"
            f" from {relation}"
        ).fetchall()[0]

    def kept(self, relation: str) -> str:
        """A SELECT of what stays, in the order in which it lies."""
        return f"select {self.items} from {relation} where not {self.goes}"


def names_customers(column: str) -> bool:
    """Whether a column, by its name, holds customer ids."""
    return _NAMES_CUSTOMERS.search(column) is not None


def columns_of(connection: duckdb.DuckDBPyConnection, relation: str) -> dict[str, str]:
    """Types of a relation's columns by name."""
    return {name: kind for name, kind, *_ in connection.execute(f"describe select * from {relation}").fetchall()}


def _is_telling(one: str) -> bool:
    letters = any(sign.isalpha() for sign in one)
    return len(one) >= (_SHORTEST_WITH_LETTERS if letters else _SHORTEST_NUMBER)


def _tokens(ids: Sequence[str]) -> re.Pattern[str] | None:
    return re.compile(rf"(?<![0-9A-Za-z_])(?:{_any_of(ids)})(?![0-9A-Za-z_])") if ids else None


def _sql_tokens(ids: Sequence[str]) -> str:
    """The same for an engine that can't look around: what stands before and behind is matched, too."""
    return rf"(^|[^0-9A-Za-z_])({_any_of(ids)})($|[^0-9A-Za-z_])"


def _any_of(ids: Sequence[str]) -> str:
    # RE2 takes no backslash before a blank.
    return "|".join(re.escape(one).replace("\\ ", " ") for one in _longest_first(ids))


def _longest_first(ids: Iterable[str]) -> list[str]:
    return sorted(ids, key=lambda one: (-len(one), one))
