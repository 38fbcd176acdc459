"""What readers are led to after a rollback, what retention removes, and that neither is ever seen half done."""

from __future__ import annotations

import json
import shutil
import signal
import time
from datetime import date, timedelta
from pathlib import Path

import duckdb
import pytest

import strataflow
from commands import call
from past_worlds import DAY as LAST
from past_worlds import HandWorld, PastHome, ago
from publishing import KillSwitch, make_build, published_bytes, read_in_loop
from strataflow import postgres, retention, runlog, serving
from strataflow.build import Build
from strataflow.errors import InputError, UsageError
from strataflow.home import Home
from strataflow.marks import Marks
from strataflow.publish import (
    Published,
    current_version,
    damage,
    publish,
    published_days,
    read_manifest,
    restated_at,
    version_of,
)
from strataflow.run import Deployment, Steps

DAY = date(2017, 12, 31)


def before(days: int) -> date:
    return DAY - timedelta(days=days)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def publish_days(home: Home, *ages: int, content: int = 0) -> list[Published]:
    return [publish(home, make_build(home, before(age), customers=20, content=content)) for age in ages]


def take_in(home: Home) -> None:
    """Leave the manifest and snapshots that the step ``history`` would, without what stands in them."""
    folder = home.published / "histories" / "taken-in"
    files = {}
    for day in published_days(home):
        path = f"segment_snapshots/as_of_date={day}/segment_snapshots.parquet"
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).touch()
        files[path] = {"table": "segment_snapshots", "made_from": [version_of(home, day).name]}
    (folder / "manifest.json").write_text(json.dumps({"files": files}), encoding="utf-8")
    link = home.published / "history"
    link.unlink(missing_ok=True)
    link.symlink_to("histories/taken-in")


def names(home: Home) -> set[str]:
    return {path.name for path in (home.published / "versions").iterdir()}


# ---------------------------------------------------------------- rollback


def test_readers_are_led_to_the_day_before_and_the_days_stay(home):
    older, newer = publish_days(home, 1, 0)
    led = serving.rollback(home)
    assert (led.before, led.after, led.changed) == (newer.path, older.path, True)
    assert current_version(home) == older.path
    with duckdb.connect(str(home.published / "current.duckdb"), read_only=True) as connection:
        assert connection.execute("select version from published_version").fetchone() == (older.version,)
    assert published_days(home) == [before(1), DAY]


def test_publishing_the_bad_content_again_does_not_undo_it(home):
    older, _ = publish_days(home, 1, 0)
    serving.rollback(home)
    (again,) = publish_days(home, 0)
    assert not again.changed
    assert not again.is_current
    publish_days(home, 1)
    assert current_version(home) == older.path


def test_repaired_content_of_the_bad_day_is_followed(home):
    publish_days(home, 1, 0)
    serving.rollback(home)
    (repaired,) = publish_days(home, 0, content=1)
    assert repaired.is_current
    (bad_again,) = publish_days(home, 0)
    assert not bad_again.is_current


def test_a_newer_day_is_followed_and_a_second_rollback_passes_over_the_bad_one(home):
    good, _ = publish_days(home, 2, 1)
    serving.rollback(home)
    (newer,) = publish_days(home, 0)
    assert newer.is_current
    assert serving.rollback(home).after == good.path


def test_a_rollback_over_several_days_can_be_undone_in_part_and_in_whole(home):
    first, second, third = publish_days(home, 2, 1, 0)
    assert serving.rollback(home, before(2)).after == first.path
    assert Marks.of(home).held_back == {second.version, third.version}
    assert serving.rollback(home, before(1)).after == second.path
    assert Marks.of(home).held_back == {third.version}
    assert serving.rollback(home, DAY).after == third.path
    assert Marks.of(home).held_back == set()


def test_the_same_rollback_again_changes_nothing(home):
    publish_days(home, 1, 0)
    serving.rollback(home, before(1))
    seen = {path: path.lstat().st_mtime_ns for path in home.root.rglob("*")}
    assert not serving.rollback(home, before(1)).changed
    assert {path: path.lstat().st_mtime_ns for path in home.root.rglob("*")} == seen


def test_without_a_day_to_go_back_to_it_says_so_and_changes_nothing(home):
    with pytest.raises(UsageError, match="nothing is published yet"):
        serving.rollback(home)
    (only,) = publish_days(home, 0)
    with pytest.raises(UsageError, match="no published day before 2017-12-31"):
        serving.rollback(home)
    with pytest.raises(UsageError, match="2017-12-30 is not published"):
        serving.rollback(home, before(1))
    assert current_version(home) == only.path
    assert Marks.of(home) == Marks()


def test_readers_are_not_led_to_a_damaged_version(home):
    older, newer = publish_days(home, 1, 0)
    (older.path / "churn_risk.csv").unlink()
    with pytest.raises(InputError, match=r"damaged: churn_risk\.csv is missing"):
        serving.rollback(home)
    assert current_version(home) == newer.path


def test_broken_marks_stop_publishing_and_name_the_file(home):
    publish_days(home, 1)
    (home.published / "marks.json").write_text('{"held_back": 3}', encoding="utf-8")
    with pytest.raises(InputError, match=r"marks\.json"):
        publish_days(home, 0)


# ---------------------------------------------------------------- withdraw


def test_a_withdrawn_day_is_gone_for_readers_and_its_version_lies_aside(home):
    older, newer = publish_days(home, 1, 0)
    led = serving.withdraw(home, DAY)
    assert led.after == older.path == current_version(home)
    assert published_days(home) == [before(1)]
    assert newer.version in names(home)
    publish_days(home, 0)
    assert current_version(home) == older.path


def test_the_only_day_can_not_be_withdrawn(home):
    (only,) = publish_days(home, 0)
    with pytest.raises(UsageError, match="the only day"):
        serving.withdraw(home, DAY)
    assert current_version(home) == only.path
    assert published_days(home) == [DAY]


# ---------------------------------------------------------------- pins and retention


def test_days_past_keeping_go_with_their_links_and_the_rest_stays(home):
    done = publish_days(home, 9, 4, 3, 1, 0)
    take_in(home)
    found = retention.prune(home, 3)
    assert found.removed == tuple(version.version for version in done[:2])
    assert names(home) == {version.version for version in done[2:]}
    assert published_days(home) == [before(3), before(1), DAY]
    assert Marks.of(home).pruned == {before(9): done[0].version, before(4): done[1].version}
    assert list(home.published.glob(".*")) == []
    assert retention.prune(home, 3).removed == ()


def test_retention_counts_from_the_day_readers_see(home):
    done = publish_days(home, 5, 4, 0)
    take_in(home)
    serving.rollback(home, before(4))
    assert retention.prune(home, 1).removed == ()
    assert names(home) == {version.version for version in done}


def test_a_pinned_version_and_the_one_just_left_are_spared(home):
    pinned, left, current = publish_days(home, 9, 8, 0)
    take_in(home)
    assert serving.pin(home, str(before(9))) == (pinned.version, True)
    assert serving.pin(home, pinned.version) == (pinned.version, False)
    found = retention.prune(home, 1)
    assert found.removed == ()
    assert found.spared[pinned.version] == "pinned"
    assert "led away from it last" in found.spared[left.version]
    assert serving.unpin(home, str(before(9))) == [pinned.version]
    assert retention.prune(home, 1).removed == (pinned.version,)
    assert names(home) == {left.version, current.version}


def test_superseded_versions_of_kept_days_go_but_not_the_last_one_left(home):
    first, second, third = (publish_days(home, 0, content=content)[0] for content in range(3))
    take_in(home)
    assert retention.prune(home, 5).removed == (first.version,)
    assert names(home) == {second.version, third.version}
    assert Marks.of(home).pruned == {}


def test_a_version_replaced_on_an_older_day_is_spared_until_the_next_publish(home):
    (replaced,) = publish_days(home, 1)
    publish_days(home, 0)
    publish_days(home, 1, content=1)
    take_in(home)
    assert retention.prune(home, 5).removed == ()
    publish_days(home, 0, content=1)
    take_in(home)
    assert retention.prune(home, 5).removed == (replaced.version,)


def test_a_day_that_history_has_not_taken_in_is_spared(home):
    publish_days(home, 9, 8)
    take_in(home)
    publish_days(home, 0)
    publish_days(home, 0, content=1)
    found = retention.prune(home, 1)
    assert found.removed == ()
    assert set(found.spared.values()) >= {"history has not taken it in yet: strataflow history"}


def test_the_day_just_run_is_spared_whatever_its_age(home):
    publish_days(home, 0, 9, 8)
    take_in(home)
    assert [name[:10] for name in retention.prune(home, 1, spare=before(9)).removed] == [str(before(8))]


def test_a_run_prunes_by_the_setting_and_records_it(home, monkeypatch):
    old, *_ = publish_days(home, 9, 8, 0)
    take_in(home)
    sources = Path(strataflow.__file__).parents[1] / "sources" / "complete_journey"
    for given, removed in (("", None), ("1", (old.version,))):
        monkeypatch.setenv(retention.SETTING, given)
        log = runlog.RunLog.start(home, "run", DAY, {})
        done = Steps(Deployment.at(home.root, sources), log).prune(DAY)
        assert (done and done.removed) == removed
    assert log.record["steps"][0]["detail"]["removed"] == [old.version]


@pytest.mark.parametrize("given", ["0", "-1", "ten", "1.5", "²"])
def test_a_setting_that_is_no_number_of_days_is_refused(monkeypatch, given):
    monkeypatch.setenv(retention.SETTING, given)
    with pytest.raises(UsageError, match="no number of days"):
        retention.keep_days_setting()


def test_what_is_no_version_can_be_neither_pinned_nor_unpinned(home):
    (done,) = publish_days(home, 0)
    with pytest.raises(UsageError, match="there is no version 2017-12-31-000"):
        serving.pin(home, "2017-12-31-000")
    with pytest.raises(UsageError, match="2017-12-30 is not published"):
        serving.pin(home, str(before(1)))
    with pytest.raises(UsageError, match="no pinned version"):
        serving.unpin(home, done.version)


# ---------------------------------------------------------------- killed anywhere


def roll_back_in_process(root: str, kill_at: int) -> None:
    if kill_at:
        KillSwitch(kill_at).arm()
    serving.rollback(Home(Path(root)), before(1))


def prune_in_process(root: str, kill_at: int) -> None:
    if kill_at:
        KillSwitch(kill_at).arm()
    retention.prune(Home(Path(root)), 1)


def withdraw_in_process(root: str, kill_at: int) -> None:
    home = Home(Path(root))
    if kill_at:
        KillSwitch(kill_at).arm()
    if DAY in published_days(home):
        serving.withdraw(home, DAY)


@pytest.mark.parametrize(
    ("work", "least"), [(roll_back_in_process, 5), (withdraw_in_process, 5), (prune_in_process, 20)]
)
def test_killed_before_any_change_readers_see_a_whole_version_and_a_rerun_completes_it(
    processes, tmp_path, work, least
):
    start, undisturbed = Home(tmp_path / "start"), Home(tmp_path / "undisturbed")
    publish_days(start, 9, 8, 1, 0)
    take_in(start)
    shutil.copytree(start.root, undisturbed.root, symlinks=True)
    work(str(undisturbed.root), 0)
    expected, kills, exit_code = published_bytes(undisturbed), 0, -signal.SIGKILL
    while exit_code == -signal.SIGKILL:
        kills += 1
        home = Home(tmp_path / f"killed-{kills}")
        shutil.copytree(start.root, home.root, symlinks=True)
        process = processes.Process(target=work, args=(str(home.root), kills))
        process.start()
        process.join(60)
        exit_code = process.exitcode
        for version in (current_version(home), *(version_of(home, day) for day in published_days(home))):
            assert damage(version, read_manifest(version)) == [], kills
        assert all(link.exists() for link in (home.published / "days").iterdir() if not link.name.startswith("."))
        work(str(home.root), 0)
        assert published_bytes(home) == expected, kills
        shutil.rmtree(home.root)
    assert exit_code == 0
    assert kills > least


def test_twenty_readers_see_no_fault_during_ten_publishes_a_rollback_and_pruning(processes, home, server):
    """Of the files, of current.duckdb and of a PostgreSQL that follows the home."""
    publish_days(home, 20, 19)
    postgres.follow(home, server)
    for age in range(10):
        make_build(home, before(9 - age), customers=100 + age)
    stop, report = processes.Event(), processes.Queue()
    told = (str(home.root), stop, report, 0.5, server)
    readers = [processes.Process(target=read_in_loop, args=told) for _ in range(20)]
    for reader in readers:
        reader.start()
    for age in range(10):
        assert publish(home, Build.load(home, before(9 - age))).is_current
        take_in(home)
        assert postgres.follow(home, server).loaded
    serving.rollback(home)
    assert postgres.follow(home, server).changed
    time.sleep(1)
    assert retention.prune(home, 5).removed
    time.sleep(1)
    stop.set()
    reads, faults = zip(*(report.get(timeout=60) for _ in readers), strict=True)
    for reader in readers:
        reader.join(60)
    assert [fault for found in faults for fault in found] == []
    assert min(reads) >= 2


# ---------------------------------------------------------------- history outlives what is pruned


@pytest.fixture(scope="module")
def three_days(tmp_path_factory):
    """Three days published from a world, each with its history."""
    world = HandWorld()
    world.orders("steady", [100, 50, 20], 40)
    world.order("second", 9, 60)
    world.order("second", 2, 60)
    world.order("third", 1, 80)
    world.order("third", 0, 900)
    past = PastHome(tmp_path_factory.mktemp("past"), world.world)
    for age in (3, 2, 1):
        past.publish(ago(age))
        past.refresh()
    return past


@pytest.fixture
def past(three_days, tmp_path):
    """The same home, for a test that changes it."""
    return three_days.copied_to(tmp_path / "past")


def history_bytes(home: Home) -> dict[str, bytes]:
    folder = (home.published / "history").resolve()
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_history_of_later_days_is_the_same_with_and_without_the_pruned_versions(past, tmp_path):
    whole = past.copied_to(tmp_path / "whole")
    assert len(retention.prune(past.home, 1).removed) == 1
    assert past.refresh().days == ()
    for one in (past, whole):
        one.publish(LAST)
        one.refresh()
    assert len(retention.prune(past.home, 1).removed) == 1
    past.refresh()

    assert published_days(past.home) == [ago(1), LAST]
    assert {day for (day,) in past.rows("segment_snapshots", "distinct as_of_date")} == {
        ago(3),
        ago(2),
        ago(1),
        LAST,
    }
    assert history_bytes(past.home) == history_bytes(whole.home)


def test_a_pruned_day_run_again_and_changed_refreshes_what_can_be_told(past):
    retention.prune(past.home, 1)
    past.publish(LAST)
    past.refresh()
    retention.prune(past.home, 1)
    past.edit(super_min_orders="2")
    past.publish(ago(2))

    done = past.refresh()

    assert published_days(past.home) == [ago(2), ago(1), LAST]
    assert ago(2) in done.waiting
    assert len(past.rows("segment_snapshots", "distinct as_of_date")) == 4
    assert past.rows("segment_history", "count(*)")[0][0] > 0


def test_restatements_of_days_past_keeping_go_too(past):
    past.publish(ago(3), known_at=ago(1))
    past.publish(LAST)
    past.refresh()
    retention.prune(past.home, 1)
    assert restated_at(past.home, ago(3)) == []
    assert {name[:10] for name in names(past.home)} == {str(ago(1)), str(LAST)}


# ---------------------------------------------------------------- the commands


def test_the_commands_tell_what_readers_saw_and_the_run_log_keeps_it(home):
    older, newer = publish_days(home, 1, 0)
    done = call("rollback", "--json", home=home)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["before"], told["after"], told["held_back"]) == (newer.version, older.version, [newer.version])
    assert any("rollback --to 2017-12-31" in line for line in told["todo"])
    assert told["todo"][-1].startswith("published/report was not made anew: ")
    (record,) = runlog.records(home, DAY)
    assert (record["command"], record["outcome"]) == ("rollback", "ok")
    assert record["steps"][0]["detail"]["after"] == older.version

    nowhere = call("rollback", home=home)
    assert nowhere.returncode == 2
    assert "no published day before 2017-12-30" in nowhere.stderr

    call("pin", str(DAY), home=home)
    listed = json.loads(call("versions", "--json", home=home).stdout)
    assert listed["current"] == older.version
    kinds = {one["version"]: (one["is_current"], one["is_held_back"], one["is_pinned"]) for one in listed["versions"]}
    assert kinds == {older.version: (True, False, False), newer.version: (False, True, True)}
    shown = call("versions", home=home).stdout
    assert "held back, pinned" in shown
    assert "not recorded" in shown


def test_prune_says_what_would_go_before_it_goes(home):
    publish_days(home, 9, 8, 0)
    take_in(home)
    assert call("prune", home=home).returncode == 2
    dry = json.loads(call("prune", "--dry-run", "--json", home=home, STRATAFLOW_KEEP_DAYS="1").stdout)
    assert dry["days"] == [str(before(9))]
    assert len(names(home)) == 3
    assert json.loads(call("prune", "--keep-days", 1, "--json", home=home).stdout)["removed"] == dry["removed"]
    assert len(names(home)) == 2
