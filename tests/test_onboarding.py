"""An orders-only shop with every kind of dirt, onboarded with one YAML file, every count explained.

The shop writes invoices: cancellations carry a C before the number, goods that
come back have negative quantities, counter sales have no customer, customer
ids went through a spreadsheet (17850.0). Its files have umlauts in latin-1 or
start with a byte order mark, repeat their header where parts were glued
together, and hold blank, cut and overlong lines. There is no interaction log.
"""

import codecs
import gzip
import random
from collections import Counter
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal

import pytest

from small_shops import PROJECT, small_shop
from strataflow.check import check_source

THE_ONE_FILE = """
    name: invoices
    table: order_lines
    description: Invoice lines of the shop, a file per day.

    format:
      type: csv
      encoding: {encoding}
      delimiter: ";"
      decimal: ","
      thousands: "."
      date_formats: ["%d.%m.%Y %H:%M"]

    files:
      root: delivered
      path: "sales_{{date:%Y%m%d}}.csv*"

    columns:
      order_id: Invoice
      customer_id: clean_id("Customer ID")
      ordered_at: '"Invoice Date"'
      status: case when starts_with(Invoice, 'C') then 'cancelled' else 'completed' end
      product_id: Stock
      quantity: Quantity
      amount: number(Quantity) * number(Price)
      channel: "'shop'"

    filters:
      - name: goods_only
        keep: Stock not in ('POST', 'FEES')

    limits:
      max_quarantine_ratio: 0.12
      expected: [missing_required]     # counter sales have no customer
"""
HEADER = "Invoice;Stock;Description;Quantity;Invoice Date;Price;Customer ID"
FIRST, DAYS, LINES_A_DAY = date(2026, 3, 28), 3, 400  # clocks go forward on the second day


@dataclass
class Truth:
    """What was written into a day's file: the text, and what must become of each of its lines."""

    text: str
    reasons: Counter = field(default_factory=Counter)
    refused: dict[int, tuple[str, str]] = field(default_factory=dict)
    landed: dict[int, tuple] = field(default_factory=dict)
    blank: int = 0
    continued: int = 0


def written_day(day: date) -> Truth:
    """A day's file, made line by line; the kind of each line is drawn first, so that nothing is left to guess."""
    draw = random.Random(day.toordinal())  # noqa: S311 (no secret)
    truth, lines = Truth(""), [HEADER]
    weights = {
        "good": 55, "return": 6, "cancelled": 6, "counter": 12, "two_lines": 3, "inches": 3, "postage": 4,
        "bad_date": 2, "bad_price": 2, "short": 1, "long": 1, "header": 1, "blank": 3, "stray_quote": 1,
    }  # fmt: skip
    for number in range(LINES_A_DAY):
        (kind,) = draw.choices(list(weights), list(weights.values()))
        _write_line(truth, lines, kind, number, day, draw)
    truth.text = "\r\n".join([*lines, ""])
    return truth


def _write_line(truth: Truth, lines: list[str], kind: str, number: int, day: date, draw: random.Random) -> None:
    at = len(lines) + 1 + truth.continued
    if kind == "blank":
        lines.append("")
        truth.blank += 1
        return
    if kind == "header":
        lines.append(HEADER.upper())
        _refused(truth, at, "repeated_header", lines[-1])
        return
    quantity = draw.randint(1, 12) * (-1 if kind in ("return", "cancelled") else 1)
    cents = draw.randint(1, 250_000)
    price = f"{cents // 100:,}".replace(",", ".") + f",{cents % 100:02d}"
    minute = draw.randint(0, 59)
    written = f"{day:%d.%m.%Y} 12:{minute:02d}"
    invoice = f"{'C' if kind == 'cancelled' else ''}{536000 + number}"
    customer = draw.choice(["17850.0", " 17851", "17852.00", "A-7"])
    fields = [invoice, f"S{number % 9}", "Müslischale", str(quantity), written, price, customer]
    changes = {
        "counter": (6, draw.choice(["", "nan", " "])),
        "two_lines": (2, '"Schale\r\nblau"'),
        "inches": (2, 'Teller 12" rund'),
        "postage": (1, "POST"),
        "bad_date": (4, "31.02.2026 12:00"),
        "bad_price": (5, "gratis"),
        "short": (slice(3, None), []),
        "long": (slice(7, None), ["zu viel"]),
        "stray_quote": (2, '"Schale'),
    }
    if kind in changes:
        place, value = changes[kind]
        fields[place] = value
    lines.append(";".join(fields))
    truth.continued += kind == "two_lines"
    codes = {
        "counter": "missing_required", "postage": "filtered", "bad_date": "unparseable",
        "bad_price": "missing_required", "short": "malformed_record", "long": "malformed_record",
        "stray_quote": "malformed_record",
    }  # fmt: skip
    if kind in codes:
        _refused(truth, at, codes[kind], lines[-1])
        return
    clean = {"17850.0": "17850", " 17851": "17851", "17852.00": "17852"}.get(customer, customer)
    hours_from_utc = 1 if day < date(2026, 3, 29) else 2
    when = f"{day} {12 - hours_from_utc:02d}:{minute:02d}:00"
    status = "cancelled" if kind == "cancelled" else "completed"
    truth.landed[at] = (invoice, clean, when, status, Decimal(quantity), Decimal(quantity * cents) / 100)


def _refused(truth: Truth, line: int, code: str, raw: str) -> None:
    truth.reasons[code] += 1
    truth.refused[line] = (code, raw)


@pytest.fixture(scope="module", params=["latin-1", "utf-8"])
def onboarded(request, tmp_path_factory):
    """The shop after its first landing, and the truth about its files."""
    encoding = request.param
    folder = tmp_path_factory.mktemp("onboarding") / "shop"
    shop = small_shop(folder, THE_ONE_FILE.format(encoding=encoding), time_zone="Europe/Berlin")
    truths = {}
    for day in (FIRST + timedelta(days=n) for n in range(DAYS)):
        truths[day] = written_day(day)
        content = truths[day].text.encode(encoding)
        content = codecs.BOM_UTF8 + content if encoding == "utf-8" else content
        packed = day == FIRST
        shop.deliver(f"sales_{day:%Y%m%d}.csv{'.gz' if packed else ''}", gzip.compress(content) if packed else content)
    report = shop.land(str(FIRST), str(FIRST + timedelta(days=DAYS - 1)))
    return shop, truths, report


def test_every_line_of_every_file_is_accounted_for(onboarded):
    shop, truths, report = onboarded
    for day, truth in truths.items():
        (file,) = shop.manifest("invoices", str(day))["files"]
        assert file["lines"] == truth.text.count("\n")
        assert file["header_lines"] == 1
        assert file["blank_lines"] == truth.blank
        assert file["continuation_lines"] == truth.continued
        assert file["rows_landed"] == len(truth.landed)
        assert file["rows_quarantined"] == len(truth.refused)
        assert file["rows_read"] == file["rows_in_file"] == LINES_A_DAY - truth.blank
        assert file["lines"] == 1 + truth.blank + truth.continued + file["rows_read"]
    assert (
        report.rows_read
        == report.rows_landed + report.rows_quarantined
        == sum(LINES_A_DAY - truth.blank for truth in truths.values())
    )


def test_every_refused_row_has_its_reason_its_line_and_its_exact_text(onboarded):
    shop, truths, report = onboarded
    found = {day: {} for day in truths}
    for day, line, code, raw in shop.quarantined("received_date, source_line, reason_code, raw"):
        found[day][line] = (code, raw)
    assert found == {day: truth.refused for day, truth in truths.items()}
    assert report.reasons == dict(sum((truth.reasons for truth in truths.values()), Counter()))
    assert min(truth.reasons["malformed_record"] for truth in truths.values()) > 0


def test_every_landed_row_has_its_values_to_the_cent(onboarded):
    shop, truths, _ = onboarded
    columns = "received_date, source_line, order_id, customer_id, ordered_at::varchar, status, quantity, amount"
    found = {day: {} for day in truths}
    for day, line, *values in shop.landed("order_lines", columns):
        found[day][line] = tuple(values)
    assert found == {day: truth.landed for day, truth in truths.items()}


def test_words_and_places_help_whoever_mends_it(onboarded):
    shop, _, _ = onboarded
    words = dict(shop.quarantined("reason_code, reason"))
    assert "goods_only" in words["filtered"]
    assert words["unparseable"].startswith("ordered_at: '31.02.2026 12:00' is not a date or time (known here: %d.%m.%Y")
    assert words["repeated_header"] == "the header again"


def test_counter_sales_do_not_count_against_the_limit(onboarded):
    shop, truths, _ = onboarded
    for day, truth in truths.items():
        counted = truth.reasons["unparseable"] + truth.reasons["malformed_record"]
        manifest = shop.manifest("invoices", str(day))
        assert manifest["quarantine_ratio"] == pytest.approx(counted / (counted + len(truth.landed)), abs=1e-6)
        assert manifest["quarantine_ratio"] < 0.12


def test_an_orders_only_shop_has_no_interactions_and_that_is_no_error(onboarded):
    shop, _, _ = onboarded
    report = shop.land(str(FIRST), tables=["interactions"])
    assert report.landings == ()
    assert not (shop.home.lake / "interactions").exists()


def test_the_first_look_says_what_will_happen(onboarded):
    shop, truths, _ = onboarded
    check = check_source(PROJECT, shop.folder / "sources" / "invoices.yml")
    truth = truths[FIRST]
    assert check.rows_landed == len(truth.landed)
    assert {refusal.code: refusal.rows for refusal in check.refusals} == dict(truth.reasons)
    assert check.is_good
    assert check.unmapped == ("Description",)
