"""What a model may know of a customer at the end of a day, and what came after it.

The features are one dbt macro, ``customer_features``. The daily build renders it for
the day of the run; here the very same text is rendered for the past days a model
learns from, over the same ledgers, so that training and scoring can't drift apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

from strataflow.project import Project

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa


# The dbt project's macros that features are made of, each using those before it.
MACRO_FILES = ("run_parameters.sql", "customer_totals.sql", "customer_features.sql")


@dataclass(frozen=True)
class Ledgers:
    """SQL relations to read from: a table's name or a ``read_parquet(...)`` call.

    Attributes:
        orders: signed order versions, columns of int_order_ledger.
        interactions: columns of int_interaction_ledger.
        kinds: columns of the seed interaction_kinds.
    """

    orders: str
    interactions: str
    kinds: str


def day_literal(day: date) -> str:
    """``day`` as SQL."""
    return f"cast('{day}' as date)"


def features_sql(project: Project, ledgers: Ledgers, day: date, horizon: int) -> str:
    """The query for features as of ``day``, from what had been received by then.

    Returns:
        SQL for one row per customer with a valid order.
    """
    macros = _macros(project)
    orders = _known_then(ledgers.orders, day, _ORDER_COLUMNS)
    interactions = _known_then(ledgers.interactions, day)
    dated = f"(select * from {orders} where order_date <= {day_literal(day)})"
    order_days = f"({macros['order_days_of'](dated)})"
    totals = f"({macros['order_totals_of'](order_days)})"
    return macros["customer_features"](totals, orders, interactions, ledgers.kinds, day_literal(day), horizon)


# What a ledger of unknown making may hold no usable number in.
_ORDER_COLUMNS = (
    "placed_orders", "valid_orders", "coupon_orders", "refunded_orders", "net_amount", "discount_amount",
)  # fmt: skip


def _known_then(relation: str, day: date, cleaned: Sequence[str] = ()) -> str:
    """Rows of a ledger received by ``day``, the numbers in ``cleaned`` as decimals and never missing."""
    numbers = ", ".join(f"coalesce(try_cast({name} as decimal(18, 2)), 0) as {name}" for name in cleaned)
    columns = f"* replace ({numbers})" if numbers else "*"
    return f"(select {columns} from {relation} where received_date <= {day_literal(day)} and customer_id is not null)"


def _macros(project: Project) -> dict[str, Callable[..., str]]:
    """The dbt project's macros that features are made of, for use outside of dbt, by name."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(  # renders SQL from the project's own files, never a page
        loader=FileSystemLoader(project.dbt / "macros"),
        undefined=StrictUndefined,
        extensions=["jinja2.ext.do"],
        autoescape=False,  # noqa: S701
    )
    environment.globals["none"] = None
    found: dict[str, Callable[..., str]] = {}
    for file in MACRO_FILES:
        module = environment.get_template(file).make_module()
        found |= {name: macro for name, macro in vars(module).items() if not name.startswith("_")}
        environment.globals.update(found)
    return found


def examples(
    connection: duckdb.DuckDBPyConnection,
    project: Project,
    ledgers: Ledgers,
    splits: Sequence[date],
    horizon: int,
    known_at: date,
) -> pa.Table:
    """Features as of each split and what happened in the ``horizon`` days after it.

    Args:
        known_at: labels are taken from what was received by then; the features of a
            split only from what was received by the split.

    Returns:
        the features, ``split_date`` and ``churned`` (no valid order in the horizon),
        sorted by split and customer_id.
    """
    parts = [
        f"""
        select cast('{split}' as date) as split_date, features.*, later.customer_id is null as churned
        from ({features_sql(project, ledgers, split, horizon)}) as features
        left join ({_ordered_within(ledgers, split, horizon, known_at)}) as later using (customer_id)
        """
        for split in splits
    ]
    return connection.sql(
        f"select * from ({' union all '.join(parts)}) order by split_date, customer_id"
    ).to_arrow_table()


def _ordered_within(ledgers: Ledgers, split: date, horizon: int, known_at: date) -> str:
    """Customers with a valid order in the ``horizon`` days after ``split``."""
    return f"""
        select distinct customer_id from (
            select customer_id, order_date from {ledgers.orders}
            where order_date > {day_literal(split)} and order_date <= {day_literal(split)} + {horizon}
                and received_date <= {day_literal(known_at)}
            group by customer_id, order_date
            having sum(valid_orders) > 0
        )
    """


@contextmanager
def sampled(connection: duckdb.DuckDBPyConnection, ledgers: Ledgers, as_of: date, customers: int) -> Iterator[Ledgers]:
    """Ledger rows received by ``as_of`` of the customers to learn from: all, or those with the smallest md5.

    The rows are set aside once, because each day that is looked at reads them again.

    Args:
        customers: how many at most.
    """
    day = day_literal(as_of)
    connection.execute(
        f"""
        create or replace temp table sampled_customers as
        select customer_id from (
            select distinct customer_id from {ledgers.orders}
            where order_date <= {day} and received_date <= {day} and customer_id is not null and valid_orders > 0
        )
        order by md5(customer_id), customer_id limit {customers}
        """
    )
    tables = {"sampled_orders": ledgers.orders, "sampled_interactions": ledgers.interactions}
    for table, ledger in tables.items():
        connection.execute(
            f"create or replace temp table {table} as select * from {ledger} where received_date <= {day} "
            "and customer_id in (select customer_id from sampled_customers)"
        )
    try:
        yield Ledgers("sampled_orders", "sampled_interactions", ledgers.kinds)
    finally:
        for table in (*tables, "sampled_customers"):
            connection.execute(f"drop table {table}")
