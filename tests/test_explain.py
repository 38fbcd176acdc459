"""`strataflow explain`: it says what the published tables say, in both languages, and errors that help."""

from __future__ import annotations

import json
import random
import string
from collections import defaultdict
from datetime import date, timedelta
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml
from rich.cells import cell_len
from rich.console import Console

from publishing import pass_gate
from small_shops import CUSTOMERS_ONLY, ORDERS, PROJECT, SmallShop, small_shop
from strataflow import cli
from strataflow.build import build
from strataflow.errors import UsageError
from strataflow.explain import explain, explained, render, sentences
from strataflow.explain.since import Since, tagged_since
from strataflow.explain.told import LANGUAGES, TEXTS, Speech
from strataflow.home import Home
from strataflow.privacy.pseudonyms import SETTING
from strataflow.privacy.tombstones import Tombstones
from strataflow.publish import publish, read_manifest

Row = dict[str, Any]

DAY = date(2024, 12, 31)
BUYERS, ONLOOKERS, ASKED = 1000, 100, 1000
INTERACTIONS = """
    name: clicks
    table: interactions
    description: What customers did.
    format: {type: csv}
    files: {root: delivered, path: "clicks_{date}.csv"}
    columns: {interaction_id: id, customer_id: customer_id, occurred_at: at, kind: kind}
"""
SAID = """
    name: said
    table: manual_tags
    description: What staff said.
    format: {type: csv}
    files: {root: delivered, path: "said_{date}.csv"}
    columns:
      {customer_id: customer_id, tag: tag, tagged_by: who, tagged_at: at, reason: why, expires_at: until,
       action: action}
"""
STATEMENTS = """\
customer_id,tag,who,at,why,until,action
c0001,优惠敏感,li,2024-12-01T09:00:00,asks for coupons,2025-03-01,add
c0002,优惠敏感,li,2024-12-01T09:00:00,,2024-12-15,add
c0003,first order,wang [sales],2024-12-01T09:00:00,typed by mistake,,add
c0004,likes blue,wang,2024-12-02T09:00:00,,,add
c0005,优惠敏感,li,2024-12-01T09:00:00,,,add
c0005,优惠敏感,li,2024-12-03T09:00:00,,,remove
"""


def fill(shop: SmallShop) -> None:
    """Buyers of every rhythm, onlookers, and what staff said, all received on one day."""
    rng = random.Random(7)  # noqa: S311 (the same shop every time, no secrets)
    orders, clicks, members = ["order_id,customer_id,ordered_at,amount"], ["id,customer_id,at,kind"], ["id,region"]
    for number in range(BUYERS):
        last = DAY - timedelta(days=rng.choice([1, 4, 12, 30, 60, 100, 200, 300, 400]))
        for back in range(6 if number in (1, 2, 3, 5) else rng.choice([1, 1, 2, 3, 5, 8])):
            day, cents = last - timedelta(days=back * rng.choice([5, 20])), rng.randrange(500, 20_000)
            orders.append(f"o{number}/{back},c{number:04},{day}T10:00:00,{Decimal(cents) / 100}")
    for number in range(ONLOOKERS):
        person, day = f"v{number:03}", DAY - timedelta(days=number)
        members.append(f"{person},north")
        if number % 3:
            kind = ("page_view", "quote_received")[number % 2]
            clicks += [f"{person}/{click},{person},{day}T08:00:00,{kind}" for click in range(1 + number % 4)]
    for name, lines in (("orders", orders), ("clicks", clicks)):
        shop.deliver(f"{name}_{DAY}.csv", "\n".join(lines) + "\n")
    shop.deliver("members.csv", "\n".join(members) + "\n")
    shop.deliver(f"said_{DAY}.csv", STATEMENTS)
    shop.land(str(DAY))


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> tuple[Home, Path]:
    """A home whose one day is published, and the version's folder; the gates are tested elsewhere."""
    shop = small_shop(tmp_path_factory.mktemp("shop"), ORDERS, CUSTOMERS_ONLY, INTERACTIONS, SAID)
    fill(shop)
    made = build(shop.home, PROJECT, shop.sources().shop, DAY)
    pass_gate(shop.home, DAY, made.meta["build_id"])
    return shop.home, publish(shop.home, made).path


@pytest.fixture(scope="module")
def tables(published) -> dict[str, dict[str, list[Row]]]:
    """Rows of the published Parquet files by table and customer: what an explanation has to agree with."""
    version = published[1]
    found: dict[str, dict[str, list[Row]]] = {}
    with duckdb.connect() as connection:
        for table, entry in read_manifest(version)["tables"].items():
            if "customer_id" in entry["columns"]:
                cursor = connection.execute(f"from '{version / entry['files'][0]['path']}'")
                names = [column[0] for column in cursor.description]
                found[table] = defaultdict(list)
                for values in cursor.fetchall():
                    row = dict(zip(names, values, strict=True))
                    found[table][row["customer_id"]].append(row)
    return found


@pytest.fixture(scope="module")
def asked(published, tables) -> dict[str, Row]:
    """The explanations of a thousand random customers, those staff spoke of among them."""
    everyone = sorted(tables["customer_segments"])
    spoken_of = [f"c000{number}" for number in range(1, 6)]
    rng = random.Random(1)  # noqa: S311
    others = rng.sample([each for each in everyone if each not in spoken_of], ASKED - len(spoken_of))
    return explained(published[1], [*spoken_of, *others])


# ---------------------------------------------------------------- agreement


def test_a_thousand_explanations_agree_with_the_tables(asked, tables):
    assert len(asked) == ASKED
    for customer, found in asked.items():
        (segment,), (row,) = tables["customer_segments"][customer], tables["customer_explanations"][customer]
        assert found["rfm_class"]["key"] == segment["rfm_class"]
        assert found["rfm_class"]["name_zh"] == segment["rfm_class_name_zh"]
        assert found["value_tier"]["key"] == segment["value_tier"]
        assert [stage["key"] for stage in found["stages"]] == [
            segment[f"{ladder}_stage"] for ladder in ("ecommerce", "high_ticket", "activity")
        ]
        following = found["rfm_class"]["next"] or dict.fromkeys(("key", "orders", "amount", "by_date"))
        assert [following[name] for name in ("key", "orders", "amount", "by_date")] == [
            row[name]
            for name in (
                "next_rfm_class", "next_rfm_class_orders", "next_rfm_class_amount", "next_rfm_class_by_date",
            )
        ]  # fmt: skip
        tier = found["value_tier"]["next"] or dict.fromkeys(("key", "amount", "by_date"))
        assert (tier["key"], tier["amount"], tier["by_date"]) == (
            row["next_value_tier"],
            row["next_value_tier_amount"],
            row["next_value_tier_by_date"],
        )
        assert (found["churn"] or {}).get("probability") == segment["churn_probability"]
        listed = tables["churn_risk"].get(customer)
        assert (found["churn"] or {}).get("reasons") == (listed[0]["reasons"] if listed else None)
        assert found["lifetime_value"] == (tables["customer_lifetime_value"].get(customer) or [None])[0]


def test_what_decided_decides_as_told(asked):
    """Scores follow from the values and cut-offs told, flags from scores and means, the class from the flags."""
    flags = set()
    for found in asked.values():
        for measure in found["measures"]:
            if measure["score"] is None:
                assert found["rfm_class"]["key"] == "no_orders"
                continue
            below = sum(cutoff < measure["value"] for cutoff in measure["cutoffs"])
            rising = measure["measure"] != "recency"
            assert measure["score"] == 1 + (below if rising else len(measure["cutoffs"]) - below)
            assert measure["is_high"] == (measure["score"] > measure["mean_score"])
            assert measure["is_high"] == (not measure.get("missing")) or not rising
        if found["lifetime_orders"]:
            high = tuple(measure["is_high"] for measure in found["measures"])
            flags.add((high, found["rfm_class"]["key"]))
            assert (found["measures"][0]["lost_date"] is not None) == high[0]
    assert len(flags) == len({high for high, _ in flags}) == len({key for _, key in flags}) == 8


def test_every_tag_is_told_with_its_evidence_or_author(asked, tables):
    for customer, found in asked.items():
        rows = {tag["tag_id"]: tag for tag in tables["customer_tags"][customer]}
        assert {tag["tag_id"] for tag in found["tags"]} == set(rows)
        for tag, why in zip(found["tags"], sentences(found)["tags"], strict=True):
            row = rows[tag["tag_id"]]
            assert row["tagged_by"] is None or f"said by {row['tagged_by']}" in why
            assert row["tagged_by"] or row["evidence"] in why
            assert why


def test_tags_of_staff_are_told_with_who_why_and_until_when(asked):
    (tag,) = [tag for tag in asked["c0001"]["tags"] if tag["source"] == "manual"]
    assert tag["tag_id"] == "coupon_lover"
    why = sentences(asked["c0001"])["tags"][asked["c0001"]["tags"].index(tag)]
    assert all(
        part in why for part in ("said by li", "since 1 December 2024", "until 1 March 2025", "asks for coupons")
    )
    (lost,) = asked["c0001"]["tags_lost"]
    assert (lost["tag_id"], lost["source"], lost["conflict"]) == ("coupon_indifferent", "automatic", "outranked")
    assert sentences(asked["c0001"], "zh")["tags_lost"][0].startswith("让位于“优惠敏感”")


@pytest.mark.parametrize(
    ("customer", "conflict", "words"),
    [
        ("c0002", "expired", ("past its last day", "said by li", "until 15 December 2024")),
        ("c0003", "against_data", ("the data says Super buyer", "said by wang [sales]", "typed by mistake")),
        ("c0004", "queued", ("nobody has a tag for these words yet", "said by wang", "on 2 December 2024")),
        ("c0005", "removed", ("taken back", "said by li")),
    ],
)
def test_tags_that_lost_are_told_with_the_reason(asked, customer, conflict, words):
    (lost,) = [tag for tag in asked[customer]["tags_lost"] if tag["source"] == "manual"]
    assert lost["conflict"] == conflict
    (why,) = sentences(asked[customer])["tags_lost"]
    assert all(word in why for word in words), why


# ---------------------------------------------------------------- words


def test_the_next_steps_are_in_the_sentences(asked):
    for found in asked.values():
        following = found["rfm_class"]["next"]
        for language in LANGUAGES:
            told = sentences(found, language)
            if following:
                line = next(line for line in told["rfm_class"] if following[f"name_{language}"] in line)
                is_priced = following["amount"] > Decimal("0.01") * following["orders"]
                assert (f"{following['amount']:,.2f} EUR" in line) == is_priced
                assert following["orders"] == 1 or str(following["orders"]) in line
            tier = found["value_tier"]["next"]
            assert tier is None or f"{tier['amount']:,.2f} EUR" in told["value_tier"][1]
            assert len(told["stages"]) == 3


def test_both_languages_have_every_text_with_the_same_places():
    content = yaml.safe_load(TEXTS.read_text(encoding="utf-8"))
    for section, texts in content.items():
        for key, pair in texts.items():
            places = [{name for _, name, _, _ in string.Formatter().parse(pair[each]) if name} for each in LANGUAGES]
            assert set(pair) == set(LANGUAGES), (section, key)
            assert places[0] == places[1], (section, key)


def test_every_outcome_of_a_statement_has_its_words():
    """All that manual_tag_outcomes may say, but for what is in force or said again."""
    models = yaml.safe_load((PROJECT.dbt / "models" / "marts" / "_marts__models.yml").read_text(encoding="utf-8"))
    (outcomes,) = [model for model in models["models"] if model["name"] == "manual_tag_outcomes"]
    (told,) = [column["description"] for column in outcomes["columns"] if column["name"] == "outcome"]
    named = {name.strip(" .") for name in told.replace(" or ", ", ").split(",")}
    words = set(yaml.safe_load(TEXTS.read_text(encoding="utf-8"))["lost"])
    assert named - {"in_force", "replaced"} == words


# ---------------------------------------------------------------- the command


def told(capfd, *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        cli.main([str(argument) for argument in arguments])
    said = capfd.readouterr()
    return ended.value.code, said.out, said.err


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_command_prints_what_fits_a_terminal(published, asked, language, capfd):
    home, version = published
    code, out, _ = told(capfd, "explain", "c0003", "--home", home.root, "--lang", language)
    assert code == 0
    assert asked["c0003"]["rfm_class"][f"name_{language}"] in out
    assert version.name in out
    assert "wang [sales]" in out
    assert max(cell_len(line) for line in out.splitlines()) <= 130
    assert {"en": "Tags that are not in force", "zh": "未生效的标签"}[language] in out


def test_no_word_is_cut_at_the_end_of_a_line(asked):
    """Rich puts … in place of what it can't break between wide characters."""
    for width in range(60, 110):
        console = Console(width=width, record=True, file=StringIO())
        render(asked["c0003"], console, "zh")
        assert "…" not in console.export_text(), width


def test_one_day_is_no_days():
    assert [Speech("en", "EUR").days(count) for count in (0, 1, 1234)] == ["0 days", "1 day", "1,234 days"]
    assert Speech("zh", "EUR").days(1) == "1 天"


def test_the_document_holds_the_facts_and_the_sentences(published, asked, capfd):
    code, out, _ = told(capfd, "explain", "c0001", "--home", published[0].root, "--json", "--date", DAY)
    document = json.loads(out)
    assert (code, document["ok"], document["command"]) == (0, True, "explain")
    assert document["rfm_class"]["key"] == asked["c0001"]["rfm_class"]["key"]
    assert document["measures"][2]["value"] == str(asked["c0001"]["measures"][2]["value"])
    assert document["sentences"]["rfm_class"] == sentences(asked["c0001"])["rfm_class"]


def test_an_unknown_customer_is_told_with_the_nearest_ids(published):
    with pytest.raises(UsageError, match="no customer 'c00O7' on 2024-12-31; the nearest ids are c0007, "):
        explain(published[0], "c00O7")


def test_an_erased_customer_is_told_as_such_and_without_the_key_as_unknown(published, tmp_path, monkeypatch):
    home = Home(tmp_path / "home")
    home.root.mkdir()
    home.published.symlink_to(published[0].published)
    with monkeypatch.context() as deployment:
        deployment.setenv(SETTING, "k" * 64)
        Tombstones.of(home).with_all(["gone"]).save(home)
        with pytest.raises(UsageError, match="customer 'gone' was erased"):
            explain(home, "gone")
    with pytest.raises(UsageError, match="no customer 'gone' on 2024-12-31"):
        explain(home, "gone")


def test_a_day_that_is_not_published_is_told_with_those_that_are(published):
    with pytest.raises(UsageError, match="2024-12-30 is not published; the nearest published days are 2024-12-31"):
        explain(published[0], "c0001", DAY - timedelta(days=1))


def test_a_home_without_a_version_says_so(tmp_path):
    with pytest.raises(UsageError, match="nothing is published yet"):
        explain(Home(tmp_path / "home"), "c0001")


def test_a_version_from_before_there_were_explanations_says_what_to_do(published, tmp_path):
    version = tmp_path / "2024-12-31-aaaaaaaaaaaa"
    version.mkdir()
    manifest = read_manifest(published[1])
    del manifest["tables"]["customer_explanations"]
    (version / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(UsageError, match="no table customer_explanations") as refused:
        explained(version, ["c0001"])
    assert refused.value.todo == "strataflow run --skip-land --date 2024-12-31"


# ---------------------------------------------------------------- since when


def publish_tags(home: Home, day: date, rows: list[tuple[str, str, str | None]]) -> None:
    """A published day with nothing but tags: (customer, tag, value)."""
    version = home.published / "versions" / f"{day}-x"
    folder = version / "customer_tags" / f"as_of_date={day}"
    folder.mkdir(parents=True)
    (home.published / "days").mkdir(exist_ok=True)
    with duckdb.connect() as connection:
        connection.execute("create table tags (customer_id text, tag_id text, tag_value text, as_of_date date)")
        connection.executemany("insert into tags values (?, ?, ?, ?)", [(*row, day) for row in rows])
        connection.execute(f"copy tags to '{folder / 'customer_tags.parquet'}' (format parquet)")
    (home.published / "days" / str(day)).symlink_to(f"../versions/{version.name}")


def test_a_tag_is_had_since_the_first_day_of_the_unbroken_run(tmp_path):
    home = Home(tmp_path)
    first, second, third, fifth = (DAY + timedelta(days=number) for number in (0, 1, 2, 4))
    publish_tags(home, first, [("ann", "always", None), ("ann", "lost_and_back", None), ("ann", "kind", "old")])
    publish_tags(home, second, [("ann", "always", None), ("ann", "kind", "new"), ("ben", "late", None)])
    publish_tags(home, third, [("ann", "always", None), ("ann", "lost_and_back", None), ("ann", "kind", "new")])
    publish_tags(home, fifth, [("ann", "always", None), ("ann", "lost_and_back", None), ("ann", "late", None)])

    assert tagged_since(home, "ann", fifth) == {
        ("always", None): Since(first, is_first_published=True),
        ("lost_and_back", None): Since(third, is_first_published=False),
        ("late", None): Since(fifth, is_first_published=False),
    }
    assert tagged_since(home, "ann", third)["kind", "new"] == Since(second, is_first_published=False)
    assert tagged_since(home, "nobody", fifth) == tagged_since(home, "ann", first - timedelta(days=1)) == {}


def test_an_explanation_says_since_when(published):
    home, _ = published
    told = explain(home, "c0001")
    automatic = [tag for tag in told["tags"] if tag["source"] == "automatic"]
    assert automatic
    assert all(tag["since_date"] == DAY and tag["may_be_longer"] for tag in automatic)
    assert any("since 31 December 2024 or longer" in text for text in sentences(told)["tags"])
