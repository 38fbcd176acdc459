"""Telling other systems what changed: whatever fails, is killed, rolled back or restated, they end where readers are.

The receiver here does what docs/lists.md asks of one, and no more: it applies batches in the order of their numbers
and ignores a number that it has seen or passed.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import random
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from datetime import date
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import duckdb
import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from strataflow import cli, runlog
from strataflow.crm import delivering
from strataflow.crm.outbox import forget, opened
from strataflow.crm.sending import wait_after
from strataflow.crm.targets import Target, load_targets
from strataflow.durable import point, sha256, write_json
from strataflow.errors import Busy, StepFailed, UsageError
from strataflow.home import Home

KEY = b"a key that both sides know"
COLUMNS = {"rfm_class": pa.string(), "value_tier": pa.string()}


# ---------------------------------------------------------------- what readers see, and who is told of it


def show(home: Home, table: dict[str, dict], columns=COLUMNS, day: date = date(2024, 1, 1)) -> str:
    """Let ``published/current`` lead to a version with this table; the same table is the same version."""
    told = {"customer_id": sorted(table), **{name: [table[key].get(name) for key in sorted(table)] for name in columns}}
    schema = pa.schema({"customer_id": pa.string(), **columns})
    aside = home.published / "versions" / ".aside.parquet"
    aside.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(told, schema=schema), aside)
    name = f"{day}-{sha256(aside)[:12]}"
    path = home.published / "versions" / name / "customer_segments" / f"as_of_date={day}" / "customer_segments.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    aside.rename(path)
    with duckdb.connect() as connection:
        types = dict(row[:2] for row in connection.execute(f"describe from '{path}'").fetchall())
    entry = {
        "key": ["customer_id"],
        "columns": types,
        "files": [{"path": str(path.relative_to(home.published / "versions" / name)), "sha256": sha256(path)}],
    }
    manifest = {"as_of": str(day), "known_at": str(day), "tables": {"customer_segments": entry}}
    write_json(home.published / "versions" / name / "manifest.json", manifest)
    point(home.published / "current", f"versions/{name}")
    return name


def files_of(folder: Path, **changes) -> Target:
    return Target(name="files", folder=folder, **({"columns": tuple(COLUMNS)} | changes))


def endpoint_at(url: str = "https://crm.example/segments", **changes) -> Target:
    given = {"name": "crm", "columns": tuple(COLUMNS), "key_from": "CRM_KEY", "batch_rows": 1, "tries": 1}
    return Target(url=url, **(given | {"first_wait_seconds": 0} | changes))


@pytest.fixture(autouse=True)
def signing_key(monkeypatch):
    monkeypatch.setenv("CRM_KEY", KEY.decode())


@pytest.fixture
def home(tmp_path) -> Home:
    return Home(tmp_path / "home")


class Replica:
    """A table that starts empty and hears of changes only."""

    def __init__(self) -> None:
        self.rows: dict[str, dict] = {}
        self.last = 0
        self.applied: list[int] = []

    def apply(self, change: dict) -> None:
        if change["change"] == "left":
            self.rows.pop(change["customer_id"], None)
            return
        row = self.rows.setdefault(change["customer_id"], {})
        assert None not in change["set"].values()
        row.update(change["set"])
        for name in change["clear"]:
            row.pop(name, None)

    def hear(self, request: httpx.Request) -> httpx.Response:
        """What an endpoint does with a batch."""
        body = request.content
        key = request.headers["Idempotency-Key"]
        assert key == hashlib.sha256(body).hexdigest()
        signature = "sha256=" + hmac.new(KEY, body, hashlib.sha256).hexdigest()
        if not hmac.compare_digest(signature, request.headers["X-Strataflow-Signature"]):
            return httpx.Response(401, text="wrong signature")
        told = json.loads(body)
        assert told["sequence"] == int(request.headers["X-Strataflow-Sequence"])
        if told["sequence"] > self.last:
            for change in told["changes"]:
                self.apply(change)
            self.last = told["sequence"]
            self.applied.append(told["sequence"])
        return httpx.Response(200, json={"acknowledged": key})

    def read(self, file: Path) -> None:
        for line in file.read_text(encoding="utf-8").splitlines():
            self.apply(json.loads(line))


def without_blanks(table: dict[str, dict]) -> dict[str, dict]:
    return {key: {name: value for name, value in row.items() if value is not None} for key, row in table.items()}


# ---------------------------------------------------------------- any sequence of events

# Few tables, so that one comes again by itself: that is a rollback.
ROWS = (None, {"rfm_class": "a", "value_tier": None}, {"rfm_class": "a", "value_tier": "x"})


SEQUENCES, STEPS = 14, 20


class Killed(BaseException):
    """Stands for ``kill -9``: nothing of ours catches it."""


@contextmanager
def killed_at(step: int | None):
    """Die at the n-th rename, just before or just after it."""
    real, seen = os.replace, 0

    def counting(source, target, **options):
        nonlocal seen
        seen += 1
        if step is not None and seen == step // 2 + 1:
            if step % 2:
                real(source, target, **options)
            raise Killed
        return real(source, target, **options)

    os.replace = counting
    try:
        yield
    except Killed:
        pass
    finally:
        os.replace = real


class Readers:
    """What readers see changes (runs, rollbacks, restatements), now and then a customer is erased, and it is told."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.home, self.replica = Home(folder / str(seed)), Replica()
        self.chance = random.Random(seed)  # noqa: S311 - the same sequences every time
        self.gone: set[str] = set()
        self.agreed = 0
        self.see({})

    def see(self, table: dict[str, dict]) -> None:
        self.table = {key: row for key, row in table.items() if row and key not in self.gone}
        show(self.home, self.table)

    def step(self) -> None:
        turn = self.chance.random()
        if turn < 0.03:
            self.erase(self.chance.choice(["c1", "c2"]))
        elif turn < 0.4:
            self.see({customer: self.chance.choice(ROWS) for customer in ("c0", "c1", "c2")})
        else:
            self.tell(self.chance.choice([None, None, self.chance.randrange(16)]))

    def tell(self, kill: int | None) -> None:
        raise NotImplementedError

    def erase(self, customer: str) -> None:
        self.gone.add(customer)
        self.see(self.table)
        forget(self.home, sorted(self.gone))
        for kept in self.home.crm.glob("*/known-*.parquet"):
            values = duckdb.sql(f"from '{kept}'").fetchall()
            assert {row[1:] for row in values if row[0] in self.gone} <= {(None, None, None)}

    def agree(self) -> None:
        assert self.replica.rows == without_blanks(self.table)
        self.agreed += 1


class Endpoint(Readers):
    """An endpoint that fails in every way, and a sender that is killed anywhere."""

    def __init__(self, folder: Path, seed: int) -> None:
        super().__init__(folder, seed)
        self.delayed: list[httpx.Request] = []

    def tell(self, kill: int | None) -> None:
        done = None
        with killed_at(kill), suppress(StepFailed):
            done = delivering.deliver(self.home, endpoint_at(), lambda _: None, httpx.MockTransport(self.hear))
        if done:
            self.agree()

    def hear(self, request: httpx.Request) -> httpx.Response:
        answer = self.chance.choice(["heard", "heard", "lost after", "late", "lost before"])
        if answer == "lost before":
            raise httpx.ConnectError("no way")
        if answer == "late":
            self.delayed.append(request)
            raise httpx.ReadTimeout("no answer")
        response = self.replica.hear(request)
        while self.delayed:
            self.replica.hear(self.delayed.pop())
        if answer == "lost after":
            raise httpx.ReadError("connection dropped")
        return response


class Files(Readers):
    """A reader of files that leaves some of them out, and acknowledges late or never."""

    def tell(self, kill: int | None) -> None:
        target, done, reads = files_of(self.home.root / "handed"), None, self.chance.random() < 0.6
        if self.chance.random() < 0.4:
            self.acknowledge(target, kill)
            return
        with killed_at(kill):
            done = delivering.deliver(self.home, target)
        if done and done.outcome != "unchanged" and reads:
            self.replica.read(Path(done.files[0]))
        if done and (reads or done.outcome == "unchanged"):
            self.agree()

    def acknowledge(self, target: Target, kill: int | None) -> None:
        """One of those that wait, which the reader has read, and perhaps later ones after it."""
        with opened(self.home, target.name) as outbox:
            handed = [each.name for each in outbox.open_deliveries() if each.is_handed_over]
        if not handed:
            return
        first = self.chance.randrange(len(handed))
        for name in handed[first : self.chance.randint(first, len(handed)) + 1]:
            self.replica.read(target.folder / f"segment_changes-{name}.jsonl")
        with killed_at(kill):
            delivering.acknowledge(self.home, target, handed[first])


@pytest.mark.parametrize("kind", [Endpoint, Files])
def test_the_delta_replayed_into_an_empty_table_equals_the_published_table_after_any_sequence(kind, tmp_path):
    agreed = 0
    for seed in range(SEQUENCES):
        world = kind(tmp_path, seed)
        for _ in range(STEPS):
            world.step()
        agreed += world.agreed
    assert agreed > SEQUENCES


# ---------------------------------------------------------------- a real endpoint that fails at random

SENDER = """
import sys
from pathlib import Path
from strataflow.crm.delivering import deliver
from strataflow.crm.targets import Target
from strataflow.errors import StepFailed
from strataflow.home import Home
try:
    told = deliver(Home(Path(sys.argv[1])), Target.model_validate_json(sys.argv[2]))
except StepFailed:
    sys.exit(3)
print(told.outcome)
"""


class Server(ThreadingHTTPServer):
    """Answers 500, answers too late, drops the connection after processing, and kills the sender."""

    def __init__(self, seed: int) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.replica, self.lock = Replica(), threading.Lock()
        self.sender: subprocess.Popen | None = None
        self.to_come = ["500", "late", "dropped", "killed before", "killed after"] * 2 + ["answered"] * 10
        random.Random(seed).shuffle(self.to_come)  # noqa: S311 - the same faults every time

    def what_happens(self) -> str:
        return self.to_come.pop() if self.to_come else "answered"

    def handle_error(self, request, client_address) -> None:
        """A sender that is gone is what this test is about."""


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        request = httpx.Request("POST", "http://here", headers=dict(self.headers), content=body)
        with self.server.lock:
            happens = self.server.what_happens()
            if happens == "500":
                self.send_error(500)
                return
            if happens == "killed before":
                self.server.sender.kill()
                return
            response = self.server.replica.hear(request)
            if happens == "killed after":
                self.server.sender.kill()
                return
        if happens == "dropped":
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        if happens == "late":
            time.sleep(0.5)
        self.send_response(response.status_code)
        self.send_header("Content-Length", str(len(response.content)))
        self.end_headers()
        self.wfile.write(response.content)

    def log_message(self, *_):
        """Not into the tests' output."""


def test_a_real_endpoint_that_fails_at_random_and_kills_the_sender_ends_with_the_published_table(home):
    tables = [
        {f"c{number:02}": {"rfm_class": "abc"[(number + day) % 3], "value_tier": None} for number in range(20 - day)}
        for day in range(3)
    ]
    server = Server(seed=5)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    target = endpoint_at(
        f"http://127.0.0.1:{server.server_port}/segments", batch_rows=4, tries=3, timeout_seconds=0.25,
        first_wait_seconds=0.01,
    )  # fmt: skip
    try:
        for day, table in enumerate([*tables, tables[0]]):
            show(home, table)
            ended = None
            for _ in range(12):
                command = [sys.executable, "-c", SENDER, str(home.root), target.model_dump_json()]
                server.sender = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
                ended = server.sender.communicate()[0].strip()
                if server.sender.returncode == 0:
                    break
            assert (server.sender.returncode, ended) == (0, "acknowledged")
            assert server.replica.rows == without_blanks(table), day
    finally:
        server.shutdown()
        server.server_close()
    assert not server.to_come
    assert server.replica.applied == sorted(set(server.replica.applied))


# ---------------------------------------------------------------- what is told


def told(home: Home, folder: Path, **changes) -> list[dict]:
    done = delivering.deliver(home, files_of(folder, **changes))
    return [json.loads(line) for line in Path(done.files[0]).read_text("utf-8").splitlines()] if done.files else []


def test_only_what_changed_since_the_last_acknowledgement_is_told(home, tmp_path):
    show(home, {"c1": {"rfm_class": "a", "value_tier": "high"}, "c2": {"rfm_class": "b"}, "c3": {"rfm_class": "b"}})
    first = delivering.deliver(home, files_of(tmp_path))
    assert (first.outcome, first.changes) == ("handed_over", {"entered": 3, "changed": 0, "left": 0})
    assert delivering.deliver(home, files_of(tmp_path)).outcome == "waiting"
    delivering.acknowledge(home, files_of(tmp_path), first.delivery)
    assert delivering.deliver(home, files_of(tmp_path)).outcome == "unchanged"

    show(home, {"c1": {"rfm_class": "a", "value_tier": None}, "c2": {"rfm_class": "b"}, "c4": {"value_tier": "low"}})
    found = [
        {key: change.get(key) for key in ("customer_id", "change", "set", "clear")} for change in told(home, tmp_path)
    ]
    assert found == [
        {"customer_id": "c1", "change": "changed", "set": {"rfm_class": "a"}, "clear": ["value_tier"]},
        {"customer_id": "c3", "change": "left", "set": None, "clear": None},
        {"customer_id": "c4", "change": "entered", "set": {"value_tier": "low"}, "clear": []},
    ]


def test_values_of_every_type_arrive_as_they_are_and_the_checksum_can_be_worked_out_by_the_receiver(home, tmp_path):
    columns = {
        "name": pa.string(), "amount": pa.decimal128(18, 2), "share": pa.float64(), "orders": pa.int64(),
        "is_new": pa.bool_(), "since": pa.date32(),
    }  # fmt: skip
    row = {
        "name": '重要"价值\\\n客户\t😀,', "amount": Decimal("-0.10"), "share": 1e-07, "orders": 2**53 + 1,
        "is_new": False, "since": date(2024, 2, 29),
    }  # fmt: skip
    show(home, {"c'1": row, "c2": {}, "c3": {"share": float("inf")}}, columns)
    changes = told(home, tmp_path, columns=tuple(columns))
    assert [change["set"] for change in changes] == [
        {**row, "amount": -0.1, "since": "2024-02-29"},
        {},
        {},
    ]
    said = "c'1\nname=重要\"价值\\\n客户\t😀,\namount=-0.10\nshare=1e-07"
    said += "\norders=9007199254740993\nis_new=false\nsince=2024-02-29"
    assert changes[0]["checksum"] == hashlib.md5(said.encode()).hexdigest()  # noqa: S324
    assert changes[1]["checksum"] == hashlib.md5(b"c2").hexdigest()  # noqa: S324


def test_a_column_more_is_told_of_everyone_who_has_it(home, tmp_path):
    show(home, {"c1": {"rfm_class": "a", "value_tier": "high"}, "c2": {"rfm_class": "b"}})
    narrow = files_of(tmp_path, columns=("rfm_class",))
    delivering.acknowledge(home, narrow, delivering.deliver(home, narrow).delivery)
    (change,) = told(home, tmp_path)
    assert (change["customer_id"], change["set"]) == ("c1", {"rfm_class": "a", "value_tier": "high"})


# ---------------------------------------------------------------- answers, waits, mistakes


def test_a_refusal_is_not_tried_again_and_a_busy_endpoint_is_given_the_time_it_asks_for(home):
    show(home, {"c1": {"rfm_class": "a"}})
    answers, waits = [httpx.Response(503, headers={"Retry-After": "7"}), httpx.Response(429)], []
    target = endpoint_at(tries=5, first_wait_seconds=2, longest_wait_seconds=6)

    def hear(_request):
        return answers.pop(0) if answers else httpx.Response(422, text="no such column")

    with pytest.raises(StepFailed, match=r"refused batch 1: it answered 422 no such column"):
        delivering.deliver(home, target, waits.append, httpx.MockTransport(hear))
    assert waits[0] == 6
    assert 2 <= waits[1] <= 6
    assert [wait_after(target, "k", number) for number in (1, 2, 3)] == [
        wait_after(target, "k", number) for number in (1, 2, 3)
    ]
    assert all(1 <= wait_after(target, str(key), 1) <= 3 for key in range(50))


def test_an_endpoint_that_acknowledges_something_else_has_not_acknowledged(home):
    show(home, {"c1": {"rfm_class": "a"}})
    other = httpx.MockTransport(lambda _: httpx.Response(200, json={"acknowledged": "something else"}))
    with pytest.raises(StepFailed, match="it acknowledged something else instead of"):
        delivering.deliver(home, endpoint_at(), lambda _: None, other)
    replica = Replica()
    assert delivering.deliver(home, endpoint_at(), transport=httpx.MockTransport(replica.hear)).tries == 1


def test_one_delivery_at_a_time(home, tmp_path):
    show(home, {"c1": {"rfm_class": "a"}})
    with opened(home, "files"), pytest.raises(Busy, match="another process is delivering to files"):
        delivering.deliver(home, files_of(tmp_path))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("targets: {a: {folder: x, url: 'https://b', key_from: K}}", "either folder"),
        ("targets: {a: {}}", "either folder"),
        ("targets: {a: {url: 'http://crm.example', key_from: K}}", "https"),
        ("targets: {a: {url: 'https://crm.example'}}", "key_from"),
        ("targets: {a: {folder: x, colour: red}}", "colour"),
        ("targets: {A B: {folder: x}}", "name"),
        ("targets: {a: x}", "not described"),
        ("a: {folder: x}", "describes no targets"),
        ("targets: [", "can't be read"),
    ],
)
def test_a_mistake_in_the_targets_is_named(text, said, tmp_path):
    file = tmp_path / "targets.yml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=said) as refused:
        load_targets(file)
    assert str(file) in str(refused.value)


def test_what_can_not_be_told_is_named_before_anything_is_sent(home, tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="nothing is published"):
        delivering.deliver(home, files_of(tmp_path))
    show(home, {"c1": {"rfm_class": "a"}})
    with pytest.raises(UsageError, match=r"no column mood(?s:.*)choose from: rfm_class, value_tier"):
        delivering.deliver(home, files_of(tmp_path, columns=("mood",)))
    with pytest.raises(UsageError, match=r"no published table customer_tags(?s:.*)choose from: customer_segments"):
        delivering.deliver(home, files_of(tmp_path, table="customer_tags"))
    monkeypatch.delenv("CRM_KEY")
    with pytest.raises(UsageError, match=r"no key(?s:.*)CRM_KEY"):
        delivering.deliver(home, endpoint_at())


# ---------------------------------------------------------------- the command


def test_the_command_delivers_says_what_waits_and_takes_the_acknowledgement(home, tmp_path, capfd):
    def command(*arguments: object) -> tuple[int, dict]:
        with pytest.raises(SystemExit) as ended:
            cli.main(["--json", "deliver", *map(str, arguments)])
        return ended.value.code, json.loads(capfd.readouterr().out)

    show(home, {"c1": {"rfm_class": "a"}, "c2": {"rfm_class": "b"}})
    file = tmp_path / "targets.yml"
    file.write_text(
        "targets:\n  mailing: {folder: handed}\n  lists: {folder: handed, columns: [rfm_class]}\n", encoding="utf-8"
    )
    at = ("--home", home.root, "--targets", file)
    assert command(*at)[1]["error"]["what"].startswith(
        "target mailing: customer_segments has no column ecommerce_stage"
    )
    code, document = command(*at, "--target", "lists")
    (done,) = document["targets"]
    assert (code, done["outcome"], done["changes"]["entered"]) == (0, "waiting", 2), "told although the other failed"
    assert Path(done["files"][0]).parent == tmp_path / "handed"
    assert command(*at, "--target", "lists", "--acknowledge", "00000001-0")[0] == 2
    assert command(*at, "--target", "lists", "--acknowledge", done["delivery"])[0] == 0
    (state,) = command(*at, "--target", "lists", "--waiting")[1]["targets"]
    assert (state["acknowledged"]["delivery"], state["waiting"]) == (done["delivery"], [])
    steps = [step["name"] for record in runlog.records(home) for step in record["steps"] if step["outcome"] != "failed"]
    assert steps == ["deliver lists", "deliver lists", "acknowledge lists"]
