"""The models against a second implementation of their definitions, over random shops."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from pathlib import Path

import duckdb
import pytest

from strataflow import contracts
from strataflow.export import REFERENCES
from strataflow.home import Home
from strataflow.ledger import LEDGERS
from strataflow.prediction import lifetime_value
from strataflow.project import Project
from strataflow.rules import variables
from strataflow.tags import handed, profile
from strataflow.tags.seeds import read as read_vocabulary
from strataflow.totals import TOTALS
from tag_worlds import GROUPS, expected_tags
from worlds import (
    START,
    TAG_TEXTS,
    CompiledModels,
    expected_segments,
    expected_suppressions,
    latest_orders,
    random_world,
    say_tags,
    write_lake,
)

WORLDS, BATCH = 200, 20
YOUNG, EARLIER, AS_OF = START + timedelta(days=15), START + timedelta(days=30), START + timedelta(days=60)
COMPARED = (
    "first_seen_date", "first_order_date", "last_order_date", "recency_days", "frequency", "monetary",
    "lifetime_orders", "lifetime_value", "recency_score", "frequency_score", "monetary_score", "rfm_class",
    "value_tier", "ecommerce_stage", "high_ticket_stage", "activity_stage",
)  # fmt: skip
TABLES = {
    "customer_segments": "customer_id",
    "customer_tags": "customer_id, tag_id",
    "manual_tag_outcomes": "received_date, source_name, source_file, source_line",
    "tag_review_queue": "word",
    "tag_conflicts": "customer_id, tag_id, source",
    "customer_profile": "customer_id",
    "tag_coverage": "level, subject",
    "customer_explanations": "customer_id",
    "churn_risk": "customer_id",
    "contact_list": "customer_id",
    "contact_suppressed": "customer_id",
    "rfm_cutoffs": "measure",
    "int_customer_consents": "customer_id, channel",
    "int_customer_order_totals": "customer_id",
    "int_customer_interaction_totals": "customer_id",
    "int_customer_features_computed": "customer_id",
}
CHECKED = ("customer_segments", "int_order_ledger")
KEPT_LEDGERS = [f"int_{ledger}_appended" for ledger in LEDGERS]
KEPT_TOTALS = [f"int_customer_{totals}" for totals in TOTALS]


@dataclass
class Bench:
    """One home whose lake is rewritten per world, and the models compiled for its days."""

    home: Home
    project: Project
    models: dict[str, CompiledModels]


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    """The models are compiled twice, from nothing and going on from what was kept; the days are filled in."""
    root = tmp_path_factory.mktemp("worlds")
    home, project = Home(root / "home"), Project.locate()
    for as_of in (YOUNG, EARLIER, AS_OF):
        handed.write(project, [handed.Typed(text, START, AS_OF) for text in TAG_TEXTS], as_of, root / f"texts-{as_of}")

    def compiled(name: str, **kept: object) -> CompiledModels:
        run_vars = {
            "as_of": "{as_of}", "known_at": "{known_at}", "lake": str(home.lake), "state": str(home.state),
            "landed_tables": ["orders", "interactions", "customers", "manual_tags"],
            "tag_texts": str(root / "texts-{as_of}"), "ledger_through": None, "kept_totals": None,
        }  # fmt: skip
        return CompiledModels(project, root / name, run_vars | kept)

    plain = compiled("from nothing")
    totals = {"path": str(home.state / "totals"), "through": "{totals_through}"}
    going_on = compiled("going on", ledger_through="{kept_through}", kept_totals=totals)

    def on(as_of: date, known_at: date, **kept: date) -> CompiledModels:
        days = {"as_of": as_of, "known_at": known_at, **kept}
        return (going_on if kept else plain).filled({f"{{{name}}}": day for name, day in days.items()})

    return Bench(
        home,
        project,
        {
            "young": on(YOUNG, YOUNG),
            "earlier": on(EARLIER, EARLIER),
            "full": on(AS_OF, AS_OF),
            "continued": on(AS_OF, AS_OF, kept_through=EARLIER, totals_through=EARLIER),
            "continued, older totals": on(AS_OF, AS_OF, kept_through=EARLIER, totals_through=YOUNG),
            "restated": on(EARLIER, AS_OF),
            "restated, older totals": on(EARLIER, AS_OF, kept_through=EARLIER, totals_through=YOUNG),
        },
    )


def rows(connection: duckdb.DuckDBPyConnection, table: str) -> list[tuple]:
    return connection.execute(f"from {table} order by {TABLES[table]}").fetchall()


def segments(connection: duckdb.DuckDBPyConnection) -> dict[str, dict]:
    columns = ["customer_id", *COMPARED]
    found = connection.execute(f"select {', '.join(columns)} from customer_segments").fetchall()
    return {row[0]: dict(zip(COMPARED, row[1:], strict=True)) for row in found}


def whole_world(seed: int):
    """A random world in which every table has a row, as the compiled models expect."""
    world = random_world(seed)
    while not (world.orders and world.interactions and world.customers):
        seed += 100_003
        world = random_world(seed)
    return say_tags(world, seed)


def first_day_marker(world):
    """Days received before EARLIER exist for every table, so that a run of that day finds them."""
    for table in world.tables().values():
        first = min(table, key=lambda row: row["received_date"])
        first["received_date"] = min(first["received_date"], EARLIER)
    return world


@pytest.mark.parametrize("first_seed", range(0, WORLDS, BATCH))
def test_random_shops_agree_with_the_written_definitions(bench, first_seed):
    """Segments equal a second implementation, and continuing what was kept equals building from nothing.

    Staff tag customers in every world; the second implementation knows of no tags, so none of them moves anyone.
    """
    for seed in range(first_seed, first_seed + BATCH):
        world = first_day_marker(whole_world(seed))
        write_lake(bench.home, bench.project, world)
        totals_from = ("earlier", "young")[seed % 2]
        with bench.models["earlier"].run([*CHECKED, *KEPT_LEDGERS, *KEPT_TOTALS]) as earlier:
            _check_segments(bench, world, earlier, EARLIER, EARLIER, seed)
            for ledger, table in zip(LEDGERS, KEPT_LEDGERS, strict=True):
                _keep(earlier, table, bench.home.state / ledger)
            if totals_from == "earlier":
                _keep_totals(bench, earlier)
        if totals_from == "young":
            with bench.models["young"].run(KEPT_TOTALS) as young:
                _keep_totals(bench, young)
        older = ", older totals" if totals_from == "young" else ""
        compared = [*CHECKED, *TABLES]
        with bench.models["full"].run(compared) as full, bench.models[f"continued{older}"].run(compared) as continued:
            _check_segments(bench, world, full, AS_OF, AS_OF, seed)
            _check_contacts(bench, world, full, AS_OF)
            _check_equal(continued, full, seed)
            _check_tags(bench, world, full, seed)
        if seed % 4 == 0:
            with bench.models["restated"].run(CHECKED) as restated:
                _check_segments(bench, world, restated, EARLIER, AS_OF, seed)
        if seed % 4 == 1:
            with bench.models["restated, older totals"].run(CHECKED) as restated:
                _check_segments(bench, world, restated, EARLIER, AS_OF, seed)


def _keep_totals(bench, connection):
    for totals, table in zip(TOTALS, KEPT_TOTALS, strict=True):
        _keep(connection, table, bench.home.state / "totals" / totals)


def _keep(connection, table: str, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    connection.execute(f"copy {table} to '{folder}/kept.parquet' (format parquet)")


def _check_equal(continued, full, seed):
    for table in TABLES:
        assert rows(continued, table) == rows(full, table), (seed, table)


def _check_segments(bench, world, connection, as_of, known_at, seed):
    expected = expected_segments(world, bench.project, as_of, known_at)
    wanted = {person: {column: row.get(column) for column in COMPARED} for person, row in expected.items()}
    assert segments(connection) == wanted, (seed, as_of, known_at)
    _check_ledger(connection, world, known_at)


def _check_contacts(bench, world, connection, day):
    """Everyone is on the list or suppressed, for the reason that plain Python finds."""
    found = connection.execute(
        "select customer_id, playbook_id, null from contact_list"
        " union all select customer_id, playbook_id, suppressed_reason from contact_suppressed"
    ).fetchall()
    assert len(found) == len(segments(connection))
    rules = variables(bench.project)
    cap = (rules["contact_cap_contacts"], rules["contact_cap_days"])
    plays = {person: play for person, play, _ in found}
    expected = expected_suppressions(world, bench.project, day, day, plays, cap)
    assert {person: reason for person, _, reason in found} == expected


def _check_tags(bench, world, connection, seed):
    """What the data says equals a second implementation, and the profile says the same as all tags, staff's too."""
    listed = ", ".join(f"'{group}'" for group in GROUPS)
    found = connection.execute(
        f"select customer_id, tag_id from int_customer_tags_automatic where tag_group in ({listed})"
    ).fetchall()
    customers = list(segments(connection))
    assert set(found) == expected_tags(world, bench.project, customers, AS_OF, AS_OF), seed
    assert len(found) == len(set(found)), seed
    told: dict[str, dict] = {person: {} for person in customers}
    for person, tag, value in connection.execute("select customer_id, tag_id, tag_value from customer_tags").fetchall():
        told[person][tag] = value or tag
    columns = profile.columns(read_vocabulary(bench.project))
    names = [column.name for column in columns]
    for person, *cells in connection.execute(
        f"select customer_id, {', '.join(names)} from customer_profile"
    ).fetchall():
        for column, cell in zip(columns, cells, strict=True):
            held = [told[person][tag.tag_id] for tag in column.tags if tag.tag_id in told[person]]
            assert cell == (bool(held) if column.holds == "flag" else held[0] if held else None), (seed, column.name)


def _check_ledger(connection, world, known_at):
    """Sum of the ledger = sum of the latest versions, always."""
    latest = latest_orders(world, known_at).values()
    valid = [each for each in latest if each["status"] in {"completed", "paid"} and each["net"] > 0]
    placed, orders, net = connection.execute(
        "select coalesce(sum(placed_orders), 0), coalesce(sum(valid_orders), 0), coalesce(sum(net_amount), 0)"
        " from int_order_ledger"
    ).fetchone()
    assert (placed, orders, net) == (len(latest), len(valid), sum(each["net"] for each in valid))


def test_a_customer_is_first_seen_on_the_shops_day_of_registration(bench):
    evening = datetime.combine(EARLIER, time(16, 30))
    shanghai = {"customer_id": "a", "registered_at": evening, "registered_date": EARLIER + timedelta(days=1)}
    new_york = {"customer_id": "b", "registered_at": evening, "registered_date": EARLIER - timedelta(days=1)}
    unknown = {"customer_id": "c", "registered_at": None}
    world = first_day_marker(whole_world(1))
    world.customers = [row | {"received_date": EARLIER} for row in (shanghai, new_york, unknown)]
    write_lake(bench.home, bench.project, world)
    with bench.models["earlier"].run(["int_customers_known"]) as connection:
        seen = connection.execute(
            "select customer_id, first_seen_date from int_customers_known where customer_id in ('a', 'b', 'c')"
            " order by customer_id"
        )
        assert seen.fetchall() == [("b", EARLIER - timedelta(days=1)), ("c", EARLIER)]


def test_unit_tests_of_the_rules_hold(tmp_path):
    """dbt builds the project on an empty lake, with all that can be switched on, and runs every unit and data test."""
    project = Project.locate()
    outcome = subprocess.run(
        [
            sys.executable, "-m", "dbt.cli.main", "--no-use-colors", "--no-send-anonymous-usage-stats",
            "--log-path", str(tmp_path), "build", "--project-dir", str(project.dbt),
            "--profiles-dir", str(project.dbt), "--target-path", str(tmp_path / "target"), "--vars", "{clusters: true}",
        ],
        env={"PATH": "/usr/bin:/bin", "STRATAFLOW_BUILD_DB": str(tmp_path / "build.duckdb")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert outcome.returncode == 0, outcome.stdout[-4000:]
    assert "unit_test" in outcome.stdout or "unit tests" in outcome.stdout


def _nodes(bench):
    return bench.models["full"].nodes


def test_every_model_says_its_grain_and_every_published_column_is_described(bench):
    for node in _nodes(bench):
        if node["resource_type"] in {"model", "seed"}:
            assert "One row per" in node["description"], node["name"]
            if node["config"].get("meta", {}).get("published"):
                assert node["config"]["contract"]["enforced"], node["name"]
                for column in node["columns"].values():
                    assert column["description"], f"{node['name']}.{column['name']}"


def test_what_is_not_switched_on_is_no_part_of_a_build(bench):
    switchable = [node for node in _nodes(bench) if "cluster" in node["unique_id"]]
    assert not [node["name"] for node in switchable if node["config"]["enabled"]]


def test_everything_published_is_described_in_english_and_in_chinese(bench):
    nodes = _nodes(bench)
    tables = contracts.published(nodes) | {lifetime_value.TABLE: lifetime_value.PUBLISHED}
    references = contracts.references(nodes, REFERENCES)
    assert set(references) == set(REFERENCES)
    everything = tables | references | contracts.across_days("history") | contracts.across_days("scorecard")
    told = {f"{table}.{name}": column for table, one in everything.items() for name, column in one["columns"].items()}
    for name, one in (everything | told).items():
        assert one["description"], name
        assert re.search(r"[\u4e00-\u9fff]", one["zh"]), f"{name} lacks meta.zh, its description in Chinese"
    for name, one in everything.items():
        assert one["key"], name
