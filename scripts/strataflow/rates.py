"""From which day on an amount in another currency can be converted.

The rates are a seed of the dbt project. Landing looks at them because an
order without a rate has no amount in the shop's currency: it is refused with
a reason, instead of stopping the build of everything else.
"""

from __future__ import annotations

import csv
from datetime import date
from typing import TYPE_CHECKING

from strataflow.errors import UsageError

if TYPE_CHECKING:
    from strataflow.project import Project, Table
    from strataflow.sources import Shop, Source


def first_rates(project: Project, source: Source, table: Table, shop: Shop) -> dict[str, date]:
    """First day with a rate into the shop's currency, by currency; the shop's own isn't among them.

    Empty for a source whose rows can't be in another currency.

    Raises:
        UsageError: the seed is missing or a day in it is none.
    """
    if "currency" not in source.columns or "currency" not in table.by_name:
        return {}
    path = project.currency_rates
    first: dict[str, date] = {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                if row["reporting_currency"] != shop.currency or row["currency"] == shop.currency:
                    continue
                valid_from = date.fromisoformat(row["valid_from"])
                first[row["currency"]] = min(valid_from, first.get(row["currency"], valid_from))
    except FileNotFoundError as missing:
        raise UsageError("the currency rates are missing", where=str(path)) from missing
    except (KeyError, TypeError, ValueError) as broken:
        raise UsageError(
            f"the currency rates can't be read: {broken!r}",
            where=str(path),
            todo="its columns are currency, reporting_currency, valid_from (such as 2026-01-31) and rate",
        ) from broken
    return dict(sorted(first.items()))
