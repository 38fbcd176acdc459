"""Small random shops, a second implementation of the rules, and the models' SQL run without dbt.

`World` holds what a shop delivered, day by day. `expected_segments` computes
the published segments of a world in plain Python, from the definitions and not
from the SQL, so that the two can be compared. `CompiledModels` runs the
project's own SQL, compiled by dbt once, in a fresh in-memory database per
world: a few tenths of a second instead of a whole build.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import random
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from strataflow.engines.duckdb import compile_models
from strataflow.home import Home
from strataflow.project import Project, Table, canonical_tables

START = date(2024, 1, 1)
STATUSES = ("completed", "completed", "completed", "paid", "cancelled", "pending")
# What staff type: tags of groups with and without automatic ones, with values, of the data alone, and nonsense.
TAG_TEXTS = (
    "coupon lover", "优惠敏感", "Evening shopper", "hours_night", "business customer", "customer_2c", "region: north",
    "region=south", "need_social", "reviewer", "champion", "首单客户", "value_high", "region", "owes us a beer",
)  # fmt: skip
KINDS = ("page_view", "campaign_received", "review_posted", "quote_received", "contact")
KINDS += ("consent_given", "consent_withdrawn")
CHANNELS = ("phone", "wechat", "email", "app", None)


@dataclass
class World:
    """What a shop delivered: rows of the canonical tables, each with its ``received_date``."""

    orders: list[dict[str, Any]] = field(default_factory=list)
    interactions: list[dict[str, Any]] = field(default_factory=list)
    customers: list[dict[str, Any]] = field(default_factory=list)
    manual_tags: list[dict[str, Any]] = field(default_factory=list)

    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """Rows by canonical table; a shop whose staff set no tags has no table of them."""
        found = {"orders": self.orders, "interactions": self.interactions, "customers": self.customers}
        return found | ({"manual_tags": self.manual_tags} if self.manual_tags else {})


def random_world(seed: int, days: int = 40) -> World:
    """A shop with repeat buyers, refunds, corrections, late and repeated deliveries, and strangers."""
    rng = random.Random(seed)  # noqa: S311 (the same worlds every time, no secrets)
    world = World()
    people = [f"c{number}" for number in range(rng.randint(1, 12))]
    for number in range(rng.randint(0, 40)):
        _deliver_order(rng, world, f"o{number}", rng.choice(people), days)
    for number in range(rng.randint(0, 30)):
        _deliver_interaction(rng, world, f"i{number}", rng.choice([*people, "visitor"]), days)
    for person in people:
        if rng.random() < 0.3:
            day = START + timedelta(days=rng.randrange(days))
            registered = datetime.combine(day - timedelta(days=rng.randrange(9)), datetime.min.time())
            world.customers.append(
                {
                    "customer_id": person,
                    "registered_at": registered if rng.random() < 0.7 else None,
                    "region": rng.choice(["north", "south", None]),
                    "received_date": day,
                }
            )
    return world


def say_tags(world: World, seed: int, days: int = 40) -> World:
    """Let staff set tags and take them back in a world: repeated, late, expiring, of strangers, not understood."""
    rng = random.Random(f"tags {seed}")  # noqa: S311 (the same worlds every time, no secrets)
    people = [*sorted({order["customer_id"] for order in world.orders}), "visitor", "nobody"]
    for _ in range(rng.randint(1, 25)):
        day = START + timedelta(days=rng.randrange(days))
        row = {
            "customer_id": rng.choice(people),
            "tag": rng.choice(TAG_TEXTS),
            "tagged_by": rng.choice(["li", "wang"]),
            "tagged_at": datetime.combine(day, datetime.min.time()) + timedelta(minutes=rng.randrange(24 * 60)),
            "tagged_date": day,
            "reason": rng.choice([None, "said on the phone"]),
            "expires_at": day + timedelta(days=rng.randrange(25)) if rng.random() < 0.4 else None,
            "action": rng.choice(["add", "add", "add", "remove"]),
        }
        received = day + timedelta(days=rng.choice([0, 0, 0, 1, 5]))
        world.manual_tags.append({**row, "received_date": received})
        if rng.random() < 0.1:
            world.manual_tags.append({**row, "received_date": received + timedelta(days=rng.randint(1, 10))})
    return world


def _deliver_order(rng: random.Random, world: World, order_id: str, person: str, days: int) -> None:
    ordered = START + timedelta(days=rng.randrange(days))
    version = {
        "order_id": order_id,
        "customer_id": person,
        "ordered_at": datetime.combine(ordered, datetime.min.time()) + timedelta(hours=rng.randrange(24)),
        "order_date": ordered,
        "status": rng.choice(STATUSES),
        "amount": Decimal(rng.randrange(0, 5000)) / 100,
        "refunded_amount": Decimal(0),
    }
    # By the number and not by lot, so that the worlds stay the ones they were.
    version["order_hour"] = version["ordered_at"].hour
    version["discount_amount"] = (version["amount"] * (int(order_id[1:]) % 3) / 10).quantize(Decimal("0.01"))
    version["coupon_amount"] = Decimal(int(order_id[1:]) % 5 == 0)
    received = ordered + timedelta(days=rng.choice([0, 0, 0, 1, 5]))
    world.orders.append({**version, "received_date": received})
    while rng.random() < 0.35:
        received += timedelta(days=rng.randint(1, 20))
        version = dict(version)
        change = rng.choice(["same", "refund", "full refund", "status", "amount", "customer", "adjustment"])
        if change == "refund":
            version["refunded_amount"] = (version["amount"] / 3).quantize(Decimal("0.01"))
        elif change == "full refund":
            version["refunded_amount"] = version["amount"]
        elif change == "status":
            version["status"] = rng.choice(STATUSES)
        elif change == "amount":
            version["amount"] = Decimal(rng.randrange(0, 5000)) / 100
        elif change == "customer":
            version["customer_id"] = person + "x"
        elif change == "adjustment":
            less = -Decimal(rng.randrange(1, 2000)) / 100
            world.orders.append(
                {**version, "is_adjustment": True, "amount": less, "refunded_amount": Decimal(0),
                 "discount_amount": Decimal(0), "coupon_amount": Decimal(0), "received_date": received}
            )  # fmt: skip
            continue
        world.orders.append({**version, "received_date": received})


def _deliver_interaction(rng: random.Random, world: World, identity: str, person: str, days: int) -> None:
    happened = START + timedelta(days=rng.randrange(days))
    row = {
        "interaction_id": identity,
        "customer_id": person,
        "occurred_at": datetime.combine(happened, datetime.min.time()),
        "interaction_date": happened,
        "interaction_hour": len(identity) % 2,
        "kind": rng.choice(KINDS),
        "channel": rng.choice(CHANNELS),
    }
    received = happened + timedelta(days=rng.choice([0, 0, 1, 3]))
    world.interactions.append({**row, "received_date": received})
    if rng.random() < 0.2:
        world.interactions.append({**row, "received_date": received + timedelta(days=rng.randint(1, 10))})


def several_worlds(count: int) -> World:
    """Small random shops side by side, with ids of their own."""
    together = World()
    for seed in range(count):
        world = random_world(seed)
        for name, rows in world.tables().items():
            ids = [column for column in ("order_id", "customer_id", "interaction_id") if rows and column in rows[0]]
            getattr(together, name).extend({**row, **{key: f"{seed}-{row[key]}" for key in ids}} for row in rows)
    return together


def write_lake(home: Home, project: Project, world: World, through: date | None = None) -> None:
    """Land ``world`` as landing would have: partitions and manifests, days up to ``through``."""
    shutil.rmtree(home.lake, ignore_errors=True)
    contract = canonical_tables(project)
    for name, rows in world.tables().items():
        delivered = [row for row in rows if through is None or row["received_date"] <= through]
        for day in sorted({row["received_date"] for row in delivered}):
            _write_partition(home, contract[name], day, [row for row in delivered if row["received_date"] == day])


def _write_partition(home: Home, table: Table, day: date, rows: list[dict[str, Any]]) -> None:
    standing_in = {
        "status": "completed", "currency": "USD", "is_adjustment": False, "source": table.name, "action": "add",
    }  # fmt: skip
    standing_in |= dict.fromkeys(("refunded_amount", "discount_amount", "coupon_amount"), Decimal(0))
    columns = {
        column.name: [row.get(column.name, standing_in.get(column.name)) for row in rows] for column in table.columns
    }
    if "registered_date" in columns:  # the worlds' clock is UTC unless a row says otherwise
        columns["registered_date"] = [
            said or (at and at.date())
            for said, at in zip(columns["registered_date"], columns["registered_at"], strict=True)
        ]
    columns["source_line"] = list(range(1, len(rows) + 1))
    schema = pa.schema([(column.name, _arrow_type(column.data_type)) for column in table.columns])
    path = home.partition(table.name, day, table.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns, schema=schema), path)
    manifest = home.landing(table.name, day)
    manifest.parent.mkdir(parents=True, exist_ok=True)
    manifest.write_text(
        json.dumps(
            {
                "source": table.name,
                "table": table.name,
                "received_date": str(day),
                "rows_landed": len(rows),
                "partition_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            }
        )
    )


def _arrow_type(data_type: str) -> pa.DataType:
    if data_type.startswith("decimal"):
        precision, scale = data_type.removeprefix("decimal(").removesuffix(")").split(",")
        return pa.decimal128(int(precision), int(scale))
    return {
        "varchar": pa.string(), "timestamp": pa.timestamp("us"), "date": pa.date32(), "tinyint": pa.int8(),
        "bigint": pa.int64(), "boolean": pa.bool_(),
    }[data_type]  # fmt: skip


class CompiledModels:
    """The project's models, compiled by dbt for one set of run variables.

    Args:
        project: the dbt project.
        target: folder for dbt's artefacts.
        run_vars: as ``strataflow build`` passes them; a word in place of a date or path can be filled in later.
    """

    def __init__(self, project: Project, target: Path, run_vars: dict[str, Any]) -> None:
        self.nodes = nodes = list(compile_models(Home(target), project, "models", run_vars).values())
        self._seed_tables = {
            node["name"]: _seed_query(project.dbt / "seeds" / f"{node['name']}.csv", node["config"]["column_types"])
            for node in nodes
            if node["resource_type"] == "seed"
        }
        models = {node["unique_id"]: node for node in nodes if node["resource_type"] == "model"}
        self.models = _in_order(models)
        self._idle: list[duckdb.DuckDBPyConnection] = []  # with the seeds and nothing else

    def filled(self, values: dict[str, object], instead: dict[str, str] | None = None) -> CompiledModels:
        """The same models with words of their SQL filled in, some with another query in place of their own.

        Args:
            values: what stands for a word that was given as a run variable.
            instead: queries by model.
        """
        here = copy(self)
        here.models = [
            model | {"compiled_code": (instead or {}).get(model["name"]) or _filled(model["compiled_code"], values)}
            for model in self.models
        ]
        return here

    @contextmanager
    def run(self, wanted: Iterable[str] | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
        """An in-memory database with all seeds, and all models or the wanted ones and what they read."""
        connection = self._idle.pop() if self._idle else self._with_seeds()
        needed = self.models if wanted is None else self._needed(wanted)
        kinds = {model["name"]: "table" if model["config"]["materialized"] == "table" else "view" for model in needed}
        for model in needed:
            connection.execute(f"create {kinds[model['name']]} {model['name']} as {model['compiled_code']}")
        yield connection
        for name, kind in kinds.items():
            connection.execute(f"drop {kind} {name}")
        self._idle.append(connection)

    def _with_seeds(self) -> duckdb.DuckDBPyConnection:
        connection = duckdb.connect(":memory:", config={"threads": 1})
        for seed, query in self._seed_tables.items():
            connection.execute(f"create table {seed} as {query}")
        return connection

    def _needed(self, wanted: Iterable[str]) -> list[dict[str, Any]]:
        """The wanted models and all they hang on, in order: each stands behind what it reads."""
        needed = set(wanted)
        for model in reversed(self.models):
            if model["name"] in needed:
                needed |= {parent.rpartition(".")[2] for parent in model["depends_on"]["nodes"]}
        return [model for model in self.models if model["name"] in needed]


def _filled(sql: str, values: dict[str, object]) -> str:
    for word, value in values.items():
        sql = sql.replace(word, str(value))
    return sql


def _seed_query(path: Path, types: dict[str, str] | None) -> str:
    """A seed as ``select … from (values …)``: read once, not once per world."""
    listed = ", ".join(f"'{name}': '{kind}'" for name, kind in (types or {}).items())
    reading = f"read_csv('{path}', header = true" + (f", types = {{{listed}}})" if listed else ")")
    with duckdb.connect() as connection:
        found = connection.execute(f"from {reading}")
        columns = [(column[0], column[1]) for column in found.description]
        rows = found.fetchall()
    literals = ", ".join("(" + ", ".join(_literal(value) for value in row) + ")" for row in rows)
    names = ", ".join(name for name, _ in columns)
    casts = ", ".join(f"cast({name} as {kind}) as {name}" for name, kind in columns)
    return f"select {casts} from (values {literals}) as rows ({names})"


def _literal(value: Any) -> str:
    if value is None:
        return "null"
    return "'" + str(value).replace("'", "''") + "'"


def _in_order(models: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    done: dict[str, dict[str, Any]] = {}

    def visit(key: str) -> None:
        if key in done:
            return
        for parent in models[key]["depends_on"]["nodes"]:
            if parent in models:
                visit(parent)
        done[key] = models[key]

    for key in sorted(models):
        visit(key)
    return list(done.values())


# ---------------------------------------------------------------- a second implementation of the rules


def latest_orders(world: World, known_at: date) -> dict[str, dict[str, Any]]:
    """Every order's latest version as known: whole deliveries replace, adjustments add."""
    orders: dict[str, dict[str, Any]] = {}
    rows = [row for row in world.orders if row["received_date"] <= known_at]
    for row in sorted(rows, key=lambda row: (row["received_date"], row.get("is_adjustment", False))):
        net = row["amount"] - row["refunded_amount"]
        current = orders.get(row["order_id"])
        if row.get("is_adjustment") and current:
            orders[row["order_id"]] = {**current, "net": current["net"] + net}
        else:
            orders[row["order_id"]] = {**row, "net": net}
    return orders


def expected_segments(world: World, project: Project, as_of: date, known_at: date) -> dict[str, dict[str, Any]]:
    """``customer_segments`` of a world by customer, from the written definitions."""
    orders = [order for order in latest_orders(world, known_at).values() if order["order_date"] <= as_of]
    statuses = _seed(project, "order_statuses")
    valid_statuses = {row["status"] for row in statuses if row["counts_as_valid"] == "true"}
    valid = [order for order in orders if order["status"] in valid_statuses and order["net"] > 0]
    interactions = interactions_counted(world, as_of, known_at)
    seen = _first_seen(world, orders, interactions, as_of, known_at)
    customers = {person: _measures(person, valid, as_of, day) for person, day in seen.items()}
    _score(customers)
    _tier(customers)
    _stages(customers, _seed(project, "interaction_kinds"), interactions, as_of)
    return customers


def expected_suppressions(
    world: World, project: Project, as_of: date, known_at: date, plays: dict[str, str], overall_cap: tuple[int, int]
) -> dict[str, str | None]:
    """Why each customer with a play is not on the contact list, in plain Python; nobody is held out.

    Args:
        plays: the play of each customer.
        overall_cap: contacts on all channels in so many days that are enough.
    """
    channels = {row["channel"]: row for row in _seed(project, "contact_channels")}
    playbook = {row["playbook_id"]: row for row in _seed(project, "playbook")}
    interactions = interactions_counted(world, as_of, known_at)
    return {
        person: _suppression(
            [each for each in interactions if each["customer_id"] == person],
            playbook[play], channels[playbook[play]["channel"]], as_of, overall_cap,
        )
        for person, play in plays.items()
    }  # fmt: skip


def _suppression(
    mine: list[dict], play: dict[str, str], channel: dict[str, str], as_of: date, overall_cap: tuple[int, int]
) -> str | None:
    said = [each for each in mine if each["kind"].startswith("consent") and each["channel"] in (play["channel"], None)]
    last = max(said, key=lambda each: (each["interaction_date"], each["interaction_hour"], each["kind"]), default=None)
    given = last["kind"] == "consent_given" if last else channel["consent_by_default"] == "true"
    contacts = [each for each in mine if each["kind"] == "contact"]
    ages = [(as_of - each["interaction_date"]).days for each in contacts]
    on_channel = [age for age, each in zip(ages, contacts, strict=True) if each["channel"] == play["channel"]]
    if play["is_contacted"] == "false":
        return "left_alone"
    if not given:
        return "no_consent"
    if sum(age < int(channel["cap_days"]) for age in on_channel) >= int(channel["cap_contacts"]):
        return "channel_cap"
    return "overall_cap" if sum(age < overall_cap[1] for age in ages) >= overall_cap[0] else None


def _seed(project: Project, name: str) -> list[dict[str, str]]:
    with (project.dbt / "seeds" / f"{name}.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def interactions_counted(world: World, as_of: date, known_at: date) -> list[dict[str, Any]]:
    """Interactions up to ``as_of``; an id received again within 30 days of its last delivery counts once."""
    kept, last_seen = [], {}
    for row in sorted(world.interactions, key=lambda row: row["received_date"]):
        if row["received_date"] > known_at:
            continue
        before = last_seen.get(row["interaction_id"])
        last_seen[row["interaction_id"]] = row["received_date"]
        if before is not None and (row["received_date"] - before).days <= 30:
            continue
        if row["interaction_date"] <= as_of:
            kept.append(row)
    return kept


def _first_seen(
    world: World, orders: list[dict], interactions: list[dict], as_of: date, known_at: date
) -> dict[str, date]:
    sightings = [(order["customer_id"], order["order_date"]) for order in orders]
    sightings += [(row["customer_id"], row["interaction_date"]) for row in interactions]
    for row in world.customers:
        if row["received_date"] <= known_at:
            day = row["registered_at"].date() if row["registered_at"] else row["received_date"]
            if day <= as_of:
                sightings.append((row["customer_id"], day))
    first: dict[str, date] = {}
    for person, day in sightings:
        first[person] = min(day, first.get(person, day))
    return first


def _measures(person: str, valid: list[dict], as_of: date, first_seen: date) -> dict[str, Any]:
    own = [order for order in valid if order["customer_id"] == person]
    window = [order for order in own if (as_of - order["order_date"]).days < 365]
    dates = [order["order_date"] for order in own]
    return {
        "first_seen_date": first_seen,
        "first_order_date": min(dates, default=None),
        "last_order_date": max(dates, default=None),
        "recency_days": (as_of - max(dates)).days if dates else None,
        "frequency": len(window),
        "monetary": sum((order["net"] for order in window), Decimal(0)),
        "lifetime_orders": len(own),
        "lifetime_value": sum((order["net"] for order in own), Decimal(0)),
    }


def _score(customers: dict[str, dict[str, Any]]) -> None:
    """RFM: cut-offs at the discrete quantiles; score = 1 + cut-offs strictly below, mirrored for recency."""
    buyers = {person: row for person, row in customers.items() if row["lifetime_orders"] > 0}
    in_window = [row for row in buyers.values() if row["frequency"] > 0]
    high: dict[str, dict[str, bool]] = {person: {} for person in buyers}
    for measure, column in (("recency", "recency_days"), ("frequency", "frequency"), ("monetary", "monetary")):
        values = sorted(row[column] for row in in_window)
        # the smallest value with at least that share of values at or below it
        ranks = [math.ceil(len(values) * share / 5) - 1 for share in (1, 2, 3, 4)]
        cutoffs = [values[rank] for rank in ranks] if values else []
        for row in buyers.values():
            below = sum(1 for cutoff in cutoffs if cutoff < row[column])
            row[f"{measure}_score"] = 1 + (len(cutoffs) - below if measure == "recency" else below)
        total = sum(row[f"{measure}_score"] for row in buyers.values())
        for person, row in buyers.items():
            high[person][measure] = row[f"{measure}_score"] * len(buyers) > total
    for person, row in customers.items():
        row["rfm_class"] = _class_name(**high[person]) if person in buyers else "no_orders"


def _class_name(*, recency: bool, frequency: bool, monetary: bool) -> str:
    worth = "important" if monetary else "general"
    stance = {(1, 1): "value", (1, 0): "develop", (0, 1): "keep", (0, 0): "winback"}
    return f"{worth}_{stance[int(recency), int(frequency)]}"


def _tier(customers: dict[str, dict[str, Any]]) -> None:
    total = sum(row["monetary"] for row in customers.values())
    for row in customers.values():
        above = sum(other["monetary"] for other in customers.values() if other["monetary"] > row["monetary"])
        high, mid = above < Decimal("0.80") * total, above < Decimal("0.95") * total
        row["value_tier"] = "low" if row["monetary"] <= 0 else "high" if high else "mid" if mid else "low"


def _stages(
    customers: dict[str, dict[str, Any]], kinds: list[dict[str, str]], interactions: list[dict], as_of: date
) -> None:
    own_actions = {row["kind"] for row in kinds if row["is_customer_action"] == "true"}
    intent = {row["kind"] for row in kinds if row["signals_intent"] == "true"}
    for person, row in customers.items():
        mine = [each for each in interactions if each["customer_id"] == person]
        actions = [each["interaction_date"] for each in mine if each["kind"] in own_actions]
        count = row["lifetime_orders"]
        bought = "super" if count >= 5 else "repeat" if count >= 2 else None
        row["ecommerce_stage"] = bought or ("first_purchase" if count else "new")
        keen = len(actions) >= 5 or any(each["kind"] in intent for each in mine)
        waiting = "intent" if keen else "prospect" if mine else "stranger"
        row["high_ticket_stage"] = bought or ("first_order" if count else waiting)
        last = max([*actions, row["last_order_date"] or row["first_seen_date"], row["first_seen_date"]])
        age, silence = (as_of - row["first_seen_date"]).days, (as_of - last).days
        row["activity_stage"] = (
            "new" if age < 30 else "active" if silence < 30 else "silent" if silence < 90 else "churned"
        )
