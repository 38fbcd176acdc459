"""Pseudonyms: keyed hashes that stand for contact data everywhere behind landing.

A plain hash of a phone number is no secret: there are few enough numbers to try
them all. So contact data goes through HMAC-SHA-256 (RFC 2104) with a key that is
in the environment and nowhere else. The same person, written differently, gets
the same pseudonym, because values are brought into one form first.

The hash is computed by DuckDB's own ``sha256`` with the key's two pads as
variables of the connection, so the key stands in no SQL text and no file.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from typing import TYPE_CHECKING

from strataflow.errors import UsageError
from strataflow.privacy.contact import EMAIL, ID, NAME, PHONE, WECHAT

if TYPE_CHECKING:
    from pathlib import Path

    import duckdb

    from strataflow.home import Home
    from strataflow.project import Table
    from strataflow.sources import Shop, Source, Sources

SETTING = "STRATAFLOW_PSEUDONYM_KEY"
SHORTEST_KEY = 16
LENGTH = 32
"""Hex digits of a pseudonym: 128 bits, so that two people of a billion share one with a chance of 1 to 10^20."""

FUNCTIONS = {
    "pseudonym": ID,
    "phone_pseudonym": PHONE,
    "email_pseudonym": EMAIL,
    "name_pseudonym": NAME,
    "wechat_pseudonym": WECHAT,
}
"""Functions that mappings may use, and the kind of data each is for."""

# What stands before the number when it is dialled within the country; 0 where nothing is said.
_TRUNK_PREFIX = {"1": "1", "7": "8", "39": "", "34": "", "45": "", "47": "", "48": "", "852": "", "853": "", "65": ""}
_BLOCK = 64
_LONGEST_NATIONAL = 11
_WIDE, _NARROW = "０１２３４５６７８９＋＠．", "0123456789+@."


def key_in_force() -> bytes | None:
    """The key of the environment, None if none is set.

    Raises:
        UsageError: it is too short to be one.
    """
    given = os.environ.get(SETTING, "").strip()
    if not given:
        return None
    if len(given) < SHORTEST_KEY:
        raise UsageError(
            f"the key for pseudonyms has {len(given)} characters; that few can be guessed",
            where=SETTING,
            todo=f"set one of at least {SHORTEST_KEY}, such as the output of: openssl rand -hex 32",
        )
    return given.encode()


def key_id(key: bytes) -> str:
    """What tells one key from another and gives none away: the first 12 digits of a keyed hash."""
    return hmac.new(key, b"strataflow key id", hashlib.sha256).hexdigest()[:12]


def is_used(source: Source, table: Table) -> bool:
    """Whether a source lands pseudonyms."""
    return any(table.by_name[name].pseudonym for name in source.columns if name in table.by_name) or any(
        expression.functions & FUNCTIONS.keys() for expression in source.expressions.values()
    )


def key_for(source: Source, table: Table, shop: Shop) -> bytes | None:
    """The key with which a source's contact data is replaced; None if it has none.

    Raises:
        UsageError: it has contact data, but no key is set; or phone numbers, but no country code.
    """
    if not is_used(source, table):
        return None
    key = key_in_force()
    if key is None:
        raise UsageError(
            f"source {source.name} has contact data, and no key is set to replace it by pseudonyms; nothing has landed",
            where=f"{source.defined_in}; environment variable {SETTING}",
            todo=f"set {SETTING} to a secret that is kept for good (openssl rand -hex 32), or map no contact data",
        )
    kinds = {table.by_name[name].pseudonym for name in source.columns if name in table.by_name}
    functions = set().union(*(expression.functions for expression in source.expressions.values()))
    if shop.phone_country_code is None and (PHONE in kinds or "phone_pseudonym" in functions):
        raise UsageError(
            f"source {source.name} has phone numbers, and shop.yml doesn't say of which country",
            where=str(source.defined_in.parent / "shop.yml"),
            todo='add phone_country_code, such as "49"; then +49 170 1234567 and 0170 1234567 are one number',
        )
    return key


def key_of_home(home: Home) -> str | None:
    """The identifier of the key that the pseudonyms in a home's lake were made with."""
    try:
        return json.loads(_file(home).read_text(encoding="utf-8"))["pseudonym_key"]
    except FileNotFoundError:
        return None


def refuse_other_key(home: Home, sources: Sources, tables: dict[str, Table]) -> None:
    """Raise if pseudonyms would be made with another key than those already in the lake.

    Raises:
        UsageError: the same person would become another.
    """
    used = [source for source in sources.sources if is_used(source, tables[source.table])]
    key, before = key_in_force(), key_of_home(home)
    if used and key and before and key_id(key) != before:
        raise UsageError(
            f"the pseudonyms in the lake were made with the key {before}, {SETTING} now holds the key {key_id(key)}: "
            f"everyone in {', '.join(source.name for source in used)} would become somebody else; nothing has landed",
            where=f"{_file(home)}; environment variable {SETTING}",
            todo="set the key of before; to change it for good, land all days into a new home",
        )


def note_key(home: Home, key: bytes) -> None:
    """Keep the key's identifier, so that another key is noticed; the caller holds the writer's lock."""
    from strataflow.durable import write_json

    if key_of_home(home) is None:
        write_json(_file(home), {"schema_version": 1, "pseudonym_key": key_id(key)})


def define_functions(connection: duckdb.DuckDBPyConnection, key: bytes | None, country_code: str | None) -> None:
    """Create the functions of :data:`FUNCTIONS` on a connection.

    Args:
        connection: DuckDB's.
        key: None lets mappings be read, but every pseudonym is an error.
        country_code: of phone numbers that carry none.
    """
    _set_pads(connection, key)
    hashed = "case when nullif({form}, '') is not null then keyed_hash('{kind}:' || {form}) end"
    forms = {
        ID: "in_one_form(x)",
        PHONE: _phone("in_one_form(x)", country_code),
        EMAIL: "case when contains(in_one_form(x), '@') then lower(replace(in_one_form(x), ' ', '')) end",
        NAME: r"lower(regexp_replace(in_one_form(x), '[\s\p{Z}]+', ' ', 'g'))",
        WECHAT: "in_one_form(x)",
    }
    wide = f"translate(nfc_normalize(x::varchar), '{_WIDE}', '{_NARROW}')"
    connection.execute(f"create or replace temp macro in_one_form(x) as (clean_id({wide}))")
    for name, kind in FUNCTIONS.items():
        body = hashed.format(form=f"({forms[kind]})", kind=kind)
        connection.execute(f"create or replace temp macro {name}(x) as ({body})")


def pseudonym_of(kind: str, text: str, key: bytes, country_code: str | None = None) -> str | None:
    """The pseudonym that landing gives to one value, e.g. to find a person by their phone number.

    Args:
        kind: one of the values of :data:`FUNCTIONS`.
        text: the value, written in any way.
    """
    import duckdb

    from strataflow.mapping import define_id_functions

    name = next(function for function, of in FUNCTIONS.items() if of == kind)
    with duckdb.connect() as connection:
        define_id_functions(connection)
        define_functions(connection, key, country_code)
        return connection.execute(f"select {name}($1)", [text]).fetchone()[0]


def keyed_hash(key: bytes, text: str) -> str:
    """The hash that the SQL function ``keyed_hash`` yields."""
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()[:LENGTH]


def _set_pads(connection: duckdb.DuckDBPyConnection, key: bytes | None, name: str = "keyed_hash") -> None:
    """Create an SQL function that hashes text with a key, by the two passes of RFC 2104."""
    if key is None:
        connection.execute(f"create or replace temp macro {name}(t) as (error('no key is set: {SETTING}'))")
        return
    block = (key if len(key) <= _BLOCK else hashlib.sha256(key).digest()).ljust(_BLOCK, b"\0")
    for pad, byte in (("inner", 0x36), ("outer", 0x5C)):
        connection.execute(f"set variable {name}_{pad} = $1", [bytes(part ^ byte for part in block)])
    inner = f"unhex(sha256(getvariable('{name}_inner')::blob || encode(t)))"
    body = f"left(sha256(getvariable('{name}_outer')::blob || {inner}), {LENGTH})"
    connection.execute(f"create or replace temp macro {name}(t) as ({body})")


def define_keyed_hash(connection: duckdb.DuckDBPyConnection, name: str, key: bytes) -> None:
    """Create the SQL function ``name(text)``, equal to :func:`keyed_hash` with that key."""
    _set_pads(connection, key, name)


def _phone(text: str, country_code: str | None) -> str:
    """SQL for a phone number as E.164 writes it; null for a text with fewer than five digits."""
    international = rf"regexp_matches({text}, '^\s*(\+|00)')"
    digits = rf"regexp_replace(replace({text}, '(0)', ''), '[^0-9]', '', 'g')"
    abroad = f"regexp_replace({digits}, '^00', '')"
    code = country_code or ""
    trunk = _TRUNK_PREFIX.get(code, "0")
    # A number longer than any within a country that begins with the country's code has it already.
    at_home = f"""case
        when length({digits}) > {_LONGEST_NATIONAL} and starts_with({digits}, '{code}') then {digits}
        else '{code}' || regexp_replace({digits}, '^{trunk}', '') end"""
    return f"case when length({digits}) >= 5 then case when {international} then {abroad} else {at_home} end end"


def _file(home: Home) -> Path:
    return home.privacy / "key.json"
