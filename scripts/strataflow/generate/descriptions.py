"""The source descriptions of a generated shop, so that it lands and runs like any other."""

from __future__ import annotations

from pathlib import Path

from strataflow.generate.plan import Plan

ORDER_COLUMNS = """\
  order_id: order_id
  customer_id: clean_id(customer_id)   # some files write 10000001.0
  ordered_at: ordered_at
  status: status
  amount: amount
  refunded_amount: refunded_amount
  discount_amount: discount_amount
  coupon_amount: coupon_amount
  channel: channel
  updated_at: updated_at
"""
LINE_COLUMNS = """\
  product_id: product_id
  quantity: quantity
  is_adjustment: is_return             # a returned line adds to the order, it doesn't replace it
"""
LINE_FILTER = """
filters:
  - name: quantity_fits_amount         # fewer than nothing can't have cost something
    keep: coalesce((try_cast(quantity as integer) < 0) = (try_cast(amount as decimal(18, 2)) < 0), true)
"""
INTERACTION_COLUMNS = """\
  interaction_id: interaction_id
  customer_id: clean_id(customer_id)
  occurred_at: occurred_at
  kind: kind
  channel: channel
  campaign_id: campaign_id
  referred_customer_id: referred_customer_id
  amount: amount
"""
CUSTOMER_COLUMNS = """\
  customer_id: customer_id
  registered_at: registered_at
  region: region
  source_channel: source_channel
  industry: industry
  customer_type: customer_type
"""
PRODUCT_COLUMNS = """\
  product_id: product_id
  product_name: product_name
  category: category
  brand: brand
  unit_price: unit_price
"""


def write_descriptions(folder: Path, plan: Plan) -> None:
    """Write ``shop.yml`` and a description of each source into ``folder``."""
    said = {"shop.yml": _shop(plan)}
    if plan.has_lines:
        said["order_lines.yml"] = _source(
            plan,
            "order_lines",
            "Order lines as received each day.",
            ORDER_COLUMNS + LINE_COLUMNS + LINE_FILTER,
            rows=plan.orders,
        )
        said["products.yml"] = _source(plan, "products", "All products, one file.", PRODUCT_COLUMNS, daily=False)
    else:
        said["orders.yml"] = _source(plan, "orders", "Orders as received each day.", ORDER_COLUMNS, rows=plan.orders)
    if plan.interactions:
        columns = INTERACTION_COLUMNS + ("  product_id: product_id\n" if plan.has_lines else "")
        said["interactions.yml"] = _source(
            plan, "interactions", "Interactions as received each day.", columns, rows=plan.interactions
        )
    said["customers.yml"] = _source(plan, "customers", "Customers who registered or moved that day.", CUSTOMER_COLUMNS)
    for name, text in said.items():
        (folder / name).write_text(text, encoding="utf-8")


def _shop(plan: Plan) -> str:
    return (
        "# A generated shop; see generated.json beside this folder for the parameters.\n"
        f"name: Generated shop {plan.seed}\n"
        f"time_zone: {plan.time_zone}\n"
        f"currency: {plan.currency}\n"
    )


def _source(
    plan: Plan, table: str, description: str, columns: str, *, daily: bool = True, rows: int | None = None
) -> str:
    path = f"{table}/{table}_{{date:%Y%m%d}}.{plan.file_format}" if daily else f"{table}.{plan.file_format}"
    return (
        f"name: {table}\n"
        f"table: {table}\n"
        f"description: {description}\n"
        f"\nformat:\n{_format(plan)}"
        f"\nfiles:\n  root: ../data\n  path: '{path}'\n  if_empty: empty   # a quiet day of a small shop\n"
        f"\nlimits:\n  max_quarantine_ratio: {_most_refused(plan, rows):.3f}\n"
        f"\ncolumns:\n{columns}"
    )


def _most_refused(plan: Plan, rows: int | None) -> float:
    """The share of refused rows that a day may have; ``rows`` are all that come, if broken ones are among them.

    Broken and repeated rows fall on days at random: of a day of thirty, three may be.
    """
    by_chance = 3 * plan.days / rows if rows else 0.0
    return min(1.0, 0.05 + 4 * plan.dirt + by_chance)


def _format(plan: Plan) -> str:
    if plan.file_format == "parquet":
        return "  type: parquet\n  time_zone: UTC\n"
    return "  type: csv\n  date_formats: ['%Y-%m-%d %H:%M:%S']\n  time_zone: UTC\n"
