"""Opening delivered files: from bytes on disk to UTF-8 blocks, or a clear word on why not.

Files arrive cut off, packed, in the wrong encoding, or are no text at all.
Everything that makes a whole file unusable is found here and told with the
file's name and the cause. What is wrong with single rows is not decided here.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from strataflow.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

    from strataflow.sources import Format

BLOCK_BYTES = 4 << 20
HEAD_BYTES = 64 << 10
GZIP, ZSTD, PARQUET = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PAR1"
PACKED = {"gz": GZIP, "zst": ZSTD}
CODECS = {"gz": "gzip", "zst": "zstd"}
SUFFIXES = {".gz": "gz", ".gzip": "gz", ".zst": "zst", ".zstd": "zst"}
UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
OTHER_FILES = {
    PARQUET: "a Parquet file (format.type: parquet)",
    b"PK\x03\x04": "a zip archive or an Excel workbook",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
    b"%PDF": "a PDF",
    b"BZh": "packed with bzip2, which is not supported",
    b"\xfd7zXZ": "packed with xz, which is not supported",
}


def text_blocks(path: Path, form: Format, block_bytes: int = BLOCK_BYTES) -> Iterator[bytes]:
    r"""Content of a text file as UTF-8 blocks, unpacked, without a byte order mark.

    Blocks of a UTF-8 file are passed on unchecked (whoever knows the lines
    checks them and can name one); other encodings are checked as they are
    decoded. Lines end in ``\n``; a file that only uses ``\r`` gets ``\n``.

    Raises:
        InputError: empty, cut off, damaged, packed or encoded otherwise than
            described, or not text at all.
    """
    pieces = _decoded(path, form, _unpacked(path, form, block_bytes))
    first = next(pieces, b"")
    _refuse_binary(path, form, first)
    first = first.removeprefix(codecs.BOM_UTF8)
    while b"\n" not in first and len(first) < HEAD_BYTES and (more := next(pieces, b"")):
        first += more
    lone_returns = b"\n" not in first[:HEAD_BYTES] and b"\r" in first[:HEAD_BYTES]
    for block in _chain(first, pieces):
        yield block.replace(b"\r", b"\n") if lone_returns else block


def compression_of(path: Path, form: Format) -> str:
    """``gz``, ``zst`` or ``none``, from the description or, for ``auto``, from the first bytes.

    Raises:
        InputError: the file is empty, or isn't packed as its description or name says.
    """
    head = head_of(path)
    if not head:
        raise empty_file(path)
    found = next((name for name, magic in PACKED.items() if head.startswith(magic)), "none")
    named = form.compression if form.compression != "auto" else SUFFIXES.get(path.suffix.lower(), found)
    if named != found and form.type != "parquet":
        said = "is described" if form.compression != "auto" else "is named"
        raise InputError(
            f"the file {said} as {_packing(named)} but is {_packing(found)}",
            where=str(path),
            todo="correct format.compression, or ask for the file again",
        )
    return found


def empty_file(path: Path) -> InputError:
    """The error for a file without a single byte."""
    return InputError(
        "the file is empty (0 bytes)",
        where=str(path),
        todo="ask for it again, or set files.if_empty: empty if an empty file is a day without rows",
    )


def head_of(path: Path, size: int = 16) -> bytes:
    """The first bytes of a file.

    Raises:
        InputError: the file can't be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(size)
    except OSError as error:
        raise InputError(f"the file can't be read: {error.strerror}", where=str(path)) from error


def encoding_fault(path: Path, form: Format, block: bytes, first_line: int) -> InputError:
    """The error for a block that isn't valid in the file's encoding, naming the line."""
    try:
        block.decode("utf-8")
        line, bad = first_line, b""
    except UnicodeDecodeError as error:
        line = first_line + block.count(b"\n", 0, error.start)
        bad = block[error.start : error.start + 1]
    return _not_in_encoding(path, form, f"line {line} holds the byte 0x{bad.hex()}")


def _packing(name: str) -> str:
    return {"gz": "packed with gzip", "zst": "packed with zstandard", "none": "not packed"}[name]


def _unpacked(path: Path, form: Format, block_bytes: int) -> Iterator[bytes]:
    import pyarrow as pa

    packing = compression_of(path, form)
    done = 0
    try:
        with pa.OSFile(str(path)) as file:
            stream: pa.NativeFile = file if packing == "none" else pa.CompressedInputStream(file, CODECS[packing])
            while block := stream.read(block_bytes):
                done += len(block)
                yield block
    except OSError as error:
        if packing == "none":
            raise InputError(f"the file can't be read: {error}", where=str(path)) from error
        cut_off = "runcated" in str(error)
        raise InputError(
            f"the file is {'cut off' if cut_off else 'damaged'}: unpacking it failed after {done:,} bytes ({error})",
            where=str(path),
            todo="copy or ask for the file again; nothing of it has landed",
        ) from error
    if not done:
        raise InputError("the packed file holds nothing (0 bytes)", where=str(path), todo="ask for the file again")


def _decoded(path: Path, form: Format, blocks: Iterator[bytes]) -> Iterator[bytes]:
    if form.encoding in ("utf-8", "utf-8-sig", "ascii"):
        yield from blocks
        return
    decoder = codecs.getincrementaldecoder(form.encoding)("strict")
    line = 1
    try:
        for block in blocks:
            text = decoder.decode(block).encode()
            line += text.count(b"\n")
            if text:
                yield text
        if rest := decoder.decode(b"", final=True):
            yield rest.encode()
    except UnicodeError as error:
        reason = getattr(error, "reason", str(error))
        raise _not_in_encoding(path, form, f"at or after line {line}: {reason}") from error


def _not_in_encoding(path: Path, form: Format, fault: str) -> InputError:
    return InputError(
        f"the file is not {form.encoding}: {fault}",
        where=str(path),
        todo="set format.encoding to what the shop writes (often cp1252 or latin-1, in China gb18030)",
    )


def _refuse_binary(path: Path, form: Format, block: bytes) -> None:
    for magic, what in OTHER_FILES.items():
        if block.startswith(magic):
            raise InputError(f"the file is {what}, not {form.type} text", where=str(path))
    if block.startswith(UTF16_MARKS):
        raise InputError("the file is UTF-16", where=str(path), todo="set format.encoding: utf-16")
    if b"\0" in block[:HEAD_BYTES]:
        raise InputError(
            f"the file is binary, not {form.type} text: it holds zero bytes",
            where=str(path),
            todo="check that the right file was delivered; UTF-16 text needs format.encoding: utf-16-le or utf-16-be",
        )


def _chain(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    if first:
        yield first
    yield from rest
