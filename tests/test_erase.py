"""Erasure proven from outside: no byte of a home names the person, readers never see less than a whole version,
and nothing brings the person back."""

from __future__ import annotations

import gzip
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest

from publishing import KillSwitch, pass_gate, published_bytes
from small_shops import PROJECT, SmallShop, small_shop
from strataflow import ledger, serving
from strataflow.build import Build, build
from strataflow.crm import delivering
from strataflow.crm.targets import Target
from strataflow.errors import StepFailed, StrataflowError, UsageError
from strataflow.history.refresh import refresh
from strataflow.home import Home
from strataflow.lake import received
from strataflow.landing import has_landed
from strataflow.marks import Marks
from strataflow.privacy.erase import erase, places, unfinished
from strataflow.privacy.pseudonyms import SETTING
from strataflow.privacy.tombstones import Tombstones
from strataflow.privacy.traces import Persons
from strataflow.publish import current_version, damage, publish, published_days, read_manifest, restated_at, version_of
from strataflow.report import publish_report
from strataflow.run import Deployment, Steps
from strataflow.runlog import RunLog
from strataflow.status import collect

WHO, SHORT = "Zq7Erased9137", "718"
FIRST = date(2024, 3, 1)
KILLS = 2
# Places that hold the person before.
HOLDING = (
    "lake/orders", "lake/interactions", "lake/customers", "lake/quarantine", "refused", "state/order_ledger",
    "state/interaction_ledger", "state/insights", "builds", "published/versions", "published/histories",
    "published/reports", "gates", "data_docs", "runs", "logs", "alerts", "scratch", "manual_tags",
)  # fmt: skip
AT = "2024-03-09T00:00:00.000+00:00"

ORDERS = """
    name: orders
    table: orders
    description: Orders, a file per day.
    format: {type: csv}
    files: {root: delivered, path: "orders_{date}.csv"}
    columns: {order_id: id, customer_id: who, ordered_at: at, amount: amount}
    limits: {max_quarantine_ratio: 1}
"""
INTERACTIONS = """
    name: clicks
    table: interactions
    description: What people did, a file per day.
    format: {type: jsonl}
    files: {root: delivered, path: "clicks_{date}.jsonl"}
    columns: {interaction_id: id, customer_id: who, occurred_at: at, kind: kind, referred_customer_id: brought}
    limits: {max_quarantine_ratio: 1}
"""
MEMBERS = """
    name: members
    table: customers
    description: All members.
    format: {type: jsonl}
    files: {root: delivered, path: members.jsonl}
    columns: {customer_id: who, registered_at: since, region: region, attributes: more}
"""


def day(number: int) -> date:
    return FIRST + timedelta(days=number)


def deliver(shop: SmallShop) -> None:
    """Five days: the person orders daily, is referred by another, and stands in rows that are refused."""
    people = [WHO, SHORT, *(f"other{number}" for number in range(8))]
    members = [{"who": one, "since": "2024-02-01", "region": "north", "more": {"friend": "other2"}} for one in people]
    members[-1]["more"] = {"friend": WHO}
    shop.deliver("members.jsonl", "".join(json.dumps(row) + "\n" for row in members))
    for number in range(5):
        rows = [f"{one}-{number},{one},{day(number)} 10:00,{10 + place + number}" for place, one in enumerate(people)]
        rows = [row.replace(f"{WHO}-", "o-") for row in rows]
        rows += [
            f"x{number},{WHO},{day(number)},much",
            f"y{number},{WHO},{day(number)},1,2,3",
            f"z{number},other1,?,{SHORT}",
        ]
        shop.deliver(f"orders_{day(number)}.csv", "id,who,at,amount\n" + "\n".join(rows) + "\n")
        clicks = [
            {"id": f"i{number}-{place}", "who": one, "at": f"{day(number)} 11:00", "kind": "page_view"}
            for place, one in enumerate(people)
        ]
        clicks.append(
            {"id": f"r{number}", "who": "other3", "at": f"{day(number)} 12:00", "kind": "invited", "brought": WHO}
        )
        clicks.append({"id": f"b{number}", "who": "other4", "at": "?", "kind": "page_view", "brought": WHO})
        shop.deliver(f"clicks_{day(number)}.jsonl", "".join(json.dumps(row) + "\n" for row in clicks))


def run(shop: SmallShop, number: int, *, first: int | None = None) -> None:
    """The whole daily job, gates and all."""
    at = Deployment(shop.home, PROJECT, shop.sources())
    with shop.home.writing():
        log = RunLog.start(shop.home, "run", day(number), {})
        with log.closing():
            Steps(at, log).day(day(number), first=None if first is None else day(first))


def build_and_publish(shop: SmallShop, number: int) -> Build:
    """A published day, its gate taken as passed: the gates take longer than all the rest."""
    made = build(shop.home, PROJECT, shop.sources().shop, day(number))
    pass_gate(shop.home, day(number), made.meta["build_id"])
    publish(shop.home, made)
    refresh(shop.home, PROJECT, shop.sources().shop)
    return made


@pytest.fixture(scope="module")
def lived_in(tmp_path_factory) -> SmallShop:
    """A home with days, a restatement, a pin, refused rows, kept findings, logs and leftovers."""
    shop = small_shop(tmp_path_factory.mktemp("lived-in"), ORDERS, INTERACTIONS, MEMBERS)
    deliver(shop)
    shop.land(str(day(0)), str(day(2)))
    home = shop.home
    made = build_and_publish(shop, 1)
    restated = replace(made, known_at=day(2), meta=made.meta | {"known_at": str(day(2))})
    pass_gate(home, day(1), made.meta["build_id"], known_at=day(2))
    publish(home, restated)
    build_and_publish(shop, 2)
    publish_report(home, PROJECT, current_version(home))
    serving.pin(home, str(day(1)))
    kept = home.gates / str(day(2)) / "built"
    duckdb.sql(f"select '{WHO}' as customer_id, 3 as n").write_parquet(str(kept / "failed.parquet"))
    owned = home.state / "insights" / f"{day(0)}-of-rules" / "customer_products_owned"
    owned.mkdir(parents=True)
    duckdb.sql(f"select '{WHO}' as customer_id, 'tea' as product_id").write_parquet(str(owned / "owned.parquet"))
    report = json.loads((kept / "report.json").read_text())
    report["warnings"] = [f"some_rule: 2 rows, first customer_id={WHO}"]
    report["expectations"][0]["sample"] = [{"customer_id": WHO}, {"customer_id": "other1"}]
    (kept / "report.json").write_text(json.dumps(report))
    with RunLog.start(home, "run", day(2), {}).closing() as log, log.step("build") as step:
        step.detail = {"notes": [f"{WHO} is odd"]}
    (home.root / "alerts.jsonl").write_text(json.dumps({"kind": "x", "text": f"{WHO} the first"}) + "\n")
    (home.root / "manual_tags").mkdir()
    typed = [{"customer_id": one, "tag": "vip"} for one in (WHO, "other1")]
    (home.root / "manual_tags" / f"{day(3)}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in typed))
    (home.root / "runs" / "traceback-x.txt").write_text(f"KeyError: '{WHO}'\n")
    docs = home.root / "data_docs" / "built" / f"{day(2)}.html"
    docs.parent.mkdir(parents=True)
    docs.write_text(f'<!--facts {{"day": "{day(2)}", "gate": "built"}}--><li>{WHO}</li>')
    page = (home.published / "report" / "index.html").resolve()
    page.write_text(page.read_text().replace("</body>", f"<table><tr><td>{WHO}</td><td>1</td></tr></table></body>"))
    home.scratch.mkdir(exist_ok=True)
    (home.root / "logs").mkdir(exist_ok=True)
    (home.root / "logs" / "dbt.log.1").write_text(f"Got 1 result: {WHO}\n")
    (home.scratch / "left.csv").write_text(f"customer_id\n{WHO}\n")
    refused = home.refused / "orders" / str(day(3))
    refused.mkdir(parents=True)
    shutil.copy(home.quarantined(day(1), "orders"), refused / "quarantine.parquet")
    return shop


@pytest.fixture
def shop(lived_in, tmp_path) -> SmallShop:
    shutil.copytree(lived_in.folder, tmp_path / "shop", symlinks=True)
    return SmallShop(tmp_path / "shop")


def everything(root: Path) -> dict[str, bytes]:
    """What every file of a home says: its bytes, and what is compressed in them; nothing of Strataflow's is used."""
    found = {}
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder, name)
            if path.is_symlink():
                found[str(path)] = os.readlink(path).encode()
                continue
            said = [path.read_bytes(), name.encode()]
            if path.suffix == ".parquet":
                table = pq.ParquetFile(path).read()
                said += [str(column.to_pylist()).encode() for column in table.columns]
            elif path.suffix == ".duckdb":
                with duckdb.connect(str(path), read_only=True) as connection:
                    for (one,) in connection.execute("select table_name from duckdb_tables()").fetchall():
                        said.append(str(connection.execute(f'from "{one}"').fetchall()).encode())
            elif said[0][:2] == b"\x1f\x8b":
                said.append(gzip.decompress(said[0]))
            found[str(path.relative_to(root))] = b"\n".join(said)
    return found


def naming(root: Path, text: str = WHO) -> list[str]:
    return [path for path, said in everything(root).items() if text.encode() in said]


def customers(version: Path, table: str = "customer_segments") -> set[str]:
    files = version / table / "**" / "*.parquet"
    return {one for (one,) in duckdb.sql(f"select customer_id from read_parquet('{files}')").fetchall()}


def assert_whole(home: Home) -> None:
    links = [version_of(home, one) for one in published_days(home)]
    links += [version_of(home, one, at) for one in published_days(home) for at in restated_at(home, one)]
    for version in {current_version(home), *links}:
        assert damage(version, read_manifest(version)) == []
        with duckdb.connect(str(version / "current.duckdb"), read_only=True) as connection:
            assert connection.execute("select version from published_version").fetchone() == (version.name,)
            assert connection.execute("select count(*) from customer_segments").fetchone() == (
                read_manifest(version)["tables"]["customer_segments"]["rows"],
            )


# ---------------------------------------------------------------- erased


def test_no_byte_of_the_home_names_the_person_and_all_others_stay(shop):
    home = shop.home
    before = naming(home.root)
    for kind in HOLDING:
        assert [path for path in before if path.startswith(kind)], kind
    assert set(places(home, [WHO])) == {path for path in before if not (home.root / path).is_symlink()}
    old = {path.name: customers(path) for path in (home.published / "versions").iterdir()}
    cutoffs = read_manifest(current_version(home))["cutoffs"]
    done = erase(home, [WHO], erased_at=AT, reason="ticket 4711")
    assert naming(home.root) == []
    assert_whole(home)
    assert set(done.versions) == set(old)
    for former, now in done.versions.items():
        version = home.published / "versions" / now
        assert customers(version) == old[former] - {WHO}
        assert read_manifest(version)["erased"]["replaces"] == [former]
    assert read_manifest(current_version(home))["cutoffs"] == cutoffs
    assert Marks.of(home).pinned == {version_of(home, day(1)).name}
    assert home.published.joinpath("report", "index.html").is_file()
    assert {row[0] for row in shop.landed("orders", "customer_id")} == {SHORT, *(f"other{n}" for n in range(8))}
    assert ("other3", None) in shop.landed("interactions", "customer_id, referred_customer_id")
    assert json.loads(shop.landed("customers", "attributes", "customer_id = 'other7'")[0][0]) == {"friend": "(erased)"}
    typed = (home.root / "manual_tags" / f"{day(3)}.jsonl").read_text()
    assert typed == '\n{"customer_id": "other1", "tag": "vip"}\n'
    proof = json.loads(done.path.read_text())
    assert (proof["customers"], proof["reason"], proof["rows"]["lake/orders"]) == (1, "ticket 4711", 3)
    assert unfinished(home) == 0
    assert not list(home.published.glob(".*"))


def test_manifests_account_for_every_row_and_nothing_is_landed_or_worked_out_again(shop):
    home = shop.home
    before = ledger.kept(home, json.loads((home.state / "ledgers.json").read_text())["rules"])
    erase(home, [WHO], erased_at=AT)
    after = ledger.kept(home, before.rules)
    assert ledger.valid_through(after, received(home, day(2))) == day(2)
    told = shop.manifest("orders", str(day(1)))
    assert [told[f"rows_{key}"] for key in ("read", "landed", "quarantined", "erased")] == [13, 9, 2, 2]
    assert told["reasons"] == {"malformed_record": 1, "unparseable": 1}
    clicks = shop.manifest("clicks", str(day(1)))
    assert [clicks[f"rows_{key}"] for key in ("read", "landed", "quarantined", "erased")] == [12, 10, 1, 1]
    assert [(file["rows_landed"], file["rows_erased"]) for file in told["files"]] == [(9, 2)]
    assert has_landed(home, PROJECT, shop.sources(), day(0), day(2))
    kept = shop.bytes_in_lake()
    for source in ("orders", "clicks", "members"):
        for number in range(3):
            home.landing(source, day(number)).unlink()
    shop.land(str(day(0)), str(day(2)))
    assert shop.bytes_in_lake() == kept


def test_neither_a_rerun_nor_a_backfill_nor_a_new_day_brings_the_person_back(shop):
    home = shop.home
    erase(home, [WHO], erased_at=AT)
    refreshed = refresh(home, PROJECT, shop.sources().shop)
    assert (refreshed.days, refreshed.waiting) == ((), ())
    shutil.rmtree(home.lake)
    shutil.rmtree(home.state)
    run(shop, 2, first=0)
    assert naming(home.root) == []
    assert shop.manifest("orders", str(day(1)))["rows_erased"] == 2
    assert_whole(home)


def test_who_is_held_back_goes_too_and_what_was_steadied_is_not_worked_out_again(shop):
    home, rules = shop.home, {"stability_min_dwell_days": {"rfm_class": 7}, "stability_margin": {"recency_days": 3}}
    for one in published_days(home):
        file = version_of(home, one) / "manifest.json"
        manifest = json.loads(file.read_text(encoding="utf-8"))
        manifest["rules"]["vars"] |= rules
        file.chmod(0o644)
        file.write_text(json.dumps(manifest), encoding="utf-8")
    refresh(home, PROJECT, shop.sources().shop)
    history = (home.published / "history").resolve()
    assert [path for path in naming(history) if path.startswith("segment_stability")]
    counted = (history / "stability_moves" / f"as_of_date={day(2)}" / "stability_moves.parquet").read_bytes()
    erase(home, [WHO], erased_at=AT)
    refreshed = refresh(home, PROJECT, shop.sources().shop)
    assert (refreshed.days, refreshed.waiting) == ((), ())
    assert naming(home.root) == []
    after = refreshed.path / "stability_moves" / f"as_of_date={day(2)}" / "stability_moves.parquet"
    assert after.read_bytes() == counted


def test_two_erasures_a_short_id_and_marks_that_hold(shop):
    home = shop.home
    serving.rollback(home, day(1))
    held_back = Marks.of(home).held_back
    erase(home, [SHORT], erased_at=AT)
    assert SHORT not in customers(current_version(home))
    assert WHO in customers(current_version(home))
    second = erase(home, [WHO], erased_at=AT)
    assert second.path.name == "2.json"
    assert_whole(home)
    assert Marks.of(home).held_back == {version_of(home, day(2)).name}
    assert held_back <= set(read_manifest(version_of(home, day(2)))["erased"]["replaces"])
    assert current_version(home) == version_of(home, day(1))
    assert places(home, [WHO, SHORT]) == {}
    # In a text that can't be read, a number may be the customer; it goes, and the row stays.
    assert (14, "unparseable", None) in shop.quarantined()


def test_without_the_key_of_the_tombstones_nothing_lands(tmp_path, monkeypatch):
    shop = small_shop(tmp_path / "shop", ORDERS, INTERACTIONS, MEMBERS)
    deliver(shop)
    shop.land(str(day(0)))
    monkeypatch.setenv(SETTING, "a key of thirty-two characters..")
    erase(shop.home, [WHO], erased_at=AT)
    assert Tombstones.of(shop.home).salt is None
    assert shop.land(str(day(1))).rows_erased == 3
    monkeypatch.delenv(SETTING)
    with pytest.raises(UsageError, match="were erased from this home under the key"):
        shop.land(str(day(2)))


def test_a_file_that_nobody_knows_is_named_and_the_erasure_stays_unfinished(shop):
    (shop.home.root / "notes.bin").write_bytes(b"\xff\x00" + WHO.encode())
    with pytest.raises(StepFailed, match=r"1 files still name them: notes\.bin"):
        erase(shop.home, [WHO], erased_at=AT)
    assert "has not ended" in collect(shop.home)["missing"][0]["what"]
    with pytest.raises(UsageError, match="not all of them are named now"):
        erase(shop.home, ["other1"], erased_at=AT)
    (shop.home.root / "notes.bin").unlink()
    proof = erase(shop.home, [WHO], erased_at=AT).proof
    assert proof["rows"]["lake/orders"] == 3
    assert naming(shop.home.root) == []


def test_a_reason_that_names_the_person_is_refused(shop):
    with pytest.raises(UsageError, match="the reason names the customer"):
        erase(shop.home, [WHO], erased_at=AT, reason=f"asked by {WHO}")
    with pytest.raises(UsageError, match="no customer is named"):
        erase(shop.home, [" "], erased_at=AT)


def test_other_systems_are_told_to_delete_the_person_and_then_nothing_is_left(shop, tmp_path):
    target = Target(name="files", folder=tmp_path / "handed", columns=("rfm_class",))
    delivering.acknowledge(shop.home, target, delivering.deliver(shop.home, target).delivery)
    assert erase(shop.home, [WHO], erased_at=AT).proof["to_be_told"] == {"files": 1}
    assert [Path(path).parts[0] for path in naming(shop.home.root)] == ["crm"]
    told = delivering.deliver(shop.home, target)
    assert [json.loads(line) for line in Path(told.files[0]).read_text().splitlines()] == [
        {"customer_id": WHO, "change": "left"}
    ]
    delivering.acknowledge(shop.home, target, told.delivery)
    assert naming(shop.home.root) == []


def test_the_database_that_follows_is_erased_from_and_a_failure_there_leaves_the_erasure_open(tmp_path, monkeypatch):
    shop = small_shop(tmp_path / "shop", ORDERS, INTERACTIONS, MEMBERS)
    deliver(shop)
    shop.land(str(day(0)))
    with pytest.raises(StrataflowError):
        erase(shop.home, [WHO], erased_at=AT, dsn="postgresql://nobody@127.0.0.1:1/none")
    assert unfinished(shop.home) == 1
    asked = []
    monkeypatch.setattr("strataflow.postgres.forget", lambda *given: asked.append(given) or 3)
    assert erase(shop.home, [WHO], erased_at=AT, dsn="postgresql://here").proof["rows"]["postgres"] == 3
    assert asked == [("postgresql://here", (WHO,))]


def test_the_command_erases_and_neither_record_nor_output_names_the_person(shop):
    def call(*arguments: str, given: str = "") -> dict[str, Any]:
        done = subprocess.run(
            [sys.executable, "-m", "strataflow.cli", "erase", "--json", "--home", str(shop.home.root), *arguments],
            env={name: value for name, value in os.environ.items() if name != SETTING},
            input=given, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    found = call("--customer-id", WHO, "--dry-run")
    assert len(found["files"]) > len(HOLDING)
    assert naming(shop.home.root)
    told = call("--from-file", "-", "--reason", "ticket 4711", given=f"{WHO}\n\n")
    assert WHO not in json.dumps(told)
    assert told["versions_replaced"] == 3
    assert naming(shop.home.root) == []


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("<tr><td>718</td><td>x</td></tr><tr><td>9</td><td>718</td></tr>", "<tr><td>9</td><td>718</td></tr>"),
        ("<tr><td class=a><b>Zq7Erased9137</b></td></tr><p>Zq7Erased91370</p>", "<p>Zq7Erased91370</p>"),
        ("by Zq7Erased9137.", "by (erased)."),
    ],
)
def test_pages_lose_the_rows_of_the_person_and_no_others(text, left):
    assert Persons((WHO, SHORT)).without_rows(text) == left


# ---------------------------------------------------------------- killed


def erase_in_process(root: str, kill_at: int, changes: Any = None) -> None:
    """Erase; die at the ``kill_at``-th change of the file system (0: live, and tell how many there were)."""
    if kill_at:
        KillSwitch(kill_at).arm()
    seen = [0]

    def count(event: str, arguments: Any) -> None:
        only_reads = event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR)
        seen[0] += event in KillSwitch.EVENTS and not only_reads

    if changes is not None:
        sys.addaudithook(count)
    erase(Home(Path(root)), [WHO], erased_at=AT)
    if changes is not None:
        changes.put(seen[0])


@pytest.fixture(scope="module")
def processes():
    """Processes that start fast (DuckDB is imported once) and share nothing with this one."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["publishing", "duckdb", "strataflow.privacy.erase"])
    return context


def test_killed_anywhere_readers_see_whole_versions_and_running_it_again_finishes(lived_in, processes, tmp_path):
    """At points spread over the whole: in the lake, in the ledgers, amid the versions, in what comes after them."""

    def in_process(*arguments: Any) -> int:
        shutil.copytree(lived_in.home.root, tmp_path / "home", symlinks=True)
        process = processes.Process(target=erase_in_process, args=(str(tmp_path / "home"), *arguments))
        process.start()
        process.join(120)
        return process.exitcode

    home, told = Home(tmp_path / "home"), processes.Queue()
    assert in_process(0, told) == 0
    expected, changes = published_bytes(home), told.get(timeout=10)
    shutil.rmtree(home.root)
    for part in range(1, KILLS + 1):
        kill_at = changes * part // (KILLS + 1)
        assert in_process(kill_at) == -signal.SIGKILL
        assert_whole(home)
        assert unfinished(home) == 1
        erase(home, [WHO], erased_at=AT)
        assert naming(home.root) == [], kill_at
        assert unfinished(home) == 0
        assert published_bytes(home) == expected, kill_at
        shutil.rmtree(home.root)
