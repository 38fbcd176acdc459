"""The gates: what holds passes, each planted fault is stopped and named, a crash is neither."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path

import duckdb
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gate_worlds import (
    DAY,
    FEEDS,
    PROJECT,
    TABLES,
    Shop,
    copy_to,
    good_values,
    make_build,
    make_shop,
    project_of,
    publish_classes,
)
from strataflow.build import Build
from strataflow.errors import GateFailed, StepFailed, UsageError
from strataflow.gates.docs import KEPT_PAGES
from strataflow.gates.gx_duckdb import escaped
from strataflow.gates.suites import load_suites
from strataflow.home import Home
from strataflow.project import Project
from strataflow.validate import ROWS_KEPT, validate_built, validate_landed

VALUES = {
    "landed_day": {"day": DAY, "since": DAY},
    "built_tables": {
        "as_of": DAY,
        "known_at": DAY,
        "orders_counted_through": date.min,
        "agreeing_columns": "rfm_class",
        "rfm_window_days": 365,
        "contact_cap_contacts": 4,
        "contact_cap_days": 30,
        "contact_look_back_days": 90,
        "ltv_discount_rate": 0.10,
        "cluster_refit_weeks": 4,
    },
}


def suite_of(gate: str) -> dict[str, str]:
    """The suite of every expectation of a gate."""
    suites = load_suites(PROJECT.expectations / gate, VALUES[gate], TABLES)
    return {expectation.name: suite.name for suite in suites for expectation in suite.expectations}


BUILT, LANDED = suite_of("built_tables"), suite_of("landed_day")


@pytest.fixture(scope="module")
def good_build(tmp_path_factory) -> Home:
    home = Home(tmp_path_factory.mktemp("built") / "home")
    make_build(home)
    return home


@pytest.fixture
def build(good_build, tmp_path) -> Build:
    """A build of one's own to spoil."""
    shutil.copytree(good_build.root, tmp_path / "home")
    return Build(tmp_path / "home" / "builds" / str(DAY) / "build.duckdb", DAY, DAY, {"build_id": "b1"})


@pytest.fixture
def home(tmp_path) -> Home:
    return Home(tmp_path / "home")


@pytest.fixture(scope="module")
def good_shop(tmp_path_factory) -> Shop:
    shop = make_shop(tmp_path_factory.mktemp("landed"))
    shop.land_all(DAY)
    return shop


@pytest.fixture
def shop(good_shop, tmp_path) -> Shop:
    """A shop of one's own on whose day every source has delivered."""
    shutil.copytree(good_shop.home.root, tmp_path / "home")
    return Shop(Home(tmp_path / "home"), good_shop.sources)


def spoil(build: Build, *statements: str) -> Build:
    with duckdb.connect(str(build.path)) as connection:
        for statement in statements:
            connection.execute(statement)
    return build


def not_holding(report) -> set[str]:
    return {found.name for found in report.failures + report.warnings}


def edit(project: Project, gate: str, suite: str, change) -> Path:
    """Let ``change`` edit a suite's YAML."""
    path = project.expectations / gate / f"{suite}.yml"
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path


# ---------------------------------------------------------------- what holds


def test_a_good_build_passes_with_every_expectation_judged(build, home):
    report = validate_built(home, PROJECT, build)
    assert not_holding(report) == set()
    assert {judged.name for judged in report.expectations} == set(BUILT)
    assert report.raise_if_failed() is report
    assert report.notes == ("no earlier day is published: the drift of class shares is not judged",)


def test_a_good_day_passes_with_every_expectation_judged(shop):
    report = validate_landed(shop.home, PROJECT, shop.sources, DAY)
    assert not_holding(report) == set()
    assert {judged.name for judged in report.expectations} == set(LANDED)


def test_the_report_names_the_build_and_has_no_clock_in_it(build, home):
    written = validate_built(home, PROJECT, build).path.read_bytes()
    assert validate_built(home, PROJECT, build).path.read_bytes() == written
    content = json.loads(written)
    assert content["build_id"] == "b1"
    assert content["passed"] is True
    assert [judged["why"] for judged in content["expectations"] if not judged["why"]] == []
    assert not re.search(r"\d\d:\d\d", written.decode())


def test_a_build_of_parquet_tables_is_judged_alike(build, home, tmp_path):
    with duckdb.connect(str(build.path), read_only=True) as connection:
        names = [name for (name,) in connection.execute("select table_name from duckdb_tables()").fetchall()]
        names.append("int_order_ledger")
        for name in names:
            (tmp_path / "parquet" / name).mkdir(parents=True)
            connection.execute(f"copy (from {name}) to '{tmp_path}/parquet/{name}/part-0.parquet' (format parquet)")
    report = validate_built(home, PROJECT, Build(tmp_path / "parquet", DAY, DAY, build.meta))
    assert report.passed
    assert len(report.expectations) == len(BUILT)


# ---------------------------------------------------------------- gate 2: every fault is stopped and named

ONE = "where customer_id = 'c03'"
SPOILED = {
    "segments_hold_every_known_customer_once": f"delete from customer_segments {ONE}",
    "segments_speak_of_the_day_asked_for": f"update customer_segments set as_of_date = as_of_date - 1 {ONE}",
    "segments_look_no_further_than_the_day": f"update customer_segments set last_activity_date = as_of_date + 1 {ONE}",
    "recency_score_is_1_to_5": f"update customer_segments set recency_score = 6 {ONE}",
    "frequency_score_is_1_to_5": f"update customer_segments set frequency_score = 0 {ONE}",
    "monetary_score_is_1_to_5": f"update customer_segments set monetary_score = -1 {ONE}",
    "scores_are_there_exactly_for_customers_with_an_order": (
        f"update customer_segments set monetary_score = null {ONE}"
    ),
    "no_orders_is_exactly_who_never_ordered": f"update customer_segments set rfm_class = 'no_orders' {ONE}",
    "classes_are_in_the_seed": f"update customer_segments set rfm_class = 'vip' {ONE}",
    "value_tiers_are_in_the_seed": f"update customer_segments set value_tier = null {ONE}",
    "ecommerce_stages_are_on_their_ladder": f"update customer_segments set ecommerce_stage = 'stranger' {ONE}",
    "high_ticket_stages_are_on_their_ladder": f"update customer_segments set high_ticket_stage = 'churned' {ONE}",
    "activity_stages_are_on_their_ladder": f"update customer_segments set activity_stage = 'super' {ONE}",
    "churn_probability_is_a_probability": f"update customer_segments set churn_probability = 'nan' {ONE}",
    "frequency_equals_the_ledger": f"update customer_segments set frequency = frequency + 1 {ONE}",
    "monetary_equals_the_ledger": f"update customer_segments set monetary = monetary + 0.01 {ONE}",
    "lifetime_orders_equal_the_ledger": f"update customer_segments set lifetime_orders = lifetime_orders - 1 {ONE}",
    "lifetime_value_equals_the_ledger": f"update customer_segments set lifetime_value = lifetime_value - 0.01 {ONE}",
    "every_order_received_is_in_the_ledger": f"delete from int_order_ledger_appended {ONE}",
    "churn_risk_lists_exactly_the_customers_with_an_order": f"delete from churn_risk {ONE}",
    "churn_risk_agrees_with_the_segments": f"update churn_risk set monetary = 0 {ONE}",
    "churn_risk_ranks_count_from_1_without_gaps": "update churn_risk set rank = 33 where rank = 32",
    "churn_risk_is_ordered_by_probability": f"update churn_risk set churn_probability = 1 {ONE}",
    "churn_risk_gives_reasons": f"update churn_risk set reasons = ' ' {ONE}",
    "churn_risk_suggests_an_action": f"update churn_risk set suggested_action = null {ONE}",
    "everyone_is_listed_or_suppressed_once": "delete from contact_list where rank = 9",
    "nobody_held_out_is_listed": "update customer_segments set is_holdout = true",
    "nobody_without_consent_is_listed": "update int_customer_consents set customer_id = 'c02' where said_hour = 9",
    "nobody_contacted_enough_is_listed": (
        "insert into int_interaction_ledger select customer_id, interaction_date - 29, kind, 'post' "
        "from int_interaction_ledger, range(3)"
    ),
    "contact_list_agrees_with_the_segments": "update contact_list set priority = priority + 0.01 where rank = 9",
    "contact_list_ranks_follow_priority_from_1_without_gaps": "update contact_list set rank = 100 where rank = 9",
    "contact_list_says_why_and_what_to_do": "update contact_list set why_zh = ' ' where rank = 9",
    "suppressed_customers_have_a_known_reason": (
        "update contact_suppressed set suppressed_reason = 'mood' where suppressed_reason = 'no_consent'"
    ),
    "lifetime_values_are_of_the_customers_with_an_order": f"delete from customer_lifetime_value {ONE}",
    "lifetime_values_speak_of_the_day_asked_for": (
        f"update customer_lifetime_value set as_of_date = as_of_date - 1 {ONE}"
    ),
    "lifetime_values_are_possible": f"update customer_lifetime_value set expected_value_low = 48 {ONE}",
    "lifetime_value_is_orders_times_value_discounted": (
        f"update customer_lifetime_value set expected_value = 24.72 {ONE}"
    ),
    "customers_with_an_order_belong_to_one_group": f"delete from behaviour_cluster {ONE}",
    "group_members_speak_of_the_day_asked_for": f"update behaviour_cluster set as_of_date = as_of_date - 1 {ONE}",
    "groups_of_customers_are_told_of_under_the_same_names": f"update behaviour_cluster set name_zh = '老客户' {ONE}",
    "customers_belong_to_the_nearest_group": f"update behaviour_cluster set distance = 1.6 {ONE}",
    "groups_hold_the_customers_who_belong_to_them": (
        "update behaviour_clusters set customers = customers + 1 where cluster_id = 'cluster_4'"
    ),
    "groups_are_called_by_different_names": (
        "update behaviour_clusters set name_en = 'frequent' where cluster_id = 'cluster_4'"
    ),
    "groups_or_the_reason_why_there_are_none": "update behaviour_clusters set reason = ''",
    "groups_come_from_the_fit_in_force": "update behaviour_clusters set fitted_on = as_of_date",
    "nobody_held_out_is_offered_products": f"update customer_segments set is_holdout = true {ONE}",
    "offered_products_are_ranked_from_1_without_gaps": f"delete from next_best_products {ONE} and rank = 1",
    "offers_are_of_the_day_and_above_chance": f"update next_best_products set drawn_lift = 1 {ONE} and rank = 1",
    "model_card_names_one_candidate_in_use": "update churn_model_card set is_used = true",
    "model_in_use_has_the_lowest_log_loss": ("update churn_model_card set log_loss = 0.3 where candidate = 'recency'"),
    "model_card_figures_are_possible": "update churn_model_card set auc = 'nan'::double where candidate = 'recency'",
    "model_was_trained_on_the_sunday_before": "update churn_model_card set trained_at = as_of_date",
    "cutoffs_are_kept_for_every_measure": "update rfm_cutoffs set measure = 'recency' where measure = 'monetary'",
    "cutoffs_rise": "update rfm_cutoffs set cutoff_2 = 0 where measure = 'monetary'",
    "cutoffs_speak_of_all_scored_customers": "update rfm_cutoffs set scored_customers = 1 where measure = 'monetary'",
    "explanations_agree_with_the_segments": f"update customer_explanations set monetary_is_high = null {ONE}",
    "next_steps_lead_elsewhere_and_lie_ahead": (
        f"update customer_explanations set next_value_tier_by_date = as_of_date {ONE}"
    ),
    "tags_speak_of_the_day_asked_for": f"update customer_tags set as_of_date = as_of_date + 1 {ONE}",
    "tags_stand_in_their_group": f"update customer_tags set tag_group = 'region' {ONE} and tag_id = 'has_ordered'",
    "tags_have_a_value_where_the_dictionary_says_so": (
        f"update customer_tags set tag_value = null {ONE} and tag_id = 'main_channel'"
    ),
    "tags_on_orders_agree_with_the_ledger": f"update customer_segments set lifetime_orders = 0 {ONE}",
    "tags_say_where_they_come_from": "update customer_tags set tagged_by = null where source = 'manual'",
    "tags_have_evidence": f"update customer_tags set evidence = '' {ONE}",
    "tags_are_in_the_dictionary": f"update customer_tags set tag_id = '已下单' {ONE} and tag_id = 'has_ordered'",
    "tags_are_given_once": f"insert into customer_tags from customer_tags {ONE} and tag_id = 'main_channel'",
    "exclusive_groups_hold_one_tag": (
        f"insert into customer_tags select * replace ('never_ordered' as tag_id) from customer_tags {ONE} "
        "and tag_id = 'has_ordered'"
    ),
    "mandatory_groups_hold_a_tag_for_everyone": f"delete from customer_tags {ONE} and tag_group = 'activity_stage'",
    "implied_tags_are_there": f"delete from customer_tags {ONE} and tag_id = 'has_ordered'",
    "contradicting_tags_do_not_meet": (
        f"insert into customer_tags select * replace ('rfm_no_orders' as tag_id, 'rfm_class' as tag_group) "
        f"from customer_tags {ONE} and tag_id = 'has_ordered'"
    ),
    "tags_agree_with_the_segments": (
        f"update customer_tags set tag_id = 'activity_new' {ONE} and tag_id = 'activity_churned'"
    ),
    "segments_are_restated_as_tags": f"delete from customer_tags {ONE} and tag_group = 'rfm_class'",
    "tagged_customers_have_a_segment": f"update customer_tags set customer_id = 'c99' {ONE}",
    "every_statement_of_staff_has_one_outcome": "delete from manual_tag_outcomes where outcome = 'expired'",
    "manual_tags_in_force_are_tags_of_the_customer": "delete from customer_tags where source = 'manual'",
    "manual_tags_end_on_their_last_day": (
        "update customer_tags set expires_at = as_of_date - 1 where source = 'manual'"
    ),
    "unknown_texts_are_in_the_review_queue": "update tag_review_queue set times = 1",
    "tags_that_lost_say_to_what": "delete from tag_conflicts where source = 'manual'",
    "groups_reach_whom_their_tags_reach": (
        "update tag_coverage set customers = customers - 1, untagged_customers = untagged_customers + 1 "
        "where level = 'group' and subject = 'order_status'"
    ),
    "coverage_counts_every_customer": "update tag_coverage set untagged_customers = 0 where level = 'optional'",
}
SHARES = {"class_shares_are_stable", "class_shares_do_not_jump"}


def test_every_expectation_on_built_tables_has_a_planted_fault():
    assert set(SPOILED) | SHARES == set(BUILT)


@pytest.mark.parametrize("name", SPOILED)
def test_a_fault_in_the_build_is_stopped_and_named(name, build, home, tmp_path):
    project = project_of(tmp_path / "project", "built_tables", BUILT[name])
    report = validate_built(home, project, spoil(build, SPOILED[name]))
    found = {judged.name: judged for judged in report.failures + report.warnings}[name]
    assert found.unexpected_count
    assert found.sample
    rows = duckdb.sql(f"from '{report.path.parent / found.rows_file}'").fetchall()
    assert len(rows) == found.unexpected_count
    if found.severity == "critical":
        with pytest.raises(GateFailed, match=name):
            report.raise_if_failed()
    else:
        assert report.passed


@pytest.mark.parametrize(
    ("last_day", "refused"), [(DAY, set()), (DAY - timedelta(days=1), {"tags_are_in_the_dictionary"})]
)
def test_a_tag_is_a_word_of_the_dictionary_up_to_its_last_day(last_day, refused, build, home, tmp_path):
    project = project_of(tmp_path / "project", "built_tables", "tag_consistency")
    spoil(build, f"update tag_dictionary set valid_to = '{last_day}' where tag_id = 'main_channel'")
    report = validate_built(home, project, build)
    assert not_holding(report) == refused
    assert all("main_channel" in str(found.sample) for found in report.failures)


def test_a_table_that_a_shop_has_not_switched_on_is_not_judged(build, home, tmp_path):
    project = project_of(tmp_path / "project", "built_tables", "behaviour_cluster", "behaviour_clusters", "rfm_cutoffs")
    spoil(build, "drop table behaviour_cluster", "drop table behaviour_clusters")
    report = validate_built(home, project, build)
    assert report.passed
    assert {judged.suite for judged in report.expectations} == {"rfm_cutoffs"}


def test_a_group_that_is_no_longer_in_use_is_not_demanded(build, home, tmp_path):
    project = project_of(tmp_path / "project", "built_tables", "tag_consistency")
    spoil(build, "delete from customer_tags where tag_group = 'value_tier'")
    demanded = {"mandatory_groups_hold_a_tag_for_everyone", "segments_are_restated_as_tags"}
    assert not_holding(validate_built(home, project, build)) == demanded
    spoil(build, f"update tag_dictionary set valid_to = '{DAY - timedelta(days=1)}' where tag_group = 'value_tier'")
    assert not_holding(validate_built(home, project, build)) == set()


@pytest.mark.parametrize(
    ("name", "statement"),
    [
        ("segments_hold_every_known_customer_once", f"insert into customer_segments from customer_segments {ONE}"),
        ("segments_hold_every_known_customer_once", f"update customer_segments set customer_id = 'c99' {ONE}"),
        ("segments_look_no_further_than_the_day", f"update customer_segments set recency_days = 0 {ONE}"),
        ("no_orders_is_exactly_who_never_ordered", "update customer_segments set rfm_class = 'general_keep'"),
        ("scores_are_there_exactly_for_customers_with_an_order", "update customer_segments set recency_score = 1"),
        ("every_order_received_is_in_the_ledger", f"insert into int_order_ledger_appended from int_order_ledger {ONE}"),
        ("churn_risk_lists_exactly_the_customers_with_an_order", f"update churn_risk set customer_id = 'c39' {ONE}"),
        ("churn_risk_lists_exactly_the_customers_with_an_order", f"update customer_segments set is_holdout = 1 {ONE}"),
        ("churn_risk_ranks_count_from_1_without_gaps", "update churn_risk set rank = 4 where rank = 5"),
        ("churn_risk_ranks_count_from_1_without_gaps", "update churn_risk set rank = rank - 1"),
        ("explanations_agree_with_the_segments", f"delete from customer_explanations {ONE}"),
        ("explanations_agree_with_the_segments", f"update customer_explanations set rfm_class = 'no_orders' {ONE}"),
        ("explanations_agree_with_the_segments", "update customer_explanations set as_of_date = as_of_date + 1"),
        (
            "next_steps_lead_elsewhere_and_lie_ahead",
            "update customer_explanations set next_rfm_class = 'important_value' where rfm_class = 'important_value'",
        ),
        ("next_steps_lead_elsewhere_and_lie_ahead", "update customer_explanations set next_value_tier_amount = 0"),
        ("next_steps_lead_elsewhere_and_lie_ahead", "update customer_explanations set next_rfm_class_amount = null"),
        ("everyone_is_listed_or_suppressed_once", "insert into contact_suppressed from contact_suppressed"),
        ("nobody_without_consent_is_listed", "update contact_channels set consent_by_default = false"),
        ("nobody_contacted_enough_is_listed", "update int_interaction_ledger set customer_id = 'c02'"),
        ("contact_list_ranks_follow_priority_from_1_without_gaps", "update contact_list set priority = rank"),
        ("contact_list_says_why_and_what_to_do", "update contact_list set channel = 'pigeon'"),
        ("tags_have_a_value_where_the_dictionary_says_so", "update customer_tags set tag_value = 'x'"),
        ("lifetime_values_are_possible", f"update customer_lifetime_value set expected_orders = null {ONE}"),
        ("lifetime_values_are_possible", f"update customer_lifetime_value set method = 'cohort_average' {ONE}"),
        ("lifetime_value_is_orders_times_value_discounted", "update customer_lifetime_value set expected_value = 22"),
        ("customers_with_an_order_belong_to_one_group", f"insert into behaviour_cluster from behaviour_cluster {ONE}"),
        ("customers_with_an_order_belong_to_one_group", "update behaviour_clusters set cluster_id = 'none'"),
        ("groups_of_customers_are_told_of_under_the_same_names", "delete from behaviour_clusters"),
        ("customers_belong_to_the_nearest_group", "update behaviour_cluster set next_cluster_id = cluster_id"),
        ("customers_belong_to_the_nearest_group", "update behaviour_cluster set distance = null"),
        ("groups_hold_the_customers_who_belong_to_them", "update behaviour_clusters set net_revenue = 1"),
        ("groups_are_called_by_different_names", "update behaviour_clusters set name_zh = ''"),
        (
            "groups_or_the_reason_why_there_are_none",
            "update behaviour_clusters set cluster_id = 'none' where cluster_id = 'cluster_4'",
        ),
        ("groups_or_the_reason_why_there_are_none", "update behaviour_clusters set silhouette = null"),
        ("groups_come_from_the_fit_in_force", "update behaviour_clusters set fitted_on = fitted_on - 35"),
        ("groups_come_from_the_fit_in_force", "update behaviour_clusters set first_fitted_on = as_of_date"),
        ("model_card_names_one_candidate_in_use", "update churn_model_card set is_used = false"),
        ("nobody_held_out_is_offered_products", f"update next_best_products set customer_id = 'c99' {ONE}"),
        ("offered_products_are_ranked_from_1_without_gaps", f"update next_best_products set product_id = 'cup' {ONE}"),
        ("offers_are_of_the_day_and_above_chance", "update next_best_products set as_of_date = as_of_date + 1"),
        ("model_was_trained_on_the_sunday_before", "update churn_model_card set trained_at = trained_at - 7"),
        ("model_was_trained_on_the_sunday_before", "update churn_model_card set trained_at = trained_at + 1"),
        ("tags_agree_with_the_segments", f"update customer_segments set value_tier = 'high' {ONE}"),
        ("segments_are_restated_as_tags", f"update customer_segments set ecommerce_stage = 'super' {ONE}"),
        ("mandatory_groups_hold_a_tag_for_everyone", f"delete from customer_tags {ONE}"),
        (
            "tags_on_orders_agree_with_the_ledger",
            "update customer_segments set lifetime_orders = 9 where customer_id = 'c00'",
        ),
        ("tags_say_where_they_come_from", f"update customer_tags set source = 'guessed' {ONE}"),
        ("tags_say_where_they_come_from", "update customer_tags set since_date = since_date + 9"),
        ("every_statement_of_staff_has_one_outcome", "insert into manual_tag_outcomes from manual_tag_outcomes"),
        ("every_statement_of_staff_has_one_outcome", "update manual_tag_outcomes set outcome = 'lost'"),
        ("every_statement_of_staff_has_one_outcome", "update manual_tag_outcomes set source_line = 99 - source_line"),
        ("manual_tags_in_force_are_tags_of_the_customer", "update customer_tags set tagged_by = 'wu'"),
        ("manual_tags_in_force_are_tags_of_the_customer", f"update customer_tags set source = 'manual' {ONE}"),
        ("unknown_texts_are_in_the_review_queue", "delete from tag_review_queue"),
        ("unknown_texts_are_in_the_review_queue", "update tag_review_queue set tag_text = 'another'"),
        ("tags_that_lost_say_to_what", "update tag_conflicts set against_tag_id = 'coupon_user'"),
        ("tags_that_lost_say_to_what", "update tag_conflicts set tag_id = 'has_ordered' where source = 'automatic'"),
    ],
)  # fmt: skip
def test_the_fault_from_another_side_is_named_alike(name, statement, build, home, tmp_path):
    project = project_of(tmp_path / "project", "built_tables", BUILT[name])
    assert name in not_holding(validate_built(home, project, spoil(build, statement)))


def test_money_given_to_the_wrong_customer_is_found_although_the_totals_agree(build, home, tmp_path):
    project = project_of(tmp_path / "project", "built_tables", "segments_and_ledger")
    spoil(
        build,
        "update customer_segments set monetary = monetary + 5 where customer_id = 'c03'",
        "update customer_segments set monetary = monetary - 5 where customer_id = 'c04'",
    )
    (failure,) = validate_built(home, project, build).failures
    assert failure.name == "monetary_equals_the_ledger"
    assert failure.sample == ({"customer_id": "c03"}, {"customer_id": "c04"})


def test_every_customer_of_a_faulty_pattern_is_named_not_only_the_first(build, home, tmp_path):
    project = project_of(tmp_path / "project", "built_tables", "tag_consistency")
    spoil(build, "delete from customer_tags where tag_id = 'has_ordered'")
    report = validate_built(home, project, build)
    missing = {judged.name: judged for judged in report.failures}["mandatory_groups_hold_a_tag_for_everyone"]
    assert missing.unexpected_count == 32
    named = duckdb.sql(f"select distinct customer_id from '{report.path.parent / missing.rows_file}'").fetchall()
    assert len(named) == 32


def test_orders_that_an_earlier_gate_has_counted_are_not_counted_again(build, home, tmp_path):
    project = project_of(tmp_path / "project", "built_tables", "orders_counted")
    counted = DAY - timedelta(days=100)
    spoil(
        build,
        f"delete from int_order_ledger_appended where received_date < date '{counted}' {ONE.replace('where', 'and')}",
        "create table kept as from int_order_ledger_appended",
        f"delete from int_order_ledger_appended where received_date <= date '{counted}'",
        "create or replace view int_order_ledger as from kept",
    )
    assert not validate_built(home, project, build).passed
    publish_classes(home, counted, {"important_value": 40})
    assert validate_built(home, project, build).passed


def test_orders_received_after_the_builds_time_are_not_missed(build, tmp_path):
    home = Home(tmp_path / "home")
    project = project_of(tmp_path / "project", "built_tables", "orders_counted")
    copy_to(home.partition("orders", DAY + timedelta(days=1), "till"), "select 'late' as order_id")
    assert validate_built(home, project, build).passed
    shutil.move(home.lake / "orders", home.lake / "order_lines")
    copy_to(home.partition("orders", DAY + timedelta(days=1), "till"), "select 'first at order level' as order_id")
    assert validate_built(home, project, build).passed


# ---------------------------------------------------------------- drift of class shares

CALM = {"important_value": 500, "general_value": 300, "no_orders": 200}


def drift(tmp_path: Path, before: dict[str, int], now: dict[str, int], days_between: int = 1) -> set[str]:
    """Names of the share expectations that don't hold between two days."""
    home = Home(tmp_path / "home")
    build = make_build(home)
    rows = ", ".join(f"('{name}', {count})" for name, count in now.items())
    spoil(
        build,
        "create or replace table customer_segments as "
        f"select name as rfm_class from (values {rows}) as v(name, n), range(n)",
    )
    publish_classes(home, DAY - timedelta(days=days_between), before)
    report = validate_built(home, project_of(tmp_path / "project", "built_tables", "class_shares"), build)
    assert report.notes == ()
    assert {judged.name for judged in report.expectations} == SHARES
    return not_holding(report)


@pytest.mark.parametrize(
    ("now", "days_between", "expected"),
    [
        (CALM, 1, set()),
        ({"important_value": 480, "general_value": 310, "no_orders": 210}, 1, set()),
        ({"important_value": 150, "general_value": 650, "no_orders": 200}, 1, {"class_shares_are_stable"}),
        ({"important_value": 30, "general_value": 20, "no_orders": 950}, 1, SHARES),
        ({"general_value": 800, "no_orders": 200}, 1, SHARES),
        ({"important_value": 30, "general_value": 20, "no_orders": 950}, 30, {"class_shares_are_stable"}),
        ({"important_value": 30, "general_value": 20, "no_orders": 1950}, 1, {"class_shares_are_stable"}),
    ],
    ids=["equal", "small", "shift", "jump", "a class is gone", "weeks apart", "base has doubled"],
)
def test_class_shares_are_compared_with_the_last_published_day(now, days_between, expected, tmp_path):
    assert drift(tmp_path, CALM, now, days_between) == expected


def test_a_small_base_is_only_warned_about(tmp_path):
    assert drift(tmp_path, {"important_value": 40}, {"no_orders": 40}) == {"class_shares_are_stable"}


# ---------------------------------------------------------------- gate 1: every fault is stopped and named


def lacking(table: str, column: str) -> dict[str, str]:
    """Values that leave ``column`` empty in the fourth row."""
    good = good_values(table, table, DAY)[column]
    return {column: f"case when n <> 3 then {good} end"}


def land(source: str, **values: str):
    return lambda shop: shop.land(source, **values)


ORDERS_SPOILED = {
    "have_a_business_date": {"order_date": f"case when n <> 3 then date '{DAY}' end"},
    "have_a_business_hour": {"order_hour": "case when n <> 3 then 12 end"},
    "hours_are_hours": {"order_hour": "case when n = 3 then 24 else 0 end"},
    "statuses_are_in_the_seed": {"status": "case when n = 3 then 'hold' else 'paid' end"},
    "are_not_of_tomorrow": {"order_date": f"date '{DAY}' + case when n = 3 then 2 else 0 end"},
    "are_of_the_day_or_before": {"order_date": f"date '{DAY}' + case when n = 3 then 1 else 0 end"},
    "amounts_are_plausible": {"amount": "case when n = 3 then 12345678 else 5 end"},
    "refunds_and_discounts_are_not_negative": {"refunded_amount": "case when n = 3 then -1 else 0 end"},
    "are_fresh": {"order_date": f"date '{DAY}' - 3"},
    "are_not_long_past": {"order_date": f"date '{DAY}' - 15"},
}
DELIVERY_SPOILED = {
    "every_source_has_delivered": lambda shop: shop.home.landing("clicks", DAY).unlink(),
    "manifests_account_for_every_row": lambda shop: shop.write_manifest("till", DAY, 100, 0, rows_read=101),
    "lake_holds_the_rows_landed": lambda shop: shop.home.partition("orders", DAY, "till").unlink(),
    "quarantine_holds_the_rows_refused": lambda shop: shop.write_manifest("till", DAY, 100, 2),
    "files_in_the_lake_are_as_they_landed": lambda shop: shop.write_manifest("till", DAY, 100, 0, partition_sha256="0"),
    "quarantine_stays_within_the_limit": lambda shop: shop.land("till", refused=10),
    "quarantine_is_rare": lambda shop: shop.land("till", refused=2),
    "files_account_for_every_row": lambda shop: shop.write_manifest(
        "till", DAY, 100, 0, files=[{"path": "a", "rows_read": 100, "rows_landed": 99, "rows_quarantined": 0}]
    ),
    "files_add_up_to_the_delivery": lambda shop: shop.write_manifest("till", DAY, 100, 0, files=[]),
}
LANDED_SPOILED = {
    **{
        f"{table}_have_{column.name}": land(source, **lacking(table, column.name))
        for source, table in FEEDS.items()
        for column in TABLES[table].columns
        if column.required
    },
    **{
        f"{table}_{fault}": land(source, **values)
        for source, table in [("till", "orders"), ("till_lines", "order_lines")]
        for fault, values in ORDERS_SPOILED.items()
    },
    **DELIVERY_SPOILED,
    "orders_are_unique_within_a_day": land("till", order_id="'o' || n // 2"),
    "order_lines_of_an_order_belong_to_one_customer": land("till_lines", order_id="'o' || n // 2"),
    "interactions_have_a_business_date": land("clicks", interaction_date=f"case when n <> 3 then date '{DAY}' end"),
    "interactions_hours_are_hours": land("clicks", interaction_hour="-1"),
    "interactions_are_unique_within_a_source_and_day": land("clicks", interaction_id="'i' || n // 2"),
    "interactions_kinds_are_in_the_seed": land("clicks", kind="case when n = 3 then 'poke' else 'shared' end"),
    "interactions_are_not_of_tomorrow": land("clicks", interaction_date=f"date '{DAY}' + 2"),
    "interactions_are_fresh": land("clicks", interaction_date=f"date '{DAY}' - 8"),
    "customers_are_unique_within_a_source_and_day": land("crm", customer_id="'c' || n // 2"),
    "customers_are_not_registered_tomorrow": land("crm", registered_at=f"timestamp '{DAY}' + interval 3 day"),
    "customers_types_are_2b_or_2c": land("crm", customer_type="case n when 3 then 'company' when 4 then ' 2b' end"),
    "customers_hold_until_a_day": land(
        "crm",
        attributes="""case n
            when 3 then '{"membership_until": "31.12.2026"}' when 4 then '{"package_until": "2026-12-31T00:00"}'
            when 5 then '{"package_until": ""}' when 6 then '{"age": "31.12.2026"}' when 7 then 'no JSON' end""",
    ),
    "products_are_unique_within_a_source_and_day": land("range", product_id="'p' || n // 2"),
    "products_prices_are_not_negative": land("range", unit_price="case when n = 3 then -2.5 else 2.5 end"),
    "manual_tags_have_a_business_date": land("notes", tagged_date=f"case when n <> 3 then date '{DAY}' end"),
    "manual_tags_are_added_or_removed": land("notes", action="case when n = 3 then 'ad' else 'remove' end"),
    "manual_tags_are_said_once_within_a_source_and_day": land("notes", customer_id="'c' || n // 2"),
    "manual_tags_are_not_of_tomorrow": land("notes", tagged_date=f"date '{DAY}' + 1"),
    "manual_tags_end_after_they_begin": land("notes", expires_at=f"date '{DAY}' - 1"),
    "products_have_a_category": land("range", category="case when n % 5 > 0 then 'tea' end"),
}
COUNTS = {"row_counts_are_usual", "row_counts_do_not_collapse"}


def test_every_expectation_on_the_landed_day_has_a_planted_fault():
    assert set(LANDED_SPOILED) | COUNTS == set(LANDED)


@pytest.mark.parametrize("name", LANDED_SPOILED)
def test_a_fault_in_the_landed_day_is_stopped_and_named(name, shop, tmp_path):
    project = project_of(tmp_path / "project", "landed_day", LANDED[name])
    LANDED_SPOILED[name](shop)
    report = validate_landed(shop.home, project, shop.sources, DAY)
    found = {judged.name: judged for judged in report.failures + report.warnings}[name]
    rows = duckdb.sql(f"from '{report.path.parent / found.rows_file}'").fetchall()
    assert len(rows) == found.unexpected_count
    if found.severity == "critical":
        with pytest.raises(GateFailed, match=name):
            report.raise_if_failed()


def test_a_day_without_rows_is_fine(shop):
    shop.land_all(DAY, clicks=0, crm=0, range=0)
    report = validate_landed(shop.home, PROJECT, shop.sources, DAY)
    assert not_holding(report) == set()


def test_only_the_tables_asked_for_are_judged_and_reported_apart(shop):
    shop.land("till", status="'hold'")
    shop.home.landing("till", DAY).unlink()
    report = validate_landed(shop.home, PROJECT, shop.sources, DAY, tables=["interactions"])
    assert report.passed
    assert report.path.parent.name == "landed-interactions"
    assert {judged.table for judged in report.expectations} == {
        "interactions", "deliveries", "delivered_files", "row_counts",
    }  # fmt: skip
    assert not validate_landed(shop.home, PROJECT, shop.sources, DAY, tables=["orders", "order_lines"]).passed


def test_tables_that_no_source_feeds_pass_with_a_note(shop):
    orders_only = shop.sources.model_copy(update={"sources": shop.sources.feeding(["orders"])})
    report = validate_landed(shop.home, PROJECT, orders_only, DAY, tables=["interactions"])
    assert report.passed
    assert report.notes == ("no source feeds interactions: results that rest on it are empty",)


def test_a_shop_of_orders_only_is_told_what_stays_empty(shop):
    shop.land("till")
    orders_only = shop.sources.model_copy(update={"sources": shop.sources.feeding(["orders"])})
    report = validate_landed(shop.home, PROJECT, orders_only, DAY)
    (note,) = report.notes
    assert "no source feeds" in note
    assert "interactions" in note
    assert "are empty" in note


# ---------------------------------------------------------------- row counts


def counts(shop: Shop, tmp_path: Path, since: date = DAY) -> set[str]:
    """Names of the row count expectations that don't hold, and how they are judged."""
    folder = tmp_path / "project"
    project = Project(folder) if folder.exists() else project_of(folder, "landed_day", "row_counts")
    return not_holding(validate_landed(shop.home, project, shop.sources, DAY, since=since))


def land_history(shop: Shop, days: int, rows: int = 100) -> None:
    """Manifests of the days before, as the gate reads only those."""
    for n in range(1, days + 1):
        for source in FEEDS:
            shop.write_manifest(source, DAY - timedelta(days=n), 0, 0, rows_landed=rows)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (100, set()), (51, set()), (199, set()),
        (49, {"row_counts_are_usual"}), (201, {"row_counts_are_usual"}),
        (4, COUNTS), (1, COUNTS), (0, {"row_counts_are_usual"}),
    ],
)  # fmt: skip
def test_a_days_rows_are_compared_with_recent_days(rows, expected, shop, tmp_path):
    land_history(shop, 10)
    shop.land("till", rows=rows)
    assert counts(shop, tmp_path) == expected


def test_a_new_shop_has_nothing_to_compare_with(shop, tmp_path):
    land_history(shop, 6)
    shop.land("till", rows=0)
    assert counts(shop, tmp_path) == set()


def test_the_same_weekday_counts_for_more_than_the_days_between(shop, tmp_path):
    land_history(shop, 21, rows=1000)
    for weeks in (1, 2, 3):
        for source in FEEDS:
            shop.write_manifest(source, DAY - timedelta(weeks=weeks), 0, 0, rows_landed=110)
    assert counts(shop, tmp_path) == set()


def test_a_sparse_table_may_bring_nothing(shop, tmp_path):
    land_history(shop, 20, rows=100)
    for n in range(1, 21):
        shop.write_manifest("clicks", DAY - timedelta(days=n), 0, 0, rows_landed=n % 2)
    shop.land("clicks", rows=0)
    assert counts(shop, tmp_path) == set()


def test_a_bulk_delivery_among_the_recent_days_does_no_harm(shop, tmp_path):
    land_history(shop, 10)
    shop.write_manifest("till", DAY - timedelta(days=10), 0, 0, rows_landed=1_000_000)
    assert counts(shop, tmp_path) == set()


def test_a_bulk_landing_is_judged_in_one_pass_and_only_its_last_day_can_be_stopped(shop, tmp_path):
    since = DAY - timedelta(days=9)
    for n in range(10):
        shop.land_all(since + timedelta(days=n), till=2 if n == 8 else 100)
    assert counts(shop, tmp_path, since) == {"row_counts_are_usual"}
    report = validate_landed(shop.home, PROJECT, shop.sources, DAY, since=since)
    assert report.passed
    assert report.summary_lines()[0].startswith(f"gate landed {since} to {DAY}: passed")
    shop.home.landing("crm", since).unlink()
    (failure,) = validate_landed(shop.home, PROJECT, shop.sources, DAY, since=since).failures
    assert failure.sample == ({"source": "crm", "received_date": str(since)},)


def test_an_analyst_can_open_the_gate_for_a_quiet_day(shop, tmp_path):
    land_history(shop, 10)
    shop.land("till", rows=2)
    project = project_of(tmp_path / "project", "landed_day", "row_counts")
    edit(project, "landed_day", "row_counts", lambda suite: suite["parameters"].update(share_to_stop_below=0))
    assert validate_landed(shop.home, project, shop.sources, DAY).passed


# ---------------------------------------------------------------- a crash is neither


def first_expectation(**changes):
    return lambda suite: suite["expectations"][0].update(changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"kwargs": {"unexpected_rows_query": "select no_such_column from {batch}"}},
        {"kwargs": {"unexpected_rows_query": "selekt * from {batch}"}},
        {"kwargs": {"unexpected_rows_query": "select * from {batch} join no_such_table using (customer_id)"}},
        {"expectation": "expect_column_values_to_not_be_null", "kwargs": {"column": "no_such_column"}},
    ],
    ids=["column", "syntax", "other table", "column of a map"],
)
def test_a_check_that_crashes_is_an_error_of_its_own(changes, build, home, tmp_path):
    project = project_of(tmp_path / "project", "built_tables", "churn_risk")
    assert validate_built(home, project, build).passed
    edit(project, "built_tables", "churn_risk", first_expectation(**changes))
    with pytest.raises(StepFailed, match="churn_risk_lists_exactly_the_customers_with_an_order") as crash:
        validate_built(home, project, build)
    assert "says nothing about the data" in str(crash.value)
    assert not (home.gates / str(DAY) / "built" / "report.json").exists(), "the earlier report must not speak for it"


def test_a_table_that_is_missing_is_an_error_that_names_it(build, home):
    with pytest.raises(StepFailed, match="churn_risk"):
        validate_built(home, PROJECT, spoil(build, "drop table churn_risk"))


def test_a_prepared_table_that_crashes_is_an_error_that_names_it(build, home, tmp_path):
    project = project_of(tmp_path / "project", "built_tables", "tag_consistency")
    with pytest.raises(StepFailed, match="tag_sets"):
        validate_built(home, project, spoil(build, "drop table customer_tags"))


def test_a_truncated_partition_is_an_error_that_names_the_file(shop):
    partition = shop.home.partition("orders", DAY, "till")
    partition.write_bytes(partition.read_bytes()[:-20])
    with pytest.raises(StepFailed, match=re.escape(str(partition))):
        validate_landed(shop.home, PROJECT, shop.sources, DAY)


# ---------------------------------------------------------------- failing rows and what is said of them


def test_failing_rows_are_kept_up_to_a_limit_and_the_error_says_where(build, home, tmp_path):
    project = project_of(tmp_path / "project", "built_tables", "customer_segments")
    spoil(
        build,
        "update customer_segments set recency_score = 7",
        "insert into customer_segments select customer_segments.* replace (customer_id || n as customer_id) "
        "from customer_segments, range(50) as r(n)",
    )
    report = validate_built(home, project, build)
    found = {judged.name: judged for judged in report.failures}["recency_score_is_1_to_5"]
    rows = report.path.parent / found.rows_file
    assert found.unexpected_count == 40 + 40 * 50
    assert duckdb.sql(f"select count(*), min(recency_score) from '{rows}'").fetchall() == [(ROWS_KEPT, 7)]
    assert len(found.sample) == 5
    with pytest.raises(GateFailed) as stopped:
        report.raise_if_failed()
    told = str(stopped.value)
    for part in ("recency_score_is_1_to_5", "2,040 rows", "customer_id=", str(rows), found.todo, str(report.docs)):
        assert part in told


def test_a_rows_key_that_is_no_column_is_an_error_that_names_the_expectation(build, home, tmp_path):
    project = project_of(tmp_path / "project", "built_tables", "churn_risk")
    edit(project, "built_tables", "churn_risk", first_expectation(rows_key=["nobody"]))
    with pytest.raises(StepFailed, match="churn_risk_lists_exactly"):
        validate_built(home, project, spoil(build, SPOILED["churn_risk_lists_exactly_the_customers_with_an_order"]))


# ---------------------------------------------------------------- suites are data


@pytest.mark.parametrize("gate", ["built_tables", "landed_day"])
def test_every_expectation_says_why_and_what_to_do(gate):
    for path in sorted((PROJECT.expectations / gate).glob("*.yml")):
        for expectation in yaml.safe_load(path.read_text(encoding="utf-8"))["expectations"]:
            assert len(expectation["meta"]["why"]) > 20, f"{path.name}: {expectation['name']}"
            assert len(expectation["meta"]["todo"]) > 20, f"{path.name}: {expectation['name']}"
            assert expectation["severity"] in {"critical", "warning"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (first_expectation(meta={"todo": "Mend the model that gives it."}), "meta.why: Field required"),
        (first_expectation(meta={"why": "because", "todo": "Mend the model that gives it."}), "at least 20"),
        (first_expectation(severity="fatal"), "'critical' or 'warning'"),
        (first_expectation(sevrity="critical"), "sevrity"),
        (first_expectation(kwargs={"unexpected_rows_query": "select 1"}), "reads from {batch}"),
        (lambda suite: suite.update(table=None), "either table"),
        (lambda suite: suite.update(optional=True, prepare={suite["table"]: "select 1"}), "can be optional"),
        (lambda suite: suite.update(expectations=[]), "at least 1"),
    ],
    ids=["no why", "short why", "severity", "misspelt", "no batch", "no table", "optional", "empty"],
)
def test_a_suite_written_wrongly_is_refused_by_name(change, said, tmp_path):
    project = project_of(tmp_path / "project", "built_tables", "churn_risk")
    path = edit(project, "built_tables", "churn_risk", change)
    with pytest.raises(UsageError, match=re.escape(said)) as refused:
        load_suites(path.parent, VALUES["built_tables"])
    assert str(path) in str(refused.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (first_expectation(expectation="expect_miracles", kwargs={}), "expect_miracles is no expectation"),
        (first_expectation(expectation="expect_column_values_to_be_unique", kwargs={"colum": "a"}), "does not take"),
    ],
)
def test_an_unknown_expectation_is_refused_by_name(change, said, build, home, tmp_path):
    project = project_of(tmp_path / "project", "built_tables", "churn_risk")
    edit(project, "built_tables", "churn_risk", change)
    with pytest.raises(UsageError, match=said) as refused:
        validate_built(home, project, build)
    assert "churn_risk_lists_exactly_the_customers_with_an_order" in str(refused.value)


def test_two_expectations_of_one_name_are_refused(tmp_path):
    project = project_of(tmp_path / "project", "built_tables", "churn_risk")
    folder = project.expectations / "built_tables"
    shutil.copy(folder / "churn_risk.yml", folder / "other.yml")
    with pytest.raises(UsageError, match="two expectations are named"):
        load_suites(folder, VALUES["built_tables"])


def test_placeholders_keep_their_type_alone_and_become_text_within_text(tmp_path):
    path = tmp_path / "counts.yml"
    path.write_text(
        """
about: Counts are within what is given as parameters.
table: orders
parameters: {fewest: 10, share: 0.5}
expectations:
  - name: enough_rows
    expectation: expect_table_row_count_to_be_between
    severity: critical
    kwargs: {min_value: "{{fewest}}", max_value: "{{ most }}"}
    meta: {why: "A day of {{day}} has more rows than {{fewest}}.", todo: "Land the day again, it may have broken off."}
""",
        encoding="utf-8",
    )
    (suite,) = load_suites(tmp_path, {"day": DAY, "most": 99})
    (expectation,) = suite.expectations
    assert expectation.kwargs == {"min_value": 10, "max_value": 99}
    assert expectation.why == f"A day of {DAY} has more rows than 10."


def test_an_unknown_placeholder_is_refused_with_the_known_ones(tmp_path):
    project = project_of(tmp_path / "project", "built_tables", "class_shares")
    folder = project.expectations / "built_tables"
    text = (folder / "class_shares.yml").read_text(encoding="utf-8")
    (folder / "class_shares.yml").write_text(text.replace("{{as_of}}", "{{as_off}}"), encoding="utf-8")
    with pytest.raises(UsageError, match=re.escape("{{as_off}} stands for nothing")) as refused:
        load_suites(folder, VALUES["built_tables"])
    assert "prepare.class_shares" in str(refused.value)
    assert "as_of, " in str(refused.value)


@given(st.text(alphabet=st.characters(blacklist_characters="\x00\\", blacklist_categories=["Cs"])))
def test_the_sql_of_a_suite_reaches_the_database_as_it_is_written(text):
    from sqlalchemy import text as as_sqlalchemy_reads_it

    query = f"select * from {{batch}} where note = '{text.replace('{batch}', '')}'"
    read = str(as_sqlalchemy_reads_it(escaped(query).format(batch="t")).compile())
    assert read == query.replace("{batch}", "(select * from t)", 1)


def test_sql_with_braces_colons_and_joins_is_judged(build, home, tmp_path):
    project = project_of(tmp_path / "project", "built_tables", "churn_risk")
    query = """
        select risk.customer_id, {'key': risk.rank}['key'] as place, 'at 12:30'::varchar as moment
        from {batch} as risk join customer_segments as segments using (customer_id)
        where risk.reasons not like 'single_order: %' or regexp_matches(risk.customer_id, '^c[0-9]{3}$')
    """
    edit(project, "built_tables", "churn_risk", first_expectation(kwargs={"unexpected_rows_query": query}))
    assert validate_built(home, project, build).passed


# ---------------------------------------------------------------- Data Docs


def test_pages_say_what_is_expected_and_why_and_need_nothing_from_outside(build, home):
    spoil(build, f"update customer_segments set rfm_class = '<script>alert(1)</script>' {ONE}")
    report = validate_built(home, PROJECT, build)
    page = report.docs.read_text(encoding="utf-8")
    for judged in report.expectations:
        assert judged.why.replace("'", "&#x27;") in page
    assert "Churn risk lists exactly the customers with an order." in page
    assert "Classes are in the seed" in page
    assert "gates/2024-03-14/built/failed_rows/classes_are_in_the_seed.parquet" in page
    assert not re.search(r"(src|href)\s*=\s*[\"']?(https?:)?//", page)
    assert "<script" not in page
    assert "@import" not in page
    index = (home.root / "data_docs" / "index.html").read_text(encoding="utf-8")
    assert 'href="built/2024-03-14.html"' in index
    assert "failed" in index


def test_equal_findings_give_equal_pages(build, home):
    page = validate_built(home, PROJECT, build).docs.read_bytes()
    assert validate_built(home, PROJECT, build).docs.read_bytes() == page


def test_old_pages_make_room(build, home):
    folder = home.root / "data_docs" / "built"
    folder.mkdir(parents=True)
    for n in range(KEPT_PAGES + 5):
        (folder / f"{date(2020, 1, 1) + timedelta(days=n)}.html").write_text("old", encoding="utf-8")
    validate_built(home, PROJECT, build)
    kept = sorted(page.name for page in folder.glob("*.html"))
    assert len(kept) == KEPT_PAGES
    assert kept[-1] == "2024-03-14.html"


# ---------------------------------------------------------------- a process of its own


def run_alone(code: str, tmp_path: Path, *, from_stdin: bool = False) -> subprocess.CompletedProcess:
    """Run Python code in a process with an empty user folder."""
    user = tmp_path / "user"
    user.mkdir()
    paths = [str(PROJECT.root / "scripts"), str(PROJECT.root / "tests"), str(tmp_path / "packages")]
    environment = {"HOME": str(user), "PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(paths)}
    arguments = [sys.executable, "-"] if from_stdin else [sys.executable, "-c", code]
    return subprocess.run(
        arguments, input=code if from_stdin else None, env=environment, text=True, capture_output=True, check=False
    )


def test_a_gate_needs_no_network_and_leaves_nothing_in_the_users_folder(tmp_path):
    code = f"""
import socket
def refuse(*_): raise AssertionError("the gate asked for the network")
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
from pathlib import Path
from gate_worlds import PROJECT, Home, make_build
from strataflow.validate import validate_built
home = Home(Path({str(tmp_path / "home")!r}))
print("passed", validate_built(home, PROJECT, make_build(home)).passed)
"""
    ran = run_alone(code, tmp_path)
    assert ran.stdout == "passed True\n", ran.stderr
    assert list((tmp_path / "user").iterdir()) == []
    assert "Traceback" not in ran.stderr


def test_an_installed_pyspark_can_neither_end_nor_slow_down_a_gate(tmp_path):
    """PySpark ends a process that it takes for its doctests, with exit code 0."""
    package = tmp_path / "packages" / "pyspark"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("import sys\nsys.exit(0)\n", encoding="utf-8")
    code = """
from strataflow.gates.gx_duckdb import import_great_expectations
print("version", import_great_expectations().__version__.split(".")[0])
import sys
print("hidden still:", "pyspark" in sys.modules)
"""
    ran = run_alone(code, tmp_path, from_stdin=True)
    assert ran.stdout == "version 1\nhidden still: False\n", ran.stderr


def test_what_is_imported_late_is_the_real_thing_when_it_is_used(tmp_path):
    code = """
import sys
from strataflow.gates.gx_duckdb import import_great_expectations
import_great_expectations()
print({"altair", "scipy.stats"} & set(sys.modules))
from great_expectations.expectations.core import expect_column_kl_divergence_to_be_less_than as rare
import scipy.stats
print(rare.stats.entropy is scipy.stats.entropy, rare.alt.Chart.__name__)
"""
    ran = run_alone(code, tmp_path)
    assert ran.stdout == "set()\nTrue Chart\n", ran.stderr


def test_failing_rows_are_written_from_the_lake_in_place(shop, tmp_path):
    """A view over partitions keeps where each row came from: file and line."""
    project = project_of(tmp_path / "project", "landed_day", "orders")
    shop.land("till", status="case when n = 41 then 'hold' else 'paid' end")
    report = validate_landed(shop.home, project, shop.sources, DAY)
    (failure,) = report.failures
    assert failure.sample == ({"source": "till", "source_file": "till.csv", "source_line": "42"},)
    copy_to(tmp_path / "again.parquet", f"from '{report.path.parent / failure.rows_file}'")
