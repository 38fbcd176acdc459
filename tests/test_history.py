"""History as readers find it: its tables, refreshed by what changed and by nothing else, whole at every moment."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import shutil
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest

from databases import Follower
from journey_history import causes_and_moves, run_days
from past_worlds import DAY, EVE, SHOP, HandWorld, PastHome, ago
from publishing import KillSwitch
from strataflow import contracts, postgres
from strataflow.errors import UsageError
from strataflow.history.compare import compare
from strataflow.history.refresh import MANIFEST, current_history, refresh
from strataflow.home import Home
from strataflow.project import Project
from strataflow.publish import current_version, published_days, version_of
from whole_worlds import replay, steadied_rules

KILLED = -9
# What is told of stability hangs on all days before: it has to bear all that the other tables bear.
STEADIED = {"stability_min_dwell_days": "{ecommerce_stage: 2}", "stability_margin": "{value_tier_share: 0.1}"}


def three_days() -> HandWorld:
    """On the last of three days a second order comes in that is five days late; on the second, one customer more."""
    world = HandWorld()
    world.orders("steady", [100, 50, 20], 40)
    world.order("second", 9, 60)
    world.order("second", 5, 60, received=0)
    world.order("third", 1, 80)
    return world


@pytest.fixture(scope="module")
def past(tmp_path_factory):
    """Three days published, each followed by its history."""
    past = PastHome(tmp_path_factory.mktemp("past"), three_days().world, **STEADIED)
    past.reports = {}
    for day in (ago(2), EVE, DAY):
        past.publish(day)
        past.reports[day] = past.refresh()
    return past


@pytest.fixture
def copied(past, tmp_path):
    """The same home, for a test that changes it."""
    return past.copied_to(tmp_path / "copy")


def bytes_below(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# ---------------------------------------------------------------- what the tables hold


def test_a_snapshot_is_what_was_published_of_each_customer(past):
    columns = (
        "customer_id, as_of_date, rfm_class, ecommerce_stage, high_ticket_stage, activity_stage, value_tier, "
        "recency_score, frequency_score, monetary_score"
    )
    published = []
    for day in published_days(past.home):
        file = version_of(past.home, day) / "customer_segments" / f"as_of_date={day}" / "customer_segments.parquet"
        published += duckdb.sql(f"select {columns} from '{file}'").fetchall()
    assert past.rows("segment_snapshots") == sorted(published)
    assert len(published) == 2 + 3 + 3


def test_intervals_begin_with_a_value_and_end_where_it_no_longer_holds(past):
    """Closed at the first day, open at the last: a day lies in exactly one interval of each customer's attribute."""
    told = past.rows(
        "segment_history", "value, valid_from, valid_to", "customer_id = 'second' and attribute = 'ecommerce_stage'"
    )
    assert told == [("first_purchase", ago(2), DAY), ("repeat", DAY, None)]
    (entered,) = past.rows(
        "segment_history", "valid_from, valid_to", "customer_id = 'third' and attribute = 'ecommerce_stage'"
    )
    assert entered == (EVE, None)


def test_intervals_and_snapshots_say_the_same_of_every_day(past):
    history = current_history(past.home)
    with duckdb.connect() as connection:
        connection.execute(
            f"create view snapshots as unpivot (select customer_id, as_of_date, rfm_class, ecommerce_stage, "
            f"high_ticket_stage, activity_stage, value_tier from '{history}/segment_snapshots/*/*.parquet') "
            "on rfm_class, ecommerce_stage, high_ticket_stage, activity_stage, value_tier "
            "into name attribute value value"
        )
        connection.execute(f"create view intervals as from read_parquet('{history}/segment_history/**/*.parquet')")
        days = "select distinct as_of_date from snapshots"
        from_intervals = (
            f"select customer_id, as_of_date, attribute, value from intervals, ({days}) where valid_from <= as_of_date "
            "and (valid_to is null or as_of_date < valid_to)"
        )
        assert (
            connection.execute(f"{from_intervals} order by all").fetchall()
            == connection.execute(
                "select customer_id, as_of_date, attribute, value from snapshots order by all"
            ).fetchall()
        )


@pytest.mark.parametrize("period", ["day", "week", "month"])
def test_a_matrix_counts_everyone_once_and_their_revenue(past, period):
    """Sunday the 30th ends the week and the month, so the three matrices that end there speak of the same customers."""
    found = past.rows(
        "transition_matrix",
        "attribute, sum(customers), sum(revenue)",
        f"period = '{period}' and to_date = date '{DAY}' group by attribute",
    )
    assert found == [
        (attribute, 3, Decimal("320.00"))
        for attribute in ("activity_stage", "ecommerce_stage", "high_ticket_stage", "rfm_class", "value_tier")
    ]


def test_the_day_matrix_is_the_days_moves_by_cause(past):
    counted = past.rows(
        "segment_transitions", "as_of_date, attribute, from_value, to_value, kind, cause, count(*)", "true group by all"
    )
    told = past.rows(
        "transition_matrix", "to_date, attribute, from_value, to_value, kind, cause, customers",
        "period = 'day' and kind <> 'stay'",
    )  # fmt: skip
    assert told == counted
    assert counted


def test_the_manifest_names_every_file_with_its_digest(past):
    history = current_history(past.home)
    files = json.loads((history / MANIFEST).read_text())["files"]
    found = {path: hashlib.sha256(content).hexdigest() for path, content in bytes_below(history).items()}
    assert {path: entry["sha256"] for path, entry in files.items()} == {
        path: digest for path, digest in found.items() if path != MANIFEST
    }


# ---------------------------------------------------------------- only what changed


def test_a_step_run_again_changes_nothing(past):
    before = current_history(past.home)
    again = past.refresh()
    assert again.days == ()
    assert current_history(past.home) == before


def test_days_in_any_order_end_in_the_same_bytes(past, tmp_path):
    other = past.copied_to(tmp_path / "other")
    days = other.home.published / "days"
    links = {day: (days / str(day)).readlink() for day in (ago(2), EVE, DAY)}
    shutil.rmtree(other.home.published / "histories")
    for path in [other.home.published / "history", *days.iterdir()]:
        path.unlink()
    for day in (DAY, ago(2), EVE):
        (days / str(day)).symlink_to(links[day])
        other.refresh()
    assert bytes_below(current_history(other.home)) == bytes_below(current_history(past.home))


def test_who_is_steadied_stands_beside_who_is_published(past):
    """The second order makes `second` a repeat buyer on the third day; it is their first change, so nothing waits."""
    told = past.rows(
        "segment_stability", "value, previous_value, valid_from, valid_to", "customer_id = 'second' and attribute = "
        "'ecommerce_stage'",
    )  # fmt: skip
    assert told == [("first_purchase", None, ago(2), DAY), ("repeat", "first_purchase", DAY, None)]
    counted = past.rows("stability_moves", "as_of_date, attribute, raw_moves - stable_moves = spared", "raw_moves > 0")
    assert (DAY, "ecommerce_stage", True) in counted


def test_a_database_says_what_the_files_say(copied, server):
    """Two days followed, then the third: what is open is carried on, all else comes file by file.

    Snapshots are not copied; they are a view of what the database has of those days.
    """
    tables = [name for name, told in contracts.across_days("history").items() if not told["excerpt_of"]]
    link = copied.home.published / "days" / str(DAY)
    version = link.readlink()
    moved = len(copied.rows("segment_transitions", where=f"as_of_date = '{DAY}'"))
    link.unlink()
    copied.refresh()
    link.symlink_to(version)
    followed = Follower(copied.home, server, postgres.layout_of())
    for moved_today in (0, moved):
        postgres.follow(followed.home, followed.dsn, since=ago(2))
        for table in tables:
            found = followed.rows(f"select * from HISTORY.{table}")
            assert sorted(found, key=repr) == sorted(copied.rows(table), key=repr), table
        assert followed.rows("select count(*) from CURRENT.segment_transitions") == [(moved_today,)]
        copied.refresh()
    assert sorted(followed.rows("select * from HISTORY.segment_snapshots")) == copied.rows("segment_snapshots")
    assert moved


def test_a_day_published_again_refreshes_what_hangs_on_it(copied, tmp_path):
    """The second day gets another version: its files and the comparisons with it are made anew, the first stays."""
    before = current_history(copied.home)
    kept = {path: (before / path).stat().st_ino for path in bytes_below(before)}
    first, second = (version_of(copied.home, day) for day in (ago(2), EVE))
    shutil.copytree(second, tmp_path / "altered")
    altered = second.with_name(f"{EVE}-0123456789ab")
    (tmp_path / "altered").rename(altered)
    link = copied.home.published / "days" / str(EVE)
    link.unlink()
    link.symlink_to(f"../versions/{altered.name}")

    done = copied.refresh()

    after = current_history(copied.home)
    same = {path for path, inode in kept.items() if (after / path).stat().st_ino == inode}
    assert first is not None
    assert done.days == (EVE, DAY)
    assert f"segment_snapshots/as_of_date={ago(2)}/segment_snapshots.parquet" in same
    assert f"segment_snapshots/as_of_date={DAY}/segment_snapshots.parquet" in same
    assert f"segment_transitions/as_of_date={EVE}/segment_transitions.parquet" not in same
    assert f"segment_transitions/as_of_date={DAY}/segment_transitions.parquet" not in same


def test_a_day_of_other_rules_waits_until_it_is_run_again(copied):
    """After an edit of the rules yesterday is run again, today is not: why people moved today can't be told yet."""
    copied.edit(super_min_orders="2")
    copied.publish(EVE)

    done = copied.refresh()

    assert done.waiting == (DAY,)
    assert copied.rows("segment_transitions", "1", f"as_of_date = date '{EVE}' and cause = 'rules_edited'")
    assert {day for (day,) in copied.rows("segment_transitions", "distinct as_of_date")} == {EVE}
    assert {day for (day,) in copied.rows("segment_snapshots", "distinct as_of_date")} == {ago(2), EVE, DAY}
    copied.publish(DAY)
    assert copied.refresh().waiting == ()
    assert {day for (day,) in copied.rows("segment_transitions", "distinct as_of_date")} == {EVE, DAY}


def refresh_in_process(root: str, rules: str, kill_at: int) -> None:
    """Bring history up to date; die at the ``kill_at``-th step."""
    KillSwitch(kill_at).arm()
    refresh(Home(Path(root)), Project(Path(rules)), SHOP)


def test_a_killed_step_leaves_the_last_history_and_running_again_is_the_repair(copied):
    whole = bytes_below(current_history(copied.home))
    link = copied.home.published / "days" / str(DAY)
    target = link.readlink()
    link.unlink()
    copied.refresh()
    without = bytes_below(current_history(copied.home))
    link.symlink_to(target)
    spawn = multiprocessing.get_context("spawn")
    for kill_at in (2, 9, 30, 60):
        process = spawn.Process(
            target=refresh_in_process, args=(str(copied.home.root), str(copied.project.root), kill_at)
        )
        process.start()
        process.join()
        assert process.exitcode == KILLED
        assert bytes_below(current_history(copied.home)) in (without, whole)
    copied.refresh()
    assert bytes_below(current_history(copied.home)) == whole
    assert not list(copied.home.published.glob(".history-*"))


# ---------------------------------------------------------------- what was said then, and what is known now


def test_a_restatement_lies_beside_the_original_and_current_stays(copied):
    days = {day: version_of(copied.home, day) for day in published_days(copied.home)}
    current, history = current_version(copied.home), current_history(copied.home)

    copied.publish(EVE, known_at=DAY)

    assert {day: version_of(copied.home, day) for day in published_days(copied.home)} == days
    assert current_version(copied.home) == current
    assert version_of(copied.home, EVE, DAY) not in {None, *days.values()}
    assert copied.refresh().path == history
    copied.publish(DAY, known_at=DAY + timedelta(days=30))
    assert current_version(copied.home) == current


def test_compare_tells_what_the_late_order_would_have_changed(copied):
    """Yesterday `second` had one order of 60 that was known; a second of 60, five days old by now, came today."""
    copied.publish(EVE, known_at=DAY)
    told = compare(copied.home, EVE)
    measures = {row["measure"]: (row["said"], row["known"], row["difference"]) for row in told["measures"]}
    assert measures["customers"] == (3, 3, 0)
    assert measures["orders_in_window"] == (5, 6, 1)
    assert measures["revenue_in_window"] == ("260.00", "320.00", "60.00")
    stages = [row for row in told["moves"] if row["attribute"] == "ecommerce_stage"]
    assert stages == [
        {
            "attribute": "ecommerce_stage", "from_value": "first_purchase", "to_value": "repeat", "kind": "upgrade",
            "customers": 1, "revenue_said": "60.00", "revenue_known": "120.00",
        }
    ]  # fmt: skip
    assert [(row["customer_id"], row["difference"]) for row in told["movers"]] == [("second", "60.00")]
    assert told["known_at"] == str(DAY)


def test_compare_says_what_is_missing(past):
    with pytest.raises(UsageError, match=r"has no restatement.*\n.*\n.*--known-at LATER_DAY"):
        compare(past.home, EVE)
    with pytest.raises(UsageError, match="is not published"):
        compare(past.home, ago(40))


# ---------------------------------------------------------------- whole pipelines


@pytest.fixture(scope="module")
def rules(tmp_path_factory):
    return steadied_rules(tmp_path_factory.mktemp("steadied") / "rules")


@pytest.mark.parametrize("seed", [11, 23, 42])
def test_a_random_shop_is_the_same_day_by_day_by_backfill_and_from_an_empty_home(seed, rules, tmp_path):
    assert replay(seed, tmp_path, rules) == []


def test_causes_add_up_on_the_last_days_of_complete_journey(tmp_path):
    home = Home(tmp_path / "home")
    days = [day for day, _ in run_days(home, 10)]
    for day in days[1:]:
        causes, moves = causes_and_moves(home, day)
        assert sum(causes.values()) == moves > 0, day
