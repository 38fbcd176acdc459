"""The report page: its numbers against the tables, its safety against hostile values, its looks in a browser."""

from __future__ import annotations

import ast
import json
import os
import re
import string
import struct
import subprocess
import sys
from collections import defaultdict
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reporting import (
    AS_OF,
    FIRST,
    FORECAST_DAY,
    HOSTILE,
    MONTH_AGO,
    PROJECT,
    YESTERDAY,
    Kitchen,
    Shop,
    busy_shop,
    read_page,
    report_of,
)
from strataflow import report
from strataflow.build import Build
from strataflow.errors import InputError, StepFailed
from strataflow.home import Home
from strataflow.publish import version_of
from strataflow.report import facts, history, landings, words, write_report
from strataflow.report.page import safe_json

HORIZON = 90


@pytest.fixture(scope="module")
def kitchen(tmp_path_factory):
    return Kitchen.opened(tmp_path_factory.mktemp("dbt"))


@pytest.fixture(scope="module")
def busy(kitchen, tmp_path_factory):
    """A shop with a history: home, build and page."""
    root = tmp_path_factory.mktemp("busy")
    home, build, _ = report_of(kitchen, root, busy_shop(), earlier=(FORECAST_DAY, MONTH_AGO, YESTERDAY))
    manifest(home, "a_source_of_a_long_name", str(YESTERDAY), 0)
    manifest(home, "a_source_of_a_long_name", str(AS_OF), 7, rows_quarantined=2, reasons={"unparseable": 2})
    return home, build, write_report(home, PROJECT, build, None, root / "page")


@pytest.fixture(scope="module")
def hostile(kitchen, tmp_path_factory):
    """A shop whose every text wants to be code, in tables, manifests and gate reports."""
    root = tmp_path_factory.mktemp("hostile")
    home, build, _ = report_of(kitchen, root, busy_shop(odd=HOSTILE), earlier=(MONTH_AGO,))
    manifest = {
        "source": HOSTILE[0], "table": HOSTILE[1], "received_date": str(AS_OF), "rows_landed": 5,
        "rows_quarantined": 3, "reasons": {HOSTILE[3]: 2, "unparseable": 1}, "partition_sha256": None,
    }  # fmt: skip
    path = home.landing("strange", AS_OF)
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(manifest), encoding="utf-8")
    finding = {"name": HOSTILE[0], "table": HOSTILE[1], "severity": "critical", "success": False}
    gate = {
        "gate": HOSTILE[3], "passed": False, "build_id": build.meta["build_id"],
        "expectations": [finding | {"observed": HOSTILE[2], "unexpected_count": None, "why": HOSTILE[4]}],
    }  # fmt: skip
    return home, build, write_report(home, PROJECT, build, gate, root / "page")


def shop_without_orders() -> Shop:
    shop = Shop()
    shop.act("onlooker", AS_OF, "page_view")
    shop.act("visitor", FIRST, "quote_received")
    return shop


def shop_of_one() -> Shop:
    shop = Shop()
    shop.buy("only", date(2024, 6, 2), Decimal("12.30"))
    return shop


def shop_long_asleep() -> Shop:
    shop = Shop()
    shop.buy("former", date(2022, 6, 2), Decimal("12.30"))
    return shop


def shop_of_nobody() -> Shop:
    shop = Shop()
    shop.customers.append({"customer_id": "later", "received_date": FIRST, "registered_at": datetime(2030, 1, 1)})  # noqa: DTZ001
    return shop


def shop_without_interactions_and_products() -> Shop:
    shop = busy_shop(12)
    shop.interactions, shop.products, shop.customers = [], [], []
    return shop


SMALL_SHOPS = (
    shop_without_orders, shop_of_one, shop_long_asleep, shop_of_nobody, shop_without_interactions_and_products,
)  # fmt: skip


@pytest.fixture(scope="module")
def small_pages(kitchen, tmp_path_factory):
    """Pages of shops that lack something, by the name of what made them."""
    return {
        make.__name__: report_of(kitchen, tmp_path_factory.mktemp(make.__name__), make())[2] for make in SMALL_SHOPS
    }


def ask(build: Build, query: str) -> list[tuple]:
    with duckdb.connect(str(build.path), read_only=True) as connection:
        return connection.execute(query).fetchall()


def segments_on(home: Home, day: date) -> dict[str, dict]:
    """What was published of a day, by customer."""
    found = duckdb.sql(f"from '{version_of(home, day)}/customer_segments/*/*.parquet'")
    return {row[0]: dict(zip(found.columns, row, strict=True)) for row in found.fetchall()}


def percent(part, whole) -> str:
    return f"{Decimal(part) * 100 / Decimal(whole):.1f}%"


# ---------------------------------------------------------------- numbers


def test_cards_equal_the_tables(busy):
    _, build, page = busy
    [(customers, buyers, orders, revenue, ever, again, leaving, at_risk)] = ask(
        build,
        "select count(*), count_if(frequency > 0), sum(frequency), sum(monetary), count_if(lifetime_orders > 0), "
        "count_if(lifetime_orders > 1), count_if(churn_probability >= 0.5), "
        "sum(monetary) filter (churn_probability >= 0.5) from customer_segments",
    )
    amounts = [
        amount for (amount,) in ask(build, "select monetary from customer_segments where frequency > 0 order by 1 desc")
    ]
    best = sum(amounts[: -(-len(amounts) // 5)])
    assert read_page(page).cards == {
        "customers": f"{customers:,}",
        "buyers": f"{buyers:,}",
        "orders": f"{orders:,}",
        "revenue": f"{revenue:,.0f}",
        "bought_again": percent(again, ever),
        "top_revenue": percent(best, revenue),
        "likely_to_leave": f"{leaving:,}",
        "revenue_of_leavers": f"{at_risk:,.0f}",
    }


@pytest.mark.parametrize(("language", "name", "everyone"), [("en", "name_en", "All"), ("zh", "name_zh", "合计")])
def test_the_table_of_classes_equals_the_tables(busy, language, name, everyone):
    _, build, page = busy
    found = ask(
        build,
        f"select names.{name}, count(customer_id), coalesce(sum(monetary), 0), coalesce(sum(frequency), 0) "
        "from rfm_classes as names left join customer_segments using (rfm_class) group by all order by min(position)",
    )
    customers, revenue, orders = (sum(row[place] for row in found) for place in (1, 2, 3))
    found.append((everyone, customers, revenue, orders))
    shown = read_page(page, language).tables["classes"][1:]
    assert [(row[0], row[1], row[2], row[3], row[4], row[6]) for row in shown] == [
        (name, f"{n:,}", percent(n, customers), f"{money:,.0f}", percent(money, revenue), f"{bought:,}")
        for name, n, money, bought in found
    ]


def test_chart_data_equal_the_tables(busy):
    _, build, page = busy
    charts = {key: chart["datasets"]["rows"] for key, chart in read_page(page).charts["charts"].items()}

    scores = {(row["recency_score"], row["frequency_score"]): row["customers"] for row in charts["score_customers"]}
    assert scores == {
        (recency, frequency): n
        for recency, frequency, n in ask(
            build,
            "select recency_score, frequency_score, count(*) from customer_segments "
            "where recency_score is not null group by all",
        )
    }
    for ladder in facts.LADDERS:
        now = {row["position"]: row["customers"] for row in charts[f"ladder_{ladder}"] if row["series"] == "now"}
        assert now == dict(
            ask(
                build,
                f"select position, count(customer_id) from lifecycle_stages left join customer_segments "
                f"on stage = {ladder}_stage where ladder = '{ladder}' group by position",
            )
        )
        reached = {
            row["position"]: row["customers"] for row in charts[f"ladder_{ladder}"] if row["series"] == "reached"
        }
        assert all(reached[place] == sum(n for at, n in now.items() if at >= place) for place in reached)
    tenths = defaultdict(int)
    for row in charts["churn_histogram"]:
        tenths[row["range"]] += row["customers"]
    assert dict(tenths) == {
        f"{tenth * 10}–{tenth * 10 + 10}": n
        for tenth, n in ask(
            build,
            "select least(9, floor(churn_probability * 10))::integer, count(*) from customer_segments "
            "where churn_probability is not null group by all",
        )
    }
    medians = {row["name_en"]: row["p50"] for row in charts["churn_spread"]}
    assert medians == dict(
        ask(
            build,
            "select rfm_class_name_en, quantile_disc(churn_probability, 0.5) from customer_segments "
            "where churn_probability is not null group by all",
        )
    )
    values = {(row["value"], row["customers"]) for key in charts if key.startswith("tag_values") for row in charts[key]}
    assert values == set(
        ask(
            build,
            "select tag_value, count(*) from customer_tags where tag_value is not null group by tag_id, tag_value",
        )
    )


def test_customers_at_risk_are_those_with_the_largest_expected_loss(busy):
    _, build, page = busy
    found = ask(
        build,
        "select customer_id, churn_probability, monetary, suggested_action from churn_risk "
        "where churn_probability >= 0.5",
    )
    losses = sorted(found, key=lambda row: (-round(Decimal(str(row[1])) * row[2], 2), row[0]))[: facts.AT_RISK_ROWS]
    titles, *shown = read_page(page).tables["at_risk"]
    assert [row[0] for row in shown] == [row[0] for row in losses]
    assert [row[titles.index("What to do")] for row in shown] == [row[3] for row in losses]
    expected_loss = titles.index("Expected loss (EUR)")
    assert shown[0][expected_loss] == f"{Decimal(str(losses[0][1])) * losses[0][2]:,.2f}"
    assert expected_loss == 1  # what a phone shows without scrolling


def test_tags_are_counted_and_unused_ones_are_shown(busy):
    _, build, page = busy
    counted = dict(ask(build, "select tag_id, count(*) from customer_tags group by tag_id"))
    dictionary = ask(build, "select tag_id, name_en from tag_dictionary")
    shown = [(row[1], row[2]) for row in read_page(page).tables["tags"][1:]]
    assert sorted(shown) == sorted((name, f"{counted.get(tag, 0):,}") for tag, name in dictionary)
    groups = {
        row["name_en"]: row["customers"] for row in read_page(page).charts["charts"]["tag_groups"]["datasets"]["rows"]
    }
    assert sorted(groups.values()) == sorted(
        n for (n,) in ask(
            build,
            "select count(distinct customer_id) from tag_dictionary left join customer_tags using (tag_id) "
            "group by tag_dictionary.tag_group",
        )
    )  # fmt: skip


def test_moves_between_classes_equal_two_published_days(busy):
    home, build, page = busy
    now = dict(ask(build, "select customer_id, rfm_class from customer_segments"))
    names = dict(ask(build, "select rfm_class, name_en from rfm_classes"))
    text = read_page(page)
    for day, table in ((YESTERDAY, "changes"), (MONTH_AGO, "moves")):
        before = {key: row["rfm_class"] for key, row in segments_on(home, day).items()}
        moved = defaultdict(int)
        for customer, key in now.items():
            if customer in before and before[customer] != key:
                moved[names[before[customer]], names[key]] += 1
        if table == "moves":
            assert {(row[0], row[1]): int(row[2]) for row in text.tables[table][1:]} == dict(moved)
            continue
        for name, was, came, left, are, net in text.tables[table][1:]:
            key = next(each for each, label in names.items() if label == name)
            assert int(was) == sum(each == key for each in before.values())
            assert int(are) == sum(each == key for each in now.values())
            assert int(left) == sum(n for (source, _), n in moved.items() if source == name)
            assert int(came) == int(are) - int(was) + int(left)
            assert int(net.replace("−", "-").replace("±", "")) == int(are) - int(was)


def test_forecasts_are_judged_by_what_customers_did_in_the_horizon(busy):
    home, build, page = busy
    end = FORECAST_DAY + timedelta(days=HORIZON)
    came = {
        customer
        for customer, _ in ask(
            build,
            "select customer_id, order_date from int_order_ledger "
            f"where order_date > '{FORECAST_DAY}' and order_date <= '{end}' group by all having sum(valid_orders) > 0",
        )
    }
    expected = defaultdict(list)
    for customer, row in segments_on(home, FORECAST_DAY).items():
        if row["churn_probability"] is not None:
            expected[min(9, int(row["churn_probability"] * 10))].append(customer not in came)
    shown = read_page(page).tables["calibration"][1:]
    assert [(row[0], row[1], row[3]) for row in shown] == [
        (f"{tenth * 10}–{tenth * 10 + 10}%", str(len(found)), percent(sum(found), len(found)))
        for tenth, found in sorted(expected.items())
    ]
    assert 0 < sum(map(sum, expected.values())) < sum(map(len, expected.values()))


def test_cohorts_equal_the_ledger(busy):
    _, build, page = busy
    first, active = {}, defaultdict(set)
    for customer, day in ask(
        build,
        "select customer_id, order_date from int_order_ledger group by all having sum(valid_orders) > 0 order by 2",
    ):
        first.setdefault(customer, (day.year, day.month))
        active[customer].add((day.year - first[customer][0]) * 12 + day.month - first[customer][1])
    months = sorted(set(first.values()))
    expected = []
    for year, month in months:
        mine = [customer for customer, start in first.items() if start == (year, month)]
        later = range(1, 6 - month + 1)
        expected.append([str(len(mine)), *(str(sum(since in active[each] for each in mine)) for since in later)])
    shown = [[cell for cell in row[1:] if cell] for row in read_page(page).tables["cohorts"][1:]]
    assert shown == expected
    assert "30 June" not in read_page(page).leads[-6]


@given(st.lists(st.tuples(st.integers(0, 10**7), st.integers(0, 3)), max_size=60), st.integers(1, 100))
def test_concentration_counts_the_best_customers_exactly(customers, asked):
    buyers = sorted((Decimal(cents) / 100 for cents, orders in customers if orders), reverse=True)
    with duckdb.connect() as connection:
        connection.execute("create table customer_segments (monetary decimal(18, 2), frequency bigint)")
        if customers:
            rows = [[Decimal(cents) / 100, orders] for cents, orders in customers]
            connection.executemany("insert into customer_segments values (?, ?)", rows)
        found = facts.concentration(connection, [asked])
    top = -(-len(buyers) * asked // 100)
    expected = [{"percent": asked, "customers": top, "revenue": sum(buyers[:top], Decimal(0))}]
    assert found == (expected if buyers else [])


# ---------------------------------------------------------------- history


@pytest.mark.parametrize(
    ("day", "earlier"),
    [
        ("2017-12-31", "2017-11-30"),
        ("2024-03-31", "2024-02-29"),
        ("2024-03-01", "2024-02-01"),
        ("2024-01-15", "2023-12-15"),
    ],
)
def test_the_same_day_of_last_month(day, earlier):
    assert history.same_day_last_month(date.fromisoformat(day)) == date.fromisoformat(earlier)


def published(home: Home, *days: str, columns: str = "*") -> None:
    """Days with a small customer_segments and nothing else, as far as a comparison looks at them."""
    for day in days:
        version = home.published / "versions" / f"{day}-x"
        version.mkdir(parents=True)
        columns_sql = ", ".join(f"1 as {column}" for column in history._COMPARED)
        duckdb.sql(f"copy (select {columns} from (select {columns_sql})) to '{version}/segments.parquet'")
        tables = {"customer_segments": {"files": [{"path": "segments.parquet"}]}}
        (version / "manifest.json").write_text(json.dumps({"tables": tables}))
        (home.published / "days").mkdir(exist_ok=True)
        (home.published / "days" / day).symlink_to(f"../versions/{day}-x")


@pytest.mark.parametrize(
    ("days", "chosen"),
    [
        (
            ["2024-05-20", "2024-05-28", "2024-06-01", "2024-06-29"],
            "2024-05-28",
        ),  # two days off either way: the earlier
        (["2024-05-31", "2024-05-10"], "2024-05-31"),
        (["2024-05-19", "2024-06-10", "2024-07-01"], None),
    ],
)
def test_a_month_earlier_is_the_nearest_published_day(tmp_path, days, chosen):
    home = Home(tmp_path)
    published(home, *days)
    with duckdb.connect() as connection:
        found = history.month_earlier(connection, home, date(2024, 6, 30))
    assert (found and str(found.day)) == chosen


def test_a_day_published_under_an_older_contract_is_passed_over(tmp_path):
    home = Home(tmp_path)
    published(home, "2024-06-28")
    published(home, "2024-06-29", columns="customer_id, rfm_class")
    with duckdb.connect() as connection:
        assert history.last_published(connection, home, AS_OF).day == date(2024, 6, 28)
        assert history.last_published(connection, home, date(2024, 6, 28)) is None


def test_a_forecast_is_due_when_its_horizon_is_over(tmp_path):
    home = Home(tmp_path)
    published(home, "2024-02-01", "2024-04-01", "2024-04-02", "2024-04-03")
    with duckdb.connect() as connection:
        assert history.forecast_due(connection, home, AS_OF, HORIZON).day == date(2024, 4, 1)
        assert history.forecast_due(connection, home, date(2024, 4, 1), HORIZON) is None


# ---------------------------------------------------------------- the page as a file


def test_the_page_is_one_small_file_that_refers_to_nothing_else(busy):
    _, _, page = busy
    assert [path.name for path in page.parent.iterdir()] == ["index.html"]
    content = page.read_text(encoding="utf-8")
    assert len(content.encode()) < 3_000_000
    outside_scripts = re.sub(r"<script>.*?</script>", "", content, flags=re.DOTALL)
    assert not re.search(r"https?://|//[a-z]+\.|@import|url\(|\ssrc=", outside_scripts)
    assert set(re.findall(r'href="([^"]*)"', outside_scripts)) == {
        "data:,",
        *(f"#{key}" for key in section_keys(content)),
    }
    assert "default-src 'none'" in read_page(page).policy


def test_the_cells_of_the_map_of_revenue_have_a_unit(busy):
    """They are numbers without an axis of their own, so the title says it."""
    (english, chinese) = re.search(
        r'id="chart-score_revenue" data-title-en="(.*?)" data-title-zh="(.*?)"', busy[2].read_text(encoding="utf-8")
    ).groups()
    assert "(EUR)" in english
    assert "（EUR）" in chinese


def section_keys(content: str) -> list[str]:
    return re.findall(r'<section id="(\w+)">', content)


def test_every_section_is_there_and_in_the_contents(busy):
    content = busy[2].read_text(encoding="utf-8")
    assert section_keys(content) == [
        "today", "changes", "classes", "scores", "flow", "lifecycle", "retention", "top", "churn", "tags",
        "quality", "freshness",
    ]  # fmt: skip


def test_the_same_build_gives_the_same_bytes(busy, tmp_path):
    home, build, page = busy
    again = write_report(home, PROJECT, build, None, tmp_path / "again")
    code = (
        "import sys, json\nfrom datetime import date\nfrom pathlib import Path\n"
        "from strataflow.home import Home\nfrom strataflow.project import Project\n"
        "from strataflow.build import Build\nfrom strataflow.report import write_report\n"
        "home = Home(Path(sys.argv[1]))\n"
        "build = Build.load(home, date.fromisoformat(sys.argv[2]))\n"
        "write_report(home, Project.locate(), build, None, Path(sys.argv[3]))"
    )
    elsewhere = {"PYTHONHASHSEED": "7", "TZ": "Asia/Shanghai", "LANG": "de_DE.UTF-8", "LC_ALL": "C.UTF-8"}
    subprocess.run(
        [sys.executable, "-c", code, str(home.root), str(AS_OF), str(tmp_path / "other")],
        env={**os.environ, **elsewhere, "PYTHONPATH": str(Path(report.__file__).parents[2])},
        check=True,
        cwd=tmp_path,
    )
    assert page.read_bytes() == again.read_bytes() == (tmp_path / "other" / "index.html").read_bytes()


def test_a_report_leaves_nothing_behind(busy):
    home, _, _ = busy
    assert not list(home.scratch.glob("*"))


def test_a_build_without_a_column_is_refused_with_the_way_out(busy, tmp_path):
    home, build, _ = busy
    broken = tmp_path / "build.duckdb"
    broken.write_bytes(build.path.read_bytes())
    with duckdb.connect(str(broken)) as connection:
        connection.execute("alter table customer_segments drop column churn_probability")
    with pytest.raises(StepFailed, match="churn_probability") as refused:
        write_report(home, PROJECT, Build(broken, build.as_of, build.known_at, build.meta), None, tmp_path / "page")
    assert str(broken) in str(refused.value)
    assert not (tmp_path / "page").exists()


def test_a_ledger_that_has_moved_on_is_not_shown(busy, tmp_path):
    home, build, _ = busy
    moved = tmp_path / "build.duckdb"
    moved.write_bytes(build.path.read_bytes())
    with duckdb.connect(str(moved)) as connection:
        connection.execute("insert into int_order_ledger from int_order_ledger where valid_orders = 1 limit 1")
    page = write_report(home, PROJECT, Build(moved, build.as_of, build.known_at, build.meta), None, tmp_path / "page")
    text = read_page(page)
    assert sum("no longer adds up" in note for note in text.notes) == len(("retention", "calibration"))
    assert not {"cohorts", "calibration"} & set(text.charts["charts"])


def test_a_restatement_tells_up_to_which_day_data_count(busy, tmp_path):
    home, build, _ = busy
    later = Build(build.path, build.as_of, AS_OF + timedelta(days=3), build.meta)
    content = write_report(home, PROJECT, later, None, tmp_path).read_text(encoding="utf-8")
    assert "data received up to 3 July 2024" in content
    assert "已纳入 2024年7月3日 前收到的数据" in content


# ---------------------------------------------------------------- shops that lack something


def notes_of(page: Path) -> str:
    return " ".join(read_page(page).notes)


def test_a_shop_without_orders_says_so(small_pages):
    text = read_page(small_pages["shop_without_orders"])
    assert text.cards["customers"] == "2"
    assert text.cards["bought_again"] == text.cards["top_revenue"] == words.NOTHING
    assert sum("no valid order yet" in note for note in text.notes) == len(("scores", "retention", "churn"))
    assert "first published day" in notes_of(small_pages["shop_without_orders"])


def test_one_customer_is_a_top_20_percent(small_pages):
    text = read_page(small_pages["shop_of_one"])
    assert text.cards["top_revenue"] == "100.0%"
    assert text.cards["revenue"] == "12.30"
    assert "The best 20% of those who bought (1) brought 12.30 EUR: 100.0% of all revenue." in text.leads


def test_orders_before_the_window_leave_no_revenue(small_pages):
    text = read_page(small_pages["shop_long_asleep"])
    assert (text.cards["buyers"], text.cards["revenue"], text.cards["likely_to_leave"]) == ("0", "0.00", "1")
    assert "No valid order falls into the window" in notes_of(small_pages["shop_long_asleep"])


def test_an_empty_shop_has_a_page(small_pages):
    text = read_page(small_pages["shop_of_nobody"])
    assert set(text.cards.values()) == {"0", "0.00", words.NOTHING}
    assert "No tag has been given." in text.notes
    assert sum("No customer is known yet" in note for note in text.notes) == len(("classes", "lifecycle"))
    assert not {key for key in text.charts["charts"] if key.startswith(("class_", "ladder_"))}


@pytest.mark.parametrize("shop", [make.__name__ for make in SMALL_SHOPS])
def test_no_sentence_is_about_nothing(small_pages, shop):
    """Neither "– per buyer" below a headline number nor "brought by the best 0"."""
    cards = re.findall(r'<div class="card".*?</div>', small_pages[shop].read_text(encoding="utf-8"), re.DOTALL)
    assert len(cards) == 8
    for card in cards:
        said = re.sub(r"<[^>]+>", " ", re.sub(r'<p class="figure">.*?</p>', "", card, flags=re.DOTALL))
        assert words.NOTHING not in said, card
        assert "the best 0" not in said


@pytest.mark.parametrize("shop", [make.__name__ for make in SMALL_SHOPS])
def test_no_page_shows_what_is_no_number(small_pages, shop):
    for language in words.LANGUAGES:
        text = read_page(small_pages[shop], language)
        shown = json.dumps([text.tables, text.cards, text.notes, text.leads])
        assert not re.search(r"\b(nan|inf|infinity|none|null|undefined)\b", shown, re.IGNORECASE)
        for chart in text.charts["charts"].values():
            assert all(value is not None for row in chart["datasets"]["rows"] for value in row.values())


# ---------------------------------------------------------------- hostile values


def test_hostile_values_are_text(hostile, busy):
    text = read_page(hostile[2])
    assert text.tags == read_page(busy[2]).tags
    assert text.scripts == 3
    everything = json.dumps([text.tables, text.charts], ensure_ascii=False)
    for value in HOSTILE:
        assert json.dumps(" ".join(value.split()), ensure_ascii=False)[1:-1] in " ".join(everything.split())
    at_risk = {row[0] for row in text.tables["at_risk"]}
    assert at_risk & {" ".join(value.split()) for value in HOSTILE}


def test_no_value_of_the_shop_stands_in_a_chart_but_as_data(hostile):
    for chart in read_page(hostile[2]).charts["charts"].values():
        for language in words.LANGUAGES:
            specification = json.dumps(chart[language], ensure_ascii=False)
            assert not re.search(r"hacked|onload|onerror|<script", specification)


@given(
    st.recursive(st.text() | st.integers() | st.none(), lambda inner: st.dictionaries(st.text(), inner), max_leaves=8)
)
def test_chart_data_survive_and_cannot_end_their_script(content):
    text = safe_json(content)
    assert json.loads(text) == content
    assert not set("<>&\u2028\u2029") & set(text)


# ---------------------------------------------------------------- words


def pairs() -> list[tuple[str, words.Both]]:
    return sorted(words.texts().items())


@pytest.mark.parametrize(("key", "text"), pairs(), ids=[key for key, _ in pairs()])
def test_both_languages_say_the_same_places(key, text):
    def places(part: str) -> set[str]:
        return {name for _, name, _, _ in string.Formatter().parse(part) if name is not None}

    assert text.en
    assert text.zh
    if not key.startswith("reason_words."):
        assert places(text.en) == places(text.zh)
    assert not re.search("[\u4e00-\u9fff]", text.en)


def literals() -> tuple[set[str], list[re.Pattern[str]]]:
    """Texts and f-string patterns in the package's code and templates."""
    folder = Path(report.__file__).parent
    plain, patterns = set(), []
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [re.escape(each.value) if isinstance(each, ast.Constant) else ".+" for each in node.values]
                if parts[0] != ".+":
                    patterns.append(re.compile("".join(parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                plain |= {node.value, *node.value.split()}
    for path in folder.rglob("*.html"):
        plain |= set(re.findall(r'say\("([\w.]+)"', path.read_text(encoding="utf-8")))
    return plain, patterns


def test_no_text_is_left_over():
    plain, patterns = literals()
    unused = [
        key
        for key in words.texts()
        if key not in plain and not any(pattern.fullmatch(key) for pattern in patterns)
        and key.partition(".")[0] not in plain
    ]  # fmt: skip
    assert unused == []


@given(st.decimals(0, 1, places=6))
def test_a_share_never_reads_as_all_or_nothing_unless_it_is(fraction):
    text = words.percent(fraction)
    assert (text == "0.0%") == (fraction == 0)
    assert (text == "100.0%") == (fraction == 1)


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        (["0", "12.5"], ["0.00", "12.50"]),
        (["9999.99", "-3"], ["9,999.99", "−3.00"]),
        (["1234567.5", "0.49", None], ["1,234,568", "0", words.NOTHING]),
        ([None], [words.NOTHING]),
    ],
)
def test_a_column_of_money_looks_alike(values, shown):
    assert words.amounts(None if value is None else Decimal(value) for value in values) == shown


@pytest.mark.parametrize(
    ("reasons", "english", "chinese"),
    [
        (
            "silence_exceeds_rhythm: 30 days without an order, one every 7.5 days; refunds: 2 orders with a refund",
            "30 days without an order, one every 7.5 days; 2 orders with a refund",
            "30 天未下单，平时约每 7.5 天一单；窗口内 2 个订单有退款",
        ),
        ("own_word: moved house", "own word: moved house", "own word: moved house"),
        ("single_order: ordered once", "ordered only once: ordered once", "仅下过一单: ordered once"),
        ("", words.NOTHING, words.NOTHING),
        (None, words.NOTHING, words.NOTHING),
    ],
)
def test_reasons_speak_both_languages(reasons, english, chinese):
    assert words.reasons(reasons) == words.Both(english, chinese)


# ---------------------------------------------------------------- what was received


def manifest(home: Home, source: str, day: str, landed: int, **more) -> None:
    path = home.landing(source, date.fromisoformat(day))
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"source": source, "table": "orders", "received_date": day, "rows_landed": landed, **more}
    path.write_text(json.dumps(content))


def test_histories_end_with_the_day_that_counts(tmp_path):
    home = Home(tmp_path)
    manifest(home, "till", "2024-06-29", 10, rows_quarantined=2, reasons={"unparseable": 2})
    manifest(home, "till", "2024-06-30", 0)
    manifest(home, "till", "2024-07-01", 99)
    manifest(home, "shop", "2024-06-01", 1, rows_quarantined=1, reasons={"filtered": 1})
    shop, till = landings.histories(home, AS_OF)
    assert (till.source, till.rows_landed, till.rows_quarantined, dict(till.reasons)) == (
        "till",
        10,
        2,
        {"unparseable": 2},
    )
    assert (str(till.last_landing), str(till.last_rows.day)) == ("2024-06-30", "2024-06-29")
    assert dict(shop.reasons) == {"filtered": 1}


def test_a_broken_manifest_is_named(tmp_path):
    home = Home(tmp_path)
    manifest(home, "till", "2024-06-29", 10)
    home.landing("till", date(2024, 6, 29)).write_text("{")
    with pytest.raises(InputError, match=r"2024-06-29\.json"):
        landings.histories(home, AS_OF)


def test_gate_reports_are_about_this_build(tmp_path):
    home = Home(tmp_path)
    for gate, build_id in (("built", "other"), ("landed", None)):
        path = home.gates / str(AS_OF) / gate / "report.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"gate": gate, "build_id": build_id}))
    assert [each["gate"] for each in landings.gate_reports(home, AS_OF, "mine")] == ["landed"]
    assert [each["gate"] for each in landings.gate_reports(home, AS_OF, "other")] == ["landed", "built"]
    held = {"gate": "built", "build_id": "mine", "expectations": []}
    assert landings.gate_reports(home, AS_OF, "mine", held)[1] is held


def test_refused_rows_and_failed_expectations_stand_out(hostile):
    text = read_page(hostile[2])
    assert text.tables["gate_0"][1][2:4] == ["failed", HOSTILE[2]]
    refused = read_page(hostile[2]).charts["charts"]["refused_rows"]["datasets"]["rows"]
    assert [(row["rows"], row["reason_zh"]) for row in refused] == [(2, HOSTILE[3]), (1, "取值无法解析")]
    opened = re.search(r'<(\w+) id="title-gate_0"', hostile[2].read_text(encoding="utf-8"))
    assert opened.group(1) == "h3"  # not folded away


# ---------------------------------------------------------------- in a browser


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    from chromium import browser

    with browser(tmp_path_factory.mktemp("chromium") / "profile") as running:
        yield running


LOOKS = [(width, language) for width in (390, 1280) for language in ("en", "zh")]

# For each chart: its marks that hold data, and texts of one axis or legend that overlap, come twice or stick out of
# the window.
INSPECT = """
[...document.querySelectorAll('.chart')].map(chart => {
  const box = node => node.getBoundingClientRect();
  const seen = node => getComputedStyle(node).opacity !== '0' && node.getAttribute('opacity') !== '0'
    && node.textContent.trim() && box(node).width > 0;
  const meet = (a, b) => a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1;
  const marks = [...chart.querySelectorAll('.role-mark')]
    .reduce((n, group) => n + group.querySelectorAll('path, text, line, rect').length, 0);
  const faults = [];
  for (const group of chart.querySelectorAll('.role-axis, .role-legend')) {
    const texts = [...group.querySelectorAll('text')].filter(seen);
    texts.forEach((one, i) => texts.slice(i + 1).forEach(other => {
      if (meet(box(one), box(other))) faults.push(`${one.textContent} meets ${other.textContent}`);
    }));
  }
  for (const axis of chart.querySelectorAll('.role-axis-label')) {
    const labels = [...axis.querySelectorAll('text')].filter(seen).map(text => text.textContent);
    if (new Set(labels).size < labels.length) faults.push(`${labels} repeats itself`);
  }
  for (const text of [...chart.querySelectorAll('text')].filter(seen)) {
    const {left, right} = box(text), card = box(chart.closest('figure'));
    if (left < card.left || right > card.right) faults.push(`${text.textContent} sticks out`);
  }
  const titles = [...chart.querySelectorAll('.role-axis-title text')].map(node => node.textContent);
  return {id: chart.id, marks, faults, titles};
})
"""

MIDDLE_OF_BAR = """
place => {
  const bar = document.querySelectorAll('#chart-tag_values_0 .mark-rect.role-mark path')[place];
  bar.scrollIntoView({block: 'center', behavior: 'instant'});
  const {left, top, width, height} = bar.getBoundingClientRect();
  return [left + width / 2, top + height / 2];
}
"""


def drawn(page, language: str) -> None:
    page.wait_for(f"document.documentElement.dataset.drawn === '{language}'")


def png_size(path: Path) -> tuple[int, int]:
    return struct.unpack(">II", path.read_bytes()[16:24])


@pytest.mark.browser
@pytest.mark.parametrize(("width", "language"), LOOKS)
def test_every_chart_is_drawn_and_readable(chromium, busy, tmp_path, width, language):
    with chromium.page(busy[2], width=width, query=f"?lang={language}", phone=width < 500) as page:
        drawn(page, language)
        charts = page.run(INSPECT)
        assert {chart["id"] for chart in charts} == {f"chart-{key}" for key in read_page(busy[2]).charts["charts"]}
        assert [chart for chart in charts if not chart["marks"]] == []
        assert [chart for chart in charts if chart["faults"]] == []
        assert [chart for chart in charts if not chart["titles"]] == []
        assert page.run("document.documentElement.scrollWidth") == width
        for key in page.run("[...document.querySelectorAll('main section')].map(section => section.id)"):
            picture = page.picture(f"#{key}", tmp_path / f"{key}.png")
            wide, high = png_size(picture)
            assert width * 0.8 < wide <= width
            assert high > 100
            assert picture.stat().st_size > 3000
    assert page.complaints == []
    assert [url for url in page.requests if not url.startswith(("file:", "data:"))] == []


@pytest.mark.browser
def test_the_language_switches_without_a_reload(chromium, busy):
    visible = "[...document.querySelectorAll('h1, h2, h3, .lead, th, .card')].map(node => node.innerText).join('\\n')"
    axis = "document.querySelector('#chart-class_revenue .role-axis-title text').textContent"
    with chromium.page(busy[2], width=1280, query="?lang=en") as page:
        drawn(page, "en")
        page.run("window.stayed = true")
        english = page.run(f"[document.title, document.documentElement.lang, {axis}]")
        assert not re.search("[\u4e00-\u9fff]", page.run(visible))
        page.run("document.querySelector('button[data-language=zh]').click()")
        drawn(page, "zh")
        chinese = page.run(f"[document.title, document.documentElement.lang, {axis}]")
        assert re.search("[\u4e00-\u9fff]", page.run(visible))
        assert "Customers known" not in page.run(visible)
        page.run("document.querySelector('button[data-language=en]').click()")
        drawn(page, "en")
        back = page.run(f"[document.title, document.documentElement.lang, {axis}]")
        assert page.run("window.stayed") is True
    assert english == back == ["Corner shop: customer report", "en", "Revenue (EUR)"]
    assert chinese == ["Corner shop：客户分层日报", "zh-Hans", "收入（EUR）"]
    assert page.complaints == []


@pytest.mark.browser
def test_two_quick_switches_end_with_the_last(chromium, busy):
    with chromium.page(busy[2], width=1280, query="?lang=en") as page:
        drawn(page, "en")
        page.run("for (const each of ['zh', 'en']) document.querySelector(`button[data-language=${each}]`).click()")
        drawn(page, "en")
        titles = page.run(
            "[...document.querySelectorAll('.chart .role-axis-title text')].map(node => node.textContent).join()"
        )
        assert not re.search("[\u4e00-\u9fff]", titles)
        assert page.run("document.querySelectorAll('.chart svg.marks').length") == len(
            read_page(busy[2]).charts["charts"]
        )
    assert page.complaints == []


@pytest.mark.browser
def test_what_the_reader_sees_equals_the_tables(chromium, busy):
    _, build, path = busy
    [(customers,)] = ask(build, "select count(*) from customer_segments")
    sizes = dict(ask(build, "select rfm_class_name_en, count(*) from customer_segments group by all"))
    with chromium.page(path, width=1280, query="?lang=en") as page:
        drawn(page, "en")
        assert page.run("document.querySelector('#card-customers .figure').innerText") == f"{customers:,}"
        rows = page.run(
            "[...document.querySelectorAll('#table-classes tbody tr')]"
            ".map(row => [...row.cells].map(cell => cell.innerText))"
        )
        labels = page.run(
            "[...document.querySelectorAll('#chart-class_customers .mark-text.role-mark text')]"
            ".map(node => node.textContent)"
        )
    assert {name: int(count) for name, count, *_ in rows[:-1] if int(count)} == sizes
    assert labels == [percent(sizes.get(name, 0), customers) for name, *_ in rows[:-1]]


@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 1280])
def test_hostile_values_do_nothing_in_a_browser(chromium, hostile, width):
    with chromium.page(hostile[2], width=width, query="?lang=en", phone=width < 500) as page:
        drawn(page, "en")
        assert [chart for chart in page.run(INSPECT) if not chart["marks"]] == []
        assert page.run("document.documentElement.scrollWidth") == width
        seen = ""
        for place in range(5):
            x, y = page.run(f"({MIDDLE_OF_BAR})({place})")
            page.hover(x, y)
            page.wait_for("document.querySelector('#vg-tooltip-element.visible') !== null")
            seen += page.run("document.getElementById('vg-tooltip-element').innerText")
            assert page.run("document.querySelectorAll('#vg-tooltip-element :is(img, script, svg)').length") == 0
        assert page.run("[window.hacked, document.images.length, document.querySelectorAll('script').length]") == [
            None,
            0,
            3,
        ]
        assert "window.hacked=1" in seen
    assert page.complaints == []
    assert [url for url in page.requests if not url.startswith(("file:", "data:"))] == []


@pytest.mark.browser
@pytest.mark.parametrize("shop", [make.__name__ for make in SMALL_SHOPS])
def test_pages_of_small_shops_draw_without_complaint(chromium, small_pages, shop):
    for width, language in ((390, "zh"), (1280, "en")):
        with chromium.page(small_pages[shop], width=width, query=f"?lang={language}", phone=width < 500) as page:
            drawn(page, language)
            charts = page.run(INSPECT)
            assert [chart for chart in charts if not chart["marks"] or chart["faults"]] == []
            assert (
                page.run("Math.max(...[...document.querySelectorAll('.chart')].map(chart => chart.clientHeight))") < 900
            )
        assert page.complaints == []
