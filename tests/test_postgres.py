"""What is published, in a real PostgreSQL: whole days, under contract, for readers who may not see everything."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import signal
from datetime import date, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pyarrow as pa
import pytest

from commands import call
from databases import Follower
from publishing import PUBLISHED, make_build
from strataflow import postgres, runlog, serving
from strataflow.contracts import across_days, in_both_languages
from strataflow.errors import InputError, StepFailed, UsageError
from strataflow.home import Home
from strataflow.marks import Marks
from strataflow.postgres import load, migration
from strataflow.postgres.layout import READER, WRITER, Layout, partition_name, stored_name
from strataflow.postgres.session import Session, between_readers, connected
from strataflow.publish import current_version, publish, read_manifest

DAY = date(2017, 12, 31)
SCHEMAS = count(1)


def before(days: int) -> date:
    return DAY - timedelta(days=days)


class Shop(Follower):
    """A home that publishes builds made by hand, and the schemas that follow it."""

    def publish(self, age: int, *edits: str, contracts: dict | None = None, content: int = 0, customers: int = 40):
        """Publish the day so many days ago, its build edited by SQL and its contracts overlaid."""
        build = make_build(self.home, before(age), customers=customers, content=content)
        with duckdb.connect(str(build.path)) as connection:
            for sql in edits:
                connection.execute(sql)
        told = {name: dict(one) for name, one in PUBLISHED.items()}
        for name, more in (contracts or {}).items():
            told[name] |= more
        build.meta["published"] = told
        build.meta["fingerprint"] += repr(told) + repr(edits)
        return publish(self.home, build)

    def follow(self, **how):
        return postgres.follow(self.home, self.dsn, layout=self.layout, **how)

    def days(self, table: str = "customer_segments") -> dict[date, int]:
        return dict(self.rows(f"select as_of_date, count(*) from HISTORY.{table} group by 1 order by 1"))

    def shown(self, table: str = "customer_segments") -> list[date]:
        return [day for (day,) in self.rows(f"select distinct as_of_date from CURRENT.{table}")]

    def partitions(self, table: str) -> list[str]:
        """The partitions of a table under its first contract, in the order they were made."""
        return [
            name
            for (name,) in self.rows(
                "select relname::text from pg_inherits join pg_class on pg_class.oid = inhrelid "
                f"where inhparent = 'STORE.{table}_v1'::regclass order by inhrelid"
            )
        ]

    def columns(self, view: str) -> list[str]:
        return [name for name, *_ in self.described(view)]

    def described(self, view: str):
        return self.rows(
            "select attname::text, format_type(atttypid, atttypmod), col_description(attrelid, attnum) "
            f"from pg_attribute where attrelid = 'CURRENT.{view}'::regclass and attnum > 0 order by attnum"
        )


@pytest.fixture
def shop(tmp_path, server):
    return Shop(Home(tmp_path / "home"), server, Layout(f"shop{next(SCHEMAS)}"))


# ---------------------------------------------------------------- what arrives


def test_every_published_row_arrives_with_its_type_and_value(shop):
    done = shop.publish(0)
    followed = shop.follow()
    assert (followed.version, followed.loaded, followed.rows) == (done.version, (done.version,), 40 + 80 + 40 + 2)
    for table, entry in done.manifest["tables"].items():
        file = done.path / entry["files"][0]["path"]
        columns = ", ".join(shop.columns(table))
        expected = duckdb.sql(f"select {columns} from read_parquet('{file}', hive_partitioning = false)").fetchall()
        assert sorted(shop.rows(f"select {columns} from CURRENT.{table}")) == sorted(expected)
    types = {name: kind for name, kind, _ in shop.described("customer_segments")}
    assert types == {
        "customer_id": "text", "as_of_date": "date", "recency_days": "bigint", "frequency": "bigint",
        "monetary": "numeric(18,2)", "churn_probability": "double precision", "rfm_class_name_zh": "text",
    }  # fmt: skip


def test_keys_indexes_and_comments_in_both_languages_follow_from_the_contract(shop):
    told = {
        "zh": "客户所处的分层",
        "indexes": [["rfm_class_name_zh"]],
        "columns": {"monetary": {"description": "Net revenue", "zh": "净收入"}},
    }
    shop.publish(0, contracts={"customer_segments": told})
    shop.follow()
    keys = shop.rows(
        "select conrelid::regclass::text, pg_get_constraintdef(oid) from pg_constraint where contype = 'p' "
        f"and conrelid::regclass::text ~ '^{shop.layout.store}.*_v1$' order by 1"
    )
    store = shop.layout.store
    assert keys == [
        (f"{store}.churn_risk_v1", "PRIMARY KEY (customer_id, as_of_date, part)"),
        (f"{store}.customer_segments_v1", "PRIMARY KEY (customer_id, as_of_date, part)"),
        (f"{store}.customer_tags_v1", "PRIMARY KEY (customer_id, tag_id, as_of_date, part)"),
        (f"{store}.rfm_cutoffs_v1", "PRIMARY KEY (measure, as_of_date, part)"),
    ]
    (partition,) = shop.partitions("customer_segments")
    indexed = shop.rows(
        f"select indexdef from pg_indexes where schemaname = '{shop.layout.store}' and tablename = '{partition}'"
    )
    assert any("(rfm_class_name_zh)" in definition for (definition,) in indexed)
    for relation in ("CURRENT.customer_segments", "HISTORY.customer_segments", "STORE.customer_segments_v1"):
        said = shop.rows(f"select obj_description('{relation}'::regclass)")
        assert said == [("Customers and their class. 客户分层\n客户所处的分层",)]
    assert ("monetary", "numeric(18,2)", "Net revenue\n净收入") in shop.described("customer_segments")


def test_what_tells_of_versions_and_runs_is_commented_too(shop):
    shop.publish(0)
    shop.follow()
    views = ["CURRENT.published_version", "CURRENT.runs", "CURRENT.run_steps", "HISTORY.published_versions"]
    comments = []
    for view in views:
        told = shop.rows(
            "select obj_description(attrelid), string_agg(coalesce(col_description(attrelid, attnum), '?'), '|') "
            f"from pg_attribute where attrelid = '{view}'::regclass and attnum > 0 group by attrelid"
        )
        comments += "|".join(told[0]).split("|")
    names = ", ".join(f"'{name}'" for name in shop.layout.schemas)
    schemas = shop.rows(f"select obj_description(oid) from pg_namespace where nspname in ({names})")
    for said in [*comments, *(said for (said,) in schemas)]:
        english, chinese = said.split("\n")
        assert english.isascii()
        assert not chinese.isascii(), said


def test_what_explains_the_keys_comes_with_them(shop):
    build = make_build(shop.home, DAY, customers=5)
    with duckdb.connect(str(build.path)) as connection:
        connection.execute(
            "create table value_tiers as "
            "select * from (values ('high', 1, '高'), ('low', 2, '低')) as t(value_tier, position, name_zh)"
        )
    build.meta["references"] = {"value_tiers": {"key": ["value_tier"], "description": "Tiers.", "zh": "等级。"}}
    publish(shop.home, build)
    shop.follow()
    assert shop.rows("select * from CURRENT.value_tiers order by position") == [
        ("high", 1, "高", DAY),
        ("low", 2, "低", DAY),
    ]
    assert shop.rows("select obj_description('CURRENT.value_tiers'::regclass)") == [("Tiers.\n等级。",)]


def test_a_character_that_the_database_can_not_hold_is_shown_as_unknown(shop):
    shop.publish(
        0, "update customer_segments set rfm_class_name_zh = 'a' || chr(0) || 'b' where customer_id = 'c0000003'"
    )
    shop.follow()
    found = shop.rows("select rfm_class_name_zh from CURRENT.customer_segments where customer_id = 'c0000003'")
    assert found == [("a\ufffdb",)]
    assert shop.days() == {DAY: 40}


def test_the_same_again_writes_nothing(shop):
    shop.publish(0)
    shop.follow()
    notes = "select xmin::text, * from STORE.versions", "select xmin::text, * from STORE.shown"
    seen = [shop.rows(sql) for sql in notes]
    again = shop.follow()
    assert (again.changed, again.loaded, again.rows) == (False, (), 0)
    assert [shop.rows(sql) for sql in notes] == seen


def test_rows_that_differ_from_the_manifest_are_not_shown(shop):
    shop.publish(1)
    shop.follow()
    done = shop.publish(0)
    manifest = read_manifest(done.path)
    manifest["tables"]["customer_segments"]["sums"]["monetary"] = "1.00"
    (done.path / "manifest.json").chmod(0o644)
    (done.path / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(StepFailed, match="customer_segments arrived as 40 rows"):
        shop.follow()
    assert shop.shown() == [before(1)]
    assert shop.days() == {before(1): 40}


# ---------------------------------------------------------------- following the home


def test_days_missed_are_made_up_for_and_earlier_ones_come_on_request(shop):
    for age in (5, 4):
        shop.publish(age)
    shop.follow()
    for age in (3, 2, 1, 0):
        shop.publish(age)
    followed = shop.follow()
    assert [name[:10] for name in followed.loaded] == [str(before(age)) for age in (3, 2, 1, 0)]
    assert list(shop.days()) == [before(age) for age in (4, 3, 2, 1, 0)]
    assert [name[:10] for name in shop.follow(since=before(5)).loaded] == [str(before(5))]
    assert shop.shown() == [DAY]
    with pytest.raises(UsageError, match="2017-12-11 is not published"):
        shop.follow(days=[before(20)])


def test_a_rollback_a_repair_and_a_withdrawal_are_followed(shop):
    shop.publish(1)
    shop.publish(0)
    shop.follow(since=before(1))
    serving.rollback(shop.home)
    assert shop.follow().changed
    assert shop.shown() == shop.shown("churn_risk") == [before(1)]
    assert list(shop.days()) == [before(1), DAY]

    repaired = shop.publish(0, content=1, customers=30)
    assert shop.follow().loaded == (repaired.version,)
    assert shop.shown() == [DAY]
    assert shop.days() == {before(1): 40, DAY: 30}
    assert shop.rows("select version from CURRENT.published_version") == [(repaired.version,)]

    serving.withdraw(shop.home, DAY)
    assert shop.follow().removed == (DAY,)
    assert shop.days() == {before(1): 40}
    assert len(shop.partitions("customer_segments")) == 1


def test_days_past_keeping_go_and_days_the_home_pruned_stay(shop):
    for age in (9, 5, 1, 0):
        shop.publish(age)
    shop.follow(since=before(9))
    Marks(pruned={before(9): "x", before(5): "y"}).save(shop.home)
    for age in (9, 5):
        (shop.home.published / "days" / str(before(age))).unlink()
    assert not shop.follow().changed
    assert shop.follow(keep_days=5).removed == (before(9),)
    assert list(shop.days()) == list(shop.days("rfm_cutoffs")) == [before(5), before(1), DAY]
    assert len(shop.partitions("rfm_cutoffs")) == 3


def test_customers_are_forgotten_on_all_days(shop):
    shop.publish(1)
    shop.publish(0)
    shop.follow(since=before(1))
    assert postgres.forget(shop.dsn, ["c0000001", "c0000002", "nobody"], layout=shop.layout) == 2 * 2 * (1 + 2 + 1)
    for table in ("customer_segments", "customer_tags", "churn_risk"):
        assert shop.rows(f"select 1 from HISTORY.{table} where customer_id in ('c0000001', 'c0000002')") == []
    assert shop.days() == {before(1): 38, DAY: 38}


def test_customers_are_forgotten_in_a_copy_whose_removal_was_cut_short(shop):
    shop.publish(0)
    shop.follow()
    (partition,) = shop.partitions("churn_risk")
    shop.rows(f"alter table STORE.churn_risk_v1 detach partition STORE.{partition}")
    assert postgres.forget(shop.dsn, ["c0000001"], layout=shop.layout) == 1 + 2 + 1
    assert shop.rows(f"select count(*) from STORE.{partition}") == [(39,)]
    repaired = shop.publish(0, content=1)
    assert shop.follow().loaded == (repaired.version,)
    assert shop.rows(f"select to_regclass('STORE.{partition}')::text") == [(None,)]


def test_the_logs_of_runs_follow_and_a_run_that_has_ended_since_says_so(shop):
    shop.publish(0)
    log = runlog.RunLog.start(shop.home, "run", DAY, {})
    with log.closing():
        with log.step("publish") as step:
            step.rows, step.detail = 162, {"version": "v"}
        shop.follow()
        assert shop.rows("select outcome, version from CURRENT.runs") == [("running", "v")]
    shop.follow()
    assert shop.rows("select outcome, ended_at is not null from CURRENT.runs", READER) == [("ok", True)]
    (step,) = shop.rows("select step, rows, outcome, peak_memory_bytes > 0 from CURRENT.run_steps", READER)
    assert step == ("publish", 162, "ok", True)


def test_another_shop_is_not_mixed_in(shop, tmp_path):
    shop.publish(0)
    shop.follow()
    other = Shop(Home(tmp_path / "other"), shop.dsn, shop.layout)
    build = make_build(other.home, DAY)
    build.meta["shop"] = build.meta["shop"] | {"name": "other shop"}
    publish(other.home, build)
    with pytest.raises(UsageError, match="holds the tables of the shop corner shop, not other shop"):
        other.follow()


# ---------------------------------------------------------------- contracts


def test_an_added_column_is_added_in_place(shop):
    shop.publish(1)
    shop.follow()
    shop.publish(
        0, "alter table customer_segments add column nickname varchar", "update customer_segments set nickname = 'n'"
    )
    shop.follow()
    assert shop.columns("customer_segments")[-1] == "nickname"
    found = shop.rows("select as_of_date, nickname, count(*) from HISTORY.customer_segments group by 1, 2 order by 1")
    assert found == [(before(1), None, 40), (DAY, "n", 40)]
    serving.rollback(shop.home)
    shop.follow()
    repaired = shop.publish(1, content=1)
    assert shop.follow().loaded == (repaired.version,)
    assert shop.shown() == [before(1)]


@pytest.mark.parametrize(
    ("edits", "contracts", "said"),
    [
        (["alter table customer_segments drop column frequency"], {}, "column frequency is gone"),
        (["alter table customer_segments alter frequency type integer"], {}, "frequency is integer instead of bigint"),
        ([], {"customer_segments": {"key": ["customer_id", "frequency"]}}, "its key is customer_id, frequency"),
    ],
)
def test_a_change_that_breaks_readers_needs_a_new_contract_version(shop, edits, contracts, said):
    shop.publish(1)
    shop.follow()
    shop.publish(0, *edits, contracts=contracts)
    with pytest.raises(UsageError, match=said) as refused:
        shop.follow()
    assert "raise it to 2" in str(refused.value)
    assert shop.shown() == [before(1)]


def test_a_new_contract_stands_beside_the_old_one_until_its_time_is_over(shop):
    dropped, second = (
        "alter table customer_segments drop column frequency",
        {"customer_segments": {"contract_version": 2}},
    )
    shop.publish(2)
    shop.follow()
    shop.rows("create schema if not exists mine")
    shop.rows(f"create view mine.v{shop.layout.schema} as select frequency from CURRENT.customer_segments")
    shop.publish(1, dropped, contracts=second)
    shop.follow()
    assert "frequency" not in shop.columns("customer_segments")
    assert "frequency" in shop.columns("customer_segments_v1")
    assert (shop.shown(), shop.shown("customer_segments_v1")) == ([before(1)], [before(2)])
    assert len(shop.rows(f"select * from mine.v{shop.layout.schema}")) == 40

    serving.rollback(shop.home, before(2))
    shop.follow()
    assert "frequency" in shop.columns("customer_segments")
    assert shop.shown() == shop.shown("churn_risk") == [before(2)]
    assert shop.shown("customer_segments_v2") == []
    serving.rollback(shop.home, before(1))
    shop.follow()
    assert shop.shown() == [before(1)]
    assert "frequency" not in shop.columns("customer_segments")

    build = make_build(shop.home, DAY, customers=40)
    with duckdb.connect(str(build.path)) as connection:
        connection.execute(dropped)
    build.meta["published"] = PUBLISHED | {
        "customer_segments": PUBLISHED["customer_segments"] | {"contract_version": 2}
    }
    build.meta["rules"] = {"files": {}, "vars": {"deprecation_days": 0}}
    publish(shop.home, build)
    (note,) = shop.follow().notes
    assert "customer_segments_v1 stays for now" in note
    assert f"v{shop.layout.schema}" in note
    shop.rows(f"drop view mine.v{shop.layout.schema}")
    assert shop.follow().dropped == ("customer_segments_v1",)
    assert shop.rows("select to_regclass('CURRENT.customer_segments_v1')::text") == [(None,)]
    assert shop.days() == {before(1): 40, DAY: 40}


def test_snapshots_are_a_view_of_the_customers_of_the_days_kept_under_every_contract(shop):
    def publish_day(age: int, *edits: str, **more: Any) -> None:
        told = {"customer_segments": {"contract_version": 2, **more}} if edits else None
        columns = [f"alter table customer_segments add column {name} varchar default 'v'" for name in classes]
        shop.publish(age, *columns, *edits, contracts=told)

    def shown(view: str) -> tuple[list[date], list[date]]:
        told = shop.rows(f"select distinct as_of_date from HISTORY.{view} order by 1", READER)
        return shop.shown(view), [day for (day,) in told]

    classes = ["rfm_class", "value_tier"]
    publish_day(3)
    publish_day(2)
    shop.follow(since=before(3))
    told = across_days("history")["segment_snapshots"]
    names = ["customer_id", "as_of_date", *classes]
    assert shop.described("segment_snapshots") == [
        (name, "date" if name == "as_of_date" else "text", in_both_languages(told["columns"][name])) for name in names
    ]
    said = [(in_both_languages(told),)]
    assert shop.rows("select obj_description('HISTORY.segment_snapshots'::regclass)") == said
    assert shown("segment_snapshots") == ([before(2)], [before(3), before(2)])
    same = "select customer_id, as_of_date, rfm_class, value_tier from HISTORY.{} order by 1, 2"
    assert shop.rows(same.format("segment_snapshots")) == shop.rows(same.format("customer_segments"))

    publish_day(1, "alter table customer_segments drop column rfm_class")
    shop.follow()
    assert shop.columns("segment_snapshots") == ["customer_id", "as_of_date", "value_tier"]
    assert shop.columns("segment_snapshots_v1") == names
    assert shown("segment_snapshots") == ([before(1)], [before(1)])
    assert shown("segment_snapshots_v1") == ([before(2)], [before(3), before(2)])
    serving.rollback(shop.home)
    shop.follow()
    assert shown("segment_snapshots") == ([before(2)], [before(3), before(2)])

    contact = {"value_tier": {"description": "No tier, an address", "contact": True}}
    publish_day(0, "alter table customer_segments drop column rfm_class", columns=contact)
    shop.follow()
    assert shop.columns("segment_snapshots") == ["customer_id", "as_of_date"]
    assert shop.columns("segment_snapshots_v1") == ["customer_id", "as_of_date", "rfm_class"]
    assert shown("segment_snapshots") == ([DAY], [before(1), DAY])


def test_a_store_of_an_earlier_layout_is_refused_with_the_way_out(shop):
    shop.publish(0)
    shop.follow()
    shop.rows("drop sequence STORE.copies")
    with pytest.raises(UsageError, match="earlier version of Strataflow") as refused:
        shop.follow()
    assert shop.shown() == [DAY]
    drop = re.search(r"(drop schema .* cascade);", str(refused.value.todo))[1]
    shop.rows(drop)
    assert shop.follow().loaded
    assert shop.shown() == [DAY]


def test_a_database_from_before_there_were_excerpts_gets_them_with_the_next_day(shop, monkeypatch):
    with monkeypatch.context() as earlier:
        earlier.setattr(migration, "excerpts", lambda _: {})
        shop.publish(1)
        shop.follow()
    shop.publish(0)
    shop.follow()
    assert shop.shown("segment_snapshots") == [DAY]
    assert shop.days("segment_snapshots") == {before(1): 40, DAY: 40}


def test_a_table_that_is_no_longer_published_is_empty_for_days_before_it_came(shop):
    shop.publish(1)
    build = make_build(shop.home, DAY, customers=3)
    with duckdb.connect(str(build.path)) as connection:
        connection.execute("create table portraits as select customer_id, as_of_date from customer_segments")
    build.meta["published"] = PUBLISHED | {"portraits": {"key": ["customer_id"]}}
    publish(shop.home, build)
    shop.follow(since=before(1))
    assert shop.shown("portraits") == [DAY]
    serving.rollback(shop.home)
    shop.follow()
    assert shop.shown("portraits") == []


def test_a_reader_who_stays_is_not_waited_for_for_ever_and_not_disturbed(shop, monkeypatch):
    shop.publish(1)
    shop.follow()
    shop.publish(0, "alter table customer_segments add column nickname varchar")
    monkeypatch.setattr(migration, "SECONDS_TO_FIND_A_GAP", 0.5)
    monkeypatch.setattr(load, "SECONDS_FOR_OLD_PLANS", 0.1)
    monkeypatch.setattr(load, "SECONDS_FOR_ELDERS", 0.1)
    look = f"select count(*) from {shop.layout.current_view('customer_segments')}"
    with psycopg.connect(shop.dsn) as reader:
        assert reader.execute(look).fetchone() == (40,)
        with pytest.raises(StepFailed, match="queries have held the tables"):
            shop.follow()
        assert reader.execute(look).fetchone() == (40,)
    assert shop.follow().loaded
    with psycopg.connect(shop.dsn) as reader:
        assert reader.execute(look).fetchone() == (40,)
        shop.publish(0, "alter table customer_segments add column nickname varchar", content=2, customers=7)
        assert shop.follow().loaded
        assert reader.execute(look).fetchone() == (7,)


def test_a_transaction_that_keeps_its_snapshot_reads_the_copy_of_its_beginning(shop, monkeypatch):
    monkeypatch.setattr(load, "SECONDS_FOR_ELDERS", 0.1)
    shop.publish(0)
    shop.follow()
    with psycopg.connect(shop.dsn) as reader:
        reader.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        reader.execute("select 1")
        shop.publish(0, content=1, customers=7)
        (note,) = shop.follow().notes
        assert "no longer shown stay until the next publish" in note
        for view in (shop.layout.current_view("customer_segments"), shop.layout.history_view("churn_risk")):
            assert reader.execute(f"select count(*) from {view}").fetchone() == (40,)
    assert shop.days() == {DAY: 7}
    assert len(shop.partitions("churn_risk")) == 2
    assert shop.follow().notes == ()
    assert len(shop.partitions("churn_risk")) == 1


def test_locks_are_all_given_back_when_one_is_not_to_be_had(server):
    with connected(server) as session, psycopg.connect(server) as reader:
        session.run("create table free_one (a int)", "create table held_one (a int)")
        session.commit()
        reader.execute("select * from held_one")
        tries = []

        def statements():
            tries.append(1)
            return ["alter table free_one add column b int", "alter table held_one add column b int"]

        with pytest.raises(StepFailed, match="held the tables"):
            between_readers(session, statements, 0.1)
        assert len(tries) >= 1
        reader.execute("select * from free_one")


# ---------------------------------------------------------------- who may see what


def test_readers_see_the_views_and_nothing_below_them(shop):
    shop.publish(0)
    shop.follow()
    views = shop.rows(
        "select table_schema || '.' || table_name from information_schema.views "
        f"where table_schema in ('{shop.layout.schema}', '{shop.layout.history}')"
    )
    in_both, logs = [*PUBLISHED, "published_version", "segment_snapshots"], ["runs", "run_steps"]
    assert len(views) == 2 * len(in_both) + len(logs)
    for (view,) in views:
        assert shop.rows(f"select count(*) from {view}", READER)[0][0] > 0 or ".run" in view
    for sql in (
        "select * from STORE.customer_segments_v1",
        f"select * from STORE.{shop.partitions('customer_segments')[0]}",
        "select * from STORE.pointer",
        "delete from CURRENT.customer_segments",
        "update STORE.pointer set as_of_date = current_date",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            shop.rows(sql, READER)
    assert len(shop.rows("select * from STORE.customer_segments_v1", WRITER)) == 40


def test_contact_columns_are_out_of_readers_reach_on_every_way(shop):
    edits = ["alter table customer_segments add column phone varchar", "update customer_segments set phone = '138'"]
    contact = {"customer_segments": {"columns": {"phone": {"description": "Number", "contact": True}}}}
    shop.publish(1, *edits, contracts=contact)
    shop.follow()
    assert "phone" not in shop.columns("customer_segments")
    assert shop.rows("select distinct phone from STORE.customer_segments_v1", WRITER) == [("138",)]
    for relation in ("CURRENT.customer_segments", "HISTORY.customer_segments"):
        with pytest.raises(psycopg.errors.UndefinedColumn):
            shop.rows(f"select phone from {relation}", READER)
        assert all("138" not in row for row in shop.rows(f"select * from {relation}", READER))
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        shop.rows("select phone from STORE.customer_segments_v1", READER)


def test_a_column_found_to_be_a_contact_vanishes_from_all_views_at_once(shop):
    edits = ["alter table customer_segments add column phone varchar", "update customer_segments set phone = '138'"]
    shop.publish(2, *edits)
    shop.publish(1, *edits, contracts={"customer_segments": {"contract_version": 2}})
    shop.follow(since=before(2))
    assert "phone" in shop.columns("customer_segments")
    assert "phone" in shop.columns("customer_segments_v1")
    contact = {"contract_version": 2, "columns": {"phone": {"description": "Number", "contact": True}}}
    shop.publish(0, *edits, contracts={"customer_segments": contact})
    shop.follow()
    assert "phone" not in shop.columns("customer_segments")
    assert "phone" not in shop.columns("customer_segments_v1")
    assert shop.shown() == [DAY]
    assert shop.rows("select count(*) from CURRENT.customer_segments", READER) == [(40,)]


def test_a_login_without_rights_is_told_what_it_lacks_and_one_with_them_needs_no_more(shop):
    shop.publish(0)
    name = f"loader_{shop.layout.schema}"
    shop.rows(f"create role {name} login")
    loader = Shop(shop.home, shop.dsn.replace("postgres:@", f"{name}:@"), shop.layout)
    with pytest.raises(UsageError, match="may not do that") as refused:
        loader.follow()
    assert "docs/postgres.md" in str(refused.value)
    for sql in shop.layout.preparation():
        shop.rows(sql)
    shop.rows(f"grant {WRITER} to {name}")
    assert loader.follow().loaded
    owners = shop.rows(f"select distinct tableowner from pg_tables where schemaname = '{shop.layout.store}'")
    assert owners == [(WRITER,)]


# ---------------------------------------------------------------- killed anywhere


def counting(die_at: int, torn_copy: int) -> list[int]:
    """Make this process die before its n-th statement or commit, or in the middle of its n-th COPY."""
    calls, copies = [0], [0]
    execute, commit, copy = Session.run, Session.commit, Session.copy

    def die():
        os.kill(os.getpid(), signal.SIGKILL)

    def counted():
        calls[0] += 1
        if calls[0] == die_at:
            die()

    def run(self, *statements):
        changed = 0
        for sql in statements:
            counted()
            changed = execute(self, sql)
        return changed

    def committing(self):
        counted()
        commit(self)

    def torn(reader):
        yield reader.read_next_batch()
        die()

    def copying(self, schema, table, reader):
        copies[0] += 1
        if copies[0] == torn_copy:
            reader = pa.RecordBatchReader.from_batches(reader.schema, torn(reader))
        return copy(self, schema, table, reader)

    Session.run, Session.commit, Session.copy = run, committing, copying
    return calls


def follow_and_die(root: str, dsn: str, schema: str, die_at: int, torn_copy: int, report: Any) -> None:
    calls = counting(die_at, torn_copy)
    postgres.follow(Home(Path(root)), dsn, layout=Layout(schema))
    report.put(calls[0])


def test_killed_anywhere_readers_see_a_whole_day_and_running_again_repairs(shop):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["publishing", "strataflow.postgres", "adbc_driver_postgresql.dbapi"])
    report = context.Queue()

    def in_process(die_at, torn_copy):
        told = (str(shop.home.root), shop.dsn, shop.layout.schema, die_at, torn_copy, report)
        process = context.Process(target=follow_and_die, args=told)
        process.start()
        process.join(60)
        return process.exitcode

    shop.publish(41)
    shop.follow()
    shop.publish(40)
    assert in_process(0, 0) == 0
    calls = report.get(timeout=10)
    points = [(at, 0) for at in range(2, calls, 5)] + [(0, at) for at in range(1, len(PUBLISHED) + 1)]
    assert len(points) > 9
    for number, point in enumerate(points):
        old, new = before(40 - number), before(39 - number)
        shop.publish(39 - number, customers=41 + number)
        assert in_process(*point) == -signal.SIGKILL, point
        held = {
            table: shop.rows(f"select as_of_date, count(*) from CURRENT.{table} group by 1")
            for table in ("customer_segments", "churn_risk", "customer_tags")
        }
        (day, customers) = held["customer_segments"][0]
        assert (day, customers) in ((old, 40 + number), (new, 41 + number)), point
        assert held["churn_risk"] == [(day, customers)], point
        assert held["customer_tags"] == [(day, 2 * customers)], point
        assert max(shop.days()) == day, point
        shop.follow()
        assert shop.shown() == [new]
        assert shop.days()[new] == 41 + number
        assert len(shop.partitions("customer_tags")) == len(shop.days("customer_tags"))
    assert not shop.follow().changed


# ---------------------------------------------------------------- how it is called


def test_the_command_tells_what_it_did_and_keeps_no_password(shop):
    done = shop.publish(0)
    said = call(
        "publish", "--to", "postgres", "--json", home=shop.home,
        STRATAFLOW_POSTGRES_DSN=shop.dsn.replace("postgres:@", "postgres:hidden@"),
        STRATAFLOW_POSTGRES_SCHEMA=shop.layout.schema,
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    told = json.loads(said.stdout)
    assert (told["version"], told["changed"], told["loaded"]) == (done.version, True, [done.version])
    (record,) = runlog.records(shop.home, DAY)
    assert record["steps"][0]["rows"] == told["rows"] == 162
    assert all("hidden" not in path.read_text("utf-8") for path in shop.home.root.glob("runs/*/*.json"))
    assert shop.shown() == [DAY]


def test_a_call_that_makes_no_sense_is_told_so(shop):
    shop.publish(0)
    for arguments, said in (
        (["--to", "postgres"], "no database is named"),
        (["--dsn", "postgresql://x"], "add --to postgres"),
        (["--to", "postgres", "--dsn", "postgresql://x", "--known-at", "2018-01-01"], "restatement"),
    ):
        done = call("publish", *arguments, home=shop.home)
        assert done.returncode == 2, done.stderr
        assert said in done.stderr


def test_an_airflow_connection_names_the_database(monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_BI", "postgres://writer:p%40ss@db.shop:5432/bi")
    assert postgres.dsn_of("BI") == "postgresql://writer:p%40ss@db.shop:5432/bi"
    monkeypatch.setenv(postgres.SETTING, "postgresql+psycopg://a@b/c")
    assert postgres.dsn_of(None) == "postgresql://a@b/c"
    monkeypatch.setenv(postgres.SETTING, "")
    assert postgres.dsn_of(None) is None
    with pytest.raises(UsageError, match="no connection 'nowhere'"):
        postgres.dsn_of("nowhere")


def test_a_server_that_is_not_there_is_named_without_its_password(shop):
    shop.publish(0)
    with pytest.raises(InputError, match="no connection to PostgreSQL") as refused:
        postgres.follow(shop.home, "postgresql://a:hidden@127.0.0.1:1/nothing", layout=shop.layout)
    assert "hidden" not in str(refused.value)


def test_names_fit_into_the_database():
    long = "a_table_with_a_name_that_goes_on_for_longer_than_postgresql_takes"
    assert len(partition_name(long, 12, DAY, 2_147_483_647)) <= 63
    assert stored_name(long, 1) != stored_name(long, 2)
    assert current_version(Home(Path("/nonexistent"))) is None
    with pytest.raises(UsageError, match="no name for a schema"):
        postgres.layout_of("Robert'); drop")
