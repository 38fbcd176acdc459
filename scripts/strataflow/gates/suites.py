"""Expectation suites: YAML that says what must hold, read and checked before any data is looked at.

Analysts edit these files, so whatever a person can get wrong in them is told
with file, expectation and what is allowed. ``expectations/README.md`` explains
the keys.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from strataflow import yamltext
from strataflow.errors import UsageError
from strataflow.project import Table

PLACEHOLDER = re.compile(r"\{\{\s*([A-Za-z_][A-Za-z0-9_]*)\s*\}\}")
UNEXPECTED_ROWS = "unexpected_rows"
ROWS_QUERY = "unexpected_rows_query"
BATCH = "{batch}"

Severity = Literal["critical", "warning"]
Scalar = bool | int | float | str | None
Sentence = Annotated[str, Field(min_length=20)]
TableName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


@dataclass(frozen=True)
class Expectation:
    """One thing that must hold, with all placeholders filled.

    Attributes:
        name: unique over all suites of a gate; names the file of failing rows.
        kind: a Great Expectations type such as ``expect_column_values_to_not_be_null``, or ``unexpected_rows``.
        kwargs: arguments of that type; ``unexpected_rows`` has the one argument ``unexpected_rows_query``.
        severity: ``critical`` stops the run, ``warning`` is reported.
        why: what goes wrong for the users of the data when it does not hold.
        todo: what to do then.
        rows_key: columns that name a failing row.
    """

    name: str
    kind: str
    kwargs: dict[str, Any]
    severity: Severity
    why: str
    todo: str
    rows_key: tuple[str, ...]


@dataclass(frozen=True)
class Suite:
    """The expectations of one file, all about one table.

    Attributes:
        name: the file's name without its ending.
        about: what the suite guards, in a sentence.
        file: where it was read from.
        table: table or view that the expectations look at.
        prepare: tables made for this suite, name and SQL, in this order.
        expectations: in the order of the file.
        optional: judged only where the table is there, since not every shop has it published.
    """

    name: str
    about: str
    file: Path
    table: str
    prepare: tuple[tuple[str, str], ...]
    expectations: tuple[Expectation, ...]
    optional: bool = False


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Meta(_Strict):
    why: Sentence
    todo: Sentence


class _Entry(_Strict):
    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_{} ]*$")]
    expectation: str
    kwargs: dict[str, Any] = {}
    severity: Severity
    meta: _Meta
    rows_key: tuple[str, ...] | None = None
    for_each: Literal["required_column"] | None = None

    @model_validator(mode="after")
    def _rows_come_from_the_batch(self) -> _Entry:
        if self.expectation != UNEXPECTED_ROWS:
            return self
        if set(self.kwargs) != {ROWS_QUERY} or BATCH not in str(self.kwargs[ROWS_QUERY]):
            raise ValueError(f"{UNEXPECTED_ROWS} takes one argument, {ROWS_QUERY}, whose SQL reads from {BATCH}")
        return self


class _File(_Strict):
    about: Sentence
    table: TableName | None = None
    sql: str | None = None
    prepare: dict[TableName, str] = {}
    parameters: dict[str, Scalar] = {}
    rows_key: tuple[str, ...] = ()
    optional: bool = False
    expectations: Annotated[tuple[_Entry, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _table_or_sql(self) -> _File:
        if (self.table is None) == (self.sql is None):
            raise ValueError("give either table (one that exists or is prepared) or sql (a query to look at)")
        if self.optional and (self.table is None or self.table in self.prepare):
            raise ValueError("only a suite about a table of the build can be optional")
        return self


def load_suites(folder: Path, values: Mapping[str, Any], tables: Mapping[str, Table] | None = None) -> list[Suite]:
    """Read every suite of a gate and fill its placeholders.

    Args:
        folder: holds one ``*.yml`` per suite.
        values: what ``{{name}}`` stands for; a suite's own ``parameters`` come first.
        tables: canonical tables, for ``for_each: required_column``.

    Returns:
        The suites in the order of their files' names.

    Raises:
        UsageError: a file says something that isn't allowed, names an unknown
            placeholder, or two expectations share a name.
    """
    paths = sorted(folder.glob("*.yml"))
    if not paths:
        raise UsageError("there are no expectations here", where=str(folder), todo="restore expectations/ from git")
    suites = [_suite(path, _read(path), values, tables or {}) for path in paths]
    _refuse_shared_names(suites)
    return suites


def _read(path: Path) -> _File:
    try:
        document = yamltext.load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as broken:
        raise UsageError(f"this is not valid YAML: {broken}", where=str(path)) from broken
    try:
        return _File.model_validate(document)
    except ValidationError as wrong:
        raise UsageError(
            f"{path.name} can't be used:\n    " + "\n    ".join(_faults(document, wrong)),
            where=str(path),
            todo="expectations/README.md lists every key",
        ) from wrong


def _faults(document: Any, wrong: ValidationError) -> Iterator[str]:
    """Each fault with the name of the expectation it is in, rather than its number."""
    for error in wrong.errors():
        place = [str(part) for part in error["loc"]]
        if len(place) > 1 and place[0] == "expectations":
            entry = document["expectations"][int(place[1])]
            name = entry.get("name") if isinstance(entry, dict) else None
            place[:2] = [str(name or f"expectation number {int(place[1]) + 1}")]
        yield f"{'.'.join(place) or 'the file'}: {error['msg'].removeprefix('Value error, ')}"


def _suite(path: Path, file: _File, values: Mapping[str, Any], tables: Mapping[str, Table]) -> Suite:
    known = {**values, **file.parameters}
    table = file.table or path.stem
    prepare = [*file.prepare.items(), *([(table, file.sql)] if file.sql else [])]
    expectations: list[Expectation] = []
    for entry in file.expectations:
        for more in _repeats(entry, table, tables, path):
            where = f"{path}: {entry.name}"
            expectations.append(_expectation(entry, file, {**known, **more}, where))
    return Suite(
        name=path.stem,
        about=" ".join(file.about.split()),
        file=path,
        table=table,
        prepare=tuple((name, _filled(sql, known, f"{path}: prepare.{name}")) for name, sql in prepare),
        expectations=tuple(expectations),
        optional=file.optional,
    )


def _repeats(entry: _Entry, table: str, tables: Mapping[str, Table], path: Path) -> list[dict[str, str]]:
    """The further placeholders of each expectation that an entry stands for."""
    if entry.for_each is None:
        return [{}]
    if table not in tables:
        raise UsageError(
            f"for_each: {entry.for_each} is about a canonical table; {table} is none",
            where=f"{path}: {entry.name}",
            todo=f"write it out, or use one of: {', '.join(sorted(tables)) or 'none here'}",
        )
    return [{"column": column.name} for column in tables[table].columns if column.required]


def _expectation(entry: _Entry, file: _File, values: Mapping[str, Any], where: str) -> Expectation:
    return Expectation(
        name=_filled(entry.name, values, where),
        kind=entry.expectation,
        kwargs=_filled(entry.kwargs, values, where),
        severity=entry.severity,
        why=" ".join(_filled(entry.meta.why, values, where).split()),
        todo=" ".join(_filled(entry.meta.todo, values, where).split()),
        rows_key=file.rows_key if entry.rows_key is None else entry.rows_key,
    )


def _filled(content: Any, values: Mapping[str, Any], where: str) -> Any:
    """``content`` with every placeholder filled; one that stands alone keeps its type."""
    if isinstance(content, dict):
        return {key: _filled(value, values, where) for key, value in content.items()}
    if isinstance(content, list):
        return [_filled(value, values, where) for value in content]
    if not isinstance(content, str):
        return content
    alone = PLACEHOLDER.fullmatch(content.strip())
    if alone:
        return _value(alone[1], values, where)
    return PLACEHOLDER.sub(lambda match: str(_value(match[1], values, where)), content)


def _value(name: str, values: Mapping[str, Any], where: str) -> Any:
    if name not in values:
        raise UsageError(
            f"{{{{{name}}}}} stands for nothing",
            where=where,
            todo=f"define it under parameters, or use one of: {', '.join(sorted(values))}",
        )
    return values[name]


def _refuse_shared_names(suites: list[Suite]) -> None:
    first_in: dict[str, Path] = {}
    for suite in suites:
        for expectation in suite.expectations:
            if expectation.name in first_in:
                raise UsageError(
                    f"two expectations are named {expectation.name}",
                    where=f"{first_in[expectation.name]} and {suite.file}",
                    todo="rename one: the name leads to its failing rows",
                )
            first_in[expectation.name] = suite.file
