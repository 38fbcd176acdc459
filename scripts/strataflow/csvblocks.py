"""Records of one block of CSV text: the fast way where quoting is regular, record by record where it isn't.

Both ways follow the same rules, so which one a block takes can't be seen in
the result:

* a quote is special where a field starts and inside a quoted field, nowhere else;
* a quoted field may go on over several lines if the record it makes is quoted
  without a fault, has the right number of fields and is no longer than 1 MiB;
  otherwise only the record's first line is refused, and reading goes on with
  the next line, so that one stray quote can't swallow its neighbours;
* blank lines between records are no records.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from typing import TYPE_CHECKING

from strataflow.reading import encoding_fault

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy as np
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    from strataflow.sources import Format

MAX_RECORD_BYTES = 1 << 20
NEWLINE, RETURN = 10, 13
NEVER_CLOSED = "a quote opens here and is never closed, or not within 1 MiB"


@dataclass(frozen=True)
class Layout:
    """How the records of a CSV file are laid out, and which of its columns are wanted.

    ``places`` are the positions of the wanted columns, from 0.
    """

    path: Path
    form: Format
    width: int
    places: tuple[int, ...]


@dataclass
class Records:
    """Records of one block.

    Per record: its first line, its exact text, its wanted fields and, where it
    can't be read, why. Then how much of the block they took.
    """

    lines: list[int] | np.ndarray
    raw: pa.Array
    columns: list[pa.Array]
    faults: pa.Array
    bytes_used: int
    lines_used: int
    blank_lines: int


def block_records(layout: Layout, data: bytes, first_line: int, *, final: bool) -> Records:
    """Records of a block of whole lines that starts at a record.

    Unless the block is the ``final`` one of its file, a record that is still
    open at its end is left for the next block.

    Raises:
        InputError: the block isn't valid UTF-8.
    """
    regular = _regular_records(layout, data, first_line, final=final)
    return regular if regular is not None else _irregular_records(layout, data, first_line, final=final)


def dialect(form: Format) -> dict[str, object]:
    """Arguments for Python's csv module that say what ``form`` says."""
    return {
        "delimiter": form.delimiter,
        "quotechar": form.quote,
        "quoting": csv.QUOTE_MINIMAL if form.quote else csv.QUOTE_NONE,
        "doublequote": form.escape in (None, form.quote),
        "escapechar": None if form.escape == form.quote else form.escape,
    }


def line_bounds(buffer: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Start of each physical line and its end before the newline; the last line may lack one."""
    import numpy as np

    ends = np.flatnonzero(buffer == NEWLINE)
    if len(buffer) and buffer[-1] != NEWLINE:
        ends = np.append(ends, len(buffer))
    starts = np.concatenate([[0], ends[:-1] + 1]) if len(ends) else ends
    return starts.astype(np.int64), ends


def blank_lines(buffer: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Which of the lines hold nothing, at most a carriage return."""
    import numpy as np

    first = buffer[np.minimum(starts, len(buffer) - 1)]
    return (ends == starts) | ((ends - starts == 1) & (first == RETURN))


def texts_between(path: Path, form: Format, data: bytes, starts: np.ndarray, end: int, first_line: int) -> pa.Array:
    """The text from each start to the next (the last to ``end``), checked to be UTF-8 and not copied.

    Raises:
        InputError: it isn't valid UTF-8.
    """
    import numpy as np
    import pyarrow as pa

    offsets = np.append(starts, end).astype(np.int32)
    texts = pa.StringArray.from_buffers(len(starts), pa.py_buffer(offsets), pa.py_buffer(data))
    try:
        texts.validate(full=True)
    except pa.ArrowInvalid as error:
        raise encoding_fault(path, form, data, first_line) from error
    return texts


# -- the fast way ------------------------------------------------------------


@dataclass
class _Cut:
    """Where the records of a regular block lie: lines, which of them begin a record, and the end."""

    starts: np.ndarray
    begins: np.ndarray
    inside: np.ndarray
    end: int
    blank_lines: int


def _regular_records(layout: Layout, data: bytes, first_line: int, *, final: bool) -> Records | None:
    """Records of a block whose quoting follows the book, or None if it doesn't."""
    import numpy as np
    import pyarrow as pa

    cut = _cut(layout.form, data, final=final)
    if cut is None:
        return None
    kept = cut.starts[cut.begins]
    if len(kept) and int(np.diff(kept, append=cut.end).max()) > MAX_RECORD_BYTES:
        return None
    raw = texts_between(layout.path, layout.form, data, kept, cut.end, first_line)
    parsed = _parsed(layout, pa.py_buffer(data).slice(0, cut.end), len(kept))
    if parsed is None:
        return None
    columns, bad = parsed
    numbers = np.flatnonzero(cut.begins)
    beyond = np.append(cut.inside, False)
    if any(beyond[numbers[row] + 1] for row in bad):
        return None
    faults = pa.nulls(len(kept), pa.string())
    if bad:
        faults = pa.array([bad.get(row) for row in range(len(kept))], pa.string())
    return Records(first_line + numbers, raw, columns, faults, cut.end, len(cut.starts), cut.blank_lines)


def _cut(form: Format, data: bytes, *, final: bool) -> _Cut | None:
    """Find the records of a block by its newlines and quotes alone; None if the quoting is irregular."""
    import numpy as np

    if data.count(b"\r") != data.count(b"\r\n") or (form.escape and form.escape.encode() in data):
        return None
    buffer = np.frombuffer(data, dtype=np.uint8)
    starts, ends = line_bounds(buffer)
    inside = np.zeros(len(starts), dtype=bool)
    end = len(data)
    if form.quote and form.quote.encode() in data:
        quotes = np.flatnonzero(buffer == ord(form.quote))
        if not _by_the_book(buffer, quotes, form):
            return None
        inside = np.searchsorted(quotes, starts) % 2 == 1
        if len(quotes) % 2:
            opened = int(np.flatnonzero(~inside)[-1])
            end = int(starts[opened])
            if final or len(data) - end > MAX_RECORD_BYTES:
                return None
            starts, ends, inside = starts[:opened], ends[:opened], inside[:opened]
    blank = blank_lines(buffer, starts, ends) & ~inside
    return _Cut(starts, ~inside & ~blank, inside, end, int(blank.sum()))


def _by_the_book(buffer: np.ndarray, quotes: np.ndarray, form: Format) -> bool:
    """Whether every quote opens a field, closes one, or is doubled inside one.

    Counted from 0, even quotes open a field or are the second of a doubled
    pair, odd ones close it or are the first of a pair.
    """
    import numpy as np

    delimiter, quote = ord(form.delimiter), ord(form.quote)
    opening, closing = quotes[::2], quotes[1::2]
    before = buffer[np.maximum(opening, 1) - 1]
    opened = (opening == 0) | np.isin(before, [delimiter, NEWLINE, quote])
    after = buffer[np.minimum(closing + 1, len(buffer) - 1)]
    closed = (closing == len(buffer) - 1) | np.isin(after, [delimiter, NEWLINE, RETURN, quote])
    return bool(opened.all() and closed.all())


def _parsed(layout: Layout, data: pa.Buffer, expected: int) -> tuple[list[pa.Array], dict[int, str]] | None:
    """Wanted columns of ``expected`` records, null where a record has another width, and those records."""
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    bad: dict[int, str] = {}
    if not expected:
        return [pa.array([], pa.string()) for _ in layout.places], bad

    def refuse(row: arrow_csv.InvalidRow) -> str:
        bad[row.number - 1] = _wrong_width(row.expected_columns, row.actual_columns)
        return "skip"

    # One column is always read, so that rows can be counted where a mapping wants none.
    names = [f"c{place}" for place in range(layout.width)]
    read = [names[place] for place in layout.places] or names[:1]
    form = layout.form
    try:
        table = arrow_csv.read_csv(
            pa.BufferReader(data),
            arrow_csv.ReadOptions(use_threads=False, block_size=data.size + 1, column_names=names),
            arrow_csv.ParseOptions(
                delimiter=form.delimiter,
                quote_char=form.quote or False,
                newlines_in_values=True,
                invalid_row_handler=refuse,
            ),
            arrow_csv.ConvertOptions(
                include_columns=read,
                column_types=dict.fromkeys(names, pa.string()),
                strings_can_be_null=True,
                null_values=[""],
            ),
        )
    except pa.ArrowInvalid:
        return None
    if table.num_rows + len(bad) != expected:
        return None
    columns = table.columns[: len(layout.places)]
    return [_with_gaps(column.combine_chunks(), bad, expected) for column in columns], bad


def _with_gaps(column: pa.Array, bad: dict[int, str], expected: int) -> pa.Array:
    """``column`` spread over ``expected`` rows, null where a bad record stands."""
    import numpy as np
    import pyarrow as pa

    if not bad:
        return column
    good = np.ones(expected, dtype=bool)
    good[list(bad)] = False
    return column.take(pa.array(np.cumsum(good) - 1, pa.int64(), mask=~good))


# -- record by record --------------------------------------------------------


def _irregular_records(layout: Layout, data: bytes, first_line: int, *, final: bool) -> Records:
    """Records of any block, one by one."""
    import pyarrow as pa

    try:
        pieces = data.decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise encoding_fault(layout.path, layout.form, data, first_line) from error
    lines = [piece + "\n" for piece in pieces[:-1]] + ([pieces[-1]] if pieces[-1] else [])
    found = list(_one_by_one(layout, lines, final=final))
    records = [record for record in found if not record.is_blank]
    used = found[-1].start + found[-1].count if found else 0
    columns = [
        pa.array([record.fields[place] or None if record.fields else None for record in records], pa.string())
        for place in layout.places
    ]
    return Records(
        lines=[first_line + record.start for record in records],
        raw=pa.array(["".join(lines[record.start : record.start + record.count]) for record in records], pa.string()),
        columns=columns,
        faults=pa.array([record.fault for record in records], pa.string()),
        bytes_used=len(data) - sum(len(line.encode()) for line in lines[used:]),
        lines_used=used,
        blank_lines=len(found) - len(records),
    )


@dataclass
class _Record:
    start: int
    count: int
    fields: list[str]
    fault: str | None = None

    @property
    def is_blank(self) -> bool:
        return not self.fields and self.fault is None


def _one_by_one(layout: Layout, lines: list[str], *, final: bool) -> Iterator[_Record]:
    """Each record and blank line of a block.

    Stops early where a record is open at the end of a block that isn't the
    last, and is short enough to be completed by the next.
    """
    start = 0
    reader = _reader(layout, lines, start)
    while start < len(lines):
        record = _next_record(layout, lines, start, reader)
        if record is None:
            if not final and sum(map(len, lines[start:])) <= MAX_RECORD_BYTES:
                return
            record = _Record(start, 1, [], NEVER_CLOSED)
        yield record
        start = record.start + record.count
        if record.fault is not None:
            reader = _reader(layout, lines, start)


def _next_record(layout: Layout, lines: list[str], start: int, reader: Iterator[list[str]]) -> _Record | None:
    """The record at ``start``; None if a quote is still open after the last line."""
    before = reader.line_num
    try:
        fields = next(reader)
    except csv.Error as error:
        return _Record(start, 1, [], _csv_fault(error))
    count = reader.line_num - before
    if start + count > len(lines):
        return None
    if count > 1 and not _is_strict(layout, lines[start : start + count]):
        return _Record(start, 1, [], f"a stray quote: what it opens ends amid a field, {_lines_on(count)} further on")
    if fields and len(fields) != layout.width:
        over = f", read over {count} lines because of a quote" if count > 1 else ""
        return _Record(start, 1, [], _wrong_width(layout.width, len(fields)) + over)
    if sum(len(line.encode()) for line in lines[start : start + count]) > MAX_RECORD_BYTES:
        return _Record(start, 1, [], "the record is longer than 1 MiB")
    return _Record(start, count, fields)


def _is_strict(layout: Layout, lines: list[str]) -> bool:
    """Whether every quote of a record that goes over several lines stands where it may."""
    try:
        return len(list(csv.reader(lines, strict=True, **dialect(layout.form)))) == 1
    except csv.Error:
        return False


def _reader(layout: Layout, lines: list[str], start: int) -> Iterator[list[str]]:
    """A csv reader from ``start`` on.

    The quote it finds after the last line closes a record that is open there;
    that the record then seems to have one line too many shows it.
    """
    csv.field_size_limit(MAX_RECORD_BYTES)
    after = [f"{layout.form.quote}\n"] if layout.form.quote else ["\n"]
    return csv.reader(
        (line for part in (range(start, len(lines)), after) for line in _lines_of(lines, part)),
        **dialect(layout.form),
    )


def _lines_of(lines: list[str], part: range | list[str]) -> Iterator[str]:
    return (lines[place] for place in part) if isinstance(part, range) else iter(part)


def _lines_on(count: int) -> str:
    return f"{count - 1} line{'' if count == 2 else 's'}"  # noqa: PLR2004


def _csv_fault(error: csv.Error) -> str:
    if "field larger" in str(error):
        return NEVER_CLOSED
    if "new-line character" in str(error):
        return "a carriage return stands in the middle of the record"
    return f"the record can't be read ({error})"


def _wrong_width(expected: int, actual: int) -> str:
    return f"{actual} field{'' if actual == 1 else 's'} where the header has {expected}"
