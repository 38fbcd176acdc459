"""Reading text: lines, exact texts and counts, whatever the quoting and wherever a block ends."""

import codecs
import gzip
import random
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from strataflow import csvblocks
from strataflow.csvblocks import MAX_RECORD_BYTES, Layout
from strataflow.errors import InputError
from strataflow.reading import text_blocks
from strataflow.records import Header, Tally, csv_batches, csv_header, line_batches
from strataflow.sources import Format

CSV = Format(type="csv")
NAMES = ("a", "b", "c")


def records_of(path, form=CSV, header=None, block_bytes=1 << 22):
    header = header or Header(NAMES)
    layout = Layout(path, form, len(header.names), tuple(range(len(header.names))))
    tally = Tally()
    rows = [
        (row["__line"], row["__raw"].rstrip("\r\n"), row["__malformed"], [row[name] for name in header.names])
        for batch in csv_batches(layout, header, header.names, 0, tally, block_bytes)
        for row in batch.to_pylist()
    ]
    return rows, tally


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("records") / "delivered.csv"


PIECES = ["a", "b", "é", " ", "", '""', '"q"', '"a\nb"', '"a,b"', '"a""b"', '5" pipe', '"open', 'x"y"', '"x"y', "\r"]
LINES = st.lists(st.lists(st.sampled_from(PIECES), min_size=1, max_size=4).map(",".join), min_size=1, max_size=9)
TEXTS = st.one_of(
    st.tuples(LINES, st.sampled_from(["\n", "\r\n", "\n\n"]), st.sampled_from(["", "\n"])).map(
        lambda made: made[1].join(made[0]) + made[2]
    ),
    st.text(alphabet='ab,,""\n\n é\r', min_size=1, max_size=40),
)


@settings(max_examples=150, deadline=None)
@given(text=TEXTS, block_bytes=st.integers(3, 30))
@example(text='1,"open\n2,x,y\n3,"z",w\n', block_bytes=5)
@example(text='"a\n', block_bytes=3)
def test_fast_and_slow_reading_agree_wherever_blocks_end(file, text, block_bytes):
    if "\n" not in text:
        text += "\n"
    file.write_bytes(text.encode())
    whole, tally = records_of(file)
    cut, cut_tally = records_of(file, block_bytes=block_bytes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csvblocks, "_regular_records", lambda *_args, **_options: None)
        slow, slow_tally = records_of(file)
    assert whole == cut == slow
    assert tally == cut_tally == slow_tally


@settings(max_examples=100, deadline=None)
@given(text=TEXTS)
def test_every_record_stands_where_its_line_says_and_lines_add_up(file, text):
    if "\n" not in text:
        text += "\n"
    file.write_bytes(text.encode())
    lines = text.split("\n")
    rows, tally = records_of(file)
    for line, raw, _, _ in rows:
        assert "\n".join(lines[line - 1 :]).startswith(raw)
    assert tally.lines == len(lines) - (lines[-1] == "")
    assert tally.lines == tally.header_lines + tally.blank_lines + tally.continuation_lines + tally.records
    assert tally.records == len(rows)


def test_a_quoted_field_may_span_lines(file):
    file.write_text('1,"two\nlines",x\n2,y,z\n', encoding="utf-8")
    rows, tally = records_of(file)
    assert rows == [(1, '1,"two\nlines",x', None, ["1", "two\nlines", "x"]), (3, "2,y,z", None, ["2", "y", "z"])]
    assert tally == Tally(lines=3, continuation_lines=1, records=2)


def test_a_stray_quote_costs_one_line_only(file):
    file.write_text('1,"open,x\n2,y,z\n3,"w",v\n', encoding="utf-8")
    rows, _ = records_of(file)
    assert [(line, fault is None) for line, _, fault, _ in rows] == [(1, False), (2, True), (3, True)]


def test_a_record_longer_than_a_mebibyte_is_refused_whatever_its_quoting(file):
    long = "x" * (MAX_RECORD_BYTES + 1)
    file.write_text(f'1,{long},2\n3,"{long}",4\n5,6,7\n', encoding="utf-8")
    rows, _ = records_of(file)
    assert [(line, fault is None) for line, _, fault, _ in rows] == [(1, False), (2, False), (3, True)]


def test_a_quote_that_never_closes_does_not_swallow_the_file(file):
    rest = "".join(f"{number},y,z\n" for number in range(300_000))
    file.write_text(f'0,"open,z\n{rest}', encoding="utf-8")
    rows, tally = records_of(file)
    assert tally.records == 300_001
    assert [line for line, _, fault, _ in rows if fault] == [1]
    assert "never closed" in rows[0][2]


@pytest.mark.parametrize("compression", ["none", "gz", "zst"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "utf-16", "gb18030"])
def test_encodings_and_packings_give_the_same_records(tmp_path, encoding, compression):
    text = "".join(f"{n},München ü,x\r\n" for n in range(5000)) if encoding != "gb18030" else "1,客户,x\n" * 5000
    packed = text.encode(encoding)
    suffix = {"none": "", "gz": ".gz", "zst": ".zst"}[compression]
    path = tmp_path / f"delivered.csv{suffix}"
    if compression == "gz":
        packed = gzip.compress(packed[:1000]) + gzip.compress(packed[1000:])
    if compression == "zst":
        packed = pa.compress(packed, "zstd", asbytes=True)
    path.write_bytes(packed)
    rows, _ = records_of(path, Format(type="csv", encoding=encoding, compression="auto"))
    assert len(rows) == 5000
    assert rows[0][1] == text.splitlines()[0]
    assert rows[0][3][1] == text.split(",")[1]


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path):
    path = tmp_path / "bom.csv"
    path.write_bytes(codecs.BOM_UTF8 + b" order_id , amount,\n1,2,3\n")
    assert csv_header(path, CSV) == Header(("order_id", "amount", "column_3"), 20, 1, 0)


def test_lines_ended_by_carriage_returns_alone_are_lines(tmp_path):
    path = tmp_path / "mac.csv"
    path.write_bytes(b"a,b,c\r1,2,3\r4,5,6\r")
    rows, tally = records_of(path, header=csv_header(path, CSV))
    assert [(line, fields) for line, _, _, fields in rows] == [(2, ["1", "2", "3"]), (3, ["4", "5", "6"])]
    assert tally.lines == 3


def test_a_header_may_be_quoted_over_lines_and_come_after_blank_ones(tmp_path):
    path = tmp_path / "header.csv"
    path.write_bytes(b'\n\r\n"order\nid",b,c\n1,2,3\n')
    header = csv_header(path, CSV)
    assert header == Header(("order\nid", "b", "c"), 18, 2, 2)
    rows, tally = records_of(path, header=header)
    assert [line for line, *_ in rows] == [5]
    assert tally == Tally(lines=5, header_lines=2, blank_lines=2, records=1)


def test_json_lines_keep_their_lines_and_blank_ones_are_no_rows(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"a": 1}\r\n\n{"a": 2}\n   \n{bad')
    tally = Tally()
    batches = list(line_batches(path, Format(type="jsonl"), 0, tally, 7))
    found = [(row["__line"], row["__raw"].rstrip()) for batch in batches for row in batch.to_pylist()]
    assert found == [(1, '{"a": 1}'), (3, '{"a": 2}'), (4, ""), (5, "{bad")]
    assert tally == Tally(lines=5, blank_lines=1, records=4)


def test_other_dialects(file):
    form = Format(type="csv", delimiter=";", quote="'", escape="\\")
    file.write_text("1;'a;\\'b';c\n2;\\;;x\n", encoding="utf-8")
    assert [fields for *_, fields in records_of(file, form)[0]] == [["1", "a;'b", "c"], ["2", ";", "x"]]
    unquoted = Format(type="csv", delimiter="tab", quote=None)
    file.write_text('1\t"a\tb"\n', encoding="utf-8")
    assert [fields for *_, fields in records_of(file, unquoted)[0]] == [["1", '"a', 'b"']]


class TestFilesThatCannotBeRead:
    """Each is an error that names the file and the cause."""

    @staticmethod
    def fault(path: Path, **form: object) -> str:
        with pytest.raises(InputError) as caught:
            for _ in text_blocks(path, Format(type="csv", **form)):
                pass
        assert str(path) in str(caught.value)
        return str(caught.value)

    def test_empty(self, tmp_path):
        (tmp_path / "a.csv").write_bytes(b"")
        assert "empty (0 bytes)" in self.fault(tmp_path / "a.csv")
        (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b""))
        assert "holds nothing" in self.fault(tmp_path / "a.csv.gz")

    @pytest.mark.parametrize("suffix", ["gz", "zst"])
    def test_cut_off(self, tmp_path, suffix):
        noise = random.Random(5).randbytes(50_000).hex().encode()  # noqa: S311 (no secret)
        packed = gzip.compress(noise) if suffix == "gz" else pa.compress(noise, "zstd", asbytes=True)
        path = tmp_path / f"a.csv.{suffix}"
        path.write_bytes(packed[: len(packed) * 2 // 3])
        assert "cut off" in self.fault(path)
        if suffix == "gz":
            path.write_bytes(packed[:100] + b"!!!!" + packed[104:])
            assert "damaged" in self.fault(path)

    def test_packed_otherwise_than_said(self, tmp_path):
        path = tmp_path / "a.csv.gz"
        path.write_bytes(b"a,b\n1,2\n")
        assert "named as packed with gzip but is not packed" in self.fault(path)
        assert "described as not packed but" in self.fault_of_packed(tmp_path)

    def fault_of_packed(self, folder: Path) -> str:
        path = folder / "plain.csv"
        path.write_bytes(gzip.compress(b"a,b\n"))
        return self.fault(path, compression="none")

    @pytest.mark.parametrize(
        ("content", "cause"),
        [
            (b"PAR1" + bytes(50), "a Parquet file"),
            (b"PK\x03\x04" + bytes(50), "a zip archive or an Excel workbook"),
            (b"a,b\n\x00\x01\x02,3\n", "binary"),
            ("a,b\n1,2\n".encode("utf-16"), "UTF-16"),
        ],
    )
    def test_no_text(self, tmp_path, content, cause):
        (tmp_path / "a.csv").write_bytes(content)
        assert cause in self.fault(tmp_path / "a.csv")

    def test_wrong_encoding_names_the_line(self, tmp_path):
        path = tmp_path / "a.csv"
        path.write_bytes(b"a,b,c\n1,2,3\n4,M\xfcnchen,6\n")
        for quote in ('"', None):
            with pytest.raises(InputError, match=r"not utf-8: line 3 holds the byte 0xfc"):
                records_of(path, Format(type="csv", quote=quote), header=csv_header(path, CSV))
        path.write_bytes(b'a,b,c\n1,2,3\n4,M\xfcn"chen,6\n')
        with pytest.raises(InputError, match=r"line 3 holds the byte 0xfc"):
            records_of(path, header=csv_header(path, CSV))
        assert "cp1252" in self.fault_of_encoding(tmp_path)

    def fault_of_encoding(self, folder: Path) -> str:
        path = folder / "b.csv"
        path.write_bytes(b"a,b\n1,\x81\n")
        return self.fault(path, encoding="cp1252")

    def test_no_header(self, tmp_path):
        path = tmp_path / "a.csv"
        path.write_bytes(b"\n\r\n\n")
        with pytest.raises(InputError, match="no header"):
            csv_header(path, CSV)
        path.write_bytes(codecs.BOM_UTF8)
        with pytest.raises(InputError, match="no header"):
            csv_header(path, CSV)

    def test_a_name_twice_in_the_header(self, tmp_path):
        path = tmp_path / "a.csv"
        path.write_bytes(b"id,amount,Amount\n1,2,3\n")
        with pytest.raises(InputError, match="'Amount' twice"):
            csv_header(path, CSV)
