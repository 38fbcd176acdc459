"""The two gates: data on its way in, and results on their way out.

Gate 1 looks at what has landed on a day before anything is built on it, gate 2
at what was built before anyone may see it. What must hold is written in
``expectations/``, one file per table or subject; this module fills in the day,
lets Great Expectations judge inside DuckDB, keeps the rows that fail and
writes the report. Publishing asks for the report of the very build it is given.

Three outcomes are kept apart: an expectation holds; it does not hold (the
report says so, and ``GateReport.raise_if_failed`` stops the run); it could not
be asked (:class:`StepFailed`, and nothing is known about the data).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from strataflow.durable import write_json
from strataflow.errors import StepFailed
from strataflow.gates.database import GateDatabase, literal, quoted
from strataflow.gates.docs import page_name, write_page
from strataflow.gates.gx_duckdb import Judge, Outcome, failing_rows
from strataflow.gates.report import GateReport, Judgement
from strataflow.gates.suites import Suite, load_suites
from strataflow.gates.tables import Days, show_built, show_classes_before, show_landed, show_seeds
from strataflow.home import Home
from strataflow.project import Project, canonical_tables
from strataflow.publish import published_days, read_manifest, version_of
from strataflow.rules import variables
from strataflow.tags import inbox

if TYPE_CHECKING:
    from strataflow.build import Build
    from strataflow.sources import Sources

LANDED, BUILT = "landed", "built"
ROWS_KEPT = 1000
ROWS_IN_REPORT = 5


@dataclass(frozen=True)
class _Question:
    """What one gate asks of which days, and where its findings go."""

    home: Home
    gate: str
    day: date
    since: date
    tables: tuple[str, ...] | None = None
    build_id: str | None = None
    known_at: date | None = None

    @property
    def folder(self) -> Path:
        """Findings; a gate that judges only some tables has a folder of its own."""
        name = self.gate if self.tables is None else f"{self.gate}-{'+'.join(self.tables)}"
        return self.home.gates / self.home.named(self.day, self.known_at) / name

    @property
    def site(self) -> Path:
        """The Data Docs of this home."""
        return self.home.root / "data_docs"

    def report(self, judgements: Iterable[Judgement], notes: tuple[str, ...]) -> GateReport:
        """The report on what was found."""
        return GateReport(
            gate=self.gate,
            day=self.day,
            since=self.since,
            path=self.folder / "report.json",
            docs=self.site / self.gate / page_name(self.home.named(self.day, self.known_at), self.tables),
            expectations=tuple(judgements),
            tables=self.tables,
            build_id=self.build_id,
            notes=notes,
        )


def validate_landed(
    home: Home,
    project: Project,
    sources: Sources,
    day: date,
    tables: Iterable[str] | None = None,
    since: date | None = None,
) -> GateReport:
    """Gate 1: judge what has landed on ``day``.

    Args:
        home: holds the lake and its manifests; the report goes to ``gates/<day>/landed/``.
        project: holds ``expectations/landed_day/`` and the canonical tables.
        sources: the shop's sources; each must have delivered.
        day: the day judged; with ``since``, the last one.
        tables: judge only these canonical tables and the sources that feed them;
            the report then goes to ``gates/<day>/landed-<tables>/``.
        since: judge all days from here to ``day`` in one pass, as after a bulk landing.

    Returns:
        The report; ``raise_if_failed`` turns a failed gate into an error.

    Raises:
        UsageError: an expectation is written wrongly.
        InputError: a landing manifest can't be read.
        StepFailed: a check could not be carried out.
    """
    canonical = canonical_tables(project)
    sources = inbox.including(home, sources)
    asked = tuple(sorted(canonical if tables is None else tables))
    feeding = sources.feeding(asked)
    fed = {source.table for source in feeding}
    question = _Question(home, LANDED, day, since or day, None if tables is None else asked)

    def show(database: GateDatabase) -> list[Suite]:
        show_landed(database, home, {name: canonical[name] for name in fed}, feeding, Days(question.since, day))
        show_seeds(database, project)
        values = {**_rules(project), "day": day, "since": question.since}
        suites = load_suites(project.expectations / "landed_day", values, canonical)
        return [suite for suite in suites if suite.table in fed or (fed and suite.table not in canonical)]

    unfed = ", ".join(table for table in asked if table not in fed)
    notes = (f"no source feeds {unfed}: results that rest on it are empty",) if unfed else ()
    return _judge(project, question, show, notes=notes)


def validate_built(home: Home, project: Project, build: Build) -> GateReport:
    """Gate 2: judge a build before it is published.

    The report names the build it judged and goes to ``gates/<as_of>/built/``,
    that on a restatement to ``gates/<as_of>@<known_at>/built/``.

    Returns:
        The report; ``raise_if_failed`` turns a failed gate into an error.

    Raises:
        UsageError: an expectation is written wrongly.
        StepFailed: a check could not be carried out, for example because the build lacks a table.
    """
    question = _Question(
        home, BUILT, build.as_of, build.as_of, build_id=build.meta["build_id"], known_at=build.known_at
    )
    before = _version_before(home, build.as_of)

    def show(database: GateDatabase) -> list[Suite]:
        show_built(database, home, build.path, build.known_at)
        show_classes_before(database, before)
        values = _rules(project) | {
            "as_of": build.as_of,
            "known_at": build.known_at,
            "orders_counted_through": _orders_counted_through(before, build.known_at),
            "agreeing_columns": _agreeing_columns(database),
        }
        suites = load_suites(project.expectations / "built_tables", values)
        return [suite for suite in suites if not suite.optional or database.has(suite.table)]

    nothing_before = "no earlier day is published: the drift of class shares is not judged"
    return _judge(project, question, show, notes=() if before else (nothing_before,))


def _judge(
    project: Project,
    question: _Question,
    show: Callable[[GateDatabase], list[Suite]],
    notes: tuple[str, ...] = (),
) -> GateReport:
    """Judge every suite, keep what fails, write report and page.

    Earlier findings of the same question go first: a killed or crashed gate
    leaves no report that speaks for data it has not seen.
    """
    shutil.rmtree(question.folder, ignore_errors=True)
    judged: list[tuple[Suite, list[Outcome]]] = []
    judgements: list[Judgement] = []
    with _spill_folder(question) as spill, GateDatabase(spill) as database:
        suites = _shown(database, show)
        with Judge(database) as judge:
            for suite in suites:
                for table, sql in suite.prepare:
                    database.make(table, sql, needed_by=str(suite.file))
                outcomes = judge.outcomes(suite)
                judged.append((suite, outcomes))
                judgements += [_judgement(database, question, suite, outcome) for outcome in outcomes]
    report = question.report(judgements, notes)
    write_page(question.site, project.expectations, report, judged)
    write_json(report.path, report.content())
    return report


def _shown(database: GateDatabase, show: Callable[[GateDatabase], list[Suite]]) -> list[Suite]:
    import duckdb

    try:
        return show(database)
    except duckdb.Error as broken:
        raise StepFailed(
            f"what the gate has to judge can't be read: {broken}",
            todo="land or build that day again; no expectation was judged",
        ) from broken


@contextmanager
def _spill_folder(question: _Question) -> Iterator[Path]:
    folder = question.home.scratch / f"gate-{question.folder.name}-{question.day}"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _judgement(database: GateDatabase, question: _Question, suite: Suite, outcome: Outcome) -> Judgement:
    spec = outcome.expectation
    kept, sample = None, ()
    if not outcome.success:
        kept, sample = _keep_failing_rows(database, question.folder, suite, outcome)
    return Judgement(
        name=spec.name,
        suite=suite.name,
        table=suite.table,
        severity=spec.severity,
        success=outcome.success,
        observed=outcome.observed if isinstance(outcome.observed, (int, str)) else _plain(outcome.observed),
        unexpected_count=outcome.unexpected_count,
        sample=sample,
        rows_file=kept,
        why=spec.why,
        todo=spec.todo,
    )


def _keep_failing_rows(
    database: GateDatabase, folder: Path, suite: Suite, outcome: Outcome
) -> tuple[str | None, tuple[dict[str, str | None], ...]]:
    """Write the rows that fail, up to a limit, in an order of their own; return file and first rows."""
    import duckdb

    spec = outcome.expectation
    query = failing_rows(suite, spec)
    if query is None:
        return None, ()
    name = f"failed_rows/{spec.name}.parquet"
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        limited = f"select * from (\n{query}\n) order by all limit {ROWS_KEPT}"
        database.run(f"copy ({limited}) to {literal(path)} (format parquet, compression zstd)")
        keys = spec.rows_key or database.column_names(f"select * from {literal(path)}")
        listed = ", ".join(f"cast({quoted(key)} as varchar)" for key in keys)
        first = database.rows(f"select {listed} from {literal(path)} limit {ROWS_IN_REPORT}")
    except duckdb.Error as broken:
        raise StepFailed(
            f"the rows that fail {spec.name} can't be listed: {broken}",
            where=str(suite.file),
            todo="see that rows_key names columns of the failing rows",
        ) from broken
    return name, tuple(dict(zip(keys, row, strict=True)) for row in first)


def _plain(observed: Any) -> str | float | None:
    return observed if observed is None or isinstance(observed, float) else str(observed)


def _rules(project: Project) -> dict[str, Any]:
    """The plain values among the vars of dbt_project.yml, so that a rule is written once."""
    return {name: value for name, value in variables(project).items() if isinstance(value, (str, int, float, bool))}


def _version_before(home: Home, as_of: date) -> Path | None:
    """Folder of the last published version of a day before ``as_of``."""
    earlier = [day for day in published_days(home) if day < as_of]
    return version_of(home, earlier[-1]) if earlier else None


def _orders_counted_through(before: Path | None, known_at: date) -> date:
    """The day up to which an earlier gate 2 has counted the orders already; the first of all days if none has."""
    through = date.fromisoformat(read_manifest(before)["known_at"]) if before else date.min
    return through if through < known_at else date.min


def _agreeing_columns(database: GateDatabase) -> str:
    """The columns of customer_segments that the tag dictionary says tags agree with."""
    found = database.rows("select distinct agrees_with from tag_dictionary where agrees_with is not null order by all")
    return ", ".join(quoted(name) for (name,) in found)
