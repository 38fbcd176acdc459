"""Delivered text files as batches of records that still know their line and their exact text.

Whoever repairs a delivery needs the line a refused row stands in and the row
as it was written; no CSV reader hands out either. So lines are counted and
records are cut here, in blocks, and handed to DuckDB as Arrow batches. Memory
is bounded by the block, not by the file.

Counting happens on the bytes alone, independent of what becomes of the rows
later: the tally of a file is what landed and refused rows must add up to.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from typing import TYPE_CHECKING

from strataflow.csvblocks import (
    MAX_RECORD_BYTES,
    Layout,
    blank_lines,
    block_records,
    dialect,
    line_bounds,
    texts_between,
)
from strataflow.errors import InputError
from strataflow.reading import BLOCK_BYTES, HEAD_BYTES, encoding_fault, text_blocks

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import pyarrow as pa

    from strataflow.sources import Format

MAX_LINE_BYTES = 64 << 20


@dataclass
class Tally:
    """What one file holds, counted from its bytes.

    ``lines = header_lines + blank_lines + continuation_lines + records``;
    ``lines`` is 0 for files that have none (Parquet).
    """

    lines: int = 0
    header_lines: int = 0
    blank_lines: int = 0
    continuation_lines: int = 0
    records: int = 0


@dataclass(frozen=True)
class Header:
    """Column names of a CSV file and how much of the file they take."""

    names: tuple[str, ...]
    bytes_used: int = 0
    lines: int = 0
    blank_lines: int = 0


def raw_schema(wanted: Sequence[str]) -> pa.Schema:
    """Arrow schema of the batches: file, line, exact text, fault in words, then the wanted fields as text."""
    import pyarrow as pa

    place = [
        ("__file", pa.int32()),
        ("__line", pa.int64()),
        ("__raw", pa.string()),
        ("__malformed", pa.string()),
    ]
    return pa.schema(place + [(name, pa.string()) for name in wanted])


def line_batches(
    path: Path, form: Format, file_no: int, tally: Tally, block_bytes: int = BLOCK_BYTES
) -> Iterator[pa.RecordBatch]:
    """Lines of a JSON lines file, blank ones left out, in the shape of ``raw_schema([])``.

    Raises:
        InputError: see ``text_blocks``; or a line is longer than 64 MiB.
    """
    import numpy as np
    import pyarrow as pa

    for data, _ in _whole_lines(path, text_blocks(path, form, block_bytes)):
        buffer = np.frombuffer(data, dtype=np.uint8)
        starts, ends = line_bounds(buffer)
        blank = blank_lines(buffer, starts, ends)
        raw = texts_between(path, form, data, starts[~blank], len(data), tally.lines + 1)
        numbers = tally.lines + 1 + np.flatnonzero(~blank)
        tally.lines += len(starts)
        tally.blank_lines += int(blank.sum())
        tally.records += len(raw)
        if len(raw):
            place = [pa.repeat(pa.scalar(file_no, pa.int32()), len(raw)), pa.array(numbers, pa.int64())]
            yield pa.record_batch([*place, raw, pa.nulls(len(raw), pa.string())], schema=raw_schema([]))


def csv_batches(
    layout: Layout,
    header: Header,
    wanted: Sequence[str],
    file_no: int,
    tally: Tally,
    block_bytes: int = BLOCK_BYTES,
) -> Iterator[pa.RecordBatch]:
    """Records of a CSV file in the shape of ``raw_schema(wanted)``; blank fields are null.

    Raises:
        InputError: see ``text_blocks``; or a line is longer than 64 MiB.
    """
    import pyarrow as pa

    tally.lines += header.lines + header.blank_lines
    tally.header_lines += header.lines
    tally.blank_lines += header.blank_lines
    blocks = _without_head(text_blocks(layout.path, layout.form, block_bytes), header.bytes_used)
    left = b""
    for lines, last in _whole_lines(layout.path, blocks):
        data = left + lines
        found = block_records(layout, data, tally.lines + 1, final=last)
        left = data[found.bytes_used :]
        tally.lines += found.lines_used
        tally.blank_lines += found.blank_lines
        tally.records += len(found.raw)
        tally.continuation_lines += found.lines_used - found.blank_lines - len(found.raw)
        if len(found.raw):
            place = [
                pa.repeat(pa.scalar(file_no, pa.int32()), len(found.raw)),
                pa.array(found.lines, pa.int64()),
            ]
            yield pa.record_batch([*place, found.raw, found.faults, *found.columns], schema=raw_schema(wanted))


def csv_header(path: Path, form: Format) -> Header:
    """The header of a CSV file, or the names its description gives.

    Blanks around names are dropped; a nameless column is called ``column_<n>``.

    Raises:
        InputError: see ``text_blocks``; or there is no header, or a name stands twice.
    """
    blocks = text_blocks(path, form, HEAD_BYTES)
    start = next(blocks, b"")
    if not form.header:
        return Header(form.column_names)
    header = _header_in(path, form, start)
    while header.bytes_used >= len(start) and (block := next(blocks, b"")):
        start += block
        if len(start) > MAX_RECORD_BYTES:
            raise InputError("the header does not end within 1 MiB", where=str(path), todo="is a quote never closed?")
        header = _header_in(path, form, start)
    if not header.names:
        raise InputError("the file has no header: all its lines are blank", where=str(path))
    _refuse_twins(path, header)
    return header


def _header_in(path: Path, form: Format, data: bytes) -> Header:
    """The header at the start of ``data``, as far as it goes."""
    pieces = data.decode("utf-8", errors="surrogateescape").split("\n")
    lines = [piece + "\n" for piece in pieces[:-1]] + ([pieces[-1]] if pieces[-1] else [])
    blank = next((place for place, line in enumerate(lines) if line.rstrip("\r\n")), len(lines))
    reader = csv.reader(lines[blank:], **dialect(form))
    try:
        fields = next(reader, [])
    except csv.Error as error:
        raise InputError(f"the header can't be read: {error}", where=str(path)) from error
    used = lines[: blank + reader.line_num]
    names = tuple(name.strip() or f"column_{place}" for place, name in enumerate(fields, 1))
    try:
        taken = "".join(used).encode("utf-8")
    except UnicodeEncodeError:
        raise encoding_fault(path, form, data, 1) from None
    return Header(names, len(taken), reader.line_num, blank)


def _refuse_twins(path: Path, header: Header) -> None:
    seen: set[str] = set()
    for name in header.names:
        if name.lower() in seen:
            raise InputError(
                f"the header names the column '{name}' twice",
                where=f"{path}, line {header.blank_lines + 1}",
                todo="have one of them renamed, or describe the file with header: false, column_names and a filter",
            )
        seen.add(name.lower())


def _without_head(blocks: Iterator[bytes], size: int) -> Iterator[bytes]:
    """``blocks`` without their first ``size`` bytes."""
    for block in blocks:
        skipped = min(size, len(block))
        size -= skipped
        if skipped < len(block):
            yield block[skipped:]


def _whole_lines(path: Path, blocks: Iterator[bytes]) -> Iterator[tuple[bytes, bool]]:
    """Blocks cut after their last newline; the flag tells the last one, which may lack it."""
    left = b""
    block = next(blocks, None)
    while block is not None:
        following = next(blocks, None)
        left += block
        cut = len(left) if following is None else left.rfind(b"\n") + 1
        if cut:
            yield left[:cut], following is None
            left = left[cut:]
        if len(left) > MAX_LINE_BYTES:
            raise InputError(
                "a line is longer than 64 MiB, so this is no file of lines",
                where=str(path),
                todo="a JSON array has to be written as one object per line",
            )
        block = following
