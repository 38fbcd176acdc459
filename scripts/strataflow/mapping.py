"""From a source description to the SQL that shapes and judges every delivered row.

The SQL has layers, one thing each: ``mapped`` works out the source's own
expressions, ``bared`` and ``said`` keep their values as text without blanks
around them, ``read`` turns them into the canonical types, ``dated`` adds the
business date, ``judged`` decides whether the row lands or why not. No layer
can fail on a single row: an expression that breaks yields no value, and a row
without a value that it needs is refused with a reason.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from strataflow import reasons
from strataflow.errors import InputError, UsageError
from strataflow.privacy import pseudonyms
from strataflow.privacy.contact import EMAIL_SHAPE, JSON_KEY_SHAPE, PHONE_SHAPE
from strataflow.sqltext import named, quoted

if TYPE_CHECKING:
    from collections.abc import Mapping as Dict
    from collections.abc import Sequence
    from datetime import date

    import duckdb

    from strataflow.project import Column, Table
    from strataflow.sources import Format, Shop, Source

BLANKS = " \t\r\n\u00a0\u2007\u202f\u3000\ufeff"
TEXT_TYPES = ("VARCHAR", "JSON")
SAID_LENGTH = 200
TIME_DIRECTIVE = re.compile(r"%-?[HIMSfgnp]|%[cX]")
ZONE_DIRECTIVE = re.compile(r"%[zZ]")
ROW_HASH = "row_hash()"
WITHHELD = "(withheld)"

ISO_DATE = r"\d{4}[-/]\d{1,2}[-/]\d{1,2}"
ISO_TIME = rf"{ISO_DATE}[T ]\d{{1,2}}:\d{{2}}(:\d{{2}}(\.\d+)?)?"
ISO_INSTANT = rf"{ISO_TIME} ?(Z|UTC|[+-]\d{{2}}(:?\d{{2}})?)"


@dataclass(frozen=True)
class Fault:
    """One way a row of a source can be refused; ``{}`` in ``words`` stands for what the row says."""

    code: str
    words: str


@dataclass(frozen=True)
class Mapping:
    """How one source's rows are shaped and judged.

    ``sql`` selects from a relation ``raw_rows`` (the wanted columns and
    ``__file, __line, __raw, __malformed, __received``) and yields the
    canonical columns that differ from row to row, then ``__file, __line,
    __day, __fault, __said, __raw``. ``__fault`` is null or a position in
    ``faults``, counted from 1. ``types`` has the type of each expression.
    """

    sql: str
    faults: tuple[Fault, ...]
    types: dict[str, str]

    def number(self, code: str) -> int:
        """The position of the first fault with this code."""
        return next(place for place, fault in enumerate(self.faults, 1) if fault.code == code)


def wanted_columns(source: Source) -> tuple[str, ...]:
    """Names of the file's columns that the source's expressions read, in order of first use.

    A name is spelled as it is first used; neither SQL nor the header minds its case.
    """
    wanted: dict[str, str] = {}
    for expression in source.expressions.values():
        for names in expression.columns:
            if names[0] not in source.lookups:
                wanted.setdefault(names[0].lower(), names[0])
    return tuple(wanted.values())


def places_of(source: Source, wanted: Sequence[str], names: Sequence[str], file: str) -> tuple[int, ...]:
    """Where in a file's columns each wanted one stands, counted from 0.

    Raises:
        InputError: the file lacks a column that the mapping reads.
        UsageError: a lookup has the name of one of the file's columns.
    """
    place = {name.lower(): number for number, name in reversed(list(enumerate(names)))}
    missing = [name for name in wanted if name.lower() not in place]
    if missing:
        lacking = {name.lower() for name in missing}
        keys = [
            key
            for key, expression in source.expressions.items()
            if any(path[0].lower() in lacking for path in expression.columns)
        ]
        raise InputError(
            f"the file has no column {_listed(missing)}: its header has changed, or the mapping is wrong",
            where=f"{file}; its columns: {', '.join(names)}",
            todo=f"have the file corrected, or correct {', '.join(keys)} in {source.defined_in.name} "
            "(a fixed text needs quotes of its own, such as \"'web'\")",
        )
    for name in source.lookups:
        if name.lower() in place:
            raise UsageError(
                f"{source.defined_in.name}, lookups.{name}: the file has a column of that name too",
                where=file,
                todo="give the lookup another name",
            )
    return tuple(place[name.lower()] for name in wanted)


def build_mapping(
    connection: duckdb.DuckDBPyConnection,
    source: Source,
    table: Table,
    shop: Shop,
    raw_types: Dict[str, str],
    rates: Dict[str, date],
    *,
    withholds: bool = False,
) -> Mapping:
    """The mapping of a source for files whose columns have the given types.

    Args:
        connection: one on which ``define_macros`` has been called.
        source: what the files are.
        table: the canonical table that the source feeds.
        shop: whose clock and currency hold.
        raw_types: DuckDB type of each wanted column, and of each lookup as a struct.
        rates: first day with a rate into the shop's currency, by currency.
        withholds: the files hold contact data, so that of refused rows no text may be kept.

    Raises:
        UsageError: an expression doesn't fit the columns; the message names its key.
    """
    types = {
        key: _type_of(connection, source, key, expression.sql, raw_types)
        for key, expression in source.expressions.items()
    }
    writer = _Writer(source, table, shop, types, rates, withholds=withholds)
    raw = [name for name in raw_types if name not in source.lookups]
    return Mapping(writer.select(raw), tuple(writer.faults), types)


def define_macros(connection: duckdb.DuckDBPyConnection, form: Format, shop: Shop, key: bytes | None = None) -> None:
    """Create the functions that mappings may use beside DuckDB's own, and those that read text.

    Args:
        key: with which pseudonyms are made; a mapping that makes some can't be carried out without.
    """
    define_id_functions(connection)
    pseudonyms.define_functions(connection, key, shop.phone_country_code)
    statements = {
        "shop_currency()": quoted(shop.currency),
        # yields text as this source writes numbers: '(1.234,50 EUR)' becomes '-1.234,50'
        "money(x)": rf"""
            case when try_cast(x::varchar as double) is not null then x::varchar
                 when regexp_matches(x::varchar, '\(.*\)|-\s*$') then '-' || {_digits_of("x", form, signs="")}
                 else {_digits_of("x", form, signs="+-")} end""",
        "read_number(t)": _number_of_text(form),
        "number(x)": "try_cast(read_number(nullif(bare(x::varchar), '')) as decimal(18,4))",
        "read_time(t)": _time_of_text(form, shop),
    }
    for head, body in statements.items():
        connection.execute(f"create or replace temp macro {head} as ({body})")


def define_id_functions(connection: duckdb.DuckDBPyConnection) -> None:
    """Create the functions that bring ids into one form."""
    statements = {
        # Trimming by a set of characters is slow, and few texts need it: look at both ends first.
        "bare(x)": f"""
            case when strlen(x) <> length(x) or x[1] < '!' or x[-1] < '!' then trim(x, {quoted(BLANKS)}) else x end""",
        # 17850.0 is what a spreadsheet makes of the id 17850; nan and the like are what pandas makes of none
        "clean_id(x)": r"""
            case when strlen(x::varchar) <= 6
                 and lower(trim(x::varchar)) in ('', 'nan', 'null', 'none', '<na>', 'n/a') then null
                 when contains(x::varchar, '.0')
                 then regexp_replace(bare(x::varchar), '^([+-]?\d+)\.0+$', '\1')
                 else bare(x::varchar) end""",
    }
    for head, body in statements.items():
        connection.execute(f"create or replace temp macro {head} as ({body})")


class _Writer:
    """Puts the layers of one mapping together and numbers its faults on the way."""

    def __init__(
        self,
        source: Source,
        table: Table,
        shop: Shop,
        types: Dict[str, str],
        rates: Dict[str, date],
        *,
        withholds: bool,
    ) -> None:
        self.withholds = withholds
        self.source, self.table, self.shop, self.types, self.rates = source, table, shop, types, rates
        self.faults: list[Fault] = []
        self.tests: list[str] = []
        self.said: list[str] = []
        self.splits = source.kind == "split"

    def select(self, raw: Sequence[str]) -> str:
        """The whole query; ``raw`` are the wanted columns of the file."""
        self._judge(raw)
        raw_text = "to_json(__raw)::varchar" if self.source.format.type == "parquet" else "rtrim(__raw, e'\\r\\n')"
        day = "r_day::date" if self.splits else "__received"
        return f"""
            with mapped as not materialized (
                select __file, __line, __raw, __malformed, __received, {", ".join(self._mapped(raw))} from raw_rows
            ),
            bared as not materialized (select *, {", ".join(self._bared())} from mapped),
            said as not materialized (select *, {", ".join(self._said())} from bared),
            read as not materialized (select *, {", ".join(self._read())} from said),
            dated as not materialized (select *, {", ".join(self._dated())} from read),
            judged as not materialized (
                select *, (case {" ".join(self.tests)} end)::utinyint as __fault from dated
            )
            select
                {", ".join(self._canonical())},
                __file, __line, {day} as __day, __fault,
                left({self._said_safely()}, {SAID_LENGTH}) as __said,
                case when __fault is not null then {self._kept_text(raw_text)} end as __raw
            from judged
        """

    # -- what is kept of a refused row

    def _said_safely(self) -> str:
        said = f"case __fault {' '.join(self.said)} end"
        if self.withholds:
            said = f"case when __fault in ({self._quoting()}) then {quoted(WITHHELD)} else {said} end"
        return f"regexp_replace({said}, {quoted(EMAIL_SHAPE)}, {quoted(WITHHELD)}, 'g')"

    def _quoting(self) -> str:
        """Numbers of the faults that repeat what stands in the row."""
        codes = (reasons.UNPARSEABLE, reasons.UNDATED, reasons.MALFORMED_RECORD)
        return ", ".join(str(place) for place, fault in enumerate(self.faults, 1) if fault.code in codes)

    def _kept_text(self, raw_text: str) -> str:
        """A record that can't be read has no columns to keep, so of contact data nothing is left of it."""
        values = {name: self._kept_value(self.table.by_name[name]) for name in self.source.columns}
        record = f"case when __malformed is null then {as_record(values)} end"
        return kept_text(raw_text, record, self.source.format.type, withholds=self.withholds)

    def _kept_value(self, column: Column) -> str:
        """A mapped value as read: what can't be read may be something else that got into the wrong column."""
        return f"r_{column.name}" if column.pseudonym else withheld(column, f"r_{column.name}")

    # -- the verdict

    def _judge(self, raw: Sequence[str]) -> None:
        source = self.source
        self._refuse(reasons.MALFORMED_RECORD, "{}", "__malformed is not null", "__malformed")
        if self._has_header(raw):
            self._refuse(reasons.REPEATED_HEADER, "the header again", "is_header")
        for place, condition in enumerate(source.filters):
            words = f"left out by the filter {condition.name}, which keeps only: {condition.keep}"
            self._refuse(reasons.FILTERED, words.replace("{}", "{ }"), f"f_{place} is not true")
        for column in self.table.mappable:
            self._judge_column(column)
        if "currency" in self.source.columns:
            words = f"currency: there is no rate from {{}} to {self.shop.currency} (seed currency_rates)"
            self._refuse(reasons.NO_RATE, words, f"not ({self._has_rate()})", self._said_of_rate())
        if self.splits:
            said = "coalesce(t_day, 'it has no value')"
            self._refuse(reasons.UNDATED, "no date in files.split_by: {}", "r_day is null", said)
        self._refuse(reasons.DUPLICATE_IN_DAY, "replaced by a later row with the same key, {}", "false")
        self._refuse(reasons.ERASED, "of a customer who was erased", "false")

    def _judge_column(self, column: Column) -> None:
        name = column.name
        if name not in self.source.columns:
            return
        if column.data_type != "varchar" or name == "currency" or column.allowed:
            words = f"{name}: '{{}}' is not {_in_words(column, self.source.format)}"
            self._refuse(reasons.UNPARSEABLE, words, f"r_{name} is null and t_{name} is not null", f"t_{name}")
        if column.required:
            worked_out = "" if self._is_text(f"columns.{name}") else ", or its expression can't be worked out"
            self._refuse(reasons.MISSING_REQUIRED, f"{name} has no value{worked_out}", f"r_{name} is null")

    def _has_rate(self) -> str:
        """SQL for whether the row's amounts can be converted on its business date."""
        known = [f"when {quoted(self.shop.currency)} then true"]
        for currency, first in self.rates.items():
            holds = f"local_time::date >= date '{first}'" if self._is_dated else "true"
            known.append(f"when {quoted(currency)} then {holds}")
        return f"coalesce(case r_currency {' '.join(known)} else false end, true)"

    def _said_of_rate(self) -> str:
        return "concat_ws(' on ', r_currency, local_time::date)" if self._is_dated else "r_currency"

    @property
    def _is_dated(self) -> bool:
        return self.table.event_time is not None

    def _refuse(self, code: str, words: str, test: str, said: str = "null") -> None:
        self.faults.append(Fault(code, words))
        self.tests.append(f"when {test} then {len(self.faults)}")
        self.said.append(f"when {len(self.faults)} then {said}")

    # -- the layers

    def _mapped(self, raw: Sequence[str]) -> list[str]:
        items = [f"{self._tried(f'columns.{name}')} as m_{name}" for name in self.source.columns]
        for place, condition in enumerate(self.source.filters):
            items.append(f"{self._tried(f'filters.{condition.name}')} as f_{place}")
        if self.splits:
            items.append(f"{self._tried('files.split_by')} as m_day")
        if self._has_header(raw):
            items.append(f"{_repeats_header(raw)} as is_header")
        return items

    def _tried(self, key: str) -> str:
        return f"try(\n{self.source.expressions[key].sql}\n)"

    def _texts(self) -> dict[str, str]:
        """Names of the layers' columns by the key of the expression they come from."""
        names = {f"columns.{name}": name for name in self.source.columns}
        return names | ({"files.split_by": "day"} if self.splits else {})

    def _bared(self) -> list[str]:
        text = {True: "bare(m_{0}::varchar) as b_{0}", False: "m_{0}::varchar as b_{0}"}
        return [text[self._is_text(key)].format(name) for key, name in self._texts().items()]

    def _said(self) -> list[str]:
        return [f"nullif(b_{name}, '') as t_{name}" for name in self._texts().values()]

    def _read(self) -> list[str]:
        items = []
        for column in self.table.mappable:
            default = self._default(column)
            if column.name in self.source.columns:
                items.append(f"{self._value(column)} as r_{column.name}")
            elif default != ROW_HASH:
                items.append(f"({default})::{column.data_type} as r_{column.name}")
        if self.splits:
            instant = self._instant("day", self.types["files.split_by"])
            items.append(f"try({on_clock(instant, self.shop.time_zone)}) as r_day")
        return items

    def _dated(self) -> list[str]:
        hashed = [column.name for column in self.table.mappable if self._is_hash(column)]
        others = [
            f"coalesce(r_{column.name}::varchar, '')" for column in self.table.mappable if column.name not in hashed
        ]
        items = [f"md5(concat_ws(chr(31), {', '.join(others)})) as r_{name}" for name in hashed]
        local = "null::timestamp"
        if self.table.event_time:
            local = f"try({on_clock(f'r_{self.table.event_time}', self.shop.time_zone)})"
        return [*items, f"{local} as local_time"]

    def _canonical(self) -> list[str]:
        derived = {
            self.table.date_column: "local_time::date",
            self.table.hour_column: "hour(local_time)::tinyint",
        }
        items = []
        for column in self.table.columns:
            if not column.derived:
                items.append(f"r_{column.name} as {named(column.name)}")
            elif column.name in derived:
                items.append(f"{derived[column.name]} as {named(column.name)}")
        return items

    # -- values

    def _default(self, column: Column) -> str:
        if column.name == "is_adjustment" and self.source.later_rows == "add":
            return "true"
        return column.default or "null"

    def _is_hash(self, column: Column) -> bool:
        return column.name not in self.source.columns and self._default(column) == ROW_HASH

    def _is_text(self, key: str) -> bool:
        return self.types[key] in TEXT_TYPES

    def _has_header(self, raw: Sequence[str]) -> bool:
        return self.source.format.type == "csv" and self.source.format.header and bool(raw)

    def _value(self, column: Column) -> str:
        name, kind = column.name, self.types[f"columns.{column.name}"]
        if name == "currency":
            return f"case when regexp_full_match(t_{name}, '[A-Za-z]{{3}}') then upper(t_{name}) end"
        if column.data_type == "varchar":
            return self._text(column)
        if column.data_type == "timestamp":
            return f"try({self._instant(name, kind)})"
        if column.data_type == "date":
            return f"try({on_clock(self._instant(name, kind), self.shop.time_zone)}::date)"
        if kind not in TEXT_TYPES:
            return f"try_cast(m_{name} as {column.data_type})"
        text = f"t_{name}" if column.data_type == "boolean" else f"read_number(t_{name})"
        return f"try_cast({text} as {column.data_type})"

    def _text(self, column: Column) -> str:
        text = f"t_{column.name}"
        if column.allowed:
            return f"case when lower({text}) in ({_listed(column.allowed)}) then lower({text}) end"
        return f"{_function_for(column.pseudonym)}({text})" if column.pseudonym else text

    def _instant(self, name: str, kind: str) -> str:
        """UTC time of a mapped value, from text or from any of DuckDB's types of time."""
        if kind in TEXT_TYPES:
            return f"read_time(t_{name})"
        finite = f"case when isfinite(m_{name}) then m_{name} end"
        if kind == "TIMESTAMP WITH TIME ZONE":
            return f"timezone('UTC', {finite})"
        if kind == "DATE":
            return to_utc(f"({finite})::timestamp", self.shop.time_zone)
        if kind.startswith("TIMESTAMP"):
            return to_utc(f"({finite})::timestamp", self.source.format.time_zone or self.shop.time_zone)
        return "null::timestamp"


def _function_for(kind: str) -> str:
    return next(name for name, of in pseudonyms.FUNCTIONS.items() if of == kind)


def kept_text(raw: str, record: str, file_type: str, *, withholds: bool) -> str:
    """SQL for what quarantine keeps of a refused row: its exact text, or without contact data what was mapped of it.

    Args:
        raw: SQL for the text.
        record: SQL for the mapped values as JSON (:func:`as_record`).
        withholds: whether the file is known to hold contact data; if not, the text is looked at.
    """
    if withholds:
        return record
    signs = [f"regexp_matches({raw}, {quoted(EMAIL_SHAPE)})"]
    if file_type == "jsonl":
        signs.append(f"regexp_matches({raw}, {quoted(JSON_KEY_SHAPE)})")
    return f"case when {' or '.join(signs)} then {record} else {raw} end"


def as_record(values: Dict[str, str]) -> str:
    """SQL for a JSON object of SQL values by canonical column."""
    return f"to_json(struct_pack({', '.join(f'{named(name)} := {value}' for name, value in values.items())}))::varchar"


def withheld(column: Column, value: str) -> str:
    """SQL for a mapped value in which nothing looks like contact data; ids, which the mapping answers for, stay."""
    if column.data_type != "varchar" or column.name.endswith("_id"):
        return value
    shape = f"{EMAIL_SHAPE}|{PHONE_SHAPE}"
    return f"regexp_replace({value}, {quoted(shape)}, {quoted(WITHHELD)}, 'g')"


def to_utc(local: str, zone: str) -> str:
    """SQL for the UTC time of a clock time in ``zone``.

    A time that a clock change leaves out is moved on by the change; one that
    comes twice is taken as the later of the two.
    """
    return local if zone == "UTC" else f"timezone('UTC', timezone({quoted(zone)}, {local}))"


def on_clock(instant: str, zone: str) -> str:
    """SQL for what a clock in ``zone`` shows at a UTC time."""
    return instant if zone == "UTC" else f"timezone({quoted(zone)}, timezone('UTC', {instant}))"


def _time_of_text(form: Format, shop: Shop) -> str:
    """UTC time of a text ``t``, null if it is none.

    A date without a time is a day on the shop's clock, whatever the zone of
    the file's times. The first two cases are the common ones, told apart
    without a regular expression.
    """
    zone = form.time_zone or shop.time_zone
    zoned = [pattern for pattern in form.date_formats if ZONE_DIRECTIVE.search(pattern)]
    timed = [p for p in form.date_formats if p not in zoned and TIME_DIRECTIVE.search(p)]
    plain = [pattern for pattern in form.date_formats if pattern not in zoned and pattern not in timed]

    def tried(patterns: list[str]) -> str:
        # strptime knows 'infinity' and 'epoch' whatever the pattern; a date has a digit.
        return f"case when regexp_matches(t, '[0-9]') then try_strptime(t, [{', '.join(map(quoted, patterns))}]) end"

    ways = [f"timezone('UTC', {tried(zoned)})"] if zoned else []
    ways += [to_utc(tried(timed), zone)] if timed else []
    ways += [to_utc(tried(plain), shop.time_zone)] if plain else []
    date, time = (
        to_utc("try_cast(t as date)::timestamp", shop.time_zone),
        to_utc("try_cast(t as timestamp)", zone),
    )
    ways.append(rf"""
        case when length(t) = 19 and t[17] = ':' and t[5] in ('-', '/') then {time}
             when length(t) = 10 and t[5] in ('-', '/') and t[8] in ('-', '/') then {date}
             when regexp_full_match(t, '{ISO_DATE}') then {date}
             when regexp_full_match(t, '{ISO_TIME}') then {time}
             when regexp_full_match(t, '{ISO_INSTANT}') then timezone('UTC', try_cast(t as timestamptz)) end""")
    return f"coalesce({', '.join(ways)})"


def _number_of_text(form: Format) -> str:
    """A text ``t`` as DuckDB writes numbers, null if its separators don't stand where they may."""
    point, group = form.decimal, form.thousands
    text = "t"
    if group:
        shape = rf"[+-]?\d{{1,3}}({re.escape(group)}\d{{3}})+({re.escape(point)}\d*)?"
        plain = f"when regexp_full_match(t, {quoted(shape)}) then replace(t, {quoted(group)}, '')"
        text = f"case when not contains(t, {quoted(group)}) then t {plain} end"
    if point == ",":
        text = f"case when not contains({text}, '.') then replace({text}, ',', '.') end"
    return f"case when not contains(t, '_') or {quoted(group or '')} = '_' then {text} end"


def _digits_of(value: str, form: Format, *, signs: str) -> str:
    """Digits, separators and signs of a text; a word goes with the dot behind it, as in ``Rs. 500``."""
    kept = "".join(re.escape(mark) for mark in form.decimal + (form.thousands or "") + signs)
    unwanted = rf"\p{{L}}+\.?|[^0-9{kept}]"
    return f"trim(regexp_replace({value}::varchar, {quoted(unwanted)}, '', 'g'))"


def _repeats_header(raw: Sequence[str]) -> str:
    """True where every wanted field repeats its column's name; the first is looked at before the others."""
    same = [f"lower(trim({named(name)})) = {quoted(name.lower())}" for name in raw]
    return f"case when {same[0]} then coalesce({' and '.join(same)}, false) else false end"


def _in_words(column: Column, form: Format) -> str:
    if column.name == "currency":
        return "a currency code of three letters"
    if column.allowed:
        return f"one of {', '.join(column.allowed)}"
    if column.data_type in ("timestamp", "date"):
        known = ", ".join((*form.date_formats, "ISO 8601"))
        return f"a date or time (known here: {known})"
    if column.data_type == "boolean":
        return "true or false"
    grouped = f", thousands '{form.thousands}'" if form.thousands else ""
    return f"a {column.data_type} (decimal sign here: '{form.decimal}'{grouped})"


def _type_of(
    connection: duckdb.DuckDBPyConnection, source: Source, key: str, sql: str, raw_types: Dict[str, str]
) -> str:
    import duckdb

    row = ", ".join(f"null::{kind} as {named(name)}" for name, kind in raw_types.items()) or "1"
    try:
        answer = connection.execute(f"describe select try(\n{sql}\n) as v from (select {row})").fetchone()
    except duckdb.Error as error:
        raise UsageError(
            f"{source.defined_in.name}, {key}: {str(error).splitlines()[0]}",
            where=f"{source.defined_in}: {sql.strip()}",
            todo="the columns of the file are all text, unless it is Parquet",
        ) from error
    return answer[1]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
