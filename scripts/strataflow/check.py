"""What a source description yields on the first rows of a real file, in plain words.

The same reading, mapping and judging as a landing, on a workbench that is
thrown away; so what is seen here is what a landing would do.
"""

from __future__ import annotations

import tempfile
import unicodedata
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from strataflow.deliveries import delivered_lookups
from strataflow.errors import InputError
from strataflow.privacy.contact import EMAIL_SHAPE, PHONE_SHAPE
from strataflow.project import canonical_tables
from strataflow.rates import first_rates
from strataflow.rawfiles import Delivered
from strataflow.reasons import NEVER_COUNTED, REASONS
from strataflow.sources import load_shop, load_source
from strataflow.sqltext import named
from strataflow.staging import Workbench

if TYPE_CHECKING:
    from collections.abc import Iterator

    from strataflow.project import Column, Project
    from strataflow.sources import Source
    from strataflow.staging import Staged

SAMPLES = 3
SHOWN_WIDTH = 48
# Ids have the shape of phone numbers as well, so one in a column says nothing.
LOOKS_LIKE = 0.9
SOME_DAY = date(1970, 1, 1)


@dataclass(frozen=True)
class ColumnCheck:
    """What one canonical column is filled with, over the rows that land."""

    column: str
    data_type: str
    filled_by: str
    required: bool
    nulls: int
    distinct: int
    lowest: str | None
    highest: str | None
    samples: tuple[str, ...]


@dataclass(frozen=True)
class RefusalCheck:
    """Rows refused for one reason, with some of them: line, reason in words, exact text."""

    code: str
    rows: int
    counts: bool
    samples: tuple[tuple[int, str, str], ...]


@dataclass(frozen=True)
class SourceCheck:
    """What a source description yields on the first rows of one file.

    ``first_date`` and ``last_date`` span the business dates of the rows that
    land, None for tables without a time.
    """

    source: str
    table: str
    file: str
    rows_read: int
    rows_landed: int
    is_whole_file: bool
    columns: tuple[ColumnCheck, ...]
    refusals: tuple[RefusalCheck, ...]
    unmapped: tuple[str, ...]
    first_date: str | None
    last_date: str | None
    quarantine_ratio: float
    max_quarantine_ratio: float
    warnings: tuple[str, ...] = ()

    @property
    def is_good(self) -> bool:
        """Whether a day like these rows would be accepted."""
        return self.rows_landed > 0 and self.quarantine_ratio <= self.max_quarantine_ratio

    def as_dict(self) -> dict[str, Any]:
        """The check for machines."""
        return asdict(self) | {"is_good": self.is_good}

    def lines(self) -> list[str]:
        """The check in plain words, a line each."""
        share = "all" if self.is_whole_file else "the first"
        lines = [
            f"{self.source} feeds {self.table}",
            f"file: {self.file}",
            (
                f"read: {share} {self.rows_read:,} rows; {self.rows_landed:,} land, "
                f"{self.rows_read - self.rows_landed:,} are refused"
            ),
        ]
        if self.first_date:
            lines.append(f"business dates: {self.first_date} to {self.last_date}")
        lines += ["", "columns of the rows that land:"]
        lines += [line for column in self.columns for line in _column_lines(column, self.rows_landed)]
        lines += _refusal_lines(self)
        if self.unmapped:
            lines += ["", f"columns of the file that nothing reads: {', '.join(self.unmapped)}"]
        lines += [f"warning: {warning}" for warning in ("", *self.warnings) if warning]
        return [_printable(line) for line in (*lines, "", _verdict(self))]


def check_source(
    project: Project, path: Path, rows: int = 1000, day: date | None = None, scratch: Path | None = None
) -> SourceCheck:
    """Try a source description on the first rows of a delivered file.

    Args:
        project: where the canonical tables are defined.
        path: the description; the shop's ``shop.yml`` lies beside it.
        rows: how many rows to look at.
        day: whose file to look at, where there is one per day; the first by name if None.
        scratch: folder for temporary files, the system's own if None.

    Raises:
        InputError: there is no file yet, or it can't be read.
        UsageError: the description can't be carried out.
    """
    path = Path(path).resolve()
    tables = canonical_tables(project)
    source = load_source(path, tables)
    shop = load_shop(path.parent / "shop.yml")
    table = tables[source.table]
    file = _file_to_check(source, day)
    with (
        tempfile.TemporaryDirectory(dir=scratch, prefix="strataflow-check-") as folder,
        Workbench(Path(folder), source, table, shop, first_rates(project, source, table, shop)) as bench,
    ):
        bench.load_lookups(delivered_lookups(source))
        header = bench.columns_of(file.path)
        staged = bench.stage([file], [header], max_rows=rows)
        return _result(bench, staged, rows)


def _file_to_check(source: Source, day: date | None) -> Delivered:
    found = source.files_of(day) if day or source.kind != "dated" else source.any_files()
    if not found:
        raise InputError(
            f"source {source.name}: there is no file to look at",
            where=str(source.root() / (source.pattern_of(day) if day or source.kind != "dated" else source.files.path)),
            todo=f"correct files.root or files.path in {source.defined_in.name}, or have a file delivered",
        )
    path = found[0]
    name = path.relative_to(source.root()).as_posix()
    return Delivered(path, name, None if source.kind == "split" else day or SOME_DAY, path.stat().st_size, "")


def _result(bench: Workbench, staged: Staged, rows: int) -> SourceCheck:
    source, table = bench.source, bench.table
    reasons: dict[str, int] = {}
    for (_, _, code), count in staged.counts.items():
        if code is not None:
            reasons[code] = reasons.get(code, 0) + count
    read = sum(staged.counts.values())
    landed = read - sum(reasons.values())
    unexpected = sum(count for code, count in reasons.items() if _counts(source, code))
    first, last = None, None
    if table.date_column:
        first, last = bench.connection.execute(
            f"select min({table.date_column})::varchar, max({table.date_column})::varchar from staged"
            " where __fault is null"
        ).fetchone()
    return SourceCheck(
        source=source.name,
        table=table.name,
        file=str(staged.files[0].path),
        rows_read=read,
        rows_landed=landed,
        is_whole_file=read < rows,
        columns=tuple(_column(bench, column) for column in table.mappable),
        refusals=tuple(_refusal(bench, staged, code, reasons[code]) for code in REASONS if code in reasons),
        unmapped=staged.unmapped,
        first_date=first,
        last_date=last,
        quarantine_ratio=round(unexpected / (landed + unexpected), 6) if unexpected else 0.0,
        max_quarantine_ratio=source.limits.max_quarantine_ratio,
        warnings=tuple(_warnings(bench)),
    )


def _warnings(bench: Workbench) -> Iterator[str]:
    """Columns that would land as they stand, of which some values look like contact data."""
    for column in bench.table.mappable:
        if column.data_type != "varchar" or column.pseudonym or column.name not in bench.source.columns:
            continue
        name = named(column.name)
        rows, mails, numbers = bench.connection.execute(
            f"select count({name}), count(*) filter (regexp_matches({name}, $1)),"
            f" count(*) filter (regexp_full_match({name}, $2)) from staged where __fault is null",
            [EMAIL_SHAPE, PHONE_SHAPE],
        ).fetchone()
        if mails:
            yield f"{column.name} holds e-mail addresses ({mails:,} of {rows:,} rows): map them by email_pseudonym(…)"
        if rows and numbers >= rows * LOOKS_LIKE:
            yield (
                f"{column.name} may hold phone numbers ({numbers:,} of {rows:,} rows have the shape of one): "
                "if so, map them by phone_pseudonym(…)"
            )


def _counts(source: Source, code: str) -> bool:
    return code not in NEVER_COUNTED and code not in source.limits.expected


def _column(bench: Workbench, column: Column) -> ColumnCheck:
    name = named(column.name)
    nulls, distinct, lowest, highest = bench.connection.execute(
        f"select count(*) - count({name}), count(distinct {name}), min({name})::varchar, max({name})::varchar"
        " from staged where __fault is null"
    ).fetchone()
    samples = bench.connection.execute(
        f"select {name}::varchar from staged where __fault is null and {name} is not null"
        f" group by {name} order by min((__file, __line)) limit {SAMPLES}"
    ).fetchall()
    mapped = bench.source.columns.get(column.name)
    return ColumnCheck(
        column=column.name,
        data_type=column.data_type,
        filled_by=mapped if mapped is not None else f"(default) {column.default or 'null'}",
        required=column.required,
        nulls=nulls,
        distinct=distinct,
        lowest=lowest,
        highest=highest,
        samples=tuple(sample for (sample,) in samples),
    )


def _refusal(bench: Workbench, staged: Staged, code: str, rows: int) -> RefusalCheck:
    samples = bench.connection.execute(
        f"select source_line, reason, raw from ({bench.refused(staged)}) where reason_code = $1 limit {SAMPLES}", [code]
    ).fetchall()
    return RefusalCheck(code, rows, _counts(bench.source, code), tuple(samples))


def _column_lines(column: ColumnCheck, rows: int) -> list[str]:
    must = ", required" if column.required else ""
    head = f"  {column.column} ({column.data_type}{must}) from {_shortened(column.filled_by)}"
    if rows and column.nulls == rows:
        return [head, "      always empty"]
    facts = [f"{column.distinct:,} different"]
    if column.nulls:
        facts.append(f"empty in {column.nulls:,} of {rows:,}")
    facts.append(f"{_shortened(column.lowest or '')} … {_shortened(column.highest or '')}")
    return [head, f"      {', '.join(facts)}; such as {', '.join(map(_shortened, column.samples))}"]


def _refusal_lines(check: SourceCheck) -> list[str]:
    if not check.refusals:
        return ["", "no row is refused"]
    lines = ["", "rows refused:"]
    for refusal in check.refusals:
        weight = "" if refusal.counts else ", not counted against the limit"
        lines.append(f"  {refusal.code}: {refusal.rows:,}{weight} ({REASONS[refusal.code]})")
        lines += [f"      line {line}: {reason} | {_shortened(raw)}" for line, reason, raw in refusal.samples]
    return lines


def _verdict(check: SourceCheck) -> str:
    limit = f"the limit is {check.max_quarantine_ratio:.2%}"
    if not check.rows_landed:
        return "verdict: no row lands; a day like this would be empty"
    if check.is_good:
        return f"verdict: a day like this would be accepted ({check.quarantine_ratio:.2%} refused, {limit})"
    return f"verdict: a day like this would be refused ({check.quarantine_ratio:.2%} refused, {limit})"


def _printable(text: str) -> str:
    """``text`` with all that a terminal would obey, not show, written as an escape (Unicode's categories C)."""
    return "".join(ascii(sign)[1:-1] if unicodedata.category(sign).startswith("C") else sign for sign in text)


def _shortened(text: str) -> str:
    flat = _printable(" ".join(text.split()))
    return flat if len(flat) <= SHOWN_WIDTH else f"{flat[: SHOWN_WIDTH - 1]}…"
