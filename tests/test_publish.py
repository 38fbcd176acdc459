"""Publishing: equal bytes, safe cells, and readers that never meet half a version."""

from __future__ import annotations

import csv
import json
import random
import shutil
import signal
import stat
import time
from datetime import date
from pathlib import Path

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from publishing import make_build, pass_gate, publish_in_process, published_bytes, read_in_loop
from strataflow import export
from strataflow.build import Build
from strataflow.errors import GateFailed, StepFailed
from strataflow.home import Home
from strataflow.publish import current_version, damage, publish, read_manifest, version_of

DAY = date(2017, 12, 30)
NEXT_DAY = date(2017, 12, 31)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def run_publisher(processes, home: Home, day: date, kill_at: int = 0) -> int:
    """Publish in a process of its own; returns its exit code."""
    process = processes.Process(target=publish_in_process, args=(str(home.root), str(day), kill_at))
    process.start()
    process.join(60)
    assert process.exitcode is not None
    return process.exitcode


# ---------------------------------------------------------------- what a version holds


def test_version_holds_every_table_and_a_manifest_that_describes_it(home):
    done = publish(home, make_build(home, DAY, customers=200))
    assert done.changed
    assert done.is_current
    manifest = read_manifest(done.path)
    assert manifest == done.manifest
    assert damage(done.path, manifest) == []
    segments = manifest["tables"]["customer_segments"]
    assert segments["rows"] == 200
    assert segments["sums"]["monetary"] == f"{sum(n * 1.25 for n in range(200)):.2f}"
    assert segments["files"][0]["path"] == f"customer_segments/as_of_date={DAY}/customer_segments.parquet"
    assert manifest["spreadsheets"]["churn_risk"]["rows"] == 200


def test_parquet_is_sorted_by_key_and_carries_its_day(home):
    version = publish(home, make_build(home, DAY)).path
    rows = duckdb.sql(
        f"select customer_id, tag_id from '{version}/customer_tags/as_of_date={DAY}/customer_tags.parquet'"
    ).fetchall()
    assert rows == sorted(rows)
    columns = duckdb.sql(
        f"select * from read_parquet('{version}/rfm_cutoffs/*/*.parquet', hive_partitioning = false)"
    ).columns
    assert "as_of_date" in columns


def test_threads_and_physical_order_of_the_build_do_not_change_a_byte(home, tmp_path):
    build = make_build(home, DAY, customers=200_000)
    shuffled = Home(tmp_path / "shuffled")
    other = make_build(shuffled, DAY, customers=200_000)
    with duckdb.connect(str(other.path)) as connection:
        connection.execute("create or replace table customer_segments as from customer_segments order by monetary desc")
    digests = set()
    for threads, made in ((1, build), (2, build), (4, build), (4, other)):
        folder = tmp_path / f"{threads}-{made.path.parent.parent.parent.name}"
        with export.opened(made.path, tmp_path / "spill") as connection:
            connection.execute(f"set threads = {threads}")
            entry = export.export_table(connection, folder, "customer_segments", ["customer_id"], DAY)
        digests.add(entry["files"][0]["sha256"])
    assert len(digests) == 1


def test_equal_builds_in_two_homes_publish_equal_bytes(tmp_path):
    homes = [Home(tmp_path / name) for name in ("one", "two")]
    for home in homes:
        publish(home, make_build(home, DAY))
    assert published_bytes(homes[0]) == published_bytes(homes[1])


def test_database_has_tables_comments_and_says_which_version_it_is(home):
    done = publish(home, make_build(home, DAY))
    with duckdb.connect(str(home.published / "current.duckdb"), read_only=True) as connection:
        assert connection.execute("select version from published_version").fetchone() == (done.version,)
        assert connection.execute(
            "select comment from duckdb_tables() where table_name = 'customer_segments'"
        ).fetchone() == ("Customers and their class. 客户分层",)
        assert connection.execute(
            "select comment from duckdb_columns() where column_name = 'monetary' and comment is not null"
        ).fetchone() == ("Net revenue of the window",)
        with pytest.raises(duckdb.Error):
            connection.execute("delete from customer_segments")


def test_database_can_be_opened_by_older_tools(home):
    publish(home, make_build(home, DAY))
    with duckdb.connect() as connection:
        connection.execute(f"attach '{home.published}/current.duckdb' as it (read_only)")
        (tags,) = connection.execute("select tags from duckdb_databases() where database_name = 'it'").fetchone()
    assert tags["storage_version"].startswith("v1.4.0")


def test_everyone_may_read_and_nobody_may_write(home):
    version = publish(home, make_build(home, DAY)).path
    for path in [version, *version.rglob("*")]:
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o755 if path.is_dir() else 0o444), path


def test_a_row_of_another_day_is_refused_and_nothing_published(home):
    build = make_build(home, DAY)
    with duckdb.connect(str(build.path)) as connection:
        connection.execute("update customer_tags set as_of_date = as_of_date + 1 where customer_id = 'c0000007'")
    with pytest.raises(StepFailed, match="2 rows of customer_tags are not of 2017-12-30"):
        publish(home, build)
    assert current_version(home) is None
    assert list(home.published.glob(".*")) == []


def test_a_published_table_missing_from_the_build_is_named(home):
    build = make_build(home, DAY)
    with duckdb.connect(str(build.path)) as connection:
        connection.execute("drop table rfm_cutoffs")
    with pytest.raises(StepFailed, match="no table rfm_cutoffs"):
        publish(home, build)
    assert current_version(home) is None


# ---------------------------------------------------------------- the gate decides


def test_without_a_gate_report_nothing_is_published(home):
    build = make_build(home, DAY)
    (home.gates / str(DAY) / "built" / "report.json").unlink()
    with pytest.raises(GateFailed, match="has not been through gate 2"):
        publish(home, build)
    assert not home.published.exists()


@pytest.mark.parametrize(
    ("build_id", "passed", "said"),
    [("b0", False, "did not pass"), ("b9", True, "looked at build b9, not at b0")],
)
def test_a_failed_gate_or_the_gate_of_another_build_stops_publishing(home, build_id, passed, said):
    build = make_build(home, DAY)
    pass_gate(home, DAY, build_id, passed=passed)
    with pytest.raises(GateFailed, match=said):
        publish(home, build)
    assert not home.published.exists()


# ---------------------------------------------------------------- versions and links


def test_publishing_the_same_content_again_changes_nothing(home):
    build = make_build(home, DAY)
    first = publish(home, build)
    before = {path: path.lstat().st_mtime_ns for path in home.published.rglob("*")}
    again = publish(home, build)
    assert not again.changed
    assert again.path == first.path
    assert {path: path.lstat().st_mtime_ns for path in home.published.rglob("*")} == before


def test_other_content_for_a_day_is_a_version_of_its_own_and_the_old_one_stays(home):
    first = publish(home, make_build(home, DAY))
    second = publish(home, make_build(home, DAY, content=1))
    assert second.changed
    assert second.path != first.path
    assert first.path.is_dir()
    assert version_of(home, DAY) == second.path == current_version(home)
    back = publish(home, make_build(home, DAY))
    assert back.changed
    assert version_of(home, DAY) == first.path


def test_current_follows_the_newest_day_not_the_latest_run(home):
    newest = publish(home, make_build(home, NEXT_DAY))
    older = publish(home, make_build(home, DAY))
    assert older.changed
    assert not older.is_current
    assert current_version(home) == newest.path
    assert version_of(home, DAY) == older.path


def test_links_are_relative_so_that_the_home_can_be_moved(home, tmp_path):
    version = publish(home, make_build(home, DAY)).version
    home.root.rename(tmp_path / "moved")
    assert current_version(Home(tmp_path / "moved")) == tmp_path / "moved/published/versions" / version


@pytest.mark.parametrize("harm", ["remove", "shorten", "alter"])
def test_a_damaged_version_is_made_whole_again(home, harm):
    build = make_build(home, DAY)
    version = publish(home, build).path
    sound = published_bytes(home)
    victim = version / "churn_risk.csv"
    content = victim.read_bytes()
    victim.unlink()
    if harm != "remove":
        victim.write_bytes(content[:-1] if harm == "shorten" else content.replace(b"0", b"1"))
    assert damage(version, read_manifest(version)) != []
    assert publish(home, build).changed
    assert published_bytes(home) == sound
    assert list(home.published.glob(".*")) == []


# ---------------------------------------------------------------- cells that a spreadsheet can't run

HOSTILE = [
    "=1+1",
    "+1+1",
    "-1+1",
    "@SUM(A1)",
    "\tx",
    "\rx",
    "\x00x",
    "\x07bell",
    "  =1+1",
    "\u3000＝1+1",
    "＝1+1",
    "＋1",
    "－1",
    "＠SUM(A1)",
    "\ufeff=1+1",
    "\u200b=1+1",
    "-3.5+cmd|' /C calc'!A0",
    '=HYPERLINK("http://x")',
]
HARMLESS = [
    "-3.5",
    "+4",
    "-3,5",
    "12",
    "重要价值客户",
    "a=b",
    "c-1",
    "x@y",
    "",
    " blank first",
    "silent: 沉默; late: 3 days",
]


def safe(text: str) -> str:
    query = f"select {export.spreadsheet_safe('cell')} from (select ?::varchar as cell)"
    return duckdb.execute(query, [text]).fetchall()[0][0]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_formula_gets_an_apostrophe(text):
    assert safe(text) == "'" + text


@pytest.mark.parametrize("text", HARMLESS)
def test_harmless_text_and_numbers_stay_as_they_are(text):
    assert safe(text) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\t=1", "'\t'=1"),
        ("a;=1+1", "a;'=1+1"),
        ("a, @x", "a, '@x"),
        ("a\n=1", "a\n'=1"),
        ('a"=1', "a\"'=1"),
        ("a|\t＝1", "a|\t'＝1"),
    ],
)
def test_a_formula_that_another_separator_would_set_free_gets_one_too(text, expected):
    assert safe(text) == expected


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet=st.sampled_from('=+-@＝＠;,|"\t\r\n 　1a.\x00\u200b沉'), max_size=8))
def test_no_cell_starts_a_formula_whatever_the_separator(text):
    whole = safe(text)
    if whole == text and whole.replace(".", "").replace(",", "").lstrip("+-").isdigit():
        return
    for separator in ("\x1e", ";", ",", "|", "\t", "\n", "\r", '"'):
        for cell in whole.split(separator):
            bare = cell.lstrip('\x00\u200b \u3000\t\r\n"')
            assert not bare.startswith(tuple("=+-@＝＠")), (text, whole)


def test_planted_formulas_reach_the_csv_disarmed_and_the_parquet_untouched(home):
    build = make_build(home, DAY, customers=len(HOSTILE))
    planted = dict(enumerate(HOSTILE, start=1))
    with duckdb.connect(str(build.path)) as connection:
        connection.executemany("update churn_risk set reasons = ? where rank = ?", [(t, r) for r, t in planted.items()])
    version = publish(home, build).path
    content = (version / "churn_risk.csv").read_bytes()
    assert content.startswith(b"\xef\xbb\xbfcustomer_id,")
    with (version / "churn_risk.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["rank"]) for row in rows] == sorted(planted)
    assert {int(row["rank"]): row["reasons"] for row in rows} == {rank: f"'{text}" for rank, text in planted.items()}
    kept = duckdb.sql(f"select rank, reasons from '{version}/churn_risk/*/*.parquet'").fetchall()
    assert dict(kept) == planted


def test_negative_numbers_stay_numbers_in_the_csv(home):
    build = make_build(home, DAY, customers=3)
    with duckdb.connect(str(build.path)) as connection:
        connection.execute("update churn_risk set monetary = -3.5")
    text = (publish(home, build).path / "churn_risk.csv").read_text(encoding="utf-8-sig")
    assert text.splitlines()[1].split(",")[4] == "-3.50"


# ---------------------------------------------------------------- killed anywhere, repaired by running again


def test_killed_before_any_change_to_the_file_system_a_rerun_gives_the_same_bytes(processes, tmp_path):
    """Every step of publishing in turn, each time from the same state before."""
    undisturbed, before = Home(tmp_path / "undisturbed"), Home(tmp_path / "before")
    for home in (undisturbed, before):
        publish(home, make_build(home, DAY, customers=30))
        make_build(home, NEXT_DAY, customers=30)
    old = current_version(before).name
    publish(undisturbed, make_build(undisturbed, NEXT_DAY, customers=30))
    expected = published_bytes(undisturbed)
    seen, kills, exit_code = set(), 0, -signal.SIGKILL
    while exit_code == -signal.SIGKILL:
        kills += 1
        home = Home(tmp_path / f"killed-{kills}")
        shutil.copytree(before.root, home.root, symlinks=True)
        exit_code = run_publisher(processes, home, NEXT_DAY, kill_at=kills)
        version = current_version(home)
        assert version is not None, kills
        assert damage(version, read_manifest(version)) == [], kills
        seen.add(version.name)
        publish(home, Build.load(home, NEXT_DAY))
        assert published_bytes(home) == expected, kills
    assert exit_code == 0
    assert kills > 40
    assert seen == {old, current_version(undisturbed).name}


def test_readers_never_see_a_missing_partial_or_mixed_version(processes, home):
    """Four days, contents that change, publishers killed at random moments, readers in a loop."""
    chance = random.Random(20171231)  # noqa: S311  moments, not secrets
    days = [date(2017, 12, 28), date(2017, 12, 29), DAY, NEXT_DAY]
    publish(home, make_build(home, days[0]))
    stop, report = processes.Event(), processes.Queue()
    readers = [processes.Process(target=read_in_loop, args=(str(home.root), stop, report)) for _ in range(2)]
    for reader in readers:
        reader.start()
    killed = 0
    for turn in range(20):
        day = days[turn // 5]
        make_build(home, day, customers=100 + turn, content=turn % 5)
        publisher = processes.Process(target=publish_in_process, args=(str(home.root), str(day), 0))
        publisher.start()
        if turn % 2:
            time.sleep(chance.uniform(0.02, 0.25))
            publisher.kill()
        publisher.join(60)
        killed += publisher.exitcode == -signal.SIGKILL
    stop.set()
    reads, faults = zip(*(report.get(timeout=60) for _ in readers), strict=True)
    for reader in readers:
        reader.join(60)
    assert [fault for found in faults for fault in found] == []
    assert min(reads) > 10
    assert killed >= 3
    final = make_build(home, NEXT_DAY, content=7)
    assert publish(home, final).is_current
    assert list(home.published.glob(".*")) == []


def test_manifest_is_one_form_of_json(home):
    version = publish(home, make_build(home, DAY)).path
    text = (version / "manifest.json").read_text(encoding="utf-8")
    assert text == json.dumps(json.loads(text), sort_keys=True, indent=2, ensure_ascii=False) + "\n"
