"""What an explanation says comes true: the orders it names are added and the models run again."""

from __future__ import annotations

from collections import Counter
from datetime import date, timedelta
from typing import Any

import pytest

from claims import CENT, DAY, MORROW, Again, order, orders_named, shop_of_all_kinds

SEGMENTS = {"customer_segments": "customer_id"}
SEGMENTS_AND_LIMITS = SEGMENTS | {"rfm_cutoffs": "measure"}
SAMPLE = 20
DATES = 4
ONE_DAY = timedelta(days=1)

Row = dict[str, Any]


@pytest.fixture(scope="module")
def again(tmp_path_factory) -> Again:
    return Again.compiled(tmp_path_factory.mktemp("claims"))


@pytest.fixture(scope="module")
def held(again):
    """A shop in which some orders leave the window tomorrow, its rows of today, and today's limits held."""
    world = shop_of_all_kinds(some_leave_tomorrow=True)
    tables = again.on(DAY, world, tables=SEGMENTS | {"customer_explanations": "customer_id"})
    again.hold(world)
    segments = {row["customer_id"]: row for row in tables["customer_segments"]}
    explained = [segments[row["customer_id"]] | row for row in tables["customer_explanations"]]

    def on(day: date, more: list[Row] = ()) -> dict[str, Row]:
        found = again.on(day, world, more, tables=SEGMENTS, held=True)["customer_segments"]
        return {row["customer_id"]: row for row in found}

    return explained, on


def spread(rows: list[Row], count: int, *columns: str) -> list[Row]:
    """So many of the rows, of every combination of values in turn."""
    seen: Counter[tuple] = Counter()
    turns = []
    for row in rows:
        kind = tuple(str(row[column]) for column in columns)
        turns.append((seen[kind], row["customer_id"]))
        seen[kind] += 1
    wanted = {customer for _, customer in sorted(turns)[:count]}
    return [row for row in rows if row["customer_id"] in wanted]


def limits(found: dict[str, list[Row]]) -> list[list[Any]]:
    """The cut-offs on frequency and monetary; those on recency move with the day."""
    return [[row[f"cutoff_{n}"] for n in range(1, 5)] for row in found["rfm_cutoffs"] if row["measure"] != "recency"]


def high_from_scores(cutoffs: list[Row]) -> list[int]:
    return [int(row["mean_score"]) + 1 for row in cutoffs]


@pytest.fixture(scope="module")
def anew(again):
    """A shop, its rows of today, and tomorrow's class of a customer with orders of theirs, the cut-offs taken anew."""
    world = shop_of_all_kinds()
    today = again.on(DAY, world, tables=SEGMENTS_AND_LIMITS | {"customer_explanations": "customer_id"})
    told = [row for row in today["customer_explanations"] if row["next_rfm_class"]]

    def then(row: Row) -> tuple[str, bool]:
        """The class after the orders that a row names, and whether a cut-off or mean has moved with them."""
        found = again.on(MORROW, world, orders_named(row, MORROW), tables=SEGMENTS_AND_LIMITS)
        assert high_from_scores(found["rfm_cutoffs"]) == high_from_scores(today["rfm_cutoffs"])
        (segment,) = [each for each in found["customer_segments"] if each["customer_id"] == row["customer_id"]]
        return segment["rfm_class"], limits(found) != limits(today)

    return told, then


def test_the_next_class_comes_with_the_orders_named_although_the_cutoffs_are_taken_anew(anew):
    """One customer at a time, as told: the cut-offs of the next day are those with these orders in."""
    told, then = anew
    sample = spread(told, SAMPLE, "rfm_class", "next_rfm_class")
    assert len(sample) == SAMPLE
    assert len({(row["rfm_class"], row["next_rfm_class"]) for row in sample}) >= 10
    found = {row["customer_id"]: then(row) for row in sample}
    assert {row["customer_id"]: row["next_rfm_class"] for row in sample} == {
        customer: reached for customer, (reached, _) in found.items()
    }
    assert any(moved for _, moved in found.values())


def test_the_next_class_does_not_come_with_a_cent_or_an_order_less(anew):
    told, then = anew
    dear = [row for row in told if row["recency_is_high"] and row["monetary_amount_missing"] and costs(row)]
    several = [row for row in told if row["next_rfm_class_orders"] > 1]
    less = [row | {"next_rfm_class_amount": row["next_rfm_class_amount"] - CENT} for row in dear[:3]]
    fewer = [row | {"next_rfm_class_orders": row["next_rfm_class_orders"] - 1} for row in several[:2]]
    assert len(less + fewer) == 5
    for row in less + fewer:
        assert then(row)[0] != row["next_rfm_class"], row


def costs(row: Row) -> bool:
    """Whether not any amount will do."""
    return row["next_rfm_class_amount"] > CENT * row["next_rfm_class_orders"]


def test_with_the_limits_held_everyone_reaches_the_next_class(held):
    explained, on = held
    told = [row for row in explained if row["next_rfm_class"]]
    assert {row["rfm_class"] for row in explained} - {row["rfm_class"] for row in told} == {"important_value"}
    keeps_up = [row for row in told if row["monetary_is_high"] and costs(row)]
    assert keeps_up
    then = on(MORROW, [each for row in told for each in orders_named(row, MORROW)])
    assert {row["customer_id"]: then[row["customer_id"]]["rfm_class"] for row in told} == {
        row["customer_id"]: row["next_rfm_class"] for row in told
    }


def test_what_a_flag_lacks_makes_it_high_and_an_order_less_does_not(held):
    explained, on = held
    lacking = [row for row in explained if row["monetary_amount_missing"]]
    then = on(MORROW, [order(row["customer_id"], MORROW, row["monetary_amount_missing"]) for row in lacking])
    assert all(then[row["customer_id"]]["rfm_class"].startswith("important") for row in lacking)
    lacking = [row for row in explained if row["frequency_orders_missing"]]
    for short in (0, 1):
        named = [row | {"next_rfm_class_orders": row["frequency_orders_missing"] - short} for row in lacking]
        then = on(MORROW, [each for row in named for each in orders_named(row, MORROW)])
        frequent = {then[row["customer_id"]]["rfm_class"].endswith(("_value", "_keep")) for row in lacking}
        assert frequent == {not short}


def test_the_next_class_is_reached_up_to_the_day_told_and_not_on_the_day_after(held):
    explained, on = held
    dates = Counter(row["next_rfm_class_by_date"] for row in explained if row["next_rfm_class_by_date"])
    assert len(dates) > 20
    for day, _ in dates.most_common(DATES):
        told = [row for row in explained if row["next_rfm_class_by_date"] == day]
        for late in (0, 1):
            when = day + late * ONE_DAY
            then = on(when, [each for row in told for each in orders_named(row, when)])
            reached = [row for row in told if then[row["customer_id"]]["rfm_class"] == row["next_rfm_class"]]
            assert reached == (told if not late else []), (when, told)


def test_where_no_day_is_told_the_next_class_is_reached_a_year_later_as_well(held):
    explained, on = held
    told = [row for row in explained if row["next_rfm_class"] and not row["next_rfm_class_by_date"]]
    assert told
    when = DAY + timedelta(days=800)
    then = on(when, [each for row in told for each in orders_named(row, when)])
    assert [row for row in told if then[row["customer_id"]]["rfm_class"] != row["next_rfm_class"]] == []


def test_the_next_tier_and_stages_are_reached_and_not_with_a_cent_or_an_order_less(held):
    explained, on = held
    for short in (0, 1):
        richer = [row for row in explained if row["next_value_tier"] and row["next_value_tier_amount"] > CENT]
        then = on(MORROW, [order(r["customer_id"], MORROW, r["next_value_tier_amount"] - CENT * short) for r in richer])
        assert {then[row["customer_id"]]["value_tier"] == row["next_value_tier"] for row in richer} == {not short}
        climbers = [row for row in explained if row["next_ecommerce_stage"]]
        then = on(
            MORROW,
            [
                order(row["customer_id"], MORROW, CENT, 100 + number)
                for row in climbers
                for number in range(row["next_ecommerce_stage_orders"] - short)
            ],
        )
        for ladder in ("ecommerce", "high_ticket"):
            told = [row for row in climbers if row[f"next_{ladder}_stage_orders"]]
            reached = {then[row["customer_id"]][f"{ladder}_stage"] == row[f"next_{ladder}_stage"] for row in told}
            assert reached == {not short}


def test_the_next_tier_is_reached_up_to_the_day_told_and_not_on_the_day_after(held):
    explained, on = held
    dates = Counter(row["next_value_tier_by_date"] for row in explained if row["next_value_tier_by_date"])
    ((day, _),) = dates.most_common(1)
    told = [row for row in explained if row["next_value_tier_by_date"] == day]
    for late in (0, 1):
        when = day + late * ONE_DAY
        then = on(when, [order(row["customer_id"], when, row["next_value_tier_amount"]) for row in told])
        assert {then[row["customer_id"]]["value_tier"] == row["next_value_tier"] for row in told} == {not late}


def test_recency_and_activity_end_on_the_day_told_and_not_before(held):
    explained, on = held
    lost = Counter(row["recency_lost_date"] for row in explained if row["recency_lost_date"])
    turned = Counter(row["next_activity_stage_date"] for row in explained if row["next_activity_stage_date"])
    for day in {common for dates in (lost, turned) for common, _ in dates.most_common(2)}:
        before, then = on(day - ONE_DAY), on(day)
        for row in explained:
            person = row["customer_id"]
            if row["recency_lost_date"] == day:
                assert row["recency_lost_in_days"] == (day - DAY).days
                scores = [found[person]["recency_score"] for found in (before, then)]
                assert scores[0] > scores[1]
                assert before[person]["rfm_class"].endswith(("_value", "_develop"))
                assert then[person]["rfm_class"].endswith(("_keep", "_winback"))
            if row["next_activity_stage_date"] == day:
                assert before[person]["activity_stage"] == row["activity_stage"]
                assert then[person]["activity_stage"] == row["next_activity_stage"]
