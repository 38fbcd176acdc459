"""What was planted, written beside the data so that results can be scored against it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from strataflow.generate import deliveries as d
from strataflow.generate.baskets import CATEGORIES, Catalogue
from strataflow.generate.campaigns import Campaigns
from strataflow.generate.customers import BEHAVIOURS, CHANNELS, NEVER, REGIONS, SOURCE_CHANNELS, Pace, trait
from strataflow.generate.files import PRODUCT_IDS, Notes, Press, campaign_ids, write_parquet
from strataflow.generate.interactions import referrals
from strataflow.generate.plan import DAY, Plan
from strataflow.generate.randomness import EVENT_CHUNK, Columns, chunks
from strataflow.generate.texts import dates, money, named, times

# What a mapping as generated does with a faulty row: the code it is refused with, or None if it is mended.
REASON_CODES = {
    "float_id": None,
    "missing_customer": "missing_required",
    "bad_time": "unparseable",
    "bad_amount": "unparseable",
    "missing_order": "missing_required",
    "missing_kind": "missing_required",
    "negative_quantity": "filtered",
    "repeated_header": "repeated_header",
    "superseded": "duplicate_in_day",
}


def write_customers(
    folder: Path,
    press: Press,
    customers: Columns,
    orders: Columns,
    final: Columns,
    pace: Pace,
    catalogue: Catalogue | None,
) -> None:
    """``customers.parquet``: one row per customer, with behaviour, life, rhythm and what they really bought."""
    count = press.plan.customers
    number = np.arange(count)
    behaviour = customers["behaviour"]
    buys = trait("buys")[behaviour]
    left = buys & (customers["end"] <= press.plan.days)
    ordered = _orders_by_customer(orders, final, count)
    has_order = ordered["orders"] > 0
    per_year = customers["rate"] * pace.of_day.mean() * 365.25
    columns = {
        "customer_id": press.ids.customers(number),
        "behaviour": named(behaviour, [kind.name for kind in BEHAVIOURS]),
        "registered_at": times(press.calendar.utc(customers["registered"])),
        "region": named(_last_region(press.plan, customers), REGIONS),
        "source_channel": named(customers["source"], SOURCE_CHANNELS),
        "main_channel": named(customers["channel"], CHANNELS),
        "is_alive_at_end": pa.array(~left, mask=~buys),
        "churn_date": dates(press.calendar.epoch_days(np.minimum(customers["end"], NEVER)), left),
        "orders_per_year": pa.array(per_year),
        "dropouts_per_year": pa.array(customers["dropout"] * 365.25, mask=~(buys & trait("repeats")[behaviour])),
        "median_order_amount": pa.array(np.exp(customers["log_spend"]) / 100, mask=~(buys & (catalogue is None))),
        "coupon_readiness": pa.array(trait("coupon")[behaviour]),
        "referred_by": press.ids.customers(customers["referrer"], customers["referrer"] >= 0),
        "first_order_date": dates(press.calendar.epoch_days(ordered["first_day"]), has_order),
        "last_order_date": dates(press.calendar.epoch_days(ordered["last_day"]), has_order),
        "orders": pa.array(ordered["orders"]),
        "valid_orders": pa.array(ordered["valid_orders"]),
        "net_amount": money(ordered["net"]),
    }
    if catalogue is not None:
        columns["favourite_category"] = named(catalogue.favourites(customers), CATEGORIES)
    write_parquet(pa.table(columns), folder / "customers.parquet")


def _last_region(plan: Plan, customers: Columns) -> np.ndarray:
    return np.where(customers["moves_day"] < plan.days, customers["new_region"], customers["region"])


def _orders_by_customer(orders: Columns, final: Columns, count: int) -> Columns:
    """Orders, valid orders, first and last day of any order, and net cents of each customer."""
    customer, day = orders["customer"], orders["moment"] // DAY
    net = final["amount"] - final["refunded"]
    valid = (final["status"] != d.CANCELLED) & (final["status"] != d.PENDING) & (net > 0)
    first, last = np.zeros(count, dtype=np.int32), np.zeros(count, dtype=np.int32)
    # Orders are in order of time: of several values for one customer the last one written stays.
    last[customer] = day
    first[customer[::-1]] = day[::-1]
    return {
        "orders": np.bincount(customer, minlength=count),
        "valid_orders": np.bincount(customer[valid], minlength=count),
        # Sums of whole cents are exact in doubles up to 2**53.
        "net": np.bincount(customer[valid], net[valid], count).astype(np.int64),
        "first_day": first,
        "last_day": last,
    }


def write_orders(folder: Path, press: Press, orders: Columns, final: Columns) -> None:
    """``orders.parquet``: one row per good order in the newest version delivered."""
    writer = None
    for _, low, high in chunks(len(orders["moment"]), EVENT_CHUNK):
        part = slice(low, high)
        moment = orders["moment"][part]
        table = pa.table(
            {
                "order_id": press.ids.lettered("O", np.arange(low, high)),
                "customer_id": press.ids.customers(orders["customer"][part]),
                "ordered_at": times(press.calendar.utc(moment)),
                "order_date": dates(press.calendar.epoch_days(moment // DAY)),
                "status": named(final["status"][part], d.STATUSES),
                "amount": money(final["amount"][part]),
                "refunded_amount": money(final["refunded"][part]),
                "campaign_id": named(orders["campaign"][part], campaign_ids(press.plan), orders["campaign"][part] >= 0),
                "versions": pa.array(final["versions"][part]),
                "last_received_date": dates(press.calendar.epoch_days(final["day"][part])),
            }
        )
        if writer is None:
            writer = pa.parquet.ParquetWriter(
                folder / "orders.parquet",
                table.schema,
                compression="zstd",
                compression_level=1,
                use_dictionary=["status", "campaign_id", "versions"],
                store_schema=False,
                store_decimal_as_integer=True,
            )
        writer.write_table(table)
    writer.close()


def write_referrals(folder: Path, press: Press, customers: Columns) -> None:
    """``referrals.parquet``: one row per customer who was brought in by another."""
    referrer, newcomer, moment = referrals(customers)
    table = pa.table(
        {
            "customer_id": press.ids.customers(referrer),
            "referred_customer_id": press.ids.customers(newcomer),
            "invited_at": times(press.calendar.utc(moment)),
            "registered_at": times(press.calendar.utc(customers["registered"][newcomer])),
        }
    )
    write_parquet(table, folder / "referrals.parquet")


def write_campaigns(folder: Path, press: Press, campaigns: Campaigns) -> None:
    """``campaigns.parquet``: one row per campaign, with how many received it and how many ordered because of it."""
    count = len(campaigns.first)
    reactions = sum(np.bincount(part["campaign"], minlength=count) for part in campaigns.reactions)
    table = pa.table(
        {
            "campaign_id": pa.array(campaign_ids(press.plan)),
            "first_date": dates(press.calendar.epoch_days(campaigns.first)),
            "last_date": dates(press.calendar.epoch_days(campaigns.end - 1)),
            "strength": pa.array(campaigns.strength),
            "receipts": pa.array(np.bincount(campaigns.receipts["campaign"], minlength=count)),
            "orders_caused": pa.array(reactions),
        }
    )
    write_parquet(table, folder / "campaigns.parquet")


def write_affinities(folder: Path, pairs: Columns) -> None:
    """``affinities.parquet``: one row per planted pair of products; ``lift`` is that of the baskets drawn."""
    product_a, product_b = (named(pairs[name], PRODUCT_IDS) for name in ("product_a", "product_b"))
    rest = {name: pa.array(values) for name, values in pairs.items() if not name.startswith("product")}
    by_chance = pairs["orders_with_a"] * pairs["orders_with_b"] / pairs["orders"]
    seen = by_chance > 0
    lift = np.divide(pairs["orders_with_both"], by_chance, out=np.zeros(len(seen)), where=seen)
    table = pa.table({"product_a": product_a, "product_b": product_b, **rest, "lift": pa.array(lift, mask=~seen)})
    write_parquet(table, folder / "affinities.parquet")


def write_days(folder: Path, press: Press, orders: Columns, interactions: Columns | None, pace: Pace) -> None:
    """``days.parquet``: one row per business day, with its pull, the pace of repeat orders and what happened."""
    days = press.plan.days

    def happened(events: Columns | None) -> np.ndarray:
        return np.zeros(days, np.int64) if events is None else np.bincount(events["moment"] // DAY, minlength=days)

    table = pa.table(
        {
            "date": dates(press.calendar.epoch_days(np.arange(days))),
            "pull": pa.array(press.calendar.pull),
            "pace": pa.array(pace.of_day),
            "orders": pa.array(happened(orders)),
            "interactions": pa.array(happened(interactions)),
        }
    )
    write_parquet(table, folder / "days.parquet")


def write_notes(folder: Path, press: Press, notes: dict[str, list[Notes]]) -> None:
    """``files.parquet`` and ``dirt.parquet``: one row per daily file, and one per row in it that isn't simply good."""
    files, dirt = [], []
    for table, of_days in notes.items():
        names = [f"{table}/{press.path(table, day).name}" for day in range(press.plan.days)]
        files.append(_file_table(press, table, names, of_days))
        dirt.append(_dirt_table(press, table, names, of_days))
    write_parquet(pa.concat_tables(files, promote_options="permissive").unify_dictionaries(), folder / "files.parquet")
    write_parquet(pa.concat_tables(dirt).unify_dictionaries(), folder / "dirt.parquet")


def _file_table(press: Press, table: str, names: list[str], notes: list[Notes]) -> pa.Table:
    reasons = np.stack([note.reasons for note in notes])
    refused = [int(np.isin(note.fault, refused_faults()).sum()) for note in notes]
    return pa.table(
        {
            "table_name": pa.array([table] * len(names)),
            "file": pa.array(names),
            "received_date": dates(press.calendar.epoch_days(np.arange(len(names)))),
            "rows": pa.array([note.rows for note in notes]),
            "refused_rows": pa.array(refused),
            **{f"{reason}_rows": pa.array(reasons[:, code]) for code, reason in enumerate(d.REASONS)},
        }
    )


def refused_faults() -> list[int]:
    """Codes of the faults that landing must refuse."""
    return [code for code, fault in enumerate(d.FAULTS) if REASON_CODES.get(fault) is not None]


def _dirt_table(press: Press, table: str, names: list[str], notes: list[Notes]) -> pa.Table:
    day = np.repeat(np.arange(len(names)), [len(note.line) for note in notes])
    fault = _stacked([note.fault for note in notes], np.uint8)
    # Parquet has types: what can't be read as one is simply not there.
    absent = "missing_required" if not press.is_text else "unparseable"
    codes = [absent if REASON_CODES.get(name) == "unparseable" else REASON_CODES.get(name) for name in d.FAULTS]
    return pa.table(
        {
            "table_name": pa.array([table] * len(day), pa.string()),
            "file": named(day, names),
            "received_date": dates(press.calendar.epoch_days(day)),
            "line": pa.array(_stacked([note.line for note in notes], np.int64)),
            "fault": named(fault, d.FAULTS),
            "reason_code": pa.array(codes, pa.string()).take(pa.array(fault)),
        }
    )


def _stacked(arrays: Iterable[np.ndarray], kind: type) -> np.ndarray:
    arrays = list(arrays)
    return np.concatenate(arrays).astype(kind) if arrays else np.empty(0, kind)
