"""The daily files, as the shop would deliver them, and notes on every row that isn't simply right."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from strataflow.generate import deliveries as d
from strataflow.generate.baskets import BRANDS, CATEGORIES, PRODUCTS, Catalogue
from strataflow.generate.campaigns import CAMPAIGN_DAYS
from strataflow.generate.customers import CHANNELS, INDUSTRIES, REGIONS, SOURCE_CHANNELS, trait
from strataflow.generate.interactions import INVITED, KINDS, PAGE_VIEW, REDEEMED
from strataflow.generate.plan import DAY, Calendar, Plan
from strataflow.generate.randomness import Columns, stream
from strataflow.generate.texts import Ids, money, named, times

PRODUCT_IDS = [f"P{number:04d}" for number in range(PRODUCTS)]
UNREADABLE_TIME = "32.13.2024 25:61"
UNREADABLE_AMOUNT = "12-7O"
# A text file holds its header again with this probability per unit of dirt.
HEADERS_PER_DIRT = 30


@dataclass
class Notes:
    """What stands in one file beyond plain good rows.

    Attributes:
        rows: rows in the file, the header not counted.
        reasons: rows by reason (see ``deliveries.REASONS``).
        line: line of each noted row as a reader counts them (1 is the first line of the file; Parquet has no
            header line).
        fault: its fault (see ``deliveries.FAULTS``).
    """

    rows: int
    reasons: np.ndarray = field(default_factory=lambda: np.zeros(len(d.REASONS), dtype=np.int64))
    line: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    fault: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.uint8))


@dataclass(frozen=True)
class Press:
    """Turns drawn columns into files of one format.

    Attributes:
        plan: the shop's parameters.
        calendar: its days.
        data: folder of the tables' folders.
        ids: writes ids.
    """

    plan: Plan
    calendar: Calendar
    data: Path
    ids: Ids

    @property
    def is_text(self) -> bool:
        """Whether files are CSV, where any value may stand in any column."""
        return self.plan.file_format != "parquet"

    def path(self, table: str, day: int) -> Path:
        """The file of one table and day."""
        return self.data / table / f"{table}_{self.calendar.dates[day]:%Y%m%d}.{self.plan.file_format}"

    def write(self, table: pa.Table, path: Path) -> None:
        """Write one file, the same bytes each time."""
        if not self.is_text:
            write_parquet(table, path)
            return
        options = pa.csv.WriteOptions(quoting_style="none", quoting_header="none")
        texts = pa.table({name: _as_text(table[name]) for name in table.column_names})
        if self.plan.file_format == "csv":
            pa.csv.write_csv(texts, path, options)
            return
        with path.open("wb") as raw, gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed:
            pa.csv.write_csv(texts, packed, options)

    def deliver(self, name: str, day: int, table: pa.Table, fault: np.ndarray, reason: np.ndarray) -> Notes:
        """Write one day's file of a table with its faults, and tell where they stand."""
        position = np.flatnonzero(fault)
        line = position + (2 if self.is_text else 1)
        noted = fault[position]
        header_at = self._header_position(name, day, len(fault))
        if self.is_text:
            table = pa.table({column: _as_text(table[column]) for column in table.column_names})
            table = _with_unreadable(table, fault)
        if header_at is not None:
            table = _with_header(table, header_at)
            line = np.append(line + (position >= header_at), header_at + 2)
            noted = np.append(noted, np.uint8(d.REPEATED_HEADER))
        self.write(table, self.path(name, day))
        return Notes(
            rows=table.num_rows,
            reasons=np.bincount(reason, minlength=len(d.REASONS)),
            line=line,
            fault=noted,
        )

    def _header_position(self, name: str, day: int, rows: int) -> int | None:
        """Before which row the header stands once more, as in files glued together; None for most files."""
        draw = stream(self.plan.seed, "header", name, day)
        chance, place = draw.random(2)
        if not self.is_text or rows == 0 or chance >= self.plan.dirt * HEADERS_PER_DIRT:
            return None
        return int(place * rows)


def write_parquet(table: pa.Table, path: Path) -> None:
    """Write Parquet the way all files of a generated shop are written."""
    words = [field.name for field in table.schema if pa.types.is_dictionary(field.type)]
    pa.parquet.write_table(
        table,
        path,
        compression="zstd",
        compression_level=1,
        use_dictionary=words,
        store_schema=False,
        store_decimal_as_integer=True,
        row_group_size=1_000_000,
    )


def order_files(
    press: Press, orders: Columns, lines: Columns | None, delivered: d.Deliveries
) -> Callable[[int], Notes]:
    """A function that writes the file of orders, or of order lines, received on one day."""

    def write_day(day: int) -> Notes:
        rows = _of_day(delivered, day)
        if lines is None:
            return press.deliver("orders", day, _order_table(press, orders, rows), rows["fault"], rows["reason"])
        content, row = _lines_of(orders, lines, rows)
        rows = {name: values[row] for name, values in rows.items()}
        table = _line_table(press, orders, rows, content)
        return press.deliver("order_lines", day, table, rows["fault"], rows["reason"])

    return write_day


def interaction_files(press: Press, interactions: Columns, delivered: d.Deliveries) -> Callable[[int], Notes]:
    """A function that writes the file of interactions received on one day."""

    def write_day(day: int) -> Notes:
        rows = _of_day(delivered, day)
        table = _interaction_table(press, interactions, rows)
        return press.deliver("interactions", day, table, rows["fault"], rows["reason"])

    return write_day


def customer_files(press: Press, customers: Columns) -> Callable[[int], Notes]:
    """A function that writes the file of customers who registered or moved on one day.

    The first day's file also holds everyone who registered before.
    """
    registered_day = np.maximum(customers["registered"] // DAY, 0)
    first = np.searchsorted(registered_day, np.arange(press.plan.days + 1))
    mover = np.flatnonzero(customers["moves_day"] < press.plan.days)
    mover = mover[np.argsort(customers["moves_day"][mover], kind="stable")]
    first_mover = np.searchsorted(customers["moves_day"][mover], np.arange(press.plan.days + 1))

    def write_day(day: int) -> Notes:
        new = np.arange(first[day], first[day + 1])
        moved = mover[first_mover[day] : first_mover[day + 1]]
        region = np.concatenate([customers["region"][new], customers["new_region"][moved]])
        table = _customer_table(press, customers, np.concatenate([new, moved]), region)
        reason = np.repeat([d.ON_TIME, d.CORRECTION], [len(new), len(moved)])
        return press.deliver("customers", day, table, np.zeros(len(reason), dtype=np.uint8), reason)

    return write_day


def product_file(press: Press, catalogue: Catalogue) -> Path:
    """Write the one file of all products."""
    path = press.data / f"products.{press.plan.file_format}"
    number = np.arange(PRODUCTS)
    table = pa.table(
        {
            "product_id": named(number, PRODUCT_IDS),
            "product_name": pa.array(product_names(catalogue)),
            "category": named(catalogue.category, CATEGORIES),
            "brand": named(catalogue.brand, BRANDS),
            "unit_price": money(catalogue.price),
        }
    )
    press.write(table, path)
    return path


def product_names(catalogue: Catalogue) -> list[str]:
    """What the products are called."""
    return [f"{BRANDS[catalogue.brand[n]]} {CATEGORIES[catalogue.category[n]]} {n:03d}" for n in range(PRODUCTS)]


def _of_day(delivered: d.Deliveries, day: int) -> Columns:
    here = delivered.of_day(day)
    return {name: values[here] for name, values in delivered.rows.items()}


def _lines_of(orders: Columns, lines: Columns, rows: Columns) -> tuple[Columns, np.ndarray]:
    """The lines that delivered rows of orders consist of, and the row that each belongs to."""
    first, end = lines["first"][rows["event"]], lines["first"][rows["event"] + 1]
    returned = rows["reason"] == d.RETURN
    first = np.where(returned, end - 1, first)
    count = end - first
    row = np.repeat(np.arange(len(count)), count)
    offset = np.cumsum(count) - count
    line = np.arange(len(row)) - offset[row] + first[row]
    content = {name: lines[name][line] for name in ("product", "quantity", "amount", "discount", "coupon")}
    # A corrected order differs in its first line.
    whole = np.flatnonzero(~returned)
    content["amount"][offset[whole]] += rows["amount"][whole] - orders["amount"][rows["event"][whole]]
    is_return = returned[row]
    content["refunded"] = np.where(rows["reason"][row] == d.REFUND, content["amount"], 0)
    for name in ("quantity", "amount"):
        content[name] = np.where(is_return, -content[name], content[name])
    for name in ("discount", "coupon"):
        content[name] = np.where(is_return, 0, content[name])
    contradictory = rows["fault"][row] == d.NEGATIVE_QUANTITY
    content["quantity"] = np.where(contradictory, -content["quantity"], content["quantity"])
    return content, row


def _unless(fault: np.ndarray, code: int) -> np.ndarray | None:
    """Where a value stands; None where it stands everywhere."""
    valid = fault != code
    return None if valid.all() else valid


def _customer_ids(press: Press, numbers: np.ndarray, fault: np.ndarray) -> pa.Array:
    """Customer ids; some are missing, some look like decimal numbers."""
    plain = press.ids.customers(numbers, _unless(fault, d.MISSING_CUSTOMER))
    decimal = fault == d.FLOAT_ID
    if not decimal.any():
        return plain
    return pc.if_else(pa.array(decimal), pc.binary_join_element_wise(plain, ".0", ""), plain)


def _order_head(press: Press, orders: Columns, rows: Columns) -> dict[str, pa.Array]:
    event, fault = rows["event"], rows["fault"]
    return {
        "order_id": press.ids.lettered("O", rows["number"], _unless(fault, d.MISSING_ORDER)),
        "customer_id": _customer_ids(press, orders["customer"][event], fault),
        "ordered_at": times(press.calendar.utc(orders["moment"][event]), _unless(fault, d.BAD_TIME)),
        "status": named(rows["status"], d.STATUSES),
        "channel": named(orders["channel"][event], CHANNELS),
        "updated_at": times(press.calendar.utc(rows["updated"])),
    }


def _order_table(press: Press, orders: Columns, rows: Columns) -> pa.Table:
    event, fault = rows["event"], rows["fault"]
    return pa.table(
        {
            **_order_head(press, orders, rows),
            "amount": money(rows["amount"], _unless(fault, d.BAD_AMOUNT)),
            "refunded_amount": money(rows["refunded"]),
            "discount_amount": money(orders["discount"][event]),
            "coupon_amount": money(orders["coupon"][event]),
        }
    )


def _line_table(press: Press, orders: Columns, rows: Columns, content: Columns) -> pa.Table:
    return pa.table(
        {
            **_order_head(press, orders, rows),
            "product_id": named(content["product"], PRODUCT_IDS),
            "quantity": pa.array(content["quantity"].astype(np.int32)),
            "amount": money(content["amount"], _unless(rows["fault"], d.BAD_AMOUNT)),
            "refunded_amount": money(content["refunded"]),
            "discount_amount": money(content["discount"]),
            "coupon_amount": money(content["coupon"]),
            "is_return": pa.array(rows["reason"] == d.RETURN),
        }
    )


def _interaction_table(press: Press, interactions: Columns, rows: Columns) -> pa.Table:
    event, fault = rows["event"], rows["fault"]
    kind, detail = interactions["kind"][event], interactions["detail"][event]
    campaign = interactions["campaign"][event]
    columns = {
        "interaction_id": press.ids.lettered("I", rows["number"]),
        "customer_id": _customer_ids(press, interactions["customer"][event], fault),
        "occurred_at": times(press.calendar.utc(interactions["moment"][event]), _unless(fault, d.BAD_TIME)),
        "kind": named(kind, KINDS, _unless(fault, d.MISSING_KIND)),
        "channel": named(interactions["channel"][event], CHANNELS),
        "campaign_id": named(campaign, campaign_ids(press.plan), campaign >= 0),
        "referred_customer_id": press.ids.customers(detail, (kind == INVITED) & (detail >= 0)),
        "amount": money(detail, kind == REDEEMED),
    }
    if press.plan.has_lines:
        columns["product_id"] = named(detail, PRODUCT_IDS, (kind == PAGE_VIEW) & (detail >= 0))
    return pa.table(columns)


def campaign_ids(plan: Plan) -> list[str]:
    """Ids of all campaigns of a history."""
    return [f"C{number + 1:04d}" for number in range(-(-plan.days // CAMPAIGN_DAYS))]


def _customer_table(press: Press, customers: Columns, number: np.ndarray, region: np.ndarray) -> pa.Table:
    office = trait("office")[customers["behaviour"][number]]
    return pa.table(
        {
            "customer_id": press.ids.customers(number),
            "registered_at": times(press.calendar.utc(customers["registered"][number])),
            "region": named(region, REGIONS),
            "source_channel": named(customers["source"][number], SOURCE_CHANNELS),
            "industry": named(customers["industry"][number], INDUSTRIES, office),
            "customer_type": named(office.astype(np.uint8), ("2C", "2B")),
        }
    )


def _as_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column as CSV shows it; times to the second."""
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("s"))
    return column.cast(pa.string())


def _with_unreadable(table: pa.Table, fault: np.ndarray) -> pa.Table:
    """Put text that is no time or no amount where the fault says so."""
    for name, code, text in (
        ("ordered_at", d.BAD_TIME, UNREADABLE_TIME),
        ("occurred_at", d.BAD_TIME, UNREADABLE_TIME),
        ("amount", d.BAD_AMOUNT, UNREADABLE_AMOUNT),
    ):
        here = fault == code
        if name in table.column_names and here.any():
            changed = pc.if_else(pa.array(here), text, table[name])
            table = table.set_column(table.column_names.index(name), name, changed)
    return table


def _with_header(table: pa.Table, position: int) -> pa.Table:
    header = pa.table({name: pa.array([name], pa.string()) for name in table.column_names})
    return pa.concat_tables([table.slice(0, position), header, table.slice(position)])
