"""What staff say: typed, kept, landed, understood, weighed against the data; nothing lost, nothing decided twice."""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from difflib import SequenceMatcher
from itertools import combinations, permutations
from pathlib import Path
from typing import Any

import duckdb
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from gate_worlds import project_of
from small_shops import HEADER, ORDERS, SmallShop, small_shop
from strataflow.build import Build, build
from strataflow.cli import cli
from strataflow.errors import InputError, UsageError
from strataflow.home import Home
from strataflow.landing import has_landed, land
from strataflow.project import Project
from strataflow.run import Deployment, Steps
from strataflow.runlog import RunLog
from strataflow.screen import Screen
from strataflow.sources import Shop, load_sources
from strataflow.tags import Vocabulary, fold, inbox
from strataflow.tags.inbox import SOURCE, Statement, close, keep, refuse_unlanded
from strataflow.tags.relations import relations
from strataflow.tags.seeds import read
from strataflow.tags.statements import COLUMNS, Defaults, from_file
from strataflow.tags.vocabulary import split
from strataflow.validate import validate_built, validate_landed

PROJECT = Project.locate()
SHOP = Shop(name="corner", time_zone="Asia/Shanghai", currency="CNY")
DAY, NEXT = date(2024, 3, 14), date(2024, 3, 15)
NOON = datetime(2024, 3, 14, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    return Vocabulary.load(PROJECT)


def said(customer: str = "c1", tag: str = "night owl", **more: Any) -> Statement:
    return replace(Statement(customer, tag, "add", "li", NOON), **more)


# ---------------------------------------------------------------- words


@pytest.mark.parametrize(
    ("text", "tag_id", "value"),
    [
        ("hours_night", "hours_night", None),
        ("Ｎｉｇｈｔ　Ｏｗｌ", "hours_night", None),
        ("region: Berlin", "region", "Berlin"),
        ("区域＝ 柏林 ", "region", "柏林"),
        ("Area：Bad Homburg: centre", "region", "Bad Homburg: centre"),
        ("region", "region", None),
        ("region:", None, None),
        ("region: \u200b", None, None),
        ("night owl: very", None, None),
        ("nightowls", None, None),
        ("", None, None),
    ],
)
def test_a_text_means_a_tag_a_tag_with_its_value_or_nothing(text, tag_id, value, vocabulary):
    found = vocabulary.understand(text, DAY)
    assert (found and found.tag_id, found and found.value) == (tag_id, value)


def test_an_alias_with_a_sign_in_it_is_looked_up_whole(tmp_path):
    project = with_aliases(tmp_path, "region: unknown,never_ordered,,", "moved,region,2024-01-01,2024-06-30")
    vocabulary = Vocabulary.load(project)
    assert vocabulary.understand("Region:Unknown", DAY).tag_id == "never_ordered"
    assert vocabulary.understand("moved=Ulm", date(2024, 6, 30)).value == "Ulm"
    assert vocabulary.understand("moved=Ulm", date(2024, 7, 1)) is None


def with_aliases(folder: Path, *rows: str) -> Project:
    """The project with more aliases."""
    root = folder / "project"
    shutil.copytree(PROJECT.dbt, root / "dbt_project", ignore=shutil.ignore_patterns("target", "logs"))
    (root / "expectations").mkdir()
    aliases = root / "dbt_project" / "seeds" / "tag_aliases.csv"
    aliases.write_text(aliases.read_text(encoding="utf-8") + "".join(f"{row}\n" for row in rows), encoding="utf-8")
    return Project(root)


@settings(max_examples=30, deadline=None)
@given(st.text(alphabet="nightowl 首单客户复购_-", max_size=9), st.integers(1, 4))
def test_the_nearest_tags_are_those_of_a_search_without_short_cuts(text, count):
    rows = read(PROJECT)
    spellings = [(one, tag.tag_id) for tag in rows.tags for one in (tag.tag_id, tag.name_en, tag.name_zh)]
    spellings += [(alias.alias, alias.tag_id) for alias in rows.aliases]
    best: dict[str, float] = {}
    for spelling, tag_id in spellings:
        score = round(SequenceMatcher(None, fold(spelling), fold(text), autojunk=False).ratio(), 4)
        best[tag_id] = max(score, best.get(tag_id, 0))
    expected = sorted(((-score, tag_id) for tag_id, score in best.items()))[:count]
    found = Vocabulary(rows).nearest(text, count)
    assert [(-one.score, one.tag_id) for one in found] == expected


def test_relations_are_what_follows_from_the_dictionary_over_any_number_of_steps():
    rows = read(PROJECT)
    tags = {tag.tag_id: tag for tag in rows.tags if tag.period.holds(DAY)}
    found = {(one.tag_id, one.relation, one.other_tag_id) for one in relations(rows, DAY)}
    implies = {(one, other) for one, relation, other in found if relation == "implies"}
    direct = {(tag.tag_id, other) for tag in tags.values() for other in tag.implies}
    assert direct <= implies
    assert {(a, d) for a, b in direct for c, d in implies if b == c} <= implies
    assert implies <= direct | {(a, d) for a, b in direct for c, d in implies if b == c}
    excludes = {(one, other) for one, relation, other in found if relation == "excludes"}
    assert excludes == {pair for pair in permutations(tags, 2) if _clash(tags, implies, *pair)}
    assert ("first_time_buyer", "rfm_no_orders") in excludes


def _clash(tags, implies, one: str, other: str) -> bool:
    first, second = ({tag, *(b for a, b in implies if a == tag)} for tag in (one, other))
    return any(
        x != y
        and (
            (tags[x].is_exclusive and tags[x].tag_group == tags[y].tag_group)
            or y in tags[x].contradicts
            or x in tags[y].contradicts
        )
        for x in first
        for y in second
    )


@given(st.text(alphabet="ab 客户", max_size=9), st.sampled_from(":=：＝﹕"), st.text(alphabet="ab:= 柏林", max_size=9))
def test_a_text_is_split_at_its_first_sign(name, sign, value):
    assert split(name + sign + value) == (name.strip(), value.strip())


# ---------------------------------------------------------------- what is typed is kept until it lands


@pytest.fixture
def home(tmp_path) -> Home:
    return Home(tmp_path / "home")


def typed(home: Home) -> dict[str, list[str]]:
    """Tags by the file they wait in."""
    return {
        path.stem: [json.loads(line)["tag"] for line in path.read_text("utf-8").splitlines()]
        for path in sorted(home.manual_tags.glob("[0-9]*.jsonl"))
    }


def landed_on(home: Home, day: date) -> None:
    path = home.landing("till", day)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{}", encoding="utf-8")


def test_a_statement_is_received_on_its_day_or_on_the_first_that_has_not_landed(home):
    assert keep(home, [(said(), DAY)]).by_day == {DAY: 1}
    landed_on(home, DAY)
    assert keep(home, [(said(tag="late"), DAY), (said(tag="new"), NEXT)]).by_day == {NEXT: 2}
    close(home, NEXT)
    close(home, DAY)
    assert keep(home, [(said(tag="later"), DAY - timedelta(days=99))]).by_day == {NEXT + timedelta(days=1): 1}
    assert typed(home) == {"2024-03-14": ["night owl"], "2024-03-15": ["late", "new"], "2024-03-16": ["later"]}


def test_what_is_said_twice_is_kept_once_and_text_stays_as_typed(home):
    texts = ["region：柏林", 'a, "b"\n c', " 夜 猫子"]
    statements = [(said(tag=text), DAY) for text in texts]
    assert keep(home, statements) == inbox.Kept({DAY: 3}, 0)
    assert keep(home, [*statements, (said(), DAY)]) == inbox.Kept({DAY: 1}, 3)
    assert typed(home) == {"2024-03-14": [*texts, "night owl"]}


def test_many_who_type_at_once_lose_nothing(home):
    code = (
        "import sys; from test_manual_tags import *\n"
        "home = Home(Path(sys.argv[1]))\n"
        "for n in range(12): keep(home, [(said(sys.argv[2], f'tag {n}'), DAY)])\n"
    )
    paths = f"{PROJECT.root / 'scripts'}:{PROJECT.root / 'tests'}"
    writers = [
        subprocess.Popen([sys.executable, "-c", code, str(home.root), name], env=os.environ | {"PYTHONPATH": paths})
        for name in ("li", "wu", "zhao")
    ]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    assert Counter(typed(home)["2024-03-14"]) == {f"tag {n}": 3 for n in range(12)}


def test_a_process_that_dies_while_it_writes_leaves_no_half_line(home, monkeypatch):
    keep(home, [(said(), DAY)])
    with monkeypatch.context() as patch:
        patch.setattr(inbox.os, "replace", _dies)
        with pytest.raises(KeyboardInterrupt):
            keep(home, [(said(tag="lost with the process"), DAY)])
    assert typed(home) == {"2024-03-14": ["night owl"]}
    keep(home, [(said(tag="again"), DAY)])
    assert typed(home) == {"2024-03-14": ["night owl", "again"]}


def _dies(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_day_that_lands_without_what_was_typed_for_it_is_not_built(home):
    keep(home, [(said(), DAY)])
    refuse_unlanded(home, DAY - timedelta(days=1))
    with pytest.raises(InputError) as refused:
        refuse_unlanded(home, DAY)
    assert "--date 2024-03-14 --tables manual_tags" in str(refused.value)


def test_a_run_waits_with_the_build_until_what_was_typed_has_landed(tmp_path, monkeypatch):
    shop = small_shop(tmp_path, ORDERS)
    shop.deliver(f"orders_{DAY}.csv", HEADER + f"o1,c1,{DAY}T12:00:00,5\n")
    shop.land(str(DAY), tables=["orders"])
    assert keep(shop.home, [(said(), DAY)]).by_day == {NEXT: 1}
    shop.deliver(f"orders_{NEXT}.csv", HEADER + f"o2,c1,{NEXT}T12:00:00,5\n")
    shop.land(str(NEXT), tables=["orders"])
    with pytest.raises(InputError, match="typed to be received on 2024-03-15"):
        asked_to_build(shop, NEXT, monkeypatch)
    shop.land(str(NEXT), tables=["manual_tags"])
    assert asked_to_build(shop, NEXT, monkeypatch) == NEXT
    # What is to be received later, on a clock that runs ahead of the data, say, holds up no day before it.
    assert asked_to_build(shop, DAY, monkeypatch) == DAY


def asked_to_build(shop: SmallShop, day: date, monkeypatch) -> date:
    """The day that a run goes on to build, if it does."""

    def builds(_home: Home, _project: Project, _shop: Shop, day: date, *_: Any, **__: Any) -> Build:
        return Build(Path(), day, day, {"tables": {}, "published": {}, "build_id": "none", "engine": "none"})

    monkeypatch.setattr("strataflow.build.build", builds)
    log = RunLog.start(shop.home, "run", day, {})
    with log.closing():
        return Steps(Deployment(shop.home, PROJECT, shop.sources()), log).build(day).as_of


def test_what_was_typed_lands_with_the_day_and_stays_as_it_landed(tmp_path):
    shop = small_shop(tmp_path, ORDERS, time_zone="Asia/Shanghai")
    for day in (DAY, NEXT):
        shop.deliver(f"orders_{day}.csv", HEADER + f"o{day},c1,{day}T12:00:00,5\n")
    old = DAY - timedelta(days=3)
    keep(shop.home, [(said(tag="before the first delivery"), old), (said(action="remove"), DAY)])
    first = shop.land(str(DAY))
    assert {(str(one.day), one.source) for one in first.landings} == {
        ("2024-03-11", SOURCE), ("2024-03-12", SOURCE), ("2024-03-13", SOURCE), ("2024-03-14", SOURCE),
        ("2024-03-14", "orders"),
    }  # fmt: skip
    before = shop.bytes_in_lake()
    keep(shop.home, [(said(tag="too late", expires_at=date(2024, 3, 31)), DAY)])
    assert not shop.land(str(DAY)).changed
    assert shop.bytes_in_lake() == before
    assert has_landed(shop.home, PROJECT, shop.sources(), DAY, DAY)
    shop.land(str(NEXT))
    assert shop.landed(
        "manual_tags", "customer_id, tag, action, tagged_by, tagged_date, expires_at, received_date"
    ) == [
        ("c1", "before the first delivery", "add", "li", DAY, None, old),
        ("c1", "night owl", "remove", "li", DAY, None, DAY),
        ("c1", "too late", "add", "li", DAY, date(2024, 3, 31), NEXT),
    ]
    report = validate_landed(shop.home, PROJECT, shop.sources(), NEXT, tables=["manual_tags"])
    assert report.passed, str(report.failures)


def test_a_mistyped_day_closes_nothing(tmp_path):
    shop = small_shop(tmp_path, ORDERS)
    keep(shop.home, [(said(), DAY)])
    with pytest.raises(InputError, match="is missing"):
        shop.land("2124-03-14")
    assert keep(shop.home, [(said(tag="another"), DAY)]).by_day == {DAY: 1}


def test_a_source_of_the_shop_can_not_take_the_name(tmp_path):
    shop = small_shop(tmp_path, ORDERS.replace("name: orders", f"name: {SOURCE}"))
    keep(shop.home, [(said(), DAY)])
    with pytest.raises(UsageError, match=SOURCE):
        shop.land(str(DAY))


NOTES = """
    name: notes
    table: manual_tags
    description: Notes of the call centre.
    format: {type: csv}
    files: {root: delivered, path: "notes_{date}.csv"}
    columns:
      customer_id: who
      tag: said
      tagged_by: "'call centre'"
      tagged_at: at
      expires_at: until
      action: coalesce(what, 'add')
    limits: {max_quarantine_ratio: 1}
"""


def test_a_delivered_file_of_tags_lands_like_any_other_and_refuses_what_is_no_action(tmp_path):
    shop = small_shop(tmp_path, NOTES)
    rows = [
        "c1,Night  Owl,2024-03-14T10:00:00,,",
        "c1,夜猫子,2024-03-14,2024-04-01,REMOVE",
        "c2,x,2024-03-14,,ad",
        "c3,,2024-03-14,,",
    ]
    shop.deliver(f"notes_{DAY}.csv", "who,said,at,until,what\n" + "\n".join(rows) + "\n")
    shop.land(str(DAY))
    assert shop.landed("manual_tags", "tag, action, expires_at") == [
        ("Night  Owl", "add", None), ("夜猫子", "remove", date(2024, 4, 1)),
    ]  # fmt: skip
    assert [(line, reason) for line, reason, _ in shop.quarantined("source_line, reason, raw")] == [
        (4, "action: 'ad' is not one of add, remove"), (5, "tag has no value"),
    ]  # fmt: skip


# ---------------------------------------------------------------- files of statements


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.csv", "customer,tag\nc1,x\n", ["a.csv:1", "has customer", "lacks customer_id", "tagged_by"]),
        ("a.csv", "customer_id,tag,tag\nc1,x,y\n", ["a.csv:1", "tag twice"]),
        ("a.csv", "customer_id,tag\nc1,x\n\nc2, \n,y\n", ["2 of 3", "a.csv:4: tag is", "a.csv:5: customer_id is"]),
        ("a.csv", "customer_id,tag,action\nc1,x,ad\n", ["a.csv:2", "neither add nor remove"]),
        ("a.csv", "customer_id,tag,expires_at\nc1,x,31.12.2024\n", ["a.csv:2", "expires_at is '31.12.2024'"]),
        ("a.csv", 'customer_id,tag,tagged_at\n"c\n1",x,noon\n', ["a.csv:2", "tagged_at is 'noon'"]),
        ("a.csv", "customer_id,tag\nc1,x,y\n", ["a.csv:2", "3 cells and the header 2"]),
        ("a.csv", b"customer_id,tag\nc1,\xff\n", ["a.csv", "not UTF-8"]),
        ("a.jsonl", '{"customer_id": "c1", "tag": "x"}\n{"customer_id": "c1"\n', ["a.jsonl:2", "no JSON object"]),
        ("a.jsonl", '[1]\n', ["a.jsonl:1", "no JSON object"]),
        ("a.jsonl", '{"customer_id": "c1", "tag": ["x"]}\n', ["a.jsonl:1", "tag is no text"]),
        ("a.jsonl", '{"customer_id": "c1", "tag": "\\u0000"}\n', ["a.jsonl:1", "no text"]),
        ("none.csv", None, ["none.csv", "can't be read"]),
    ],
)  # fmt: skip
def test_a_file_that_can_not_be_read_is_named_by_row_and_rule_and_nothing_of_it_is_kept(name, content, told, tmp_path):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError) as refused:
        from_file(path, Defaults("li", NOON, SHOP))
    assert [part for part in told if part not in str(refused.value)] == []


def test_a_file_is_read_with_defaults_for_what_it_does_not_say(tmp_path):
    path = tmp_path / "calls.csv"
    path.write_text(
        '\ufeffTag,customer_id,tagged_at,reason\n"a, b",7,2024-03-15T01:00,because\nx,8,,\n', encoding="utf-8"
    )
    first, second = from_file(path, Defaults("li", NOON, SHOP))
    assert (first.customer_id, first.tag, first.reason, first.action) == ("7", "a, b", "because", "add")
    assert first.tagged_at.astimezone(UTC) == datetime(2024, 3, 14, 17, tzinfo=UTC)
    assert Defaults("li", NOON, SHOP).business_date(first.tagged_at) == NEXT
    assert (second.tagged_by, second.tagged_at, second.reason) == ("li", NOON, None)


# ---------------------------------------------------------------- Complete Journey with 500 statements

FIRST, EVE, LAST = date(2017, 1, 20), date(2017, 1, 21), date(2017, 1, 22)
JOURNEY_TABLES = ["order_lines", "customers", "manual_tags"]
# Written down here once more, so that nothing is decided by what is tested.
MEANT: dict[str, tuple[str | None, str | None]] = {
    "Night shopper": ("hours_night", None), "夜 猫子": ("hours_night", None),
    "ＥＡＲＬＹ bird": ("hours_morning", None), "早间活跃": ("hours_morning", None),
    "hours_mixed": ("hours_mixed", None), "coupon hunter": ("coupon_lover", None),
    "偶用优惠": ("coupon_user", None), "never bought": ("never_ordered", None), "已下单": ("has_ordered", None),
    "客户首单": ("first_time_buyer", None), "区域：Berlin": ("region", "Berlin"),
    "area = Hamburg": ("region", "Hamburg"), "region": ("region", None),
    "grumpy": (None, None), "Gr umpy": (None, None), "客户首次": (None, None), "vip!": (None, None),
}  # fmt: skip
GROUPS = (
    {f"hours_{band}" for band in ("morning", "midday", "afternoon", "evening", "night", "mixed")},
    {"coupon_lover", "coupon_user", "coupon_indifferent"},
)


def planted(customers: list[str], number: int, seed: int, days: tuple[date, date]) -> list[dict[str, str]]:
    """Statements as cells of a file: clean, alias, unknown, expired, contradictory, taken back, of strangers."""
    rng = random.Random(seed)  # noqa: S311 (the same every time, no secrets)
    rows = []
    for n in range(number):
        day = days[0] + timedelta(days=rng.randrange((days[1] - days[0]).days + 1))
        rows.append(
            {
                "customer_id": "stranger" if rng.random() < 0.02 else rng.choice(customers),
                "tag": rng.choice(list(MEANT)),
                "tagged_by": rng.choice(["li", "wu"]),
                "tagged_at": f"{day}T{rng.randrange(24):02}:{n % 60:02}",
                "expires_at": str(day + timedelta(days=rng.randrange(20))) if rng.random() < 0.3 else "",
                "action": "remove" if rng.random() < 0.15 else "add",
                "reason": f"note {seed}-{n}",
            }
        )
    return rows


def outcomes_of(rows: list[dict[str, str]], as_of: date, orders: dict[str, int], known: set[str]) -> dict[str, str]:
    """What becomes of each statement, by its reason: the rules of docs/tags.md once more, one customer at a time."""
    found: dict[str, str] = {}
    by_customer: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        if row["tagged_at"][:10] > str(as_of):
            found[row["reason"]] = "not_yet"
        elif MEANT[row["tag"]][0] is None:
            found[row["reason"]] = "queued"
        else:
            by_customer.setdefault(row["customer_id"], []).append(row)
    for customer, statements in by_customer.items():
        last = {MEANT[row["tag"]][0]: row for row in statements}
        standing = []
        for row in statements:
            tag = MEANT[row["tag"]][0]
            told = _told_of_itself(row, last[tag], as_of) or _held_against(row, orders.get(customer, 0))
            if customer not in known and told not in ("removed", "replaced", "expired"):
                told = "unknown_customer"
            found[row["reason"]] = told or "in_force"
            standing += [] if told else [(tag, row)]
        for (tag, row), (other, _) in combinations(standing, 2):
            if any({tag, other} <= group for group in GROUPS):
                found[row["reason"]] = "outranked"
    return found


def _told_of_itself(row: dict[str, str], last: dict[str, str], as_of: date) -> str | None:
    if last["action"] == "remove":
        return "removed"
    if row is not last:
        return "replaced"
    return "expired" if row["expires_at"] and row["expires_at"] < str(as_of) else None


def _held_against(row: dict[str, str], orders: int) -> str | None:
    """What the orders say to a tag; hours and coupons bring along that the customer has ordered."""
    tag, value = MEANT[row["tag"]]
    if tag == "region":
        return None if value else "value_missing"
    if tag == "never_ordered":
        return "against_data" if orders else None
    if tag == "first_time_buyer":
        return None if orders == 1 else "against_data"
    return None if orders else "against_data"


@dataclass(frozen=True)
class Journey:
    """Days of Complete Journey, built in order, then the first of them once more."""

    home: Home
    rows: list[dict[str, str]]
    late: list[dict[str, str]]
    eve: Build
    last: Build
    eve_before: dict[str, list[tuple]]
    eve_after: dict[str, list[tuple]]


TABLES = {
    "customer_tags": "customer_id, tag_id",
    "manual_tag_outcomes": "received_date, source_name, source_line",
    "tag_review_queue": "word",
    "tag_conflicts": "customer_id, tag_id, source",
}


def contents(made: Build) -> dict[str, list[tuple]]:
    with duckdb.connect(str(made.path), read_only=True) as connection:
        return {table: connection.execute(f"from {table} order by {key}").fetchall() for table, key in TABLES.items()}


def put(home: Home, folder: Path, shop: Shop, rows: list[dict[str, str]]) -> None:
    """Import rows from a file, in the order of time as a day's notes are."""
    path = folder / "notes.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    defaults = Defaults("nobody", NOON, shop)
    keep(home, [(one, defaults.business_date(one.tagged_at)) for one in from_file(path, defaults)])


@pytest.fixture(scope="module")
def journey(tmp_path_factory) -> Journey:
    folder = tmp_path_factory.mktemp("journey")
    home, sources = Home(folder / "home"), load_sources(PROJECT.sources / "complete_journey", PROJECT)
    households = [str(n) for n in range(1, 400)]
    rows = planted(households, 460, 1, (date(2017, 1, 2), LAST))
    late = planted(households, 40, 2, (date(2017, 1, 10), EVE))
    put(home, folder, sources.shop, rows)
    land(home, PROJECT, sources, FIRST, EVE, tables=JOURNEY_TABLES)
    eve = build(home, PROJECT, sources.shop, EVE)
    before = contents(eve)
    put(home, folder, sources.shop, late)
    assert not land(home, PROJECT, sources, FIRST, EVE, tables=JOURNEY_TABLES).changed
    land(home, PROJECT, sources, LAST, LAST, tables=JOURNEY_TABLES)
    last = build(home, PROJECT, sources.shop, LAST)
    again = build(home, PROJECT, sources.shop, EVE)
    return Journey(home, rows, late, again, last, before, contents(again))


def facts(made: Build) -> tuple[dict[str, int], set[str]]:
    """Orders of each household up to the day, from the lake, and the customers known."""
    lines = made.path.parents[2] / "lake" / "order_lines"
    orders = duckdb.sql(
        f"""
        select customer_id, count(*) from (
            select customer_id, order_id from read_parquet('{lines}/*/*.parquet')
            where order_date <= '{made.as_of}' group by all having sum(amount - refunded_amount) > 0
        ) group by all"""
    ).fetchall()
    with duckdb.connect(str(made.path), read_only=True) as connection:
        known = connection.execute("select customer_id from customer_segments").fetchall()
    return dict(orders), {customer for (customer,) in known}


def given_order(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    return sorted(rows, key=lambda row: row["tagged_at"])


@pytest.mark.parametrize("day", ["eve", "last"])
def test_500_statements_on_complete_journey_come_out_as_written_down(day, journey):
    made: Build = getattr(journey, day)
    rows = given_order([*journey.rows, *(journey.late if day == "last" else [])])
    rows = [row for row in rows if day == "last" or row["tagged_at"][:10] <= str(EVE)]
    expected = outcomes_of(rows, made.as_of, *facts(made))
    with duckdb.connect(str(made.path), read_only=True) as connection:
        found = dict(connection.execute("select reason, outcome from manual_tag_outcomes").fetchall())
        in_force = connection.execute(
            "select customer_id, tag_id, tag_value, tagged_by, since_date::varchar, expires_at::varchar, reason "
            "from customer_tags where source = 'manual'"
        ).fetchall()
        queue = dict(connection.execute("select word, times from tag_review_queue").fetchall())
    assert found == expected
    assert len(found) == len(rows)
    least = {"in_force", "queued", "expired", "removed", "replaced", "outranked", "against_data", "unknown_customer"}
    assert least | {"value_missing"} <= set(found.values())
    assert Counter(in_force) == Counter(
        (
            row["customer_id"],
            *MEANT[row["tag"]],
            row["tagged_by"],
            row["tagged_at"][:10],
            row["expires_at"] or None,
            row["reason"],
        )
        for row in rows
        if expected[row["reason"]] == "in_force"
    )
    words = Counter(row["tag"].replace(" ", "").lower() for row in rows if expected[row["reason"]] == "queued")
    assert queue == words


@pytest.mark.parametrize("day", ["eve", "last"])
def test_automatic_tags_give_way_to_those_in_force_and_stay_visible(day, journey):
    made: Build = getattr(journey, day)
    with duckdb.connect(str(made.path), read_only=True) as connection:
        automatic = connection.execute("select customer_id, tag_id from int_customer_tags_automatic").fetchall()
        tags = connection.execute("select customer_id, tag_id, source from customer_tags").fetchall()
        lost = connection.execute("select customer_id, tag_id from tag_conflicts where source = 'automatic'").fetchall()
    manual = {(customer, tag) for customer, tag, source in tags if source != "automatic"}
    beaten = {
        (customer, tag)
        for customer, tag in automatic
        for group in GROUPS
        if tag in group and any((customer, other) in manual for other in group - {tag})
    }
    assert set(lost) == beaten
    assert len(lost) > 0
    assert {(customer, tag) for customer, tag, _ in tags} == (set(automatic) - beaten) | manual
    assert len(tags) == len({(customer, tag) for customer, tag, _ in tags})


def test_a_day_built_again_sees_nothing_that_was_said_later(journey):
    assert journey.eve_after == journey.eve_before


def test_gate_2_is_content_with_what_staff_said(journey, tmp_path):
    suites = ("manual_tags", "tag_consistency", "customer_tags")
    report = validate_built(journey.home, project_of(tmp_path / "project", "built_tables", *suites), journey.last)
    assert [str(one) for one in (*report.failures, *report.warnings)] == []


def test_an_alias_resolves_the_rows_of_the_past(journey, tmp_path):
    project = with_aliases(tmp_path, "客户首次,first_time_buyer,,", "grumpy,hours_night,2017-01-10,")
    shop = load_sources(PROJECT.sources / "complete_journey", PROJECT).shop
    home = Home(tmp_path / "home")
    shutil.copytree(journey.home.lake, home.lake)
    made = build(home, project, shop, EVE)
    with duckdb.connect(str(made.path), read_only=True) as connection:
        queue = connection.execute("select word, last_date from tag_review_queue order by word").fetchall()
        meant = connection.execute(
            "select distinct tag_text, tag_id, tagged_date >= date '2017-01-10' from manual_tag_outcomes "
            "where tag_text in ('客户首次', 'grumpy', 'Gr umpy')"
        ).fetchall()
    assert [word for word, _ in queue] == ["grumpy", "vip!"]
    assert queue[0][1] < date(2017, 1, 10)
    assert set(meant) == {
        ("客户首次", "first_time_buyer", True), ("客户首次", "first_time_buyer", False),
        ("grumpy", "hours_night", True), ("grumpy", None, False),
        ("Gr umpy", "hours_night", True), ("Gr umpy", None, False),
    }  # fmt: skip


# ---------------------------------------------------------------- the command line


def call(folder: Path, *arguments: str) -> dict[str, Any]:
    """A command's JSON document."""
    where = ["--home", str(folder / "home"), "--sources", str(folder / "sources"), "--json"]
    done = CliRunner().invoke(cli, ["tags", *arguments, *where], obj={"screen": Screen(json=True)})
    if done.exception:
        raise done.exception
    return json.loads(done.stdout)


def test_tags_are_added_removed_imported_and_listed(tmp_path):
    small_shop(tmp_path, ORDERS, time_zone="Asia/Shanghai")
    at = ["--at", "2024-03-14T23:30", "--by", "li"]
    added = call(tmp_path, "add", "c1", "ｎｉｇｈｔ owl", *at, "--reason", "asked", "--expires", "2024-04-01")
    assert (added["received_date"], added["tag_id"], added["understood"]) == ("2024-03-14", "hours_night", True)
    unknown = call(tmp_path, "add", "c2", "客户首次", *at)
    assert (unknown["understood"], len(unknown["nearest"]), unknown["nearest"][0]["tag_id"]) == (
        False,
        3,
        "first_time_buyer",
    )
    call(tmp_path, "remove", "c1", "夜猫子", "--at", "2024-03-15", "--by", "wu")
    (tmp_path / "more.jsonl").write_text(
        '{"customer_id": "c3", "tag": "region: Ulm"}\n{"customer_id": "c3", "tag": "hm"}\n'
    )
    imported = call(tmp_path, "import", str(tmp_path / "more.jsonl"), *at)
    assert (imported["imported"], list(imported["not_understood"])) == (2, ["hm"])
    assert call(tmp_path, "import", str(tmp_path / "more.jsonl"), *at)["repeated"] == 2
    listed = call(tmp_path, "list", "--tag", "Night Owl")
    assert listed["as_of"] is None
    told = [(row["customer_id"], row["action"], row["tagged_by"], row["state"]) for row in listed["statements"]]
    assert told == [("c1", "add", "li", "waiting"), ("c1", "remove", "wu", "waiting")]
    (only,) = call(tmp_path, "list", "--customer", "c2")["statements"]
    assert (only["tag"], only["tag_id"], only["received_date"]) == ("客户首次", None, "2024-03-14")


def test_the_list_tells_what_became_of_statements_as_published_then_what_waits(tmp_path):
    small_shop(tmp_path, ORDERS)
    home = Home(tmp_path / "home")
    outcomes_published(home)
    call(tmp_path, "add", "c1", "region: Ulm", "--at", "2024-03-15", "--by", "li")
    listed = call(tmp_path, "list", "--customer", "c1")
    assert listed["as_of"] == "2024-03-14"
    told = [(row["tag"], row["tag_id"], row["state"], row["expires_at"]) for row in listed["statements"]]
    assert told == [
        ("night owl", "hours_night", "in_force", "2024-04-01"), ("hm", None, "queued", None),
        ("region: Ulm", "region", "waiting", None),
    ]  # fmt: skip
    with_past = call(tmp_path, "list", "--customer", "c1", "--tag", "夜猫子", "--all")["statements"]
    assert [(row["action"], row["state"]) for row in with_past] == [("add", "replaced"), ("add", "in_force")]
    words = CliRunner().invoke(
        cli,
        ["tags", "list", "--tag", "hm", "--home", str(home.root), "--sources", str(tmp_path / "sources")],
        obj={"screen": Screen()},
    )
    assert words.output.splitlines() == [
        "As of 2024-03-14:", "c1  queued  not understood, add 'hm' by wu at 2024-03-13 12:00 UTC",
    ]  # fmt: skip


def test_an_unknown_customer_and_a_tag_that_is_over_are_kept_and_told(tmp_path):
    small_shop(tmp_path, ORDERS)
    at = ["--at", "2024-03-15", "--by", "li"]
    before = call(tmp_path, "add", "c9", "night owl", *at)
    assert (before["as_of"], before["unknown_customers"], before["over_already"]) == (None, [], 0)
    outcomes_published(Home(tmp_path / "home"))
    added = call(tmp_path, "add", "c9", "night owl", *at, "--expires", "2024-03-14")
    assert (added["as_of"], added["unknown_customers"], added["over_already"]) == ("2024-03-14", ["c9"], 1)
    added = call(tmp_path, "add", "c1", "night owl", *at, "--expires", "2024-03-15")
    assert (added["unknown_customers"], added["over_already"]) == ([], 0)
    rows = ["c1,2024-03-14,add", "c8,2024-03-14,remove", *(f"c{n},2024-03-14,add" for n in (8, 7, 6, 5, 4, 3, 7))]
    file = tmp_path / "calls.csv"
    file.write_text("customer_id,expires_at,action,tag\n" + "".join(f"{row},night owl\n" for row in rows))
    told = call(tmp_path, "import", str(file), *at)
    assert (told["unknown_customers"], told["over_already"]) == (["c8", "c7", "c6", "c5", "c4", "c3"], 8)
    where = ["--home", str(tmp_path / "home"), "--sources", str(tmp_path / "sources")]
    words = CliRunner().invoke(cli, ["tags", "import", str(file), *at, *where], obj={"screen": Screen()}).output
    assert "No customer on 2024-03-14 is called c8, c7, c6, c5, c4 and 1 more: " in words
    assert "8 of them ended before the day on which" in words


def outcomes_published(home: Home) -> None:
    """A published day as far as the list looks at it."""
    version = home.published / "versions" / "2024-03-14-aaaaaaaaaaaa"
    file = version / "manual_tag_outcomes" / "as_of_date=2024-03-14" / "manual_tag_outcomes.parquet"
    file.parent.mkdir(parents=True)
    duckdb.sql(
        f"""copy (
            select *, null::varchar as tag_value, null::varchar as reason, null::varchar as against_tag_id,
                'add' as action, date '2024-03-13' as received_date, 'notes' as source_name, 'a.csv' as source_file
            from (values
                ('c1', 'night owl', 'li', timestamp '2024-03-12 12:00', null, 'hours_night', 'replaced', 1),
                ('c1', 'night owl', 'li', timestamp '2024-03-13 11:00', date '2024-04-01', 'hours_night',
                    'in_force', 2),
                ('c1', 'hm', 'wu', timestamp '2024-03-13 12:00', null, null, 'queued', 3),
                ('c2', 'night owl', 'wu', timestamp '2024-03-13 12:00', null, 'hours_night', 'in_force', 4)
            ) as said (customer_id, tag_text, tagged_by, tagged_at, expires_at, tag_id, outcome, source_line)
        ) to '{file}' (format parquet)"""
    )
    segments = version / "customer_segments.parquet"
    duckdb.sql(f"copy (select * from (values ('c1'), ('c2')) as known (customer_id)) to '{segments}' (format parquet)")
    tables = {
        path.name.removesuffix(".parquet"): {"files": [{"path": str(path.relative_to(version))}]}
        for path in (file, segments)
    }
    manifest = {"as_of": "2024-03-14", "known_at": "2024-03-14", "tables": tables}
    (version / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    (home.published / "current").symlink_to(f"versions/{version.name}")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["add", "c1", " "], "tag is empty"),
        (["add", "", "x"], "customer_id is empty"),
        (["add", "c1", "x", "--expires", "tomorrow"], "expires_at is 'tomorrow'"),
        (["remove", "c1", "x", "--at", "noon"], "noon"),
    ],
)
def test_a_statement_that_says_nothing_is_refused(arguments, told, tmp_path):
    small_shop(tmp_path, ORDERS)
    with pytest.raises(UsageError, match=told):
        call(tmp_path, *arguments)
    assert not (tmp_path / "home").exists()
