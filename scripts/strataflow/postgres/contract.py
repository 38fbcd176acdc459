"""What a table is in the database, and what it means that a newly published version describes it differently.

A column that is added breaks nobody: it is added in place and is empty for the days before. Anything else that a
query could trip over needs a new contract version, which then stands beside the old one; without one, publishing is
refused, because a dashboard that breaks at night is worse than a day that is late.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from typing import TYPE_CHECKING, Any

from strataflow.contracts import in_both_languages
from strataflow.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa

DAY_COLUMN = "as_of_date"
# What a row came in: of a table of days, the copy of the day; of one that spans days, the file. No view shows it.
PART_COLUMN = "part"
DAY_SAID = "The day the row speaks of.\n本行数据所截至的日期。"


@dataclass(frozen=True)
class Column:
    """One column: its PostgreSQL type, what is said of it, whether it reaches a person."""

    kind: str
    comment: str
    is_contact: bool


@dataclass(frozen=True)
class Excerpt:
    """A table of the history that has columns of another table, of the same days, and so is a view of that one.

    Attributes:
        columns: comment by name.
    """

    table: str
    comment: str
    columns: dict[str, str]


@dataclass(frozen=True)
class Contract:
    """One table under one contract version.

    Attributes:
        key: columns that name a row of a day.
        columns: in the order of the table in the database.
        is_partitioned: whether each copy of a day is a partition; the small tables that explain keys are not.
        day: the newest day that described the table so.
        current: of a table that spans days, the condition for what readers see now
            (:mod:`~strataflow.postgres.across_days`); None for the tables of a day.
        may_be_empty: columns of the key that may be null.
        excerpts: what else is shown of it.
    """

    table: str
    version: int
    key: tuple[str, ...]
    columns: dict[str, Column]
    indexes: tuple[tuple[str, ...], ...]
    comment: str
    is_partitioned: bool
    day: date
    current: str | None = None
    may_be_empty: tuple[str, ...] = ()
    excerpts: tuple[Excerpt, ...] = ()

    @property
    def spans_days(self) -> bool:
        """Whether its rows come in files of their own pace instead of day by day."""
        return self.current is not None

    @property
    def visible(self) -> list[str]:
        """The columns that readers see."""
        return [name for name, column in self.columns.items() if not column.is_contact]

    def content(self) -> dict[str, Any]:
        """As a structure for JSON; :meth:`from_content` gives the equal contract back."""
        return {
            "key": list(self.key),
            "columns": [[name, one.kind, one.comment, one.is_contact] for name, one in self.columns.items()],
            "indexes": [list(index) for index in self.indexes],
            "comment": self.comment,
            "is_partitioned": self.is_partitioned,
            "day": str(self.day),
            "current": self.current,
            "may_be_empty": list(self.may_be_empty),
            "excerpts": [[one.table, one.comment, list(one.columns.items())] for one in self.excerpts],
        }

    @classmethod
    def from_content(cls, table: str, version: int, content: dict[str, Any]) -> Contract:
        """The contract that :meth:`content` wrote."""
        return cls(
            table=table,
            version=version,
            key=tuple(content["key"]),
            columns={name: Column(*described) for name, *described in content["columns"]},
            indexes=tuple(tuple(index) for index in content["indexes"]),
            comment=content["comment"],
            is_partitioned=content["is_partitioned"],
            day=date.fromisoformat(content["day"]),
            current=content.get("current"),
            may_be_empty=tuple(content.get("may_be_empty", ())),
            excerpts=tuple(Excerpt(table, said, dict(named)) for table, said, named in content.get("excerpts", ())),
        )


def offered(
    table: str, schema: pa.Schema, told: dict[str, Any], key: list[str], day: date, *, is_partitioned: bool
) -> Contract:
    """The contract under which a published version offers a table.

    Args:
        schema: of the table's file.
        told: the table's entry in the manifest's ``contracts``; empty for a version from before there were any.
        day: the version's day.

    Raises:
        UsageError: a column is of a type that the database has no match for.
    """
    columns = {}
    for field in schema:
        said = told.get("columns", {}).get(field.name, {})
        columns[field.name] = Column(_kind(table, field), in_both_languages(said), bool(said.get("contact")))
    if told.get("current") is None:
        columns.setdefault(DAY_COLUMN, Column("date", DAY_SAID, is_contact=False))
    return Contract(
        table=table,
        version=int(told.get("contract_version", 1)),
        key=tuple(key),
        columns=columns,
        indexes=tuple(tuple(index) for index in told.get("indexes", ())),
        comment=in_both_languages(told),
        is_partitioned=is_partitioned,
        day=day,
        current=told.get("current"),
        may_be_empty=tuple(told.get("may_be_empty", ())),
    )


def excerpts(tables: Mapping[str, dict[str, Any]]) -> dict[str, tuple[Excerpt, ...]]:
    """What else is shown of tables, by table.

    Args:
        tables: the contracts of tables that span days (:func:`strataflow.contracts.across_days`).
    """
    found: dict[str, tuple[Excerpt, ...]] = {}
    for table, told in tables.items():
        if source := told["excerpt_of"]:
            columns = {name: in_both_languages(said) for name, said in told["columns"].items()}
            found[source] = (*found.get(source, ()), Excerpt(table, in_both_languages(told), columns))
    return found


def merged(standing: Contract, offer: Contract) -> Contract:
    """The standing contract with what the offer adds in place.

    The newer day has the say: of an older one only its columns count, and those it lacks are empty for that day.

    Raises:
        UsageError: the offer differs in a way that breaks readers.
    """
    broken = _broken(standing, offer)
    if broken:
        raise UsageError(
            f"{offer.table} has changed in a way that breaks its readers: {'; '.join(broken)}",
            where=f"meta.contract_version of {offer.table}, now {offer.version}",
            todo=f"raise it to {offer.version + 1}, then build and publish again; the old one stays beside it for "
            "deprecation_days",
        )
    newer = standing if offer.day < standing.day else offer
    columns = {name: newer.columns.get(name, column) for name, column in (standing.columns | offer.columns).items()}
    return replace(newer, columns=columns)


def _broken(standing: Contract, offer: Contract) -> list[str]:
    gone = [name for name in standing.columns if name not in offer.columns] if offer.day >= standing.day else []
    broken = [f"column {name} is gone" for name in gone]
    broken += [
        f"column {name} is {offer.columns[name].kind} instead of {column.kind}"
        for name, column in standing.columns.items()
        if name in offer.columns and offer.columns[name].kind != column.kind
    ]
    if standing.key != offer.key:
        broken.append(f"its key is {', '.join(offer.key)} instead of {', '.join(standing.key)}")
    return broken


def _kind(table: str, field: pa.Field) -> str:
    """The PostgreSQL type of an Arrow column."""
    import pyarrow.types as kinds

    kind = field.type
    if kinds.is_decimal(kind):
        return f"numeric({kind.precision},{kind.scale})"
    for fits, name in (
        (kinds.is_string, "text"), (kinds.is_large_string, "text"), (kinds.is_date32, "date"),
        (kinds.is_boolean, "boolean"), (kinds.is_int8, "smallint"), (kinds.is_int16, "smallint"),
        (kinds.is_int32, "integer"), (kinds.is_int64, "bigint"), (kinds.is_float32, "real"),
        (kinds.is_float64, "double precision"),
    ):  # fmt: skip
        if fits(kind):
            return name
    if kinds.is_timestamp(kind):
        return "timestamptz" if kind.tz else "timestamp"
    raise UsageError(
        f"{table}.{field.name} is of the type {kind}, which PostgreSQL gets no column for",
        todo="give the column a plain type in its dbt contract",
    )
