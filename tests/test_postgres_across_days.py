"""Tables that span days in a real PostgreSQL: whatever becomes of their past, the database says what the files say."""

from __future__ import annotations

import random
from datetime import date, timedelta
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pytest

from databases import Follower
from publishing import make_build
from strataflow import contracts, postgres, serving
from strataflow.durable import json_text, sha256
from strataflow.errors import StepFailed, UsageError
from strataflow.history.causes import PublishedDay
from strataflow.history.plan import OPEN_INTERVALS, plan
from strataflow.history.refresh import current_history, switch
from strataflow.history.writing import write_parquet
from strataflow.home import Home
from strataflow.postgres import across_days, migration
from strataflow.postgres.layout import READER, Layout
from strataflow.postgres.session import connected
from strataflow.publish import publish

FIRST = date(2024, 3, 1)
CUSTOMERS = [f"c{number}" for number in range(9)]
VALUES = ("high", "mid", "low", None)
SCHEMAS = count(1)
SEQUENCES = 12


class Past(Follower):
    """A home that has nothing but a history, written from what is published of each day, and schemas that follow it."""

    def __init__(self, folder: Path, dsn: str) -> None:
        super().__init__(Home(folder), dsn, Layout(f"past{next(SCHEMAS)}"))
        self.days: dict[date, tuple[str, dict[str, str]]] = {}
        self.versions = count(1)
        (self.home.published / "histories").mkdir(parents=True)
        self.home.scratch.mkdir()

    def publish(self, day: date, tiers: dict[str, str]) -> None:
        """A new version of a day: who is in which tier."""
        self.days[day] = (f"{day}-{next(self.versions):012x}", tiers)

    def write(self) -> None:
        """The history of the days, file by file as the plan has them."""
        days = [PublishedDay(day, Path(version), {}) for day, (version, _) in sorted(self.days.items())]
        content = self._content()
        staging, files = self.home.scratch / "history", {}
        with duckdb.connect() as connection:
            for part in plan(days):
                if part.path in content:
                    columns = contracts.across_days("history")[part.table]["columns"]
                    types = ", ".join(f"{name} {told['data_type']}" for name, told in columns.items())
                    connection.execute(f"create or replace table filed ({types})")
                    if content[part.path]:
                        marks = ", ".join("?" * len(columns))
                        connection.executemany(f"insert into filed values ({marks})", content[part.path])
                    written = write_parquet(connection, "from filed order by all", staging / part.path)
                    files[part.path] = {"table": part.table, "made_from": list(part.made_from), **written}
        switch(self.home, staging, files, (), days[-1].day)

    def _content(self) -> dict[str, list[tuple]]:
        """The rows of snapshots, intervals and moves, by path."""
        content, since = {}, {}
        days = sorted(self.days)
        for before, day in pairwise([None, *days]):
            tiers, earlier = self.days[day][1], self.days[before][1] if before else {}
            content[f"segment_snapshots/as_of_date={day}/segment_snapshots.parquet"] = [
                (who, day, None, None, None, None, tier, None, None, None) for who, tier in tiers.items()
            ]
            moves = [(who, earlier.get(who), tiers.get(who)) for who in CUSTOMERS if earlier.get(who) != tiers.get(who)]
            if before:
                content[f"segment_history/closed/{day}.parquet"] = [
                    (who, "value_tier", old, since[who], day) for who, old, _ in moves if old
                ]
                content[f"segment_transitions/as_of_date={day}/segment_transitions.parquet"] = [
                    (who, day, before, "value_tier", old, new, "lateral", "ordered", *[None] * 6)
                    for who, old, new in moves
                ]
                content[f"transition_matrix/period=day/period_start={day}/transition_matrix.parquet"] = [
                    ("day", day, before, day, "value_tier", old, new, "lateral", cause, 1, 0)
                    for old, new, cause in {(old, new, None) for _, old, new in moves}
                ]
            since |= {who: day for who, _, new in moves if new}
        content[OPEN_INTERVALS] = [
            (who, "value_tier", tier, since[who], None) for who, tier in self.days[days[-1]][1].items()
        ]
        return content

    def bring_in(self) -> int | None:
        """What following does with the history; rows that came or went, None if there was nothing to do."""
        with connected(self.dsn) as session:
            migration.prepare(session, self.layout)
            news = across_days.news(session, self.layout, self.home)
            for one in news:
                wanted = migration.bring_up(session, self.layout, one.offers())
                changed = across_days.bring_in(session, self.layout, one, wanted, is_cleaned=False)
                session.commit()
                return changed
        return None

    def agrees(self) -> None:
        for table in ("segment_history", "segment_transitions", "transition_matrix"):
            assert sorted(self.rows(f"select * from HISTORY.{table}"), key=repr) == filed(self.home, table), table


def filed(home: Home, table: str) -> list[tuple]:
    """A table as the files have it."""
    folder = current_history(home) / table
    if not folder.is_dir():
        return []
    return sorted(
        duckdb.sql(f"from read_parquet('{folder}/**/*.parquet', hive_partitioning = false)").fetchall(), key=repr
    )


@pytest.fixture
def past(tmp_path, server):
    return Past(tmp_path / "home", server)


def some_tiers(rng: random.Random, before: dict[str, str]) -> dict[str, str]:
    """Who is where after a day on which a few move, come or go."""
    after = before | {who: rng.choice(VALUES) for who in rng.sample(CUSTOMERS, rng.choice([0, 1, 1, 3]))}
    return {who: tier for who, tier in sorted(after.items()) if tier}


def goes_on(past: Past, rng: random.Random, what: str) -> None:
    """One thing that becomes of a home's days."""
    days = sorted(past.days)
    newest = past.days[days[-1]][1]
    match what:
        case "forget":
            postgres.forget(past.dsn, [rng.choice(CUSTOMERS)], layout=past.layout)
        case "withdraw" if len(days) > 1:
            past.days.pop(rng.choice(days))
        case "again":
            day = rng.choice(days[-3:])
            past.publish(day, some_tiers(rng, past.days[day][1]))
        case "between":
            past.publish(days[0] + timedelta(days=rng.randint(1, 9)), some_tiers(rng, newest))
        case _:
            past.publish(days[-1] + timedelta(days=rng.choice([1, 1, 4])), some_tiers(rng, newest))


# ---------------------------------------------------------------- the same rows


def test_after_days_were_published_again_late_or_withdrawn_the_database_says_what_the_files_say(past):
    rng = random.Random(7)  # noqa: S311 (the same sequence every time, no secrets)
    past.publish(FIRST, some_tiers(rng, dict.fromkeys(CUSTOMERS, "low")))
    for number in range(SEQUENCES):
        past.write()
        past.bring_in()
        past.agrees()
        assert past.bring_in() is None
        for what in rng.choices(["next", "again", "between", "withdraw", "forget"], [6, 2, 1, 1, 1], k=1 + number % 3):
            goes_on(past, rng, what)


def test_a_day_more_touches_the_rows_of_those_who_moved_and_no_others(past):
    everyone = dict.fromkeys(CUSTOMERS, "low")
    past.publish(FIRST, everyone)
    past.publish(FIRST + timedelta(days=1), everyone)
    past.write()
    past.bring_in()
    written = "select customer_id, xmin::text from STORE.segment_history_v1 order by 1"
    before = past.rows(written)
    past.publish(FIRST + timedelta(days=2), everyone | {"c3": "high"})
    past.publish(FIRST + timedelta(days=3), everyone | {"c3": "mid", "c4": "mid"})
    past.write()
    ended, begun, moves, counted = 3, 2, 3, 3
    assert past.bring_in() == ended + begun + moves + counted
    past.agrees()
    assert [row for row in past.rows(written) if row[0] not in {"c3", "c4"}] == [
        row for row in before if row[0] not in {"c3", "c4"}
    ]

    past.publish(FIRST + timedelta(days=1), everyone | {"c5": "mid"})  # what is open since then may differ anywhere
    past.write()
    past.bring_in()
    past.agrees()


def test_customers_are_forgotten_and_what_the_home_still_says_of_others_comes_back(past):
    past.publish(FIRST, dict.fromkeys(CUSTOMERS, "low"))
    past.publish(FIRST + timedelta(days=1), dict.fromkeys(CUSTOMERS, "mid"))
    past.write()
    past.bring_in()
    assert postgres.forget(past.dsn, ["c1"], layout=past.layout) == 3  # a stretch ended, one open, a move
    assert past.rows("select 1 from HISTORY.segment_history where customer_id = 'c1'") == []
    for _, tiers in past.days.values():
        del tiers["c1"]
    past.write()
    past.bring_in()
    past.agrees()


def test_rows_that_are_not_those_of_the_manifest_are_refused(past):
    past.publish(FIRST, dict.fromkeys(CUSTOMERS, "low"))
    past.write()
    manifest = current_history(past.home) / "manifest.json"
    text = manifest.read_text(encoding="utf-8").replace('"rows": 9', '"rows": 8')
    manifest.chmod(0o644)
    manifest.write_text(text, encoding="utf-8")
    with pytest.raises(StepFailed, match="segment_history arrived as 9 rows, not as 8"):
        past.bring_in()
    assert past.rows("select * from HISTORY.segment_history") == []


# ---------------------------------------------------------------- under contract


def test_types_keys_and_comments_are_those_of_the_contract_and_readers_see_no_part(past):
    past.publish(FIRST, {"c1": "low"})
    past.write()
    past.bring_in()
    for table, told in contracts.across_days("history").items():
        if not told["excerpt_of"]:
            described = past.rows(
                "select attname::text, col_description(attrelid, attnum) from pg_attribute "
                f"where attrelid = 'CURRENT.{table}'::regclass and attnum > 0 order by attnum"
            )
            assert described == [(name, f"{one['description']}\n{one['zh']}") for name, one in told["columns"].items()]
            said = f"{told['description']}\n{told['zh']}"
            assert past.rows(f"select obj_description('HISTORY.{table}'::regclass)") == [(said,)]
            assert past.rows(f"select * from CURRENT.{table}", READER) == []
            past.rows(f"select * from HISTORY.{table}", READER)
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                past.rows(f"select * from STORE.{table}_v1", READER)
    keys = dict(
        past.rows(
            "select tablename::text, indexdef from pg_indexes "
            f"where schemaname = '{past.layout.store}' and indexdef like 'CREATE UNIQUE%'"
        )
    )
    assert keys["segment_history_v1"].endswith("(customer_id, attribute, valid_from)")
    assert "COALESCE(cause, ''::text)" in keys["transition_matrix_v1"]
    types = "select format_type(atttypid, atttypmod) from pg_attribute where attrelid = 'CURRENT.{}'::regclass"
    assert [kind for (kind,) in past.rows(f"{types.format('segment_history')} and attnum > 0 order by attnum")] == [
        "text", "text", "text", "date", "date",
    ]  # fmt: skip


def test_a_change_that_breaks_readers_needs_a_new_contract_version_which_stands_beside_the_old_one(past, monkeypatch):
    def publish_day(number: int) -> None:
        day = FIRST + timedelta(days=number)
        past.days[day] = (publish(past.home, make_build(past.home, day, customers=5)).version, {"c1": VALUES[number]})
        past.write()

    def follow() -> postgres.Followed:
        return postgres.follow(past.home, past.dsn, layout=past.layout)

    def changed_to(version: int) -> None:
        told = as_it_is("history")
        told["segment_history"] |= {"key": ["attribute", "customer_id", "valid_from"], "contract_version": version}
        monkeypatch.setattr(contracts, "across_days", {"history": told}.__getitem__)

    as_it_is = contracts.across_days
    publish_day(0)
    follow()
    publish_day(1)
    changed_to(1)
    with pytest.raises(UsageError, match="its key is attribute, customer_id, valid_from instead of customer_id"):
        follow()
    assert past.rows("select value from CURRENT.segment_history") == [("high",)]
    changed_to(2)
    follow()
    past.agrees()
    assert past.rows("select value from CURRENT.segment_history", READER) == [("mid",)]
    assert past.rows("select value from HISTORY.segment_history_v1", READER) == [("high",)]
    publish_day(2)
    assert not follow().dropped
    past.agrees()


# ---------------------------------------------------------------- with the day that readers see


def scorecard_of(home: Home, end: date, value: float) -> None:
    """A published scorecard of one figure and no uplift."""
    folder = home.published / "scorecards" / f"{end}-{abs(hash(value)):012x}"[:60]
    folder.mkdir(parents=True)
    with duckdb.connect() as connection:
        for table, told in contracts.across_days("scorecard").items():
            types = ", ".join(f"{name} {one['data_type']}" for name, one in told["columns"].items())
            connection.execute(f"create table {table} ({types})")
        connection.execute(
            "insert into segmentation_scorecard values (?, ?, 'customers', 'all', ?, null, null, ?, null)",
            [end, end.replace(day=1), value, value],
        )
        rows = {}
        for table in contracts.across_days("scorecard"):
            connection.execute(f"copy {table} to '{folder / table}.parquet'")
            rows[table] = connection.execute(f"select count(*) from {table}").fetchone()[0]
    files = [{"path": path.name, "sha256": sha256(path)} for path in folder.iterdir()]
    manifest = {"as_of": str(end), "rows": rows, "files": files}
    (folder / "manifest.json").write_text(json_text(manifest), encoding="utf-8")


def test_history_and_scorecard_are_shown_as_of_the_day_that_readers_see(past):
    days = [date(2024, 3, 30), date(2024, 3, 31), date(2024, 4, 1)]

    def publish_day(number: int, tiers: dict[str, str]) -> None:
        version = publish(past.home, make_build(past.home, days[number], customers=5)).version
        past.days[days[number]] = (version, tiers)

    def shown() -> dict[str, Any]:
        return {
            "days": past.rows("select distinct as_of_date from CURRENT.customer_segments"),
            "tiers": dict(past.rows("select customer_id, value from CURRENT.segment_history", READER)),
            "moves": past.rows("select customer_id, to_value from CURRENT.segment_transitions order by 1", READER),
            "matrix": past.rows("select sum(customers)::int from CURRENT.transition_matrix", READER),
            "scorecard": past.rows("select value from CURRENT.segmentation_scorecard", READER),
        }

    def follow() -> postgres.Followed:
        return postgres.follow(past.home, past.dsn, layout=past.layout)

    publish_day(0, {"c1": "low", "c2": "low"})
    publish_day(1, {"c1": "mid", "c2": "low"})
    past.write()
    scorecard_of(past.home, date(2024, 2, 29), 7.0)
    scorecard_of(past.home, days[1], 8.0)
    assert follow().across_days == ("history", "scorecard")
    at_first = shown()
    assert at_first == {
        "days": [(days[1],)], "tiers": {"c1": "mid", "c2": "low"}, "moves": [("c1", "mid")], "matrix": [(1,)],
        "scorecard": [(8.0,)],
    }  # fmt: skip
    assert past.rows("select as_of_date, value from HISTORY.segmentation_scorecard order by 1") == [
        (date(2024, 2, 29), 7.0),
        (days[1], 8.0),
    ]
    assert not follow().changed

    publish_day(2, {"c1": "high"})
    follow()  # the history does not tell of the day yet: better nothing than the day before
    assert shown() == {"days": [(days[2],)], "tiers": {}, "moves": [], "matrix": [(None,)], "scorecard": [(8.0,)]}
    past.write()
    assert follow().across_days == ("history",)
    assert shown()["tiers"] == {"c1": "high"}
    assert shown()["moves"] == [("c1", "high"), ("c2", None)]

    serving.rollback(past.home)
    follow()
    assert shown() == at_first
    serving.rollback(past.home)
    follow()
    assert shown()["tiers"] == {"c1": "low", "c2": "low"}
    assert shown()["scorecard"] == [(7.0,)]
    assert len(past.rows("select * from HISTORY.segment_history where valid_to is null")) == 1
