"""Small shops for the report: built with the project's own models, published for real, and pages read back.

The models are compiled by dbt once; a shop's days are then the compiled SQL
over its lake, which takes a second instead of a whole build.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import duckdb

from publishing import pass_gate
from strataflow.build import Build
from strataflow.home import Home
from strataflow.project import Project, canonical_tables
from strataflow.publish import publish
from strataflow.report import write_report
from strataflow.sqltext import named, quoted
from worlds import CompiledModels, World, write_lake

PROJECT = Project.locate()
FIRST, AS_OF = date(2024, 1, 1), date(2024, 6, 30)
YESTERDAY, MONTH_AGO, FORECAST_DAY = date(2024, 6, 29), date(2024, 5, 31), date(2024, 4, 1)
TABLES = ("orders", "order_lines", "interactions", "customers", "products")
SEEDS = ("rfm_classes", "lifecycle_stages", "value_tiers", "tag_dictionary")
KEPT = (
    "customer_segments",
    "customer_tags",
    "churn_risk",
    "rfm_cutoffs",
    "int_customer_orders_summed",
    "int_order_ledger",
)
PUBLISHED = {
    "customer_segments": ["customer_id"],
    "customer_tags": ["customer_id", "tag_id"],
    "churn_risk": ["customer_id"],
    "rfm_cutoffs": ["measure"],
}
_SOME_DAY, _SOME_LAKE = "1999-12-31", "/the/lake"

# Values that would run, load or break something if a page took them for markup or code.
HOSTILE = (
    '</script><img src=x onerror="window.hacked=1">',
    "\"><svg onload='window.hacked=2'>",
    "'; window.hacked=3; //",
    "<!--<script>window.hacked=4</script>",
    "{{hacked}} ${window.hacked=5} {currency} \u2028\u2029 \\u003c",
)


@dataclass
class Shop(World):
    """What a shop delivered, order lines and products too; ``name`` is the shop's own."""

    order_lines: list[dict[str, Any]] = field(default_factory=list)
    products: list[dict[str, Any]] = field(default_factory=list)
    name: str = "Corner shop"

    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """Rows by canonical table."""
        return {**super().tables(), "order_lines": self.order_lines, "products": self.products}

    def buy(self, customer: str, day: date, amount: Decimal, *, product: str = "p0", **more: Any) -> None:
        """One order of one line, delivered as both."""
        ordered_at = datetime.combine(day, datetime.min.time()) + timedelta(hours=9 + len(self.orders) % 12)
        order = {
            "order_id": f"o{len(self.orders)}", "customer_id": customer, "ordered_at": ordered_at, "order_date": day,
            "order_hour": ordered_at.hour, "received_date": day, "amount": amount, "channel": "web", **more,
        }  # fmt: skip
        self.orders.append(order)
        self.order_lines.append({**order, "product_id": product, "quantity": Decimal(1)})

    def act(self, customer: str, day: date, kind: str) -> None:
        """One interaction."""
        self.interactions.append(
            {
                "interaction_id": f"i{len(self.interactions)}", "customer_id": customer, "kind": kind,
                "occurred_at": datetime.combine(day, datetime.min.time()), "interaction_date": day,
                "interaction_hour": 0, "received_date": day,
            }
        )  # fmt: skip


def busy_shop(customers: int = 60, *, odd: tuple[str, ...] = ()) -> Shop:
    """Half a year of regulars, droppers-out, refunds and onlookers; ``odd`` values stand among its ids and names."""
    values = odd or ("tea", "coffee", "cake", "bread", "jam")
    shop = Shop(name=values[0] if odd else "Corner shop")
    people = [*odd, *(f"c{number:02}" for number in range(customers - len(odd)))]
    shop.products += [
        {"product_id": f"p{place}", "category": value, "product_name": value, "received_date": FIRST}
        for place, value in enumerate(values)
    ]
    for number, person in enumerate(people):
        rhythm, last = 4 + number % 23, 60 + number * 37 % 122
        for day in range(number * 11 % 75, last, rhythm):
            shop.buy(
                person,
                FIRST + timedelta(days=day),
                Decimal(500 + (number * 977 + day * 131) % 19_000) / 100,
                product=f"p{(number + day) % 5}",
                channel=values[number % 5],
                refunded_amount=Decimal("1.50") if (number + day) % 9 == 0 else Decimal(0),
                status="cancelled" if (number + day) % 31 == 0 else "completed",
            )
        if number % 3 == 0:
            shop.act(person, FIRST + timedelta(days=number), "page_view")
        if number % 4 == 0:
            shop.customers.append({"customer_id": person, "region": values[number % 5], "received_date": FIRST})
    for number in range(7):
        shop.act(f"visitor{number}", AS_OF - timedelta(days=number * 20), "page_view")
    return shop


@dataclass(frozen=True)
class Kitchen:
    """The models, compiled once for no day and no lake in particular."""

    models: CompiledModels

    @classmethod
    def opened(cls, target: Path) -> Kitchen:
        """Compile the project into ``target``."""
        run_vars = {
            "as_of": _SOME_DAY, "known_at": _SOME_DAY, "lake": _SOME_LAKE, "state": "/no/state",
            "landed_tables": list(TABLES), "ledger_through": None,
        }  # fmt: skip
        return cls(CompiledModels(PROJECT, target, run_vars))

    def build(self, home: Home, shop: Shop, as_of: date) -> Build:
        """Build a day of a shop whose lake is in ``home``, as far as the report and publishing need it."""
        folder = home.builds / str(as_of)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "build.duckdb"
        path.unlink(missing_ok=True)
        models = self.models.filled({_SOME_DAY: as_of, _SOME_LAKE: home.lake})
        with models.run(KEPT) as connection:
            connection.execute(f"attach {quoted(str(path))} as kept")
            for table in (*SEEDS, *KEPT):
                connection.execute(f"create table kept.main.{named(table)} as from {named(table)}")
            connection.execute("detach kept")
        meta = _meta(shop, as_of)
        (folder / "build.json").write_text(json.dumps(meta), encoding="utf-8")
        pass_gate(home, as_of, meta["build_id"])
        return Build(path=path, as_of=as_of, known_at=as_of, meta=meta)


def _meta(shop: Shop, as_of: date) -> dict[str, Any]:
    return {
        "build_id": f"{shop.name[:3]}-{as_of}", "as_of": str(as_of), "known_at": str(as_of),
        "shop": {"name": shop.name, "time_zone": "UTC", "currency": "EUR"},
        "rules_hash": "rules" * 12, "rules": {"files": {}, "vars": {}}, "expectations_hash": "expected",
        "code_version": "test", "fingerprint": f"{as_of}",
        "cutoffs": {}, "inputs": {}, "published": {table: {"key": key} for table, key in PUBLISHED.items()},
    }  # fmt: skip


def stock(home: Home, shop: Shop) -> None:
    """Land everything the shop delivered; a table without rows has an empty partition, so that it can be read."""
    write_lake(home, PROJECT, shop)
    for table, rows in shop.tables().items():
        if not rows:
            _write_empty(home, table)


def _write_empty(home: Home, table: str) -> None:
    columns = canonical_tables(PROJECT)[table].columns
    nothing = ", ".join(f"cast(null as {column.data_type}) as {named(column.name)}" for column in columns)
    path = home.partition(table, FIRST, "nothing")
    path.parent.mkdir(parents=True, exist_ok=True)
    duckdb.sql(f"copy (select {nothing} where false) to {quoted(str(path))} (format parquet)")


def report_of(kitchen: Kitchen, root: Path, shop: Shop, *, earlier: tuple[date, ...] = ()) -> tuple[Home, Build, Path]:
    """Stock a home, publish the ``earlier`` days, build :data:`AS_OF` and write its page."""
    home = Home(root / "home")
    stock(home, shop)
    for day in earlier:
        publish(home, kitchen.build(home, shop, day))
    build = kitchen.build(home, shop, AS_OF)
    return home, build, write_report(home, PROJECT, build, None, root / "page")


@dataclass
class PageText(HTMLParser):
    """A page as a reader of one language gets it, without a browser.

    Attributes:
        tables: by key, rows of cells, the head first.
        cards: by key, the figure without its unit.
        tags: names of all elements, each once.
        notes, leads: what stands there.
        charts: content of the block of chart data.
    """

    language: str
    tables: dict[str, list[list[str]]] = field(default_factory=dict)
    cards: dict[str, str] = field(default_factory=dict)
    tags: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)
    leads: list[str] = field(default_factory=list)
    charts: dict[str, Any] = field(default_factory=dict)
    scripts: int = 0
    policy: str = ""

    _VOID = frozenset({"meta", "link", "br", "img", "input"})

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._open: list[tuple[str, dict[str, str | None]]] = []
        self._text: list[str] = []
        self._card = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.add(tag)
        if tag == "meta" and given.get("http-equiv") == "Content-Security-Policy":
            self.policy = given["content"] or ""
        if tag in self._VOID:
            return
        self._open.append((tag, given))
        self.scripts += tag == "script"
        match tag:
            case "table":
                self.tables[(given["id"] or "").removeprefix("table-")] = []
            case "tr":
                self._table().append([])
            case "div" if (given.get("id") or "").startswith("card-"):
                self._card = (given["id"] or "").removeprefix("card-")
        if tag in {"th", "td", "p", "script"}:
            self._text = []

    def handle_endtag(self, tag: str) -> None:
        opened, given = self._open.pop()
        assert opened == tag, f"<{opened}> is closed by </{tag}>"
        text = " ".join("".join(self._text).split())
        kinds = (given.get("class") or "").split()
        if tag in {"th", "td"}:
            self._table()[-1].append(text)
        elif tag == "p" and "figure" in kinds:
            self.cards[self._card] = text
        elif tag == "p" and "note" in kinds:
            self.notes.append(text)
        elif tag == "p" and "lead" in kinds:
            self.leads.append(text)
        elif tag == "script" and given.get("id") == "charts":
            self.charts = json.loads("".join(self._text))

    def handle_data(self, data: str) -> None:
        other = {"en": "zh-Hans", "zh": "en"}[self.language]
        if not any(given.get("lang") == other or tag == "small" for tag, given in self._open[1:]):
            self._text.append(data)

    def _table(self) -> list[list[str]]:
        return list(self.tables.values())[-1]


def read_page(path: Path, language: str = "en") -> PageText:
    """Parse a page."""
    parser = PageText(language)
    parser.feed(path.read_text(encoding="utf-8"))
    parser.close()
    return parser
