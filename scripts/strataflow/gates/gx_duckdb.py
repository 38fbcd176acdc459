"""Great Expectations on DuckDB, with what it takes to get a true answer there.

Tried with great-expectations 1.24, duckdb-engine 0.17, SQLAlchemy 2.1:

* It closes a connection before it fetches the rows, and a DuckDB cursor is
  dead then. Results are therefore buffered as soon as a query has run.
* A check that crashed comes back as ``success: False`` with the crash hidden
  in ``exception_info``. Here that is an error of its own.
* Importing it imports PySpark where that is installed, and PySpark ends the
  process with exit code 0 if it takes it for a run of its doctests (a program
  read from standard input is enough). A gate must not end like that, and has
  no use for Spark's engine: PySpark is hidden during the import.
* A third of the rest of that import is Altair and scipy.stats, which three
  seldom used expectations need. They are imported when those are used.
* ``unexpected_rows_query`` goes through ``str.format`` and through SQLAlchemy's
  ``text``, which take braces and ``:word`` for parameters. The SQL of a suite
  is plain SQL; what they would misread is escaped.
* ``UnexpectedRowsExpectation`` runs its query twice, once to count and once to
  fetch rows. Rows are kept elsewhere and only if there are any, so it counts.
"""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, Self

from strataflow.errors import StepFailed, UsageError
from strataflow.gates.database import GateDatabase, literal, quoted
from strataflow.gates.suites import BATCH, ROWS_QUERY, UNEXPECTED_ROWS, Expectation, Suite

if TYPE_CHECKING:
    from great_expectations.core import ExpectationValidationResult
    from sqlalchemy import Engine

SAMPLE_VALUES = 5
IMPORTED_WHEN_USED = ("altair", "scipy.stats")


@dataclass(frozen=True)
class Outcome:
    """What Great Expectations found for one expectation.

    Attributes:
        expectation: what was asked.
        success: whether it holds.
        observed: the value it was judged by.
        unexpected_count: failing rows, None for expectations that are not about rows.
        raw: the answer itself, for the Data Docs.
    """

    expectation: Expectation
    success: bool
    observed: Any
    unexpected_count: int | None
    raw: ExpectationValidationResult


class Judge:
    """Asks Great Expectations about tables of a gate's database.

    Use it as a context manager: at its end every connection is closed.
    """

    def __init__(self, database: GateDatabase) -> None:
        self._gx = import_great_expectations()
        base = self._gx.data_context.types.base
        config = base.DataContextConfig(
            store_backend_defaults=base.InMemoryStoreBackendDefaults(),
            progress_bars=base.ProgressBarsConfig(globally=False),
            analytics_enabled=False,
        )
        context = self._gx.get_context(project_config=config, mode="ephemeral")
        # For each table it would write all its settings anew as YAML, into memory: a fifth of a gate.
        context._save_project_config = lambda: None
        self._source = context.data_sources.add_sql("gate", connection_string=database.url)
        self._engines = [self._source.get_engine(), self._source.get_execution_engine().engine]
        for engine in self._engines:
            buffer_results(engine)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for engine in self._engines:
            engine.dispose()

    def outcomes(self, suite: Suite) -> list[Outcome]:
        """Judge all expectations of a suite, in their order.

        Raises:
            UsageError: an expectation's type or arguments are not known.
            StepFailed: a check could not be carried out.
        """
        asked = {spec.name: spec for spec in suite.expectations}
        questions = [self._question(suite, spec) for spec in suite.expectations]
        batch = self._batch(suite)
        answer = batch.validate(
            self._gx.ExpectationSuite(suite.name, expectations=questions),
            result_format={"result_format": "BASIC", "partial_unexpected_count": SAMPLE_VALUES},
        )
        answers = {result.expectation_config.meta["name"]: result for result in answer.results}
        crashed = {name: crash for name in asked if (crash := crash_of(answers[name].exception_info))}
        if crashed:
            raise _crash(suite, crashed)
        return [_outcome(spec, answers[name]) for name, spec in asked.items()]

    def _batch(self, suite: Suite) -> Any:
        from great_expectations.datasource.fluent.interfaces import TestConnectionError

        try:
            asset = self._source.add_table_asset(suite.name, table_name=suite.table)
        except TestConnectionError as missing:
            raise StepFailed(
                f"the table {suite.table}, which {suite.name} is about, can't be read",
                where=str(suite.file),
                todo="see whether the build has that table; no expectation of that file was judged",
            ) from missing
        return asset.add_batch_definition_whole_table("whole").get_batch()

    def _question(self, suite: Suite, spec: Expectation) -> Any:
        from great_expectations.exceptions import ExpectationNotFoundError
        from great_expectations.expectations.registry import get_expectation_impl

        said = {"severity": spec.severity, "meta": {"name": spec.name, "why": spec.why, "severity": spec.severity}}
        try:
            if spec.kind == UNEXPECTED_ROWS:
                query = escaped(spec.kwargs[ROWS_QUERY])
                return rows_expectation()(unexpected_rows_query=query, description=sentence(spec.name), **said)
            return get_expectation_impl(spec.kind)(**spec.kwargs, **said)
        except ExpectationNotFoundError as unknown:
            raise UsageError(
                f"{spec.kind} is no expectation that Great Expectations knows",
                where=f"{suite.file}: {spec.name}",
                todo=f"use one of its names, or {UNEXPECTED_ROWS} with SQL",
            ) from unknown
        except (ValueError, TypeError) as wrong:
            raise UsageError(
                f"{spec.kind} does not take these arguments: {' '.join(str(wrong).split())}",
                where=f"{suite.file}: {spec.name}",
                todo="correct kwargs",
            ) from wrong


def import_great_expectations() -> ModuleType:
    """Import Great Expectations without what a gate has no use for; takes a second or two the first time."""
    if "great_expectations" not in sys.modules:
        with _hidden("pyspark"), _deferred(*IMPORTED_WHEN_USED), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import great_expectations  # noqa: F401 - the module is taken from sys.modules below
    return sys.modules["great_expectations"]


@contextmanager
def _hidden(package: str) -> Iterator[None]:
    """Let imports of ``package`` fail for a while."""
    loaded = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == package}
    for name in loaded:
        del sys.modules[name]
    sys.modules[package] = None  # type: ignore[assignment] - this is how the import system marks it as absent
    try:
        yield
    finally:
        del sys.modules[package]
        sys.modules.update(loaded)


class _Deferred(ModuleType):
    """Stands in for a module until something of it is used."""

    def __getattr__(self, name: str) -> Any:
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(import_module(self.__name__), name)


@contextmanager
def _deferred(*names: str) -> Iterator[None]:
    """Let imports of modules that are not loaded yet cost nothing until they are used."""
    deferred = {name: _Deferred(name) for name in names if name not in sys.modules}
    sys.modules.update(deferred)
    try:
        yield
    finally:
        for name, module in deferred.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]


def buffer_results(engine: Engine) -> None:
    """Let every query of ``engine`` fetch its rows at once, before its connection is closed."""
    from sqlalchemy import event
    from sqlalchemy.engine.cursor import FullyBufferedCursorFetchStrategy

    @event.listens_for(engine, "after_cursor_execute")
    def fetch(_connection: Any, cursor: Any, _sql: str, _parameters: Any, context: Any, _many: bool) -> None:
        if cursor.description is not None:
            rows = cursor.fetchall()
            context.cursor_fetch_strategy = FullyBufferedCursorFetchStrategy(cursor, initial_buffer=rows)


@cache
def rows_expectation() -> type:
    """``UnexpectedRowsExpectation`` that counts the rows and fetches none."""
    from great_expectations.expectations import UnexpectedRowsExpectation

    class ExpectNoRows(UnexpectedRowsExpectation):
        metric_dependencies = ("unexpected_rows_query.row_count",)

        def _validate(self, metrics: dict[str, Any], *_: Any, **__: Any) -> dict[str, Any]:
            count = metrics["unexpected_rows_query.row_count"]
            return {"success": count == 0, "result": {"observed_value": count}}

    return ExpectNoRows


def escaped(query: str) -> str:
    """A suite's SQL as ``unexpected_rows_query`` must be written to mean the same.

    The batch is wrapped because it arrives with an alias of its own or without
    one, depending on whether the query has a JOIN.
    """
    braces = query.replace("{", "{{").replace("}", "}}").replace(f"{{{BATCH}}}", f"(select * from {BATCH})")
    return re.sub(r"(?<![:\w\\]):(?=\w)", r"\\:", braces)


def sentence(name: str) -> str:
    """An expectation's name as words."""
    return name.replace("_", " ").capitalize() + "."


def crash_of(exception_info: Mapping[str, Any] | None) -> str | None:
    """Why a check could not be carried out; None if it was.

    The information is either about the whole expectation or keyed by the metrics it needs.
    """
    info = exception_info or {}
    entries = [info] if "raised_exception" in info else list(info.values())
    for entry in entries:
        if entry.get("raised_exception"):
            message = str(entry.get("exception_message") or "no reason given")
            return " ".join(message.partition("[SQL:")[0].split())
    return None


def failing_rows(suite: Suite, spec: Expectation) -> str | None:
    """SQL of the rows of ``suite.table`` that fail ``spec``; None where that can't be said in SQL."""
    table = quoted(suite.table)
    if spec.kind == UNEXPECTED_ROWS:
        return spec.kwargs[ROWS_QUERY].strip().rstrip(";").replace(BATCH, table)
    condition = _failing(spec.kind, spec.kwargs, table)
    return None if condition is None else f"select * from {table} where {condition}"


def _failing(kind: str, kwargs: Mapping[str, Any], table: str) -> str | None:
    columns = [quoted(name) for name in kwargs.get("column_list") or [kwargs.get("column", "")]]
    column, listed = columns[0], ", ".join(columns)
    values = ", ".join(_constant(value) for value in kwargs.get("value_set", ()))
    repeated = f"({listed}) in (select ({listed}) from {table} group by {listed} having count(*) > 1)"
    return {
        "expect_column_values_to_not_be_null": f"{column} is null",
        "expect_column_values_to_be_null": f"{column} is not null",
        "expect_column_values_to_be_between": " or ".join(_outside(column, kwargs)) or None,
        "expect_column_values_to_be_in_set": f"{column} not in ({values})",
        "expect_column_values_to_not_be_in_set": f"{column} in ({values})",
        "expect_column_values_to_be_unique": repeated,
        "expect_compound_columns_to_be_unique": repeated,
    }.get(kind)


def _outside(column: str, kwargs: Mapping[str, Any]) -> Iterator[str]:
    for bound, sign, strict in (("min_value", "<", "strict_min"), ("max_value", ">", "strict_max")):
        if kwargs.get(bound) is not None:
            yield f"{column} {sign}{'=' if kwargs.get(strict) else ''} {_constant(kwargs[bound])}"


def _constant(value: Any) -> str:
    return str(value) if isinstance(value, (int, float)) else literal(value)


def _outcome(spec: Expectation, answer: ExpectationValidationResult) -> Outcome:
    result = answer.result
    count = result.get("unexpected_count")
    observed = result.get("observed_value")
    if spec.kind == UNEXPECTED_ROWS:
        count = observed
    elif "element_count" in result:
        observed = "no rows" if count is None else f"{count} of {result['element_count']} rows"
    return Outcome(spec, bool(answer.success), observed, None if count is None else int(count), answer)


def _crash(suite: Suite, crashed: Mapping[str, str]) -> StepFailed:
    named = "\n    ".join(f"{name}: {reason}" for name, reason in crashed.items())
    return StepFailed(
        f"{len(crashed)} of {len(suite.expectations)} checks of {suite.name} could not be carried out, "
        f"which says nothing about the data:\n    {named}",
        where=str(suite.file),
        todo="mend the expectation (its SQL, its columns) and validate again",
    )
