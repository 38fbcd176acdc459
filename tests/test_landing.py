"""Landing: whole days or nothing, every row accounted for, the same bytes however often and however broken off."""

import gzip
import os
import shutil
import signal
import subprocess
import sys
import time
from datetime import date
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from small_shops import CUSTOMERS_ONLY, HEADER, ORDERS, PROJECT, SmallShop, small_shop
from strataflow import landing, staging
from strataflow.errors import InputError, StepFailed, UsageError
from strataflow.landing import land
from strataflow.project import Project
from strataflow.sources import load_sources

LINES = """
    name: lines
    table: order_lines
    description: One big file, split by the time of the order.
    format: {type: csv, time_zone: UTC}
    files: {root: delivered, path: lines.csv, split_by: at}
    columns: {order_id: id, customer_id: who, ordered_at: at, amount: paid}
"""


@pytest.fixture
def shop(tmp_path):
    return small_shop(tmp_path / "shop", ORDERS)


def order(number, who="C1", at="2026-01-05 10:00:00", amount="10.00"):
    return f"{number},{who},{at},{amount}\n"


# -- what lands, and where ----------------------------------------------------


def test_a_day_lands_with_values_times_and_places(shop):
    shop.deliver("orders_2026-01-05.csv", HEADER + order("A1") + order("A2", at="2026-01-05T23:30:00+02:00"))
    report = shop.land("2026-01-05")
    assert (report.rows_read, report.rows_landed, report.rows_quarantined) == (2, 2, 0)
    columns = "order_id, customer_id, ordered_at::varchar, order_date, order_hour, status, amount, currency"
    assert shop.landed("orders", columns) == [
        ("A1", "C1", "2026-01-05 10:00:00", date(2026, 1, 5), 10, "completed", Decimal("10.00"), "EUR"),
        ("A2", "C1", "2026-01-05 21:30:00", date(2026, 1, 5), 21, "completed", Decimal("10.00"), "EUR"),
    ]
    places = "source, source_file, source_line, received_date"
    assert shop.landed("orders", places)[1] == ("orders", "orders_2026-01-05.csv", 3, date(2026, 1, 5))
    assert not shop.quarantined()


def test_parquet_has_exactly_the_canonical_columns_and_types(shop):
    shop.deliver("orders_2026-01-05.csv", HEADER + order("A1"))
    shop.land("2026-01-05")
    path = shop.home.partition("orders", date(2026, 1, 5), "orders")
    found = duckdb.sql(f"describe from read_parquet('{path}', hive_partitioning = false)").fetchall()
    table = landing.canonical_tables(PROJECT)["orders"]
    assert [(name, kind.lower()) for name, kind, *_ in found] == [(c.name, c.data_type) for c in table.columns]


def test_the_manifest_adds_up_and_explains_the_lines_of_the_file(shop):
    content = HEADER + order("A1") + "\n" + order("", amount="1") + HEADER + order("A2") + order("A2") + 'A3,"x\ny",z\n'
    shop.deliver("orders_2026-01-05.csv", content)
    shop.describe(ORDERS + "    limits: {max_quarantine_ratio: 1}\n")
    shop.land("2026-01-05")
    manifest = shop.manifest("orders", "2026-01-05")
    assert manifest["reasons"] == {
        "duplicate_in_day": 1, "malformed_record": 2, "missing_required": 1, "repeated_header": 1,
    }  # fmt: skip
    (file,) = manifest["files"]
    assert file["rows_read"] == file["rows_landed"] + file["rows_quarantined"] == file["rows_in_file"] == 7
    assert file["lines"] == 9 == file["header_lines"] + file["blank_lines"] + file["continuation_lines"] + 7
    assert manifest["quarantine_ratio"] == pytest.approx(4 / 6)
    assert shop.quarantined() == [
        (4, "missing_required", ",C1,2026-01-05 10:00:00,1"),
        (5, "repeated_header", HEADER.strip()),
        (6, "duplicate_in_day", order("A2").strip()),
        (8, "malformed_record", 'A3,"x'),
        (9, "malformed_record", 'y",z'),
    ]


def test_quoted_newlines_keep_their_text_and_the_lines_behind_them(shop):
    shop.describe(ORDERS + "    limits: {max_quarantine_ratio: 1}\n")
    record = '"A\n1",,2026-01-05,5\n'
    shop.deliver("orders_2026-01-05.csv", HEADER + record + order("A2"))
    shop.land("2026-01-05")
    assert shop.quarantined() == [(2, "missing_required", record.strip())]
    assert shop.landed("orders", "order_id, source_line") == [("A2", 4)]


def test_of_one_order_the_last_version_of_the_day_lands(shop):
    shop.describe(ORDERS + "      updated_at: changed\n")
    shop.deliver(
        "orders_2026-01-05.csv",
        HEADER.strip() + ",changed\n"
        "A,C,2026-01-05,1,2026-01-05 09:00:00\nA,C,2026-01-05,2,2026-01-05 11:00:00\n"
        "A,C,2026-01-05,3,2026-01-05 10:00:00\nB,C,2026-01-05,4,\nB,C,2026-01-05,5,\n",
    )
    shop.describe(ORDERS + "      updated_at: changed\n    limits: {expected: [duplicate_in_day]}\n")
    shop.land("2026-01-05")
    assert shop.landed("orders", "order_id, amount") == [("A", 2), ("B", 5)]
    assert shop.quarantined("source_line, reason") == [
        (2, "replaced by a later row with the same key, line 3 of orders_2026-01-05.csv"),
        (4, "replaced by a later row with the same key, line 3 of orders_2026-01-05.csv"),
        (5, "replaced by a later row with the same key, line 6 of orders_2026-01-05.csv"),
    ]


def test_adjustments_are_no_versions_of_each_other(shop):
    shop.describe(ORDERS + "    later_rows: add\n")
    shop.deliver("orders_2026-01-05.csv", HEADER + order("A") + order("A", amount="-2"))
    shop.land("2026-01-05")
    assert shop.landed("orders", "amount, is_adjustment") == [(10, True), (-2, True)]


def test_several_files_of_a_day_are_one_day(shop):
    shop.describe(ORDERS.replace("orders_{date}.csv", "'{date:%Y/%m}/orders_{date:%Y%m%d}_*.csv*'"))
    shop.deliver("2026/01/orders_20260105_a.csv", HEADER + order("A"))
    shop.deliver("2026/01/orders_20260105_b.csv.gz", gzip.compress((HEADER + order("A") + order("B")).encode()))
    shop.describe(
        ORDERS.replace("orders_{date}.csv", "'{date:%Y/%m}/orders_{date:%Y%m%d}_*.csv*'")
        + "    limits: {expected: [duplicate_in_day]}\n"
    )
    shop.land("2026-01-05")
    assert shop.landed("orders", "order_id, source_file, source_line") == [
        ("A", "2026/01/orders_20260105_b.csv.gz", 2),
        ("B", "2026/01/orders_20260105_b.csv.gz", 3),
    ]
    assert [file["rows_quarantined"] for file in shop.manifest("orders", "2026-01-05")["files"]] == [1, 0]


def test_json_lines(tmp_path):
    shop = small_shop(tmp_path / "shop", """
        name: events
        table: interactions
        description: Events as JSON lines.
        format: {type: jsonl, time_zone: Europe/Berlin}
        files: {root: delivered, path: "events-{date}.jsonl"}
        columns:
          customer_id: clean_id(customer)
          occurred_at: at
          kind: coalesce(type, 'visited')
          campaign_id: context->>'$.campaign'
        limits: {max_quarantine_ratio: 1}
    """)  # fmt: skip
    shop.deliver(
        "events-2026-07-01.jsonl",
        '{"customer": 17.0, "at": "2026-07-01 00:30", "type": "clicked", "context": {"campaign": "X"}}\n'
        '{"customer": "18", "at": "2026-07-01 01:30", "type": null}\n'
        '{"customer": "18", "at": "2026-07-01 01:30"}\n'
        '{"customer": "19", "at": \n[1, 2]\n{"at": "2026-07-01"}\n',
    )
    shop.land("2026-07-01")
    assert shop.landed("interactions", "customer_id, occurred_at::varchar, kind, campaign_id") == [
        ("17", "2026-06-30 22:30:00", "clicked", "X"),
        ("18", "2026-06-30 23:30:00", "visited", None),
    ]
    assert shop.quarantined("source_line, reason_code, reason") == [
        (2, "duplicate_in_day", "replaced by a later row with the same key, line 3 of events-2026-07-01.jsonl"),
        (4, "malformed_record", "the line is not valid JSON"),
        (5, "malformed_record", "the line is no JSON object"),
        (6, "missing_required", "customer_id has no value"),
    ]


def test_parquet_rows_are_quarantined_as_json(tmp_path):
    shop = small_shop(tmp_path / "shop", ORDERS.replace("csv", "parquet").replace("order_id: order_id", "order_id: n"))
    duckdb.sql(
        "select n, if(n = 2, null, 'C') as customer_id, timestamp '2026-01-05 10:00:00' as ordered_at, 1.5 as amount"
        " from range(30) as r(n)"
    ).write_parquet(str(shop.delivered / "orders_2026-01-05.parquet"))
    shop.land("2026-01-05")
    assert len(shop.landed("orders")) == 29
    raw = '{"n":2,"customer_id":null,"ordered_at":"2026-01-05 10:00:00","amount":1.5}'
    assert shop.quarantined() == [(3, "missing_required", raw)]


def test_parquet_days_of_other_types_land_as_each_would_alone(tmp_path):
    shop = small_shop(tmp_path / "shop", ORDERS.replace("csv", "parquet"))
    for day, kind in ((5, "bigint"), (6, "double"), (7, "varchar")):
        duckdb.sql(
            f"select 1::{kind} as order_id, 'C' as customer_id, date '2026-01-05' as ordered_at, 1 as amount"
        ).write_parquet(str(shop.delivered / f"orders_2026-01-0{day}.parquet"))
    shop.land("2026-01-05", "2026-01-07")
    together = shop.bytes_in_lake()
    shutil.rmtree(shop.home.root)
    for day in ("2026-01-05", "2026-01-06", "2026-01-07"):
        shop.land(day)
    assert shop.bytes_in_lake() == together
    assert [row[0] for row in shop.landed("orders", "order_id")] == ["1", "1.0", "1"]


def test_columns_of_another_file_come_through_a_lookup(shop):
    shop.describe("""
        name: letters
        table: interactions
        description: Letters sent, dated by their campaign.
        format: {type: csv}
        files: {root: delivered, path: letters.csv, split_by: campaign.sent}
        lookups: {campaign: {path: campaigns.csv, key: {code: id}}}
        columns: {customer_id: who, occurred_at: campaign.sent, kind: "'campaign_received'", campaign_id: code}
        limits: {max_quarantine_ratio: 1}
    """)
    shop.deliver("orders_2026-01-05.csv", HEADER + order("A"))
    shop.deliver("campaigns.csv", "id,sent\nX,2026-01-05\nY,2026-01-06\n")
    shop.deliver("letters.csv", "who,code\n1,X\n2,Y\n3,X\n4,Z\n")
    shop.land("2026-01-05", tables=["interactions"])
    assert shop.landed("interactions", "customer_id, campaign_id") == [("1", "X"), ("3", "X")]
    assert shop.quarantined() == [(5, "missing_required", "4,Z")]
    shop.deliver("campaigns.csv", "id,sent\nX,2026-01-05\nX,2026-01-06\n")
    with pytest.raises(InputError, match="the key X stands in 2 rows"):
        shop.land("2026-01-05", tables=["interactions"])


# -- values -------------------------------------------------------------------


def values_of(tmp_path, form: str, expression: str, texts: list[str], column: str = "amount") -> list:
    description = ORDERS.replace("type: csv", f"type: csv\n      {form}").replace(
        f"{column}: {column}", f"{column}: {expression}"
    )
    shop = small_shop(tmp_path / "shop", description + "    limits: {max_quarantine_ratio: 1}\n")
    rows = (
        f"{number};C;{text if column == 'ordered_at' else '2026-01-05'};{text if column == 'amount' else '1'}\n"
        for number, text in enumerate(texts)
    )
    shop.deliver("orders_2026-01-05.csv", HEADER.replace(",", ";") + "".join(rows))
    shop.land("2026-01-05")
    found = dict(shop.landed("orders", f"order_id::int, {column}::varchar"))
    codes = dict(shop.quarantined("source_line - 2, reason_code"))
    return [found.get(number) or codes[number] for number in range(len(texts))]


def test_decimal_commas_and_thousands_are_read_strictly(tmp_path):
    form = 'delimiter: ";"\n      decimal: ","\n      thousands: "."'
    texts = ["1,5", "1.234,50", "-1.234.567,89", "12.50", "1234", "1.23,4", "", "x", "+7,00"]
    assert values_of(tmp_path, form, "amount", texts) == [
        "1.50", "1234.50", "-1234567.89", "unparseable", "1234.00", "unparseable", "missing_required",
        "unparseable", "7.00",
    ]  # fmt: skip


def test_without_thousands_a_separator_is_not_guessed_away(tmp_path):
    texts = ["1,234", "1_000", "1e3", "nan", "99999999999999999", " 12.345 "]
    assert values_of(tmp_path, 'delimiter: ";"', "amount", texts) == [
        "unparseable", "unparseable", "1000.00", "unparseable", "unparseable", "12.35",
    ]  # fmt: skip


def test_money_sheds_currencies_and_understands_accountants(tmp_path):
    form = 'delimiter: ";"\n      decimal: ","\n      thousands: "."'
    texts = ["€ 1.234,50", "(12,00)", "12,00-", "Kr. 5", "-3,10 EUR", "1.5e3", "--", "5\u00a0€"]
    assert values_of(tmp_path, form, "money(amount)", texts) == [
        "1234.50", "-12.00", "-12.00", "5.00", "-3.10", "unparseable", "unparseable", "5.00",
    ]  # fmt: skip


def test_dates_by_format_first_then_iso(tmp_path):
    form = 'delimiter: ";"\n      date_formats: ["%d/%m/%Y %H:%M", "%d.%m.%y", "%d/%m/%Y %H:%M %z"]'
    texts = [
        "03/04/2026 09:30", "03.04.26", "2026-04-03", "2026-04-03 09:30", "2026-04-03T09:30:00Z", "2026-4-3",
        "03/04/2026 09:30 +0200", "2026-04-03 09:30:00 Europe/London", "infinity", "31/02/2026 09:30", "20260403",
    ]  # fmt: skip
    day, time_of_day, bad = "2026-04-03 00:00:00", "2026-04-03 09:30:00", "unparseable"
    assert values_of(tmp_path, form, "ordered_at", texts, "ordered_at") == [
        time_of_day, day, day, time_of_day, time_of_day, day, "2026-04-03 07:30:00", bad, bad, bad, bad,
    ]  # fmt: skip


def test_ids_of_spreadsheets_and_data_frames_are_cleaned(shop):
    shop.describe(ORDERS.replace("customer_id: customer_id", "customer_id: clean_id(customer_id)"))
    ids = ["17850.0", " 17850 ", "17850.00", "1.05", "A.0", "nan", "NULL", "-3.0"]
    shop.describe(
        ORDERS.replace("customer_id: customer_id", "customer_id: clean_id(customer_id)")
        + "    limits: {max_quarantine_ratio: 1}\n"
    )
    shop.deliver("orders_2026-01-05.csv", HEADER + "".join(order(n, who) for n, who in enumerate(ids)))
    shop.land("2026-01-05")
    assert [row[0] for row in shop.landed("orders", "customer_id")] == [
        "17850", "17850", "17850", "1.05", "A.0", "-3",
    ]  # fmt: skip


def test_one_bad_row_never_breaks_a_file(shop):
    shop.describe(
        ORDERS.replace("amount: amount", "amount: cast(amount as double) * sqrt(cast(amount as double))")
        + "    filters:\n      - {name: no_tests, keep: cast(amount as integer) < 1000}\n"
        + "    limits: {max_quarantine_ratio: 1}\n"
    )
    amounts = ["4", "x", "-1", "5000", "", "9"]
    shop.deliver("orders_2026-01-05.csv", HEADER + "".join(order(n, amount=a) for n, a in enumerate(amounts)))
    shop.land("2026-01-05")
    assert shop.landed("orders", "order_id, amount") == [("0", 8), ("5", 27)]
    assert [code for _, code, _ in shop.quarantined()] == ["filtered", "unparseable", "filtered", "filtered"]


def test_a_filter_says_which_it_was_and_does_not_count(shop):
    shop.describe(ORDERS + "    filters:\n      - {name: real_customers, keep: customer_id <> 'TEST'}\n")
    rows = "".join(order(n, "TEST") for n in range(50)) + order("A")
    shop.deliver("orders_2026-01-05.csv", HEADER + rows)
    shop.land("2026-01-05")
    assert shop.manifest("orders", "2026-01-05")["quarantine_ratio"] == 0
    assert "real_customers" in shop.quarantined("reason")[0][0]


def test_a_currency_without_a_rate_is_refused_with_its_reason(shop):
    text = ORDERS + "      currency: money\n    limits: {max_quarantine_ratio: 1}\n"
    shop.describe(text)
    rows = [("own", "EUR"), ("pounds", "gbp"), ("yen", "JPY"), ("none", "12"), ("old", "GBP")]
    times = {"old": "1999-12-31 10:00:00"}
    lines = "".join(order(n, at=times.get(n, "2026-01-05")).strip() + f",{money}\n" for n, money in rows)
    shop.deliver("orders_2026-01-05.csv", HEADER.strip() + ",money\n" + lines)
    shop.land("2026-01-05")
    assert shop.landed("orders", "order_id, currency") == [("own", "EUR"), ("pounds", "GBP")]
    assert shop.quarantined("reason_code, reason") == [
        ("no_rate", "currency: there is no rate from JPY on 2026-01-05 to EUR (seed currency_rates)"),
        ("unparseable", "currency: '12' is not a currency code of three letters"),
        ("no_rate", "currency: there is no rate from GBP on 1999-12-31 to EUR (seed currency_rates)"),
    ]


def test_a_new_rate_lands_the_days_that_lacked_it(shop, tmp_path):
    shutil.copytree(PROJECT.dbt / "models" / "staging", tmp_path / "project/dbt_project/models/staging")
    project = Project(tmp_path / "project")
    project.currency_rates.parent.mkdir()
    rates = "currency,reporting_currency,valid_from,rate\n"
    project.currency_rates.write_text(rates)
    shop.describe(ORDERS + "      currency: money\n    limits: {max_quarantine_ratio: 1}\n")
    shop.deliver("orders_2026-01-05.csv", HEADER.strip() + ",money\n" + order("yen").strip() + ",JPY\n")
    day = date(2026, 1, 5)
    land(shop.home, project, shop.sources(), day, day)
    assert not shop.landed("orders")
    project.currency_rates.write_text(rates + "JPY,EUR,2020-01-01,0.0062\n")
    land(shop.home, project, shop.sources(), day, day)
    assert shop.landed("orders", "order_id") == [("yen",)]


# -- clocks -------------------------------------------------------------------


def test_an_order_after_midnight_belongs_to_the_day_on_the_shops_clock(tmp_path):
    shop = small_shop(tmp_path / "shop", ORDERS.replace("type: csv", "type: csv\n      time_zone: UTC"))
    shop.folder.joinpath("sources/shop.yml").write_text("name: s\ntime_zone: Asia/Shanghai\ncurrency: CNY\n")
    shop.deliver(
        "orders_2026-01-05.csv",
        HEADER + order("late", at="2026-01-05 16:30:00") + order("plain", at="2026-01-05"),
    )
    shop.land("2026-01-05")
    # A date without a time is a day on the shop's clock, whatever the zone of the file's times.
    assert shop.landed("orders", "order_id, ordered_at::varchar, order_date, order_hour") == [
        ("late", "2026-01-05 16:30:00", date(2026, 1, 6), 0),
        ("plain", "2026-01-04 16:00:00", date(2026, 1, 5), 0),
    ]


@pytest.mark.parametrize(
    ("zone", "registered", "day"),
    [
        ("Asia/Shanghai", "2026-01-05 16:30:00", date(2026, 1, 6)),
        ("America/New_York", "2026-01-05 02:00:00", date(2026, 1, 4)),
    ],
)
def test_customers_register_on_the_shops_day(tmp_path, zone, registered, day):
    text = CUSTOMERS_ONLY.replace("{type: csv}", "{type: csv, time_zone: UTC}")
    shop = small_shop(tmp_path / "shop", text.replace("region: region", "registered_at: since"), time_zone=zone)
    shop.deliver("members.csv", f"id,since\n1,{registered}\n2,\n")
    shop.land("2026-01-06")
    assert shop.landed("customers", "customer_id, registered_at::varchar, registered_date") == [
        ("1", registered, day),
        ("2", None, None),
    ]


def test_clock_changes_move_times_that_do_not_exist_and_take_the_later_of_two(tmp_path):
    shop = small_shop(tmp_path / "shop", ORDERS, time_zone="America/New_York")
    times = ["2026-03-08 01:59:59", "2026-03-08 02:30:00", "2026-03-08 03:00:00", "2026-11-01 01:30:00"]
    shop.deliver("orders_2026-11-01.csv", HEADER + "".join(order(n, at=at) for n, at in enumerate(times)))
    shop.land("2026-11-01")
    assert shop.landed("orders", "ordered_at::varchar, order_hour") == [
        ("2026-03-08 06:59:59", 1),
        ("2026-03-08 07:30:00", 3),
        ("2026-03-08 07:00:00", 3),
        ("2026-11-01 06:30:00", 1),
    ]


# -- a file split by date, snapshots --------------------------------------------


def split_file(*rows):
    return "id,who,at,paid\n" + "".join(f"{row}\n" for row in rows)


@pytest.fixture
def split(tmp_path):
    shop = small_shop(tmp_path / "shop", LINES, time_zone="America/New_York")
    shop.deliver(
        "lines.csv",
        split_file(
            "old,C,2025-12-30 12:00:00,1", "a,C,2026-01-02 04:59:59,1", "b,C,2026-01-02 05:00:00,1",
            "x,C,someday,1", "c,C,2026-01-03 12:00:00,1", "d,C,2026-01-09 12:00:00,1",
        ),
    )  # fmt: skip
    shop.describe(LINES + "    limits: {expected: [unparseable, undated]}\n")
    return shop


def ids_by_day(shop):
    found: dict = {}
    for day, name in shop.landed("order_lines", "received_date::varchar, order_id"):
        found.setdefault(day[-2:], []).append(name)
    return found


def test_a_bulk_landing_splits_a_file_by_business_date_and_opens_with_all_that_came_before(split):
    report = split.land("2026-01-01", "2026-01-03")
    assert ids_by_day(split) == {"01": ["old", "a"], "02": ["b"], "03": ["c"]}
    assert split.quarantined("received_date::varchar, reason_code, raw") == [
        ("2026-01-03", "unparseable", "x,C,someday,1")
    ]
    assert report.rows_read == 5  # the row of the 9th stays in the file
    assert split.manifest("lines", "2026-01-03")["files"][0]["rows_in_file"] == 6


def test_a_single_day_takes_only_its_own_rows(split):
    split.land("2026-01-02")
    assert ids_by_day(split) == {"02": ["b"]}


def test_a_day_landed_again_takes_what_it_took_before(split):
    split.land("2026-01-01", "2026-01-03")
    split.land("2026-01-09")
    before = split.bytes_in_lake()
    for day in ("2026-01-01", "2026-01-03"):
        split.home.partition("order_lines", date.fromisoformat(day), "lines").unlink()
        split.land(day)
    split.land("2026-01-01", "2026-01-03")
    assert split.bytes_in_lake() == before


def test_a_split_file_that_ends_before_the_day_is_stale(split):
    for first in ("2026-01-10", "2026-01-01"):
        with pytest.raises(InputError) as caught:
            split.land(first, "2026-01-10")
        for part in ("newest row is of 2026-01-09, none is of 2026-01-10 or later", "lines.csv", "if_missing: empty"):
            assert part in str(caught.value)
        assert not split.bytes_in_lake()
    split.land("2026-01-08")  # no row of that day, but later ones: the shop was closed
    text = (split.folder / "sources" / "lines.yml").read_text()
    split.describe(text.replace("split_by: at", "split_by: at, if_missing: empty"))
    split.land("2026-01-10")
    assert ids_by_day(split) == {}


def test_bulk_landing_in_the_middle_of_a_history_takes_nothing_twice(split):
    split.land("2026-01-01")
    split.land("2026-01-02", "2026-01-03")
    assert ids_by_day(split) == {"01": ["a"], "02": ["b"], "03": ["c"]}


def test_undated_rows_have_their_reason(tmp_path):
    shop = small_shop(tmp_path / "shop", LINES.replace("ordered_at: at", "ordered_at: \"'2026-01-01'\""))
    shop.deliver("lines.csv", split_file("a,C,,1", "b,C,2026-01-01,1", "c,C,sometime,1"))
    shop.describe(
        LINES.replace("ordered_at: at", "ordered_at: \"'2026-01-01'\"") + "    limits: {max_quarantine_ratio: 1}\n"
    )
    shop.land("2026-01-01")
    assert shop.quarantined("source_line, reason_code, reason") == [
        (2, "undated", "no date in files.split_by: it has no value"),
        (4, "undated", "no date in files.split_by: sometime"),
    ]


def test_a_snapshot_lands_when_its_content_is_new(tmp_path):
    shop = small_shop(tmp_path / "shop", CUSTOMERS_ONLY)
    shop.deliver("members.csv", "id,region\n1,North\n2,\n")
    shop.land("2026-01-01", "2026-01-03")
    shop.deliver("members.csv", "id,region\n1,South\n2,\n")
    shop.land("2026-01-04")
    rows = shop.landed("customers", "received_date::varchar, customer_id, region")
    assert [(day[-2:], who, region) for day, who, region in rows] == [
        ("01", "1", "North"), ("01", "2", None), ("04", "1", "South"), ("04", "2", None),
    ]  # fmt: skip
    assert shop.manifest("members", "2026-01-03")["unchanged_since"] == "2026-01-01"
    assert shop.manifest("members", "2026-01-03")["rows_read"] == 0


def test_an_earlier_day_of_a_snapshot_stays_as_it_was_received(tmp_path):
    shop = small_shop(tmp_path / "shop", CUSTOMERS_ONLY)
    shop.deliver("members.csv", "id,region\n1,North\n")
    shop.land("2026-01-01", "2026-01-02")
    shop.deliver("members.csv", "id,region\n1,South\n")
    before = shop.bytes_in_lake()
    report = shop.land("2026-01-01")
    assert [one.status for one in report.landings] == ["kept"]
    assert "stay as they were received" in report.notes[0]
    assert shop.bytes_in_lake() == before
    shop.land("2026-01-01", "2026-01-02")
    assert [row[0] for row in shop.landed("customers", "region")] == ["North", "South"]


# -- again, and again ---------------------------------------------------------


def three_days(shop):
    for day in (5, 6, 7):
        rows = "".join(order(f"{day}-{n}", who="" if n % 40 == 0 else "C", amount=str(n)) for n in range(200))
        shop.deliver(f"orders_2026-01-0{day}.csv", HEADER + rows)


def test_landing_twice_changes_nothing_and_says_so(shop):
    three_days(shop)
    shop.land("2026-01-05", "2026-01-07")
    before = shop.bytes_in_lake()
    again = shop.land("2026-01-05", "2026-01-07")
    assert {one.status for one in again.landings} == {"unchanged"}
    assert not again.changed
    assert again.rows_landed == 585
    assert shop.bytes_in_lake() == before


def test_days_landed_one_by_one_in_any_order_are_those_landed_in_bulk(shop):
    three_days(shop)
    shop.land("2026-01-05", "2026-01-07")
    bulk = shop.bytes_in_lake()
    shutil.rmtree(shop.home.root)
    for day in ("2026-01-06", "2026-01-07", "2026-01-05"):
        shop.land(day)
    assert shop.bytes_in_lake() == bulk


def test_batches_make_no_difference(shop, monkeypatch):
    three_days(shop)
    shop.land("2026-01-05", "2026-01-07")
    one = shop.bytes_in_lake()
    shutil.rmtree(shop.home.root)
    monkeypatch.setattr(landing, "BATCH_FILES", 1)
    shop.land("2026-01-05", "2026-01-07")
    assert shop.bytes_in_lake() == one


def test_large_days_are_the_same_bytes_alone_and_in_bulk_and_in_order(shop):
    values = ", ".join(f"'C{number}'" for number in range(20_000, 20_050))
    shop.describe(ORDERS + f'    filters: [{{name: no_tests, keep: "customer_id not in ({values})"}}]\n')
    for day in (5, 6):
        shop.deliver(
            f"orders_2026-01-0{day}.csv",
            HEADER
            + "".join(order(f"{day}{n}", who=f"C{n * 7919 % 10007}", amount=str(n % 997)) for n in range(150_000)),
        )
    shop.land("2026-01-05", "2026-01-06")
    bulk = shop.bytes_in_lake()
    partition = shop.home.partition("orders", date(2026, 1, 6), "orders")
    lines = [line for (line,) in duckdb.sql(f"select source_line from '{partition}'").fetchall()]
    assert lines == list(range(2, 150_002))
    shutil.rmtree(shop.home.root)
    shop.land("2026-01-06")
    assert shop.bytes_in_lake().items() <= bulk.items()


def test_a_corrected_file_replaces_its_day_whole(shop):
    shop.deliver("orders_2026-01-05.csv", HEADER + "".join(order(n) for n in range(40)) + order("", amount="x"))
    shop.land("2026-01-05")
    assert shop.quarantined()
    shop.deliver("orders_2026-01-05.csv", HEADER + order("only"))
    shop.land("2026-01-05")
    assert [row[0] for row in shop.landed("orders", "order_id")] == ["only"]
    assert sorted(shop.bytes_in_lake()) == [
        "landings/orders/2026-01-05.json",
        "orders/received_date=2026-01-05/orders.parquet",
    ]
    shop.deliver("orders_2026-01-05.csv", HEADER)
    shop.land("2026-01-05")
    assert sorted(shop.bytes_in_lake()) == ["landings/orders/2026-01-05.json"]
    assert shop.manifest("orders", "2026-01-05")["partition_sha256"] is None


def test_an_edited_mapping_lands_the_day_again_and_a_moved_table_leaves_nothing_behind(shop):
    shop.deliver("orders_2026-01-05.csv", HEADER + order("A"))
    shop.land("2026-01-05")
    shop.describe(ORDERS.replace("amount: amount", "amount: money(amount)"))
    assert shop.land("2026-01-05").landings[0].status == "landed"
    shop.describe(ORDERS.replace("table: orders", "table: order_lines"))
    shop.land("2026-01-05")
    assert not shop.landed("orders")
    assert len(shop.landed("order_lines")) == 1


def test_a_renamed_source_does_not_land_beside_its_former_self(shop):
    shop.deliver("orders_2026-01-05.csv", HEADER + order("A"))
    shop.describe(CUSTOMERS_ONLY)
    shop.deliver("members.csv", "id,region\n1,North\n")
    shop.land("2026-01-05")
    before = shop.bytes_in_lake()
    shop.describe(ORDERS.replace("name: orders", "name: web_orders"), "orders")
    assert not landing.has_landed(shop.home, PROJECT, shop.sources(), date(2026, 1, 5), date(2026, 1, 5))
    with pytest.raises(UsageError) as caught:
        shop.land("2026-01-05")
    for part in ("a source orders that no file describes", "still count in orders", "if_missing: empty"):
        assert part in str(caught.value)
    assert shop.bytes_in_lake() == before
    assert shop.land("2026-01-05", tables=["customers"]).landings  # another table's landing is not concerned
    for path in shop.home.lake.glob("*/received_date=*/orders.parquet"):
        path.unlink()
    shutil.rmtree(shop.home.landings / "orders")
    shop.land("2026-01-05")
    assert shop.landed("orders", "order_id, source") == [("A", "web_orders")]


def test_an_ended_source_keeps_its_past(shop):
    shop.deliver("orders_2026-01-05.csv", HEADER + order("A"))
    shop.land("2026-01-05")
    shop.describe(ORDERS.replace("path:", "if_missing: empty\n      path:"))
    shop.land("2026-01-06")
    assert shop.landed("orders", "order_id") == [("A",)]


def test_a_damaged_partition_is_landed_again(shop):
    three_days(shop)
    shop.land("2026-01-05", "2026-01-07")
    before = shop.bytes_in_lake()
    shop.home.partition("orders", date(2026, 1, 6), "orders").write_bytes(b"broken")
    report = shop.land("2026-01-05", "2026-01-07")
    assert [one.status for one in report.landings] == ["unchanged", "landed", "unchanged"]
    assert shop.bytes_in_lake() == before


def test_an_orders_only_shop_lands_nothing_for_interactions(shop):
    three_days(shop)
    report = shop.land("2026-01-05", tables=["interactions"])
    assert (report.landings, report.rows_read) == ((), 0)


def test_progress_is_told(shop):
    three_days(shop)
    told = []
    shop.land("2026-01-05", "2026-01-07", progress=lambda *step: told.append(step))
    assert {step for step, _, _ in told} == {"fingerprint orders", "read orders", "land orders", "move into place"}
    assert all(0 <= done <= total for _, done, total in told)
    assert [(done, total) for step, done, total in told if step == "read orders"][-1] == (
        sum(path.stat().st_size for path in shop.delivered.iterdir()),
    ) * 2


# -- nothing half landed ------------------------------------------------------


BROKEN_FILES = {
    "cut off": ("orders_2026-01-06.csv.gz", gzip.compress(os.urandom(50_000).hex().encode())[:-20]),
    "empty": ("orders_2026-01-06.csv", b""),
    "no column 'amount'": ("orders_2026-01-06.csv", b"order_id,customer_id,ordered_at,sum\n1,C,2026-01-06,1\n"),
    "binary": ("orders_2026-01-06.csv", b"order_id\x00\x01\x02" + bytes(100)),
    "not utf-8": ("orders_2026-01-06.csv", HEADER.encode() + b"1,M\xfcller,2026-01-06,1\n"),
    "twice": ("orders_2026-01-06.csv", b"order_id,customer_id,ordered_at,amount,AMOUNT\n"),
    "UTF-16": ("orders_2026-01-06.csv", HEADER.encode("utf-16")),
}


@pytest.mark.parametrize("cause", [*BROKEN_FILES, "missing", "a folder"])
def test_a_broken_file_names_itself_and_leaves_the_lake_as_it_was(shop, cause):
    shop.describe(ORDERS.replace("orders_{date}.csv", "orders_{date}.csv*"))
    three_days(shop)
    shop.land("2026-01-05", "2026-01-07")
    before = shop.bytes_in_lake()
    victim = shop.delivered / "orders_2026-01-06.csv"
    victim.unlink()
    shop.deliver("orders_2026-01-05.csv", HEADER + order("new"))
    if cause == "a folder":
        victim.mkdir()
    elif cause != "missing":
        shop.deliver(*BROKEN_FILES[cause])
    with pytest.raises(InputError) as caught:
        shop.land("2026-01-05", "2026-01-07")
    assert cause in str(caught.value)
    assert "orders_2026-01-06.csv" in str(caught.value)
    assert shop.bytes_in_lake() == before
    assert not (shop.home.scratch / "landing").exists()


@pytest.mark.parametrize(
    ("content", "cause"), [(b"no parquet at all", "PAR1"), (b"PAR1" + bytes(80), "cut off or damaged")]
)
def test_a_broken_parquet_file_is_an_error(tmp_path, content, cause):
    shop = small_shop(tmp_path / "shop", ORDERS.replace("csv", "parquet"))
    path = shop.deliver("orders_2026-01-05.parquet", content)
    with pytest.raises(InputError, match=cause) as caught:
        shop.land("2026-01-05")
    assert str(path) in str(caught.value)


def test_a_parquet_file_damaged_inside_is_an_error(tmp_path):
    shop = small_shop(tmp_path / "shop", ORDERS.replace("csv", "parquet"))
    path = shop.delivered / "orders_2026-01-05.parquet"
    duckdb.sql(
        "select n::varchar as order_id, md5(n::varchar) as customer_id, date '2026-01-05' as ordered_at, n as amount"
        " from range(20000) as r(n)"
    ).write_parquet(str(path), compression="zstd")
    content = bytearray(path.read_bytes())
    content[20_000:60_000] = bytes(40_000)
    path.write_bytes(content)
    with pytest.raises(InputError, match="can't be read") as caught:
        shop.land("2026-01-05")
    assert str(path) in str(caught.value)


def test_missing_and_empty_days_can_be_normal(shop):
    shop.describe(
        ORDERS.replace(
            "path: orders_{date}.csv", "path: orders_{date}.csv\n      if_missing: empty\n      if_empty: empty"
        )
    )
    shop.deliver("orders_2026-01-05.csv", HEADER + order("A"))
    shop.deliver("orders_2026-01-07.csv", b"")
    shop.land("2026-01-05", "2026-01-07")
    manifests = [shop.manifest("orders", f"2026-01-0{day}") for day in (5, 6, 7)]
    assert [(m["rows_read"], len(m["files"])) for m in manifests] == [(1, 1), (0, 0), (0, 1)]
    again = shop.land("2026-01-05", "2026-01-07")
    assert not again.changed


def test_too_many_refused_rows_refuse_the_day_and_keep_what_they_were(shop):
    three_days(shop)
    shop.land("2026-01-05", "2026-01-07")
    before = shop.bytes_in_lake()
    shop.deliver("orders_2026-01-06.csv", HEADER + order("A") + order("B", amount="x") + order("", amount="1"))
    with pytest.raises(InputError) as caught:
        shop.land("2026-01-05", "2026-01-07")
    kept = shop.home.root / "refused" / "orders" / "2026-01-06" / "quarantine.parquet"
    assert str(kept) in str(caught.value)
    assert "2 of 3 rows (missing_required 1, unparseable 1)" in str(caught.value)
    assert duckdb.sql(f"select source_line from '{kept}'").fetchall() == [(3,), (4,)]
    assert shop.bytes_in_lake() == before
    shop.deliver("orders_2026-01-06.csv", HEADER + order("A"))
    shop.land("2026-01-06")
    assert not kept.exists()


def test_reasons_that_are_expected_do_not_count(shop):
    content = HEADER + order("A") + order("B", who="")
    shop.deliver("orders_2026-01-05.csv", content)
    with pytest.raises(InputError, match="share that counts is 50"):
        shop.land("2026-01-05")
    shop.describe(ORDERS + "    limits: {expected: [missing_required]}\n")
    shop.land("2026-01-05")
    assert shop.manifest("orders", "2026-01-05")["quarantine_ratio"] == 0


def test_counts_that_do_not_reconcile_stop_the_landing(shop, monkeypatch):
    three_days(shop)
    monkeypatch.setattr(landing, "_rows_in", lambda _path: 199)
    with pytest.raises(StepFailed, match=r"195 rows were judged, 199 written"):
        shop.land("2026-01-05")
    monkeypatch.undo()
    really = staging.RawFiles.register

    def one_more(self, connection):
        select = really(self, connection)
        return select.replace("raw_stream", "raw_stream where __line > 2")

    monkeypatch.setattr(staging.RawFiles, "register", one_more)
    with pytest.raises(StepFailed, match=r"the file holds 200 records, 199 were judged"):
        shop.land("2026-01-05")
    assert not shop.bytes_in_lake()


def test_a_file_that_changes_while_it_is_read_is_refused(shop, monkeypatch):
    three_days(shop)
    really = staging.Workbench.stage

    def stage_and_touch(self, files, *rest, **options):
        staged = really(self, files, *rest, **options)
        files[0].path.write_text(HEADER, encoding="utf-8")
        return staged

    monkeypatch.setattr(staging.Workbench, "stage", stage_and_touch)
    with pytest.raises(InputError, match="changed while it was being read"):
        shop.land("2026-01-05")


def test_wrong_calls(shop):
    with pytest.raises(UsageError, match="lies after"):
        shop.land("2026-01-05", "2026-01-04")
    with pytest.raises(UsageError, match="no table 'order'"):
        shop.land("2026-01-05", tables=["order"])


# -- every row accounted for, whatever the dirt -------------------------------


FIELDS = st.one_of(
    st.sampled_from(
        ["A1", "A2", "C1", "2026-01-05", "12.50", "", " ", "x", "nan", '"', '""', '"a\nb"', "'", "é", "1,2", "\r"]
    ),
    st.text(alphabet='ab1.,"\n\r ;é', max_size=6),
)
DIRTY = st.lists(st.lists(FIELDS, min_size=1, max_size=6).map(",".join), max_size=12)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=DIRTY, ends=st.sampled_from(["\n", "\r\n"]))
def test_whatever_is_delivered_is_landed_or_quarantined_at_its_line(tmp_path, rows, ends):
    shutil.rmtree(tmp_path, ignore_errors=True)
    shop = small_shop(tmp_path / "shop", ORDERS + "    limits: {max_quarantine_ratio: 1}\n")
    text = HEADER.strip() + ends + ends.join([*rows, "A9,C9,2026-01-05,9"]) + ends
    shop.deliver("orders_2026-01-05.csv", text.encode())
    report = shop.land("2026-01-05")
    assert report.rows_read == report.rows_landed + report.rows_quarantined
    (file,) = shop.manifest("orders", "2026-01-05")["files"]
    lines = text.split("\n")
    assert file["lines"] == len(lines) - 1
    assert file["lines"] == 1 + file["blank_lines"] + file["continuation_lines"] + report.rows_read
    for line, _, raw in shop.quarantined():
        assert "\n".join(lines[line - 1 :]).startswith(raw)
    taken = [line for line, _, _ in shop.quarantined()] + [line for (line,) in shop.landed("orders", "source_line")]
    assert len(set(taken)) == len(taken) == report.rows_read


# -- killed at any point ------------------------------------------------------


KILLED = """
import sys
from datetime import date
from small_shops import SmallShop
from pathlib import Path
SmallShop(Path(sys.argv[1])).land("2026-01-01", "2026-01-30")
"""


def many_days(folder: Path) -> SmallShop:
    shop = small_shop(folder, ORDERS, LINES, time_zone="America/New_York")
    for day in range(1, 31):
        at = f"2026-01-{day:02d} 12:00:00"
        rows = "".join(order(f"{day}-{n}", "" if n % 50 == 0 else "C", at, str(n)) for n in range(300))
        shop.deliver(f"orders_2026-01-{day:02d}.csv", HEADER + rows)
    lines = (f"{n},C{n % 7},2026-01-{1 + n % 30:02d} 12:00:00,{n}" for n in range(3000))
    shop.deliver("lines.csv", split_file("early,C,2025-06-01,1", *lines))
    return shop


def test_killed_anywhere_and_run_again_gives_the_bytes_of_an_undisturbed_landing(tmp_path):
    shop = many_days(tmp_path / "shop")
    shop.land("2026-01-01", "2026-01-30")
    undisturbed = shop.bytes_in_lake()
    python_path = os.pathsep.join([str(Path(__file__).parent), str(Path(landing.__file__).parents[1])])
    command = [sys.executable, "-c", KILLED, str(shop.folder)]
    environment = os.environ | {"PYTHONPATH": python_path}

    def run(until):
        """Land in another process and kill it when ``until`` is seen; True if it was killed in time."""
        process = subprocess.Popen(command, env=environment)
        while process.poll() is None:
            if until():
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.0005)
        return process.wait() == -signal.SIGKILL

    scratch, moments = shop.home.scratch / "landing", 0
    for until in (
        (scratch / "lines" / "workbench.duckdb").exists,
        lambda: any((scratch / "orders" / "landed").glob("*.parquet")),
        lambda: any(shop.home.landings.glob("*/*.json")),
        lambda: len(list(shop.home.lake.glob("order*/*/*.parquet"))) > 40,
    ):
        shutil.rmtree(shop.home.root)
        moments += run(until)
        shop.land("2026-01-01", "2026-01-30")
        assert shop.bytes_in_lake() == undisturbed
    assert moments >= 3


def test_killed_while_a_day_is_replaced_keeps_what_the_day_was(split, monkeypatch):
    """The day that opens a history still does so when its replacement broke off half way."""
    split.land("2026-01-01", "2026-01-03")
    undisturbed = split.bytes_in_lake()
    split.home.partition("order_lines", date(2026, 1, 1), "lines").unlink()

    class Killed(Exception):
        pass

    def killed(*_args):
        raise Killed

    monkeypatch.setattr(landing, "_put", killed)
    with pytest.raises(Killed):
        split.land("2026-01-01")
    monkeypatch.undo()
    assert not split.home.landing("lines", date(2026, 1, 1)).exists()
    split.land("2026-01-01")
    assert split.bytes_in_lake() == undisturbed


def test_what_a_killed_landing_left_behind_is_swept_up(shop):
    three_days(shop)
    shop.land("2026-01-05", "2026-01-07")
    before = shop.bytes_in_lake()
    manifest = shop.home.landing("orders", date(2026, 1, 6))
    shutil.copy(manifest, f"{manifest}.replacing")
    assert not shop.land("2026-01-05", "2026-01-07").changed
    assert shop.bytes_in_lake() == before


def test_too_little_memory_is_told_as_such(shop, monkeypatch):
    rows = "".join(order(f"{number}-{'x' * 200}", who="C" * 200) for number in range(60_000))
    shop.deliver("orders_2026-01-05.csv", HEADER + rows)
    monkeypatch.setenv("STRATAFLOW_MEMORY_LIMIT", "8MB")
    with pytest.raises(StepFailed, match="raise STRATAFLOW_MEMORY_LIMIT"):
        shop.land("2026-01-05")


# -- the real shop ------------------------------------------------------------


def test_complete_journey_lands_the_households_and_baskets_of_2017(tmp_path):
    sources = load_sources(PROJECT.sources / "complete_journey", PROJECT)
    shop = SmallShop(tmp_path)
    report = land(shop.home, PROJECT, sources, date(2017, 1, 1), date(2017, 12, 31))
    landed = {source["source"]: source["rows_landed"] for source in report.as_dict()["sources"]}
    assert landed == {
        "campaigns": 6589, "coupon_redemptions": 2102, "demographics": 801, "products": 92_331,
        "transactions": 1_469_307,
    }  # fmt: skip
    assert report.rows_quarantined == 0
    facts = "count(distinct order_id), count(distinct customer_id), min(order_date), max(order_date), sum(amount)"
    lines = shop.home.lake / "order_lines" / "*" / "*.parquet"
    assert duckdb.sql(f"select {facts} from '{lines}'").fetchall() == [
        (155_848, 2469, date(2017, 1, 1), date(2017, 12, 31), Decimal("4596039.58"))
    ]
    interactions = shop.home.lake / "interactions" / "*" / "*.parquet"
    kinds = duckdb.sql(
        f"select kind, count(*), min(interaction_date) from '{interactions}' group by kind order by kind"
    ).fetchall()
    assert kinds == [
        ("campaign_received", 6589, date(2016, 11, 14)),
        ("coupon_redeemed", 2102, date(2017, 1, 1)),
    ]
    assert not land(shop.home, PROJECT, sources, date(2017, 12, 31), date(2017, 12, 31)).changed


def test_a_table_added_to_the_contract_can_be_fed_at_once(tmp_path):
    """Later tables, such as tags set by hand, are an entry in _lake__sources.yml and nothing else."""
    staging_folder = tmp_path / "project" / "dbt_project" / "models" / "staging"
    staging_folder.mkdir(parents=True)
    added = """
      - name: manual_tags
        description: Tags set by staff.
        meta: {key: [customer_id, tag], event_time: tagged_at, date_column: tagged_date}
        columns:
          - {name: customer_id, data_type: varchar, meta: {required: true}}
          - {name: tag, data_type: varchar, meta: {required: true}}
          - {name: tagged_at, data_type: timestamp, meta: {required: true}}
          - {name: tagged_date, data_type: date, meta: {derived: true}}
          - {name: expires_on, data_type: date}
          - {name: is_sure, data_type: boolean, meta: {required: true, default: "true"}}
          - {name: weight, data_type: integer}
          - {name: source, data_type: varchar, meta: {derived: true}}
          - {name: source_file, data_type: varchar, meta: {derived: true}}
          - {name: source_line, data_type: bigint, meta: {derived: true}}
"""
    (staging_folder / "_lake__sources.yml").write_text(PROJECT.lake_tables.read_text("utf-8") + added, "utf-8")
    project = Project(tmp_path / "project")
    shop = small_shop(tmp_path / "shop")
    shop.describe("""
        name: tags
        table: manual_tags
        description: Tags.
        format: {type: csv}
        files: {root: delivered, path: "tags_{date}.csv"}
        columns: {customer_id: id, tag: tag, tagged_at: at, expires_on: until, is_sure: sure, weight: weight}
        limits: {max_quarantine_ratio: 1}
    """)
    shop.deliver(
        "tags_2026-01-05.csv",
        "id,tag,at,until,sure,weight\n1,vip,2026-01-05 10:00,2026-02-01,yes,3\n"
        "1,客户首单,2026-01-05 10:00,,no,\n2,vip,2026-01-05,soon,yes,1\n3,vip,2026-01-05,,maybe,1\n",
    )
    day = date(2026, 1, 5)
    land(shop.home, project, load_sources(shop.folder / "sources", project), day, day)
    assert shop.landed("manual_tags", "customer_id, tag, tagged_date, expires_on, is_sure, weight") == [
        ("1", "vip", day, date(2026, 2, 1), True, 3),
        ("1", "客户首单", day, None, False, None),
    ]
    assert [reason.split(" is not")[0] for (reason,) in shop.quarantined("reason")] == [
        "expires_on: 'soon'",
        "is_sure: 'maybe'",
    ]
