"""Where customers stand once flapping is taken out: by hand, against a second implementation, in any order of days."""

from __future__ import annotations

import json
import random
import shutil
from datetime import date, timedelta
from decimal import Decimal
from itertools import pairwise

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hand_days import MEASURES, HandDay
from strataflow.cli import main
from strataflow.errors import UsageError
from strataflow.history.causes import ATTRIBUTES, database, find_moves
from strataflow.history.refresh import current_history, refresh
from strataflow.history.spared import settings_given, spared
from strataflow.history.stability import DWELL_VAR, MARGIN_VAR, MARGINS, Fold, Settings
from strataflow.home import Home
from strataflow.marks import Marks
from strataflow.project import Project
from strataflow.rules import variables
from strataflow.sources import Shop

START = date(2024, 3, 1)
SHOP = Shop(name="by hand", time_zone="UTC", currency="USD")
CLASSES = {
    (True, True, True): "important_value",
    (True, False, True): "important_develop",
    (False, True, True): "important_keep",
    (False, False, True): "important_winback",
    (True, True, False): "general_value",
    (True, False, False): "general_develop",
    (False, True, False): "general_keep",
    (False, False, False): "general_winback",
}
FLAGS = {name: flags for flags, name in CLASSES.items()}


# ---------------------------------------------------------------- a second implementation, customer by customer


def is_high(day, measure, value, lean):
    """Whether a measure is high; ``lean`` is added to the mean score."""
    mean_score, mean_value = (Decimal(str(mean)) for mean in day.means[measure])
    given = [cut for cut in day.cutoffs[measure] if cut is not None]
    below = sum(1 for cut in given if cut < value)
    score = 1 + (len(given) - below if measure == "recency" else below)
    if day.high_rule == "mean_score":
        return score > mean_score + lean
    if day.high_rule == "score_at_least":
        return score >= day.vars["high_score_at_least"]
    return value < mean_value if measure == "recency" else value > mean_value


def class_of(day, row, stood=None, margins=None):
    """The class of a customer who stood in ``stood``, each measure moved by its margin towards it."""
    margins = margins or {}
    better = FLAGS[stood] if stood else (None, None, None)
    flags = []
    for measure, was_high in zip(MEASURES, better, strict=True):
        toward = 0 if was_high is None else 1 if was_high else -1
        value = {
            "recency": row["recency_days"] - toward * margins.get("recency_days", 0),
            "frequency": row["frequency"] + toward * margins.get("frequency_orders", 0),
            "monetary": row["monetary"] * (1 + toward * margins.get("monetary_share", Decimal(0))),
        }[measure]
        flags.append(is_high(day, measure, value, -toward * margins.get("mean_score", Decimal(0))))
    return CLASSES[tuple(flags)]


def tier_of(day, row, stood, share):
    def reaches(tiers):
        poorest = min((one["monetary"] for one in day.customers.values()
                       if one["value_tier"] in tiers and one["monetary"] > 0), default=None)  # fmt: skip
        amount = row["monetary"] * (1 + (share if stood in tiers else -share))
        return poorest is not None and amount >= poorest

    return "high" if reaches({"high"}) else "mid" if reaches({"high", "mid"}) else "low"


def stage_of(day, row, stood, margin):
    if not {stood, row["activity_stage"]} <= {"active", "silent", "churned"}:
        return row["activity_stage"]
    if row["silent_days"] + (-margin if stood == "active" else margin) < day.vars["activity_active_days"]:
        return "active"
    silent = row["silent_days"] + (margin if stood == "churned" else -margin)
    return "silent" if silent < day.vars["activity_silent_days"] else "churned"


def steadied(days, tried=None):
    """Per day: who stands where since when and whence, who is held by what, and the counts by attribute."""
    stands, told, before = {}, [], None
    for day in days:
        chosen, followed = tried or Settings.of(day.vars), {attribute for _, attribute in stands}
        held, counts = {}, {}
        for key in [key for key in stands if key[0] not in day.customers]:
            del stands[key]
        for attribute in followed:
            moved = [go_on(day, who, attribute, chosen, stands, held) for who in day.customers]
            counts[attribute] = (raw_moves(before, day, attribute), sum(moved))
        for attribute in set(chosen.attributes) - followed:
            stands |= {(who, attribute): (row[attribute], None, day.day) for who, row in day.customers.items()}
        told.append((dict(stands), held, counts))
        before = day
    return told


def go_on(day, who, attribute, chosen, stands, held):
    """Let a customer stand where they stand on the day; whether they moved."""
    published = day.customers[who][attribute]
    if (who, attribute) not in stands:
        stands[who, attribute] = (published, None, day.day)
        return False
    stood, previous, since = stands[who, attribute]
    goes_to, reason = decide(day, day.customers[who], attribute, stood, previous, since, chosen)
    if goes_to != stood:
        stands[who, attribute] = (goes_to, stood, day.day)
    if goes_to != published:
        held[who, attribute] = (published, goes_to, reason)
    return goes_to != stood


def raw_moves(before, day, attribute):
    stayed = before.customers.keys() & day.customers.keys()
    return sum(before.customers[who][attribute] != day.customers[who][attribute] for who in stayed)


def decide(day, row, attribute, stood, previous, since, chosen):
    """Where a customer goes, and what keeps them from where they are published."""
    published = row[attribute]
    if attribute == "rfm_class" and "no_orders" in (stood, published):
        return published, None
    if previous is not None and (day.day - since).days < chosen.dwell.get(attribute, 0):
        return stood, "dwell"
    margins = chosen.margins
    if attribute == "rfm_class":
        return class_of(day, row, stood, margins), "margin"
    if attribute == "value_tier":
        return tier_of(day, row, stood, margins.get("value_tier_share", Decimal(0))), "margin"
    if attribute == "activity_stage":
        return stage_of(day, row, stood, margins.get("activity_days", Decimal(0))), "margin"
    return published, "margin"


def random_days(seed, chosen):
    """Days with gaps, customers who come and go, measures near the boundaries, rules and cut-offs that change."""
    rng = random.Random(seed)  # noqa: S311 (the same days every time, no secrets)
    people, days, day = [f"c{number}" for number in range(20)], [], START
    for _ in range(7):
        day += timedelta(days=rng.choice([1, 1, 1, 2, 9]))
        few = rng.random() < 0.2
        made = HandDay(
            day,
            {},
            cutoffs={m: (rng.randint(2, 6), *((None,) * 3 if few else sorted(rng.choices(range(2, 9), k=3))))
                     for m in MEASURES},
            means={m: (Decimal(rng.randrange(100, 500)) / 100, rng.randint(2, 7)) for m in MEASURES},
            high_rule=rng.choice(["mean_score", "mean_score", "score_at_least", "value_mean"]),
            rules={"high_score_at_least": rng.randint(2, 4), "activity_active_days": 4, "activity_silent_days": 8,
                   **(chosen if rng.random() < 0.85 else {})},
        )  # fmt: skip
        if not few:
            made.cutoffs = {m: tuple(sorted(cuts)) for m, cuts in made.cutoffs.items()}
        bounds = sorted((Decimal(rng.randint(2, 8)), Decimal(rng.randint(2, 8))), reverse=True)
        made.customers = {who: random_customer(rng, made, bounds) for who in people if rng.random() < 0.9}
        days.append(made)
    return days


def random_customer(rng, day, bounds):
    silent, has_orders = rng.randint(0, 12), rng.random() < 0.85
    row = {
        "silent_days": silent,
        "recency_days": rng.randint(0, 9) if has_orders else None,
        "frequency": rng.randint(0, 9) if has_orders else 0,
        "monetary": Decimal(rng.randrange(0, 900, 25)) / 100 if has_orders else Decimal(0),
        "ecommerce_stage": rng.choice(["new", "first_purchase", "repeat"]),
        "high_ticket_stage": "stranger",
    }
    new = rng.random() < 0.15
    row["activity_stage"] = "new" if new else "active" if silent < 4 else "silent" if silent < 8 else "churned"
    row["rfm_class"] = class_of(day, row) if has_orders else "no_orders"
    worth = row["monetary"]
    row["value_tier"] = (
        "low" if worth <= 0 else "high" if worth >= bounds[0] else "mid" if worth >= bounds[1] else "low"
    )
    return row


def folded(home, days, tried=None):
    """The same as :func:`steadied`, by the fold's SQL over the published days."""
    published, told = [day.publish(home) for day in days], []
    with database(home.scratch) as connection:
        fold = Fold(connection, tried)
        fold.begin(published[0])
        told.append(told_by(connection, moves=False))
        for before, today in pairwise(published):
            find_moves(connection, before, today)
            fold.step(before, today)
            told.append(told_by(connection))
    return told


def told_by(connection, *, moves=True):
    def rows(what, table):
        return connection.execute(f"select {what} from {table}").fetchall()

    stands = rows("customer_id, attribute, value, previous_value, valid_from", "stable")
    held = rows("customer_id, attribute, published_value, stable_value, held_by", "held")
    counts = rows("attribute, raw_moves, stable_moves, spared", "stability_moves") if moves else []
    assert all(raw - stable == less for _, raw, stable, less in counts)
    return (
        {(who, attribute): tuple(rest) for who, attribute, *rest in stands},
        {(who, attribute): tuple(rest) for who, attribute, *rest in held},
        {attribute: (raw, stable) for attribute, raw, stable, _ in counts},
    )


SETTINGS = st.fixed_dictionaries(
    {
        DWELL_VAR: st.fixed_dictionaries({name: st.sampled_from([0, 0, 1, 3, 8]) for name in ATTRIBUTES}),
        MARGIN_VAR: st.fixed_dictionaries(
            {
                name: st.sampled_from([0, 0.1, 0.5] if name not in ("recency_days", "frequency_orders", "activity_days")
                                      else [0, 1, 2])
                for name in MARGINS
            }
        ),
    }
)  # fmt: skip


@settings(max_examples=16, deadline=None)
@given(seed=st.integers(0, 1 << 30), chosen=SETTINGS)
def test_the_fold_is_what_a_loop_over_customers_says(tmp_path_factory, seed, chosen):
    days = random_days(seed, chosen)
    home = Home(tmp_path_factory.mktemp("fold") / "home")
    assert folded(home, days) == steadied(days)


@settings(max_examples=3, deadline=None)
@given(seed=st.integers(0, 1 << 30), chosen=SETTINGS)
def test_settings_that_are_tried_are_judged_on_every_day(tmp_path_factory, seed, chosen):
    days, tried = random_days(seed, {}), Settings.of(chosen)
    home = Home(tmp_path_factory.mktemp("fold") / "home")
    told = folded(home, days, tried)
    assert told == steadied(days, tried)


# ---------------------------------------------------------------- worked out by hand
# One customer, a day per entry unless said; cut-offs: recent up to 30 days, frequent from five orders, much above 250.


def series(home, attribute, rows, days=None, *, margin=None, dwell=0, **day):
    """Published and stable values of one customer, day by day, and what holds them."""
    chosen = Settings({attribute: dwell} if dwell else {}, margin or {})
    places = days or range(len(rows))
    made = [
        HandDay(START + timedelta(days=place), {"c": row} if row else {}, rules={"activity_active_days": 30}, **day)
        for place, row in zip(places, rows, strict=True)
    ]
    told = folded(home, made, chosen)
    return [(stands.get(("c", attribute), (None,))[0], *held.get(("c", attribute), ("", "", ""))[2:])
            for stands, held, _ in told]  # fmt: skip


def rfm(recency=10, frequency=6, monetary=300):
    scores = (recency <= 30, frequency > 4, monetary > 250)
    return {
        "recency_days": recency,
        "frequency": frequency,
        "monetary": Decimal(monetary),
        "rfm_class": CLASSES[scores],
    }


def values(told):
    return [value for value, *_ in told]


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path / "home")


def test_who_cools_stays_until_the_margin_is_passed_and_warms_only_within_it(home):
    """30 days are recent. With a margin of 3, 33 days still are and 34 no more; then 28 days are not yet, 27 are."""
    rows = [rfm(recency) for recency in (30, 31, 33, 34, 30, 28, 27, 31)]
    told = series(home, "rfm_class", rows, margin={"recency_days": 3})
    hot, cold = "important_value", "important_keep"
    assert values(told) == [hot, hot, hot, cold, cold, cold, hot, hot]
    assert [held for *_, held in told] == ["", "margin", "margin", "", "margin", "margin", "", "margin"]


def test_orders_and_amounts_have_margins_of_their_own(home):
    """More than four orders are frequent: with a margin of 1, six begin it and three end it."""
    rows = [rfm(frequency=count) for count in (4, 5, 6, 5, 4, 3)]
    told = series(home, "rfm_class", rows, margin={"frequency_orders": 1})
    often, seldom = "important_value", "important_develop"
    assert values(told) == [seldom, seldom, often, often, often, seldom]
    # above 250 is much: with a tenth, 277.77 less a tenth is not, 277.78 is; 227.28 and a tenth still is, 227.27 not
    rows = [rfm(monetary=Decimal(amount)) for amount in ("200", "277.77", "277.78", "227.28", "227.27")]
    told = series(home, "rfm_class", rows, margin={"monetary_share": Decimal("0.1")})
    assert values(told) == ["general_value", "general_value", "important_value", "important_value", "general_value"]


def test_each_flag_has_its_own_boundary(home):
    """Far too few orders, a day too late: the class loses one flag and keeps the other."""
    told = series(home, "rfm_class", [rfm(), rfm(31, 2), rfm(40, 2)], margin={"recency_days": 3})
    assert values(told) == ["important_value", "important_develop", "important_winback"]


def test_a_mean_score_that_wanders_carries_nobody_along(home):
    """A score of 3 is high while the mean is below; with a margin of 0.1 the mean has to pass it by that much."""
    row, made = rfm(60), []
    for mean, is_high in ((2.95, True), (3.02, False), (3.09, False), (3.1, False), (2.95, True), (2.89, True)):
        made.append(
            HandDay(
                START + timedelta(days=len(made)),
                {"c": {**row, "rfm_class": "important_value" if is_high else "important_keep"}},
                means={"recency": (mean, 50), "frequency": (3, 50), "monetary": (3, 50)},
                high_rule="mean_score",
            )
        )
    told = folded(home, made, Settings({}, {"mean_score": Decimal("0.1")}))
    stands = [state["c", "rfm_class"][0] for state, *_ in told]
    assert stands == ["important_value"] * 3 + ["important_keep"] * 2 + ["important_value"]


def test_a_changed_value_holds_for_so_many_calendar_days(home):
    """Changed on day 1: with a wait of 5, day 5 is too early, day 6 is not, and days that nobody published count."""
    rows = [rfm(recency) for recency in (10, 40, 10, 10, 40)]
    told = series(home, "rfm_class", rows, [0, 1, 5, 6, 9], dwell=5)
    hot, cold = "important_value", "important_keep"
    assert told == [(hot, ""), (cold, ""), (cold, "dwell"), (hot, ""), (hot, "dwell")]


def test_the_first_value_has_no_wait_nor_has_one_who_returns(home):
    rows = [rfm(10), rfm(40), None, rfm(10), rfm(40)]
    told = series(home, "rfm_class", rows, dwell=30)
    assert values(told) == ["important_value", "important_keep", None, "important_value", "important_keep"]


def test_the_first_order_and_the_loss_of_the_last_never_wait(home):
    nobody = {"rfm_class": "no_orders"}
    told = series(home, "rfm_class", [rfm(10), rfm(40), nobody, rfm(10), rfm(40)], dwell=30)
    assert told == [
        ("important_value", ""), ("important_keep", ""), ("no_orders", ""), ("important_value", ""),
        ("important_value", "dwell"),
    ]  # fmt: skip


def test_tiers_are_bounded_by_their_poorest(home):
    """High from 100 on. With a fifth: 84 and a fifth is still high, 83 is not; 124 less a fifth is not yet, 125 is."""
    made = []
    for amount, tier in ((100, "high"), (84, "mid"), (83, "mid"), (124, "high"), (125, "high")):
        customers = {
            "c": {"monetary": Decimal(amount), "value_tier": tier},
            "bound": {"monetary": Decimal(100), "value_tier": "high"},
            "least": {"monetary": Decimal(50), "value_tier": "mid"},
        }
        made.append(HandDay(START + timedelta(days=len(made)), customers))
    told = folded(home, made, Settings({}, {"value_tier_share": Decimal("0.2")}))
    assert [state["c", "value_tier"][0] for state, *_ in told] == ["high", "high", "mid", "mid", "high"]


def test_silence_has_a_margin_on_both_of_its_boundaries_and_new_customers_have_none(home):
    silences = (0, 29, 30, 33, 34, 93, 94, 27, 0)
    rows = [{"silent_days": days, "activity_stage": "active" if days < 30 else "silent" if days < 90 else "churned"}
            for days in silences]  # fmt: skip
    rows[0]["activity_stage"] = "new"
    told = series(home, "activity_stage", rows, margin={"activity_days": 4})
    assert values(told) == ["new", "active", "active", "active", "silent", "silent", "churned", "silent", "active"]


def test_ladders_of_orders_can_wait(home):
    rows = [{"ecommerce_stage": stage} for stage in ("first_purchase", "repeat", "first_purchase", "repeat")]
    assert values(series(home, "ecommerce_stage", rows, dwell=9)) == ["first_purchase", "repeat", "repeat", "repeat"]


# ---------------------------------------------------------------- as a part of history


FLAPPING = {DWELL_VAR: {"rfm_class": 3}, MARGIN_VAR: {"recency_days": 1, "activity_days": 2}}


def some_days(seed=5, chosen=FLAPPING):
    days = random_days(seed, {})
    for day in days:
        day.rules = {**day.rules, **chosen}
    return days


def bring_up(home):
    return refresh(home, Project.locate(), SHOP)


def files_of(home):
    history = current_history(home)
    return {
        str(path.relative_to(history)): path.read_bytes()
        for table in ("segment_stability", "stability_held", "stability_moves")
        for path in sorted((history / table).rglob("*.parquet"))
    }


def whole(home, days):
    for day in days:
        day.publish(home)
    bring_up(home)
    return files_of(home)


@pytest.mark.parametrize("seed", [1, 2])
def test_days_in_any_order_give_the_same_bytes(tmp_path, seed):
    days = some_days(seed)
    expected = whole(Home(tmp_path / "at once"), days)
    assert len(expected) == 3 * len(days) - 1
    other = Home(tmp_path / "one by one")
    for day in random.Random(seed).sample(days, len(days)):  # noqa: S311 (the same order every time)
        day.publish(other)
        bring_up(other)
    assert files_of(other) == expected


def test_one_more_day_goes_on_from_what_is_on_file(tmp_path, monkeypatch):
    days = some_days()
    expected = whole(Home(tmp_path / "at once"), days)
    home = Home(tmp_path / "home")
    whole(home, days[:-1])
    stepped = []
    step = Fold.step
    monkeypatch.setattr(Fold, "step", lambda self, *both: (stepped.append(both[1].day), step(self, *both)))
    assert whole(home, days[-1:]) == expected
    assert stepped == [days[-1].day]


def test_a_day_published_anew_refolds_what_follows_and_a_day_withdrawn_too(tmp_path):
    days = some_days()
    home, other = Home(tmp_path / "home"), Home(tmp_path / "other")
    before = whole(home, days)
    changed = HandDay(days[2].day, {**days[2].customers, "late": rfm()}, rules=days[2].rules)
    after = whole(home, [changed])
    assert after == whole(other, [*days[:2], changed, *days[3:]])
    same = {path for path in before if before[path] == after[path]}
    assert f"stability_held/as_of_date={days[1].day}/stability_held.parquet" in same
    assert f"stability_moves/as_of_date={days[2].day}/stability_moves.parquet" not in same
    (home.published / "days" / str(days[-1].day)).unlink()
    bring_up(home)
    third = Home(tmp_path / "third")
    assert files_of(home) == whole(third, [*days[:2], changed, *days[3:-1]])


def test_off_writes_nothing_and_on_begins_with_where_everyone_is_published(home):
    days = some_days(chosen={})
    assert whole(home, days[:3]) == {}
    days[3].rules = {**days[3].rules, **FLAPPING}
    files = whole(home, days[3:])
    assert len(files) == 3 * len(days[3:]) - 1
    stretches = f"read_parquet('{current_history(home)}/segment_stability/**/*.parquet', union_by_name = true)"
    assert duckdb.sql(f"select min(valid_from) from {stretches}").fetchall() == [(days[3].day,)]
    # later days are off again: everyone stands where they are published, and is followed all the same
    assert duckdb.sql(f"from '{current_history(home)}/stability_held/*/*.parquet'").fetchall() == []
    followed = duckdb.sql(f"select distinct attribute from {stretches} where valid_to is null order by all").fetchall()
    assert followed == [("activity_stage",), ("rfm_class",)]


def test_the_raw_values_lie_beside(home):
    """Whoever is not held stands where they are published; the others have both values in one row."""
    days = some_days()
    whole(home, days)
    history, last = current_history(home), days[-1]
    stands = duckdb.sql(
        f"select customer_id, value from '{history}/segment_stability/open.parquet' where attribute = 'rfm_class'"
    )
    held = duckdb.sql(
        "select customer_id, (published_value, stable_value) "
        f"from '{history}/stability_held/as_of_date={last.day}/*.parquet' where attribute = 'rfm_class'"
    )
    stands, held = dict(stands.fetchall()), dict(held.fetchall())
    for who, row in last.customers.items():
        assert (row["rfm_class"], stands[who]) == held.get(who, (row["rfm_class"], row["rfm_class"]))
    assert held


def test_days_whose_version_was_pruned_keep_their_files_and_history_goes_on(tmp_path):
    days = some_days()
    expected = whole(Home(tmp_path / "all"), days)
    home = Home(tmp_path / "home")
    whole(home, days[:-1])
    prune(home, days[:3])
    assert whole(home, days[-1:]) == expected
    # one of them comes out differently: what follows can't be judged without the measures of the next
    again = HandDay(days[1].day, {**days[1].customers, "late": rfm()}, rules=days[1].rules)
    again.publish(home)
    waiting = bring_up(home).waiting
    assert {day.day for day in days[2:]} <= set(waiting)
    assert f"segment_stability/closed/{days[1].day}.parquet" in files_of(home)
    assert f"segment_stability/closed/{days[2].day}.parquet" not in files_of(home)
    other = Home(tmp_path / "other")
    assert whole(home, days[:1] + days[2:3]) == whole(other, [days[0], again, *days[2:]])


def prune(home, days):
    """As retention does: the versions go, and are noted."""
    links = {day.day: home.published / "days" / str(day.day) for day in days}
    Marks(pruned={day: link.readlink().name for day, link in links.items()}).save(home)
    for link in links.values():
        shutil.rmtree(link.resolve())
        link.unlink()


# ---------------------------------------------------------------- what it spares


def test_what_was_spared_adds_up_to_the_moves_that_are_missing(home):
    days = some_days()
    whole(home, days)
    told = spared(home, by="day")
    expected = {
        (attribute, str(day.day)): count
        for day, (_, _, counts) in zip(days, steadied(days), strict=True)
        for attribute, count in counts.items()
    }
    counted = {(row["attribute"], row["period"]): (row["raw_moves"], row["stable_moves"]) for row in told["rows"]}
    assert counted == expected
    (total,) = [row for row in told["total"] if row["attribute"] == "rfm_class"]
    assert total["spared"] == sum(a - b for (name, _), (a, b) in expected.items() if name == "rfm_class") > 0
    months = spared(home)["rows"]
    assert {row["period"] for row in months} <= {"2024-03", "2024-04"}


def test_other_settings_are_tried_without_a_trace(home):
    days = some_days(chosen={})
    whole(home, days)
    before = sorted(str(path) for path in home.published.rglob("*"))
    tried = spared(home, settings_given(["rfm_class=3"], ["recency_days=1", "activity_days=2"]))
    assert sorted(str(path) for path in home.published.rglob("*")) == before
    other = Home(home.root / "other")
    whole(other, some_days())
    assert {**spared(other), "settings": None} == {**tried, "settings": None}
    assert tried["settings"] == {
        "min_dwell_days": {"rfm_class": 3},
        "margin": {"recency_days": "1", "activity_days": "2"},
    }


def test_the_command_tells_both(home, capfd):
    whole(home, some_days())
    for options in ([], ["--dwell", "value_tier=9", "--by", "day"]):
        with pytest.raises(SystemExit) as left:
            main(["stability", "--home", str(home.root), "--json", *options])
        assert left.value.code == 0
        told = json.loads(capfd.readouterr().out)
        assert told["rows"]
    with pytest.raises(SystemExit) as left:
        main(["stability", "--home", str(home.root)])
    assert "spared" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({DWELL_VAR: {"rfm": 3}}, "'rfm' is not known"),
        ({DWELL_VAR: {"rfm_class": -1}}, "rfm_class is -1"),
        ({DWELL_VAR: {"rfm_class": 1.5}}, "a whole number of days"),
        ({MARGIN_VAR: {"monetary_share": 1}}, "a share below 1"),
        ({MARGIN_VAR: {"activity_days": 0.5}}, "a whole number"),
        ({MARGIN_VAR: {"mean_score": "much"}}, "no number"),
        ({MARGIN_VAR: 3}, "must map names to numbers"),
    ],
)
def test_settings_out_of_range_are_named(given, said):
    with pytest.raises(UsageError, match=said):
        Settings.of(given)


def test_what_can_not_be_told_is_said(home):
    with pytest.raises(UsageError, match="stability is off"):
        spared(home)
    with pytest.raises(UsageError, match="there are 0"):
        spared(home, settings_given(["rfm_class=3"], []))
    with pytest.raises(UsageError, match="steadies nothing"):
        settings_given(["rfm_class=0"], [])


def test_the_project_is_off_unless_somebody_sets_it():
    assert Settings.of(variables(Project.locate())).attributes == ()
