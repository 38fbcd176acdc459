"""The vocabulary of tags: one word, one tag; each rule with a planted fault; nothing guessed."""

from __future__ import annotations

import ast
import csv
import json
import os
import re
import shutil
import subprocess
import sys
import unicodedata
from datetime import date, timedelta
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from strataflow.build import build
from strataflow.errors import UsageError
from strataflow.home import Home
from strataflow.project import Project
from strataflow.sources import Shop
from strataflow.tags import Vocabulary, fold, lint, profile
from strataflow.tags.rule_lint import RESTATED
from strataflow.tags.seeds import ALIAS_COLUMNS, TAG_COLUMNS, read

DAY = date(2026, 11, 22)
DICTIONARY, ALIASES = "dbt_project/seeds/tag_dictionary.csv", "dbt_project/seeds/tag_aliases.csv"
PLAIN = {
    "definition": "As the test says",
    "value_kind": "flag",
    "is_exclusive": "false",
    "is_mandatory": "false",
    "is_default": "false",
    "owner": "crm",
}


def tag(tag_id: str, name_en: str, name_zh: str, **cells: str) -> dict[str, str]:
    return {"tag_id": tag_id, "tag_group": tag_id, "name_en": name_en, "name_zh": name_zh} | PLAIN | cells


def alias(text: str, tag_id: str, **cells: str) -> dict[str, str]:
    return {"alias": text, "tag_id": tag_id} | cells


def write(root: Path, tags: list[dict[str, str]], aliases: list[dict[str, str]]) -> Project:
    """A project that consists of a vocabulary."""
    for file, columns, rows in ((DICTIONARY, TAG_COLUMNS, tags), (ALIASES, ALIAS_COLUMNS, aliases)):
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8", newline="") as out:
            writer = csv.DictWriter(out, columns, restval="")
            writer.writeheader()
            writer.writerows(rows)
    return Project(root)


def found(project: Project) -> list[tuple[str, str, int]]:
    return [(problem.rule, problem.file, problem.line) for problem in lint(project)]


# ---- the vocabulary that ships


def test_the_shipped_vocabulary_has_no_problem():
    assert lint(Project.locate()) == []


@pytest.mark.parametrize(
    ("text", "tag_id"),
    [
        ("客户首单", "first_time_buyer"),
        ("客户已下单", "has_ordered"),
        ("已下单", "has_ordered"),
        ("First Order", "first_time_buyer"),
        ("首单阶段", "high_ticket_first_order"),
        ("未下单", "rfm_no_orders"),
        ("未下单客户", "never_ordered"),
    ],
)
def test_words_that_colleagues_mixed_up_mean_one_tag_each(text, tag_id):
    assert Vocabulary.load(Project.locate()).match(text, DAY) == tag_id


def test_every_shipped_spelling_is_found_whatever_its_width_and_case():
    project = Project.locate()
    vocabulary = Vocabulary.load(project)
    with project.tag_dictionary.open(encoding="utf-8") as file:
        spellings = [(row[column], row["tag_id"]) for row in csv.DictReader(file) for column in ("name_en", "name_zh")]
    with project.tag_aliases.open(encoding="utf-8") as file:
        spellings += [(row["alias"], row["tag_id"]) for row in csv.DictReader(file)]
    assert len(spellings) > 200
    for text, tag_id in spellings:
        for written in (text, text.upper(), wide(text), f" {text} "):
            assert vocabulary.match(written, DAY) == tag_id, written


# ---- folding

WIDE = {code: code + 0xFEE0 for code in range(0x21, 0x7F)} | {0x20: 0x3000}
BLANKS = " \t\n\r\u00a0\u2003\u3000\u200b\u200d\ufeff"
# Whose upper case folds back; the dotless ı and a few like it are other letters in upper case.
LETTERS = st.text().map(lambda text: "".join(c for c in text if fold(c.upper()) == fold(c.lower()) == fold(c)))


def wide(text: str) -> str:
    return text.translate(WIDE)


@given(st.text())
@example("a\u00a8\u0301")
@example("\u1e9e \u0345")
def test_folding_is_idempotent(text):
    assert fold(fold(text)) == fold(text)


@given(st.text())
def test_folding_is_blind_to_width(text):
    assert fold(wide(text)) == fold(text)


@given(st.text(alphabet="abcXYZéÉñßΣσςДд首单客户09-_") | LETTERS)
def test_folding_is_blind_to_case(text):
    assert fold(text.lower()) == fold(text) == fold(text.casefold())
    assert fold("".join(c.upper() for c in text)) == fold(text)


@given(st.text(), st.lists(st.tuples(st.integers(0, 40), st.sampled_from(BLANKS)), max_size=6))
def test_folding_is_blind_to_blanks_wherever_they_stand(text, blanks):
    spaced = text
    for position, blank in blanks:
        spaced = spaced[:position] + blank + spaced[position:]
    assert fold(spaced) == fold(text)


@given(st.text())
def test_what_is_folded_has_no_blank_and_is_in_normal_form(text):
    folded = fold(text)
    assert not any(c.isspace() for c in folded)
    assert unicodedata.is_normalized("NFKC", folded)


def test_folding_keeps_apart_what_only_looks_alike():
    apart = ["首单", "首购", "first-order", "first_order", "firstorder", "firstorders", "客户", "客戶", "vip1", "vip2"]
    assert len({fold(text) for text in apart}) == len(apart)


# ---- 20 tags, 200 spellings, 50 near misses

TAGS = [
    tag("ordered", "Has ordered", "已下单客户"),
    tag("first_buyer", "First-time buyer", "首单客户"),
    tag("repeat_buyer", "Repeat buyer", "复购客户"),
    tag("super_buyer", "Super buyer", "超级客户"),
    tag("stage_new", "New", "新客户"),
    tag("stage_active", "Active", "活跃客户"),
    tag("stage_silent", "Silent", "沉默客户"),
    tag("stage_churned", "Churned", "流失客户"),
    tag("high_value", "High value", "高价值客户"),
    tag("low_value", "Low value", "低价值客户"),
    tag("coupon_lover", "Coupon lover", "优惠敏感"),
    tag("night_shopper", "Night shopper", "夜间活跃"),
    tag("vip", "VIP member", "会员"),
    tag("wholesale", "Wholesale 2B", "批发客户"),
    tag("reviewer", "Reviewer", "爱评价"),
    tag("sharer", "Sharer", "爱分享"),
    tag("referrer", "Referrer", "推荐人"),
    tag("wechat", "WeChat friend", "微信好友"),
    tag("gift_giver", "Gift giver", "送礼人群"),
    tag("cafe_goer", "Café goer", "咖啡爱好者"),
]
OTHER_WORDS = {
    "ordered": ("客户已下单", "已下单"),
    "first_buyer": ("客户首单", "first order"),
    "repeat_buyer": ("回头客", "returning customer"),
    "super_buyer": ("超级用户", "super user"),
    "stage_new": ("新客", "newcomer"),
    "stage_active": ("活跃", "active customer"),
    "stage_silent": ("沉睡客户", "sleeping"),
    "stage_churned": ("流失", "lost customer"),
    "high_value": ("高价值", "big spender"),
    "low_value": ("低价值", "small spender"),
    "coupon_lover": ("羊毛党", "bargain hunter"),
    "night_shopper": ("夜猫子", "night owl"),
    "vip": ("贵宾", "vip"),
    "wholesale": ("批发商", "b2b"),
    "reviewer": ("评价达人", "writes reviews"),
    "sharer": ("分享达人", "shares a lot"),
    "referrer": ("介绍人", "brings friends"),
    "wechat": ("企微好友", "wx friend"),
    "gift_giver": ("送礼客户", "buys gifts"),
    "cafe_goer": ("咖啡控", "coffee lover"),
}
# Ten ways in which people write each of them.
WRITTEN = {
    "ordered": (
        "ordered|ORDERED|Has Ordered|hasordered|Ｈａｓ　ordered|已下单客户|已下单 客户|客户已下单|客户 已下单|　已下单"
    ),
    "first_buyer": (
        "first_buyer|FIRST_BUYER|First-Time Buyer|first-time  buyer|ｆｉｒｓｔ－ｔｉｍｅ buyer|"
        "首单客户|首单 客户|客户首单|客户　首单|First Order"
    ),
    "repeat_buyer": (
        "repeat_buyer|Repeat_Buyer|REPEAT BUYER|repeatbuyer|Ｒｅｐｅａｔ buyer|"
        "复购客户|复购 客户|回头客| 回 头 客|Returning Customer"
    ),
    "super_buyer": (
        "super_buyer|Super_buyer|SUPER BUYER|super  buyer|ｓｕｐｅｒ buyer|"
        "超级客户|超级　客户|超级用户|超级 用户|SuperUser"
    ),
    "stage_new": ("stage_new|STAGE_NEW|new|NEW|Ｎｅｗ|新客户|新 客户|新客| 新客 |Newcomer"),
    "stage_active": ("stage_active|Stage_Active|active|ACTIVE|Ａctive|活跃客户|活跃 客户|活跃|活　跃|Active Customer"),
    "stage_silent": (
        "stage_silent|STAGE_silent|silent|SILENT|ｓｉｌｅｎｔ|沉默客户|沉默　客户|沉睡客户|沉睡 客户|Sleeping"
    ),
    "stage_churned": (
        "stage_churned|Stage_churned|churned|CHURNED|Ｃｈｕｒｎｅｄ|流失客户|流失 客户|流失|流 失|LOST customer"
    ),
    "high_value": (
        "high_value|HIGH_VALUE|High Value|highvalue|Ｈｉｇｈ　Ｖａｌｕｅ|"
        "高价值客户|高价值 客户|高价值|高 价值|Big Spender"
    ),
    "low_value": (
        "low_value|LOW_value|Low Value|lowvalue|Ｌｏｗ value|低价值客户|低价值　客户|低价值|低 价值|SMALL SPENDER"
    ),
    "coupon_lover": (
        "coupon_lover|COUPON_LOVER|Coupon Lover|couponlover|ｃｏｕｐｏｎ lover|"
        "优惠敏感|优惠 敏感|羊毛党|羊 毛 党|Bargain Hunter"
    ),
    "night_shopper": (
        "night_shopper|Night_Shopper|NIGHT SHOPPER|nightshopper|Ｎｉｇｈｔ shopper|"
        "夜间活跃|夜间 活跃|夜猫子|夜 猫子|NightOwl"
    ),
    "vip": ("vip|VIP|Vip|ＶＩＰ|v i p|VIP Member|vip　member|会员|会 员|贵宾"),
    "wholesale": ("wholesale|WHOLESALE|Wholesale 2B|wholesale2b|wholesale ２Ｂ|批发客户|批发 客户|批发商|B2B|ｂ２ｂ"),
    "reviewer": (
        "reviewer|REVIEWER|Reviewer |Ｒｅｖｉｅｗｅｒ|re viewer|爱评价|爱 评价|评价达人|评价　达人|Writes Reviews"
    ),
    "sharer": ("sharer|SHARER| Sharer|ｓｈａｒｅｒ|sha rer|爱分享|爱 分享|分享达人|分享 达人|SHARES A LOT"),
    "referrer": (
        "referrer|REFERRER|Referrer|Ｒｅｆｅｒｒｅｒ|referrer  |推荐人|推荐 人|介绍人|介绍　人|Brings Friends"
    ),
    "wechat": (
        "wechat|WECHAT|WeChat Friend|wechatfriend|ＷｅＣｈａｔ　friend|微信好友|微信 好友|企微好友|企微 好友|WX Friend"
    ),
    "gift_giver": (
        "gift_giver|GIFT_GIVER|Gift Giver|giftgiver|ｇｉｆｔ giver|送礼人群|送礼 人群|送礼客户|送礼　客户|Buys Gifts"
    ),
    "cafe_goer": (
        "cafe_goer|CAFE_GOER|Café goer|CAFÉ GOER|Cafe\u0301 goer|咖啡爱好者|咖啡 爱好者|咖啡控|咖 啡 控|Coffee Lover"
    ),
}
# Near, and not the word: typing errors, other forms, one sign more or less, traditional characters.
NEAR_MISSES = {
    "ordered": "orderd|has orderd|已下單客户|已下单客",
    "first_buyer": "first buyer|first time buyer|首单用户|客户首次下单",
    "repeat_buyer": "repeat buyers|repeat-buyer|复购用户",
    "super_buyer": "super-buyer|superbuyr|超级买家",
    "stage_new": "newc|新的客户",
    "stage_active": "actives|活跃用户|活跃的客户",
    "stage_silent": "silence|沉默用户",
    "stage_churned": "churn|流失用户|已流失",
    "high_value": "high-value|高价值用户|hi value",
    "low_value": "low-value|低价值用户",
    "coupon_lover": "coupon lovers|优惠很敏感",
    "night_shopper": "night shoper|夜间很活跃",
    "vip": "vip 2|会员卡",
    "wholesale": "whole-sale|批发用户",
    "reviewer": "reviewers|爱写评价",
    "sharer": "sharers|爱分享的",
    "referrer": "refferer|推荐",
    "wechat": "we-chat|微信朋友",
    "gift_giver": "gift-giver|送礼人|送禮人群",
    "cafe_goer": "cafe goer|咖啡爱好",
}


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory):
    aliases = [alias(word, tag_id) for tag_id, words in OTHER_WORDS.items() for word in words]
    return Vocabulary.load(write(tmp_path_factory.mktemp("vocabulary"), TAGS, aliases))


def test_two_hundred_spellings_of_twenty_tags_map_without_a_miss(vocabulary):
    spellings = [(text, tag_id) for tag_id, texts in WRITTEN.items() for text in texts.split("|")]
    assert (len(WRITTEN), len(dict(spellings))) == (20, 200)
    assert [(text, vocabulary.match(text, DAY)) for text, _ in spellings] == spellings


def test_fifty_near_misses_are_not_guessed_and_the_nearest_tags_are_named(vocabulary):
    misses = [(text, tag_id) for tag_id, texts in NEAR_MISSES.items() for text in texts.split("|")]
    assert len(dict(misses)) == 50
    for text, tag_id in misses:
        assert vocabulary.match(text, DAY) is None, text
        near = vocabulary.nearest(text, 3)
        assert len({one.tag_id for one in near}) == 3
        assert tag_id in [one.tag_id for one in near], (text, near)
        assert [one.score for one in near] == sorted((one.score for one in near), reverse=True)
        assert all(0 <= one.score < 1 for one in near)


def test_the_nearest_come_with_the_spelling_that_is_near_and_ties_go_by_id(vocabulary):
    first, *_ = vocabulary.nearest("客户已下單", 3)
    assert (first.tag_id, first.spelling, first.score) == ("ordered", "客户已下单", 0.8)
    assert [one.tag_id for one in vocabulary.nearest("价值", 2)] == ["high_value", "low_value"]
    assert [one.tag_id for one in vocabulary.nearest("", 3)] == ["cafe_goer", "coupon_lover", "first_buyer"]
    assert vocabulary.match(" \u3000", DAY) is None


def test_words_are_understood_on_the_days_on_which_they_and_their_tag_are_in_use(tmp_path):
    tags = [
        tag("spring", "Spring guest", "春客", valid_from="2026-03-01", valid_to="2026-05-31"),
        tag("summer", "Summer guest", "夏客", valid_from="2026-06-01"),
    ]
    aliases = [
        alias("guest", "spring", valid_to="2026-05-31"),
        alias("guest", "summer", valid_from="2026-06-01"),
    ]
    known = Vocabulary.load(write(tmp_path, tags, aliases))
    assert [known.match("guest", date(2026, 5, day)) for day in (1, 31)] == ["spring", "spring"]
    assert known.match("guest", date(2026, 6, 1)) == "summer"
    assert known.match("guest", date(2026, 2, 28)) is None
    assert known.match("春客", date(2026, 6, 1)) is None
    assert [one.tag_id for one in known.nearest("guests", on=date(2026, 6, 1))] == ["summer"]
    assert known.nearest("guests", on=date(2026, 2, 28)) == []


# ---- the lint: a sound vocabulary, and one fault at a time

GROUP = {"tag_group": "orders", "is_exclusive": "true", "is_mandatory": "true"}
SOUND = {
    "none": tag("none", "No order", "无订单", **GROUP, is_default="true"),
    "some": tag("some", "Has ordered", "有订单", **GROUP),
    "first": tag("first", "First order", "首单", implies="some", valid_to="2030-12-31"),
    "vip": tag("vip", "VIP", "贵宾", contradicts="none"),
}
SOUND_ALIASES = [alias("客户首单", "first", valid_to="2030-12-31"), alias("已下单", "some")]
AT = {"none": 2, "some": 3, "first": 4, "vip": 5, "new": 6}


def spoiled(root: Path, edits: dict[str, dict[str, str]], more_aliases: list[dict[str, str]]) -> Project:
    tags = [SOUND[tag_id] | edits.get(tag_id, {}) for tag_id in SOUND]
    return write(root, [*tags, *([edits["new"]] if "new" in edits else [])], [*SOUND_ALIASES, *more_aliases])


def test_the_vocabulary_to_be_spoiled_is_sound(tmp_path):
    assert lint(spoiled(tmp_path, {}, [])) == []


# rule, edits by tag (new: a further row), the tag whose line is named
DICTIONARY_FAULTS = [
    ("duplicate_id", {"new": tag("vip", "VIP", "贵宾")}, "new"),
    ("unknown_tag", {"first": {"implies": "some buyer"}}, "first"),
    ("unknown_tag", {"vip": {"contradicts": "nobody"}}, "vip"),
    ("name_of_two_tags", {"new": tag("other", "ｖｉｐ", "别的")}, "new"),
    ("name_of_two_tags", {"new": tag("other", "Other", "贵 宾")}, "new"),
    ("name_of_two_tags", {"vip": {"name_en": "Some"}}, "vip"),
    (
        "implication_cycle",
        {"vip": {"implies": "first", "valid_to": "2030-12-31"}, "first": {"implies": "vip"}},
        "first",
    ),
    ("implication_cycle", {"vip": {"implies": "vip"}}, "vip"),
    ("implied_contradiction", {"vip": {"implies": "none"}}, "vip"),
    (
        "implied_contradiction",
        {"none": {"contradicts": "first vip"}, "new": tag("top", "Top", "顶", implies="none vip")},
        "new",
    ),
    ("implied_contradiction", {"some": {"implies": "none"}}, "some"),
    ("implied_contradiction", {"new": tag("top", "Top", "顶级", implies="some none")}, "new"),
    ("contradicts_itself", {"vip": {"contradicts": "vip"}}, "vip"),
    ("mandatory_without_default", {"none": {"is_default": "false"}}, "none"),
    ("two_defaults", {"some": {"is_default": "true"}}, "some"),
    ("group_at_odds", {"some": {"is_mandatory": "false"}}, "some"),
    ("group_at_odds", {"some": {"is_exclusive": "false"}}, "some"),
    ("expired_target", {"some": {"valid_from": "2026-01-01"}}, "first"),
    ("expired_target", {"vip": {"implies": "first"}}, "vip"),
    ("missing_name", {"vip": {"name_en": ""}}, "vip"),
    ("missing_name", {"vip": {"name_zh": " \u200b"}}, "vip"),
    ("missing_cell", {"vip": {"owner": ""}}, "vip"),
    ("missing_cell", {"vip": {"definition": "　"}}, "vip"),
    ("valid_to_before_valid_from", {"vip": {"valid_from": "2026-02-01", "valid_to": "2026-01-31"}}, "vip"),
    ("unreadable_cell", {"vip": {"valid_from": "01.02.2026"}}, "vip"),
    ("unreadable_cell", {"vip": {"valid_from": "20260201"}}, "vip"),
    ("unreadable_cell", {"vip": {"is_default": "yes"}}, "vip"),
    ("unreadable_cell", {"first": {"implies": "some "}}, "first"),
    ("unreadable_cell", {"first": {"implies": "some  vip", "valid_to": ""}}, "first"),
    ("unreadable_cell", {"vip": {"value_kind": "number"}}, "vip"),
    ("unreadable_cell", {"new": tag("贵客", "Guest", "客人") | {"tag_group": "guests"}}, "new"),
]


@pytest.mark.parametrize(("rule", "edits", "named"), DICTIONARY_FAULTS)
def test_a_fault_in_the_dictionary_is_named_with_its_row_and_rule(rule, edits, named, tmp_path):
    (problem,) = lint(spoiled(tmp_path, edits, []))
    assert (problem.rule, problem.file, problem.line) == (rule, DICTIONARY, AT[named])
    assert problem.what
    assert problem.todo


ALIAS_FAULTS = [
    ("alias_of_two_tags", alias("客户 首单", "some")),
    ("alias_is_a_name_of_another_tag", alias("ＶＩＰ", "some")),
    ("alias_is_a_name_of_another_tag", alias("首单", "some")),
    ("alias_is_a_name_of_another_tag", alias("none", "some")),
    ("unknown_tag", alias("谁", "nobody")),
    ("expired_target", alias("头一单", "first")),
    ("expired_target", alias("头一单", "first", valid_to="2031-01-01")),
    ("expired_target", alias("头一单", "first", valid_from="2031-01-01", valid_to="2031-01-02")),
    ("missing_cell", alias(" \u200b", "some")),
    ("missing_cell", alias("什么", "")),
    ("valid_to_before_valid_from", alias("过", "some", valid_from="2026-02-01", valid_to="2026-01-31")),
]


@pytest.mark.parametrize(("rule", "row"), ALIAS_FAULTS)
def test_a_fault_among_the_aliases_is_named_with_its_row_and_rule(rule, row, tmp_path):
    assert found(spoiled(tmp_path, {}, [row])) == [(rule, ALIASES, 4)]


def test_every_rule_in_the_docs_has_a_planted_fault_and_every_fault_a_rule_in_the_docs():
    page = Path(__file__).parents[1].joinpath("docs", "tags.md").read_text(encoding="utf-8")
    table = page.partition("## The lint")[2].partition("| rule |")[2]
    documented = {rule for row in table.splitlines()[2:] for rule in re.findall(r"`(\w+)`", row.split("|")[1])}
    planted = {rule for rule, *_ in (*DICTIONARY_FAULTS, *ALIAS_FAULTS)} | {"unreadable_row", "profile_outdated"}
    planted |= {rule for rule, *_ in RULE_FAULTS}
    assert documented == planted


def test_an_alias_may_pass_from_one_tag_to_another_and_not_a_day_earlier(tmp_path):
    passing = [alias("大客户", "some", valid_to="2026-06-30"), alias("大客户", "vip", valid_from="2026-07-01")]
    assert lint(spoiled(tmp_path, {}, passing)) == []
    passing[0]["valid_to"] = "2026-07-01"
    assert found(spoiled(tmp_path, {}, passing)) == [("alias_of_two_tags", ALIASES, 5)]


def test_a_mandatory_group_needs_its_default_on_every_day(tmp_path):
    edits = {"none": {"valid_to": "2026-06-30"}, "vip": {"contradicts": ""}}
    (problem,) = lint(spoiled(tmp_path, edits, []))
    assert (problem.rule, problem.line) == ("mandatory_without_default", AT["some"])
    assert "from 2026-07-01 on" in problem.what
    edits["new"] = tag("nothing", "Nothing yet", "尚无", **GROUP, is_default="true", valid_from="2026-07-01")
    assert lint(spoiled(tmp_path, edits, [])) == []


def test_a_cycle_is_told_once_and_names_its_members_only(tmp_path):
    tags = [tag(name, name.upper() + " tag", f"标{name}", implies=to) for name, to in ("ab", "bc", "ca", "da")]
    (problem,) = lint(write(tmp_path, tags, []))
    assert (problem.rule, problem.line) == ("implication_cycle", 2)
    assert "a implies b and c, and the other way round" in problem.what


def test_a_contradiction_is_told_where_it_comes_in_and_not_of_every_tag_above(tmp_path):
    tags = [
        tag("top", "Top", "顶", implies="middle"),
        tag("middle", "Middle", "中", implies="left right"),
        tag("left", "Left", "左", contradicts="right"),
        tag("right", "Right", "右"),
    ]
    (problem,) = lint(write(tmp_path, tags, []))
    assert (problem.rule, problem.line) == ("implied_contradiction", 3)
    assert "left and right exclude each other" in problem.what


def test_rows_are_counted_by_the_lines_of_the_file_and_a_short_row_is_named(tmp_path):
    tags = [SOUND["none"] | {"definition": "Two\nlines"}, SOUND["some"]]
    project = write(tmp_path, tags, [])
    with project.tag_dictionary.open("a", encoding="utf-8") as file:
        file.write("\nvip,vip,VIP\n")
    assert found(project) == [("unreadable_row", DICTIONARY, 6)]


def test_a_seed_that_is_missing_broken_or_lacks_a_column_is_named(tmp_path):
    project = write(tmp_path, [], [])
    project.tag_aliases.write_bytes("alias,tag_id,valid_from,valid_to\n首单,".encode("gb18030"))
    with pytest.raises(UsageError, match="can't be read") as fault:
        lint(project)
    assert "tag_aliases.csv" in fault.value.where
    project.tag_aliases.write_text("alias,tag_id\n", encoding="utf-8")
    with pytest.raises(UsageError, match="lacks valid_from, valid_to"):
        lint(project)
    project.tag_aliases.unlink()
    with pytest.raises(UsageError, match="missing"):
        Vocabulary.load(project)


# ---- where it stands in the way


def call(project: Project, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "strataflow.cli", "tags", "lint", *arguments],
        env=os.environ | {"STRATAFLOW_PROJECT": str(project.root), "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_names_file_row_rule_and_what_to_do_and_ends_with_2(tmp_path):
    project = spoiled(tmp_path, {"vip": {"name_zh": ""}}, [alias("客户首单", "some")])
    told = call(project)
    assert told.returncode == 2
    assert f"{DICTIONARY}:5  missing_name  the tag has no Chinese name" in told.stdout
    assert f"{ALIASES}:4  alias_of_two_tags  " in told.stdout
    assert told.stdout.count("what to do: ") == 2


def test_the_command_speaks_json_and_ends_with_0_if_all_is_well(tmp_path):
    told = json.loads(call(spoiled(tmp_path / "sound", {}, []), "--json").stdout)
    assert told == {"ok": True, "command": "tags lint", "tags": 4, "aliases": 2, "problems": []}
    spoilt = call(spoiled(tmp_path / "spoiled", {}, [alias("谁", "nobody")]), "--json")
    told = json.loads(spoilt.stdout)
    assert (spoilt.returncode, told["ok"], told["error"]["kind"]) == (2, False, "usage")
    (problem,) = told["problems"]
    assert (problem["rule"], problem["file"], problem["line"]) == ("unknown_tag", ALIASES, 4)


def test_a_rule_for_a_tag_that_the_dictionary_lacks_is_named(tmp_path):
    project = write(tmp_path, [tag("vip", "VIP", "贵宾")], [])
    rules = project.dbt / "seeds" / "interaction_tags.csv"
    rules.write_text("tag_id,kind,window_days\nvip,shared,30\nno_such_tag,shared,30\n", encoding="utf-8")
    assert found(project) == [("unknown_tag", "dbt_project/seeds/interaction_tags.csv", 3)]


# rule, seed, column to spoil, what is in it, what is written there
RULE_FAULTS = [
    ("restates_nothing", "tag_dictionary", "agrees_with", "rfm_class", "rfm_clas"),
    ("restates_nothing", "tag_dictionary", "agrees_with", "ecommerce_stage", "lifecycle_stage"),
    ("restates_nothing", "tag_dictionary", "agrees_with", "value_tier", ""),
    ("restates_nothing", "tag_dictionary", "agrees_value", "important_value", "importan_value"),
    ("restates_nothing", "tag_dictionary", "agrees_value", "silent", ""),
    # a stage of another ladder is none of this one
    ("restates_nothing", "tag_dictionary", "agrees_value", "first_purchase", "first_order"),
    ("restates_nothing", "tag_dictionary", "agrees_value", "mid", "middle"),
    ("unknown_kind", "interaction_tags", "kind", "article_read", "articles_read"),
    ("unknown_kind", "need_types", "subject", "form_submitted", "form"),
    ("window_too_long", "interaction_tags", "window_days", "90", "366"),
    ("unreadable_cell", "interaction_tags", "window_days", "90", "a year"),
    ("unreadable_cell", "interaction_tags", "window_days", "90", "0"),
    ("unknown_tag", "hour_bands", "hour_band", "midday", "lunch"),
]


@pytest.mark.parametrize(("rule", "seed", "column", "word", "instead"), RULE_FAULTS)
def test_a_rule_that_would_silently_make_a_tag_of_nobody_is_named(rule, seed, column, word, instead, tmp_path):
    dbt = Project.locate().dbt
    shutil.copytree(dbt / "seeds", tmp_path / "dbt_project" / "seeds")
    shutil.copy(dbt / "dbt_project.yml", tmp_path / "dbt_project")
    path = tmp_path / "dbt_project" / "seeds" / f"{seed}.csv"
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    line = next(line for line, row in enumerate(rows, 2) if row[column] == word)
    rows[line - 2][column] = instead
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    assert found(Project(tmp_path)) == [(rule, f"dbt_project/seeds/{seed}.csv", line)]


def test_what_a_tag_may_restate_is_what_the_model_looks_at():
    model = Project.locate().dbt / "models" / "tags" / "int_customer_tags_from_segments.sql"
    listed = re.search(r"set columns = (\[.*?\])", model.read_text(encoding="utf-8")).group(1)
    assert ast.literal_eval(listed) == list(RESTATED)


def test_the_columns_of_the_profile_follow_the_dictionary(tmp_path):
    """A group whose tags exclude each other is a column, as is any other tag; what is outdated is named."""
    project = write(tmp_path, [SOUND[tag_id] | {"is_exclusive": "true"} for tag_id in SOUND], [])
    marts = project.dbt / "models" / "marts"
    marts.mkdir(parents=True)
    assert found(project) == []
    (marts / "customer_profile.sql").touch()
    assert found(project) == [("profile_outdated", profile.COLUMNS_FILE, 1)]
    with pytest.raises(UsageError, match="strataflow tags profile"):
        profile.refuse_outdated(project)
    assert profile.write(project, read(project))
    assert found(project) == []
    assert not profile.write(project, read(project))
    profile.refuse_outdated(project)

    flags = {"tag_group": "loose", "is_exclusive": "false"}
    loose = [tag("fan", "Fan", "粉丝") | flags, tag("age", "Age", "年龄") | flags | {"value_kind": "value"}]
    rows = read(write(tmp_path, [*(SOUND[tag_id] | {"is_exclusive": "true"} for tag_id in SOUND), *loose], []))
    groups = list(dict.fromkeys(row["tag_group"] for row in SOUND.values()))
    assert found(project) == [("profile_outdated", profile.COLUMNS_FILE, 1)]
    assert [column.name for column in profile.columns(rows)] == [*groups, "is_fan", "age"]
    (model,) = yaml.safe_load(profile.text(rows))["models"]
    told = {column["name"]: column for column in model["columns"]}
    assert list(told) == ["customer_id", "as_of_date", *groups, "is_fan", "age"]
    assert (told["is_fan"]["data_type"], told["age"]["data_type"]) == ("boolean", "varchar")
    assert "Fan" in told["is_fan"]["description"]
    assert "粉丝" in told["is_fan"]["config"]["meta"]["zh"]


def test_a_build_with_a_word_for_two_tags_does_not_begin(tmp_path):
    root = tmp_path / "rules"
    shutil.copytree(Project.locate().dbt, root / "dbt_project", ignore=shutil.ignore_patterns("target", "logs"))
    with (root / ALIASES).open("a", encoding="utf-8") as file:
        file.write("客户首单,has_ordered,,\n")
    home = Home(tmp_path / "home")
    with pytest.raises(UsageError, match="alias_of_two_tags: alias '客户首单' of has_ordered") as refused:
        build(home, Project(root), Shop(name="corner", time_zone="UTC", currency="USD"), DAY + timedelta(days=1))
    last = len((root / ALIASES).read_text(encoding="utf-8").splitlines())
    assert refused.value.where == f"{ALIASES}:{last}"
    assert not home.root.exists()
