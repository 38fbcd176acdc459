"""Delivered files as one relation in DuckDB, whatever their format.

Every file yields rows of the same shape: which file and line they stand in,
their exact text, what makes them unreadable if anything, and the wanted
columns. CSV and JSON lines come as a stream of Arrow batches that is read
once; Parquet is read where it lies.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from strataflow.csvblocks import Layout
from strataflow.errors import InputError
from strataflow.reading import PARQUET, empty_file, head_of
from strataflow.records import Header, Tally, csv_batches, csv_header, line_batches, raw_schema
from strataflow.sqltext import named, quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import date
    from pathlib import Path

    import duckdb
    import pyarrow as pa

    from strataflow.sources import Format

STREAM = "raw_stream"


@dataclass(frozen=True)
class Delivered:
    """One delivered file: where it lies, its name below the source's root, and the day it belongs to.

    ``day`` is None where days are told by a column.
    """

    path: Path
    name: str
    day: date | None
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Columns:
    """Columns of a file in order: all names as they stand there, and DuckDB's types by name (text has none)."""

    names: tuple[str, ...]
    types: tuple[str, ...] = ()


@dataclass
class RawFiles:
    """Files of one format with the same columns, to be read into DuckDB once.

    Args:
        files: in the order in which their rows are to stand.
        form: how they are written.
        wanted: names of the columns to read, in any case.
        places: where the wanted columns stand, per file.
        max_rows: read no more rows than this, of all files together.
        progress: told, as reading goes on, how many bytes of which file have been read.
    """

    files: tuple[Delivered, ...]
    form: Format
    wanted: tuple[str, ...]
    places: tuple[tuple[int, ...], ...]
    headers: tuple[Header | Columns, ...]
    max_rows: int | None = None
    progress: Callable[[int], None] | None = None
    tallies: list[Tally] = field(default_factory=list)
    error: Exception | None = None

    def register(self, connection: duckdb.DuckDBPyConnection) -> str:
        """Make the files readable on ``connection``; returns the SELECT that reads them, once.

        It yields ``__file`` (position in ``files``), ``__line`` (rows from 1
        in Parquet), ``__raw``, ``__malformed`` and the wanted columns. For
        Parquet ``__raw`` is the row as a struct, for text it is text.
        """
        import pyarrow as pa

        self.tallies = [Tally() for _ in self.files]
        if self.form.type == "parquet":
            self._count_parquet()
            return self._select_parquet()
        reader = pa.RecordBatchReader.from_batches(
            raw_schema(self.wanted if self.form.type == "csv" else ()), self._guarded(self._batches())
        )
        connection.register(STREAM, reader)
        return f"select * from {STREAM}" if self.form.type == "csv" else self._select_json()

    def raise_own_error(self) -> None:
        """Raise what stopped the stream, rather than what DuckDB made of it."""
        if self.error is not None:
            raise self.error

    def texts_of(self, connection: duckdb.DuckDBPyConnection, refused: dict[int, Sequence[int]]) -> None:
        """Fill the table ``raw_texts`` (file, line, raw) with the exact text of the given lines of each file."""
        import pyarrow as pa

        again = RawFiles(self.files, self.form, (), tuple(() for _ in self.files), self.headers)
        again.tallies = [Tally() for _ in self.files]
        if self.form.type == "parquet":
            lines = ", ".join(f"({file}, {line})" for file, found in refused.items() for line in found)
            connection.execute(
                f"create or replace temp table raw_texts as select __file, __line, to_json(__raw)::varchar as __raw"
                f" from ({again._select_parquet()}) semi join (values {lines}) as r (__file, __line)"
                " using (__file, __line)"
            )
            return
        batches = (_only_lines(batch, refused[file]) for file in sorted(refused) for batch in again._batches_of(file))
        reader = pa.RecordBatchReader.from_batches(raw_schema(()), self._guarded(batches))
        connection.register(STREAM, reader)
        connection.execute(
            "create or replace temp table raw_texts as"
            f" select __file, __line, rtrim(__raw, e'\\r\\n') as __raw from {STREAM}"
        )

    # -- text

    def _guarded(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The same batches; an error is kept, since DuckDB would pass on only its text."""
        try:
            yield from batches
        except Exception as error:
            self.error = error
            raise

    def _batches(self) -> Iterator[pa.RecordBatch]:
        left = self.max_rows
        for file_no, file in enumerate(self.files):
            seen = 0
            for batch in self._batches_of(file_no):
                if left is not None and batch.num_rows >= left:
                    yield batch.slice(0, left)
                    return
                left = None if left is None else left - batch.num_rows
                yield batch
                if self.progress and (size := min(batch.nbytes, file.bytes - seen)) > 0:
                    seen += size
                    self.progress(size)
            if self.progress:
                self.progress(file.bytes - seen)

    def _batches_of(self, file_no: int) -> Iterator[pa.RecordBatch]:
        path, tally = self.files[file_no].path, self.tallies[file_no]
        if self.form.type == "jsonl":
            return line_batches(path, self.form, file_no, tally)
        header = self.headers[file_no]
        layout = Layout(path, self.form, len(header.names), self.places[file_no])
        return csv_batches(layout, header, self.wanted, file_no, tally)

    def _select_json(self) -> str:
        keys = [f'$."{name}"' for name in self.wanted] or ["$"]
        listed = ", ".join(quoted(key) for key in keys)
        fields = "".join(f", nullif(fields[{place}], '') as {named(name)}" for place, name in enumerate(self.wanted, 1))
        return f"""
            select __file, __line, __raw,
                case when fields is null then 'the line is not valid JSON'
                     when list_count(fields) = 0 and json_type(__raw) <> 'OBJECT' then 'the line is no JSON object'
                end as __malformed{fields}
            from (select *, try(json_extract_string(__raw, [{listed}])) as fields from {STREAM})
        """

    # -- Parquet

    def _count_parquet(self) -> None:
        from pyarrow import parquet

        for file, tally in zip(self.files, self.tallies, strict=True):
            tally.records = parquet.read_metadata(file.path).num_rows
            if self.progress:
                self.progress(file.bytes)

    def _select_parquet(self) -> str:
        names = self.headers[0].names
        paths = ", ".join(quoted(without_globs(str(file.path))) for file in self.files)
        row = ", ".join(f"{named(name)} := p.{named(name)}" for name in names)
        fields = "".join(
            f", p.{named(names[place])} as {named(name)}"
            for name, place in zip(self.wanted, self.places[0], strict=True)
        )
        limit = "" if self.max_rows is None else f" limit {self.max_rows}"
        return f"""
            select
                p.__file, p.__line, struct_pack({row}) as __raw, null::varchar as __malformed{fields}
            from (
                select *, file_index::integer as __file, file_row_number::bigint + 1 as __line
                from read_parquet([{paths}]){limit}
            ) as p
        """


def columns_of(connection: duckdb.DuckDBPyConnection, path: Path, form: Format) -> Header | Columns:
    """Columns of one file; of JSON lines, whose lines may differ, none.

    Raises:
        InputError: the file can't be read, or its header is missing or ambiguous.
    """
    import duckdb

    if form.type == "csv":
        return csv_header(path, form)
    if form.type == "jsonl":
        return Columns(())
    if not (head := head_of(path)):
        raise empty_file(path)
    if not head.startswith(PARQUET):
        raise InputError(
            "the file is no Parquet file: it doesn't start with PAR1",
            where=str(path),
            todo="correct format.type, or ask for the file again",
        )
    try:
        found = connection.execute(f"describe select * from read_parquet({quoted(without_globs(str(path)))})")
        return Columns(*zip(*((name, kind) for name, kind, *_ in found.fetchall()), strict=True))
    except duckdb.Error as error:
        raise InputError(
            f"the Parquet file is cut off or damaged: {str(error).splitlines()[0]}",
            where=str(path),
            todo="copy or ask for the file again; nothing of it has landed",
        ) from error


def _only_lines(batch: pa.RecordBatch, lines: Sequence[int]) -> pa.RecordBatch:
    import pyarrow as pa
    from pyarrow import compute

    return batch.filter(compute.is_in(batch.column("__line"), pa.array(lines, pa.int64())))


def without_globs(path: str) -> str:
    """A path that DuckDB's readers take as it is written."""
    return re.sub(r"([*?\[])", r"[\1]", path)
