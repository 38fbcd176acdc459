"""The preview of an edit: exact against two full builds, complete, and without a trace in the home."""

from __future__ import annotations

import json
import shutil
from collections import Counter, defaultdict
from datetime import datetime, timedelta
from decimal import Decimal
from html.parser import HTMLParser
from io import StringIO

import duckdb
import pytest
from rich.console import Console

from chromium import browser
from publishing import pass_gate, published_bytes
from strataflow.build import build
from strataflow.cli import main
from strataflow.errors import Busy, StepFailed, UsageError
from strataflow.home import Home
from strataflow.preview import preview, published, write_page
from strataflow.preview.aside import aside
from strataflow.preview.moves import ATTRIBUTES
from strataflow.preview.page import page
from strataflow.preview.told import render
from strataflow.project import Project
from strataflow.publish import publish
from strataflow.sources import Shop
from worlds import START, random_world, write_lake

SHOP = Shop(name="corner <shop>", time_zone="UTC", currency="USD")
DAY = START + timedelta(days=35)


@pytest.fixture(scope="module")
def standing(tmp_path_factory):
    """A home with a published day: buyers with 1 to 9 orders beside a random shop."""
    world = random_world(11)
    for buyer in range(1, 10):
        for number in range(buyer):
            day = START + timedelta(days=3 * number)
            world.orders.append(
                {
                    "order_id": f"b{buyer}-{number}", "customer_id": f"buyer{buyer}", "order_date": day,
                    "ordered_at": datetime.combine(day, datetime.min.time()), "status": "completed",
                    "amount": Decimal(10 + buyer) + Decimal(number) / 100, "refunded_amount": Decimal(0),
                    "received_date": day,
                }
            )  # fmt: skip
    home = Home(tmp_path_factory.mktemp("standing") / "home")
    write_lake(home, Project.locate(), world)
    made = build(home, Project.locate(), SHOP, DAY)
    pass_gate(home, DAY, made.meta["build_id"])
    publish(home, made)
    return home


@pytest.fixture
def edited(tmp_path):
    """A copy of the rules to edit: ``edited("seeds/x.csv", "old", "new")``."""
    root = tmp_path / "project"
    shutil.copytree(Project.locate().dbt, root / "dbt_project", ignore=shutil.ignore_patterns("target", "logs"))
    shutil.copytree(Project.locate().expectations, root / "expectations")

    def edit(path, old, new):
        file = root / "dbt_project" / path
        assert old in file.read_text(encoding="utf-8")
        file.write_text(file.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
        return Project(root)

    edit.project = Project(root)
    return edit


def kept(home):
    return {path: (path.stat().st_ino, path.read_bytes()) for path in sorted(home.state.rglob("*")) if path.is_file()}


def tables(path):
    """``customer_segments`` by customer and ``customer_tags`` as (customer, tag)."""
    with duckdb.connect(str(path), read_only=True) as connection:
        segments = connection.execute(f"select customer_id, monetary, {', '.join(ATTRIBUTES)} from customer_segments")
        by_customer = {row[0]: row[1:] for row in segments.fetchall()}
        tags = set(connection.execute("select customer_id, tag_id from customer_tags").fetchall())
    return by_customer, tags


def test_super_from_six_orders_instead_of_five_is_exact_against_two_full_builds(standing, edited, tmp_path):
    project = edited("dbt_project.yml", "super_min_orders: 5", "super_min_orders: 6")

    told = preview(standing, project, published(standing, None))

    other = Home(tmp_path / "other")
    shutil.copytree(standing.lake, other.lake)
    before, tags_before = tables(published(standing, None).path / "current.duckdb")
    after, tags_after = tables(build(other, project, SHOP, DAY).path)
    moves, revenue = defaultdict(Counter), Counter()
    for customer, (monetary, *values) in before.items():
        for attribute, old, new in zip(ATTRIBUTES, values, after[customer][1:], strict=True):
            if old != new:
                moves[attribute][old, new] += 1
                revenue[attribute, old, new] += monetary
    assert moves["ecommerce_stage"]["super", "repeat"] >= 1
    for attribute in ATTRIBUTES:
        found = {
            (move["from"], move["to"]): (move["customers"], Decimal(move["revenue"]))
            for move in told["moves"][attribute]
        }
        assert found == {pair: (count, revenue[attribute, *pair]) for pair, count in moves[attribute].items()}
    movers = {customer: row for customer, row in before.items() if row != after[customer]}
    assert told["would_move"] == len(movers)
    expected = sorted(movers, key=lambda customer: (-movers[customer][0], customer))[:20]
    assert [mover["customer_id"] for mover in told["largest_movers"]] == expected
    gained, lost = (Counter(tag for _, tag in some) for some in (tags_after - tags_before, tags_before - tags_after))
    assert {tag["tag_id"]: (tag["gained"], tag["lost"]) for tag in told["tags"]} == {
        tag: (gained[tag], lost[tag]) for tag in {*gained, *lost}
    }
    assert told["rules"]["vars"] == [{"name": "super_min_orders", "change": "edited", "before": "5", "after": "6"}]
    assert told["rules"]["files"] == [{"name": "dbt_project.yml", "change": "edited"}]
    assert not told["data_changed"]
    assert not told["is_same"]


def test_without_an_edit_nothing_would_move_and_the_home_stays_as_it_is(standing, edited):
    before, bytes_before = kept(standing), published_bytes(standing)

    told = preview(standing, edited.project, published(standing, str(DAY)))

    assert told["is_same"]
    assert told["would_move"] == 0
    assert told["rules"]["files"] == told["rules"]["vars"] == told["tags"] == told["cutoffs"] == []
    assert all(not table["columns"] for table in told["tables"])
    assert "Nothing would move" in page(told)
    assert kept(standing) == before
    assert published_bytes(standing) == bytes_before
    assert not [path for path in standing.scratch.iterdir() if path.is_dir()]


def test_an_edit_of_ledger_rules_is_previewed_without_touching_the_kept_ledgers(standing, edited):
    before = kept(standing)
    project = edited("seeds/order_statuses.csv", "pending,false", "pending,true")

    told = preview(standing, project, published(standing, None))

    assert told["would_move"] > 0
    assert Decimal(told["revenue"]["after"]) > Decimal(told["revenue"]["before"])
    assert [entry["name"] for entry in told["rules"]["files"]] == ["seeds/order_statuses.csv"]
    assert kept(standing) == before


def test_an_edit_of_the_playbook_moves_nobody_and_shows_in_the_list(standing, edited):
    project = edited("seeds/playbook.csv", "Give a discount for the second order", "Send a postcard")

    told = preview(standing, project, published(standing, None))

    assert told["would_move"] == 0
    assert not told["is_same"]
    changed = {table["table"]: set(table["columns"]) for table in told["tables"] if table["changed"]}
    assert changed == {"churn_risk": {"suggested_action"}, "contact_list": {"action_en"}}
    assert "No customer would move" in page(told)


def test_customers_who_come_and_go_are_moves_too(standing, edited):
    project = edited(
        "models/customers/int_customers_known.sql", "where seen_date is not null", "where customer_id <> 'buyer9'"
    )

    told = preview(standing, project, published(standing, None))

    assert {"customer_id": "buyer9"}.items() <= told["largest_movers"][0].items()
    for attribute in ATTRIBUTES:
        assert sum(move["customers"] for move in told["moves"][attribute] if move["to"] is None) == 1
    assert told["customers"]["after"] == told["customers"]["before"] - 1
    assert "not a customer" in page(told)


def test_data_landed_again_is_not_taken_for_an_edit(standing, edited, tmp_path):
    home = Home(tmp_path / "home")
    shutil.copytree(standing.root, home.root, symlinks=True)
    landing = min(home.landings.glob("orders/*.json"))
    content = json.loads(landing.read_text())
    landing.write_text(json.dumps(content | {"partition_sha256": "0" * 64}))

    told = preview(home, edited.project, published(home, None))

    assert told["data_changed"]
    assert "some moves may come from data" in page(told)


def test_rules_that_do_not_build_are_named_and_nothing_is_lost(standing, edited):
    before = kept(standing)
    project = edited("dbt_project.yml", "rfm_method: quantile", "rfm_method: quintile")

    with pytest.raises(StepFailed, match="rfm_method is 'quintile'"):
        preview(standing, project, published(standing, None))

    assert kept(standing) == before


def test_one_preview_at_a_time(standing):
    with aside(standing), pytest.raises(Busy, match="another preview"), aside(standing):
        pass


def test_what_is_not_published_is_said_with_what_is(standing, tmp_path):
    with pytest.raises(UsageError, match="nothing is published yet"):
        published(Home(tmp_path), None)
    with pytest.raises(UsageError, match=f"2031-01-01 is not published(.|\n)*{DAY}"):
        published(standing, "2031-01-01")
    with pytest.raises(UsageError, match="no-such-version is not published"):
        published(standing, "no-such-version")
    name = published(standing, None).path.name
    assert published(standing, name) == published(standing, str(DAY))


def test_the_terminal_tells_cutoffs_columns_and_tables_that_one_side_lacks():
    sides = {"before": {"cutoffs": ["1", "4"], "mean_score": "2.10"}, "after": {"cutoffs": ["2"], "mean_score": "1.50"}}
    counts = {"added": 0, "removed": 0, "changed": 3, "columns": {"frequency_score": 3}}
    changed = {"table": "customer_segments", **counts, "columns_added": ["age"], "columns_removed": ["frequency"]}
    told = {
        "against": {"version": "2024-03-01-aaaaaaaaaaaa", "as_of": "2024-03-01"}, "currency": "EUR", "names": {},
        "customers": {"before": 25, "after": 25}, "would_move": 20, "would_move_revenue": "210.00", "is_same": False,
        "data_changed": False, "rules": {"same": {"code": True}, "files": [], "vars": []}, "tags": [],
        "cutoffs": [{"measure": "frequency", **sides}], "moves": {},
        "largest_movers": [
            {"customer_id": f"mover{n}", "monetary": f"{n}.00",
             "changes": [{"attribute": "value_tier", "from": "low", "to": None}]} for n in range(20, 0, -1)
        ],
        "tables": [changed], "tables_of_one_side": ["behaviour_cluster"],
    }  # fmt: skip
    console = Console(width=120, record=True, file=StringIO())
    render(told, console)
    said = console.export_text()
    assert "cut-offs of frequency (mean score): 1, 4 (∅ 2.10) → 2 (∅ 1.50)" in said
    assert "customer_segments: 3 changed (frequency_score 3), with age, without frequency" in said
    assert "behaviour_cluster: a table on one side only" in said
    assert all(f"mover{n} " in said for n in range(1, 21))
    assert "low → not a customer" in said


@pytest.mark.browser
def test_on_a_phone_words_are_not_squeezed_until_they_stand_upright(tmp_path):
    told = {
        "against": {"version": "2024-03-01-aaaaaaaaaaaa", "as_of": "2024-03-01"}, "shop": "corner", "currency": "EUR",
        "customers": {"before": 25, "after": 25}, "would_move": 0, "would_move_revenue": "0.00", "is_same": False,
        "data_changed": False, "rules": {"same": {"code": True}, "files": [], "vars": []}, "cutoffs": [], "moves": {},
        "largest_movers": [], "tables": [], "tables_of_one_side": [],
        "names": {"tag_id": {"coupon_indifferent_for_years": ["Coupon indifferent", "优惠不敏感"]}},
        "tags": [{"tag_id": "coupon_indifferent_for_years", "gained": 12345, "lost": 12345, "changed": 12345}],
    }  # fmt: skip
    target = write_page(told, tmp_path / "preview.html")
    with browser(tmp_path / "profile") as opened, opened.page(target, width=390, phone=True) as seen:
        seen.run("document.getElementById('zh').click()")
        assert seen.run("document.querySelector('tbody td').getBoundingClientRect().height") < 70
        assert seen.run("document.documentElement.scrollWidth") == 390
        assert seen.complaints == []


class Outline(HTMLParser):
    def __init__(self):
        super().__init__()
        self.seen, self.links, self.languages = [], [], Counter()

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        self.links += [value for name, value in attrs if name in {"src", "href"}]
        if tag == "span":
            self.languages[dict(attrs).get("lang")] += 1


def test_the_command_writes_json_and_a_page_that_needs_nothing_else(standing, edited, tmp_path, monkeypatch, capfd):
    project = edited("dbt_project.yml", "super_min_orders: 5", "super_min_orders: 6")
    monkeypatch.setenv("STRATAFLOW_PROJECT", str(project.root))
    target = tmp_path / "pages" / "preview.html"
    write_page(preview(standing, Project.locate(), published(standing, None)), target)

    with pytest.raises(SystemExit) as left:
        main(["diff", "--home", str(standing.root), "--html", str(target), "--json"])

    assert left.value.code == 0
    told = json.loads(capfd.readouterr().out)
    assert told["ok"]
    assert told["would_move"] > 0
    text = target.read_text(encoding="utf-8")
    assert text == page(told)
    assert list(target.parent.iterdir()) == [target]
    outline = Outline()
    outline.feed(text)
    assert outline.links == []
    assert "script" not in outline.seen
    assert outline.languages["en"] == outline.languages["zh-Hans"] > 20
    assert "corner &lt;shop&gt;" in text
    assert "<shop>" not in text
    assert "Super" in text
    assert "超级" in text
