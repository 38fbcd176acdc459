"""Where the rules of a deployment lie, and the tables that everything agrees on.

Rules are data: dbt models and seeds, expectations, source descriptions. They
lie beside the package in the repository, not in it, so that an analyst edits
them in place. The canonical tables are read from the dbt source file itself,
so that landing and the models can't disagree on a column.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from strataflow import yamltext
from strataflow.errors import UsageError


@dataclass(frozen=True)
class Project:
    """Paths of the rules in one checkout of the repository."""

    root: Path

    @classmethod
    def locate(cls, root: str | os.PathLike[str] | None = None) -> Project:
        """Project at ``root``, else at ``$STRATAFLOW_PROJECT``, else around this package.

        Raises:
            UsageError: there is no ``dbt_project`` in that folder.
        """
        chosen = root or os.environ.get("STRATAFLOW_PROJECT") or Path(__file__).parents[2]
        path = Path(chosen).expanduser().resolve()
        if not (path / "dbt_project").is_dir():
            raise UsageError(
                "this is not a Strataflow project: it has no folder dbt_project",
                where=str(path),
                todo="set STRATAFLOW_PROJECT to the folder that holds dbt_project/ and expectations/",
            )
        return cls(path)

    @property
    def dbt(self) -> Path:
        """The dbt project: models, seeds, macros, vars."""
        return self.root / "dbt_project"

    @property
    def expectations(self) -> Path:
        """Expectation suites of the gates, as YAML."""
        return self.root / "expectations"

    @property
    def sources(self) -> Path:
        """Source descriptions that ship with the project, a folder per shop."""
        return self.root / "scripts" / "sources"

    @property
    def currency_rates(self) -> Path:
        """The seed of rates between currencies."""
        return self.dbt / "seeds" / "currency_rates.csv"

    @property
    def tag_dictionary(self) -> Path:
        """The seed of tags."""
        return self.dbt / "seeds" / "tag_dictionary.csv"

    @property
    def tag_aliases(self) -> Path:
        """The seed of what else people write for a tag."""
        return self.dbt / "seeds" / "tag_aliases.csv"

    @property
    def lake_tables(self) -> Path:
        """The dbt source file that defines the canonical tables."""
        return self.dbt / "models" / "staging" / "_lake__sources.yml"


@dataclass(frozen=True)
class Column:
    """One column of a canonical table.

    ``default`` is SQL that stands in where a source maps nothing; ``derived``
    columns are filled by landing and can't be mapped; ``allowed`` are the words
    that a column may hold, any word where there are none.
    columns are filled by landing and can't be mapped. ``pseudonym`` names the
    kind of contact data that landing replaces by a keyed hash.
    """

    name: str
    data_type: str
    description: str = ""
    required: bool = False
    default: str | None = None
    derived: bool = False
    allowed: tuple[str, ...] = ()
    pseudonym: str | None = None


@dataclass(frozen=True)
class Table:
    """A canonical table: what every source that feeds it has to yield."""

    name: str
    description: str
    columns: tuple[Column, ...]
    key: tuple[str, ...] = ()
    event_time: str | None = None
    date_column: str | None = None
    hour_column: str | None = None
    by_name: dict[str, Column] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_name", {column.name: column for column in self.columns})

    @property
    def mappable(self) -> tuple[Column, ...]:
        """The columns a source may map, in table order."""
        return tuple(column for column in self.columns if not column.derived)


def canonical_tables(project: Project) -> dict[str, Table]:
    """The canonical tables by name, read from ``_lake__sources.yml``.

    Raises:
        UsageError: the file is missing or not of the expected shape.
    """
    path = project.lake_tables
    try:
        document = yamltext.load(path.read_text(encoding="utf-8"))
        tables = [_table(entry) for source in document["sources"] for entry in source["tables"]]
    except FileNotFoundError as missing:
        raise UsageError("the canonical tables are not defined", where=str(path)) from missing
    except (yaml.YAMLError, KeyError, TypeError) as broken:
        raise UsageError(f"the canonical tables can't be read: {broken!r}", where=str(path)) from broken
    return {table.name: table for table in tables}


def _table(entry: dict) -> Table:
    meta = entry.get("meta", {})
    return Table(
        name=entry["name"],
        description=" ".join(entry.get("description", "").split()),
        columns=tuple(_column(column) for column in entry["columns"]),
        key=tuple(meta.get("key", ())),
        event_time=meta.get("event_time"),
        date_column=meta.get("date_column"),
        hour_column=meta.get("hour_column"),
    )


def _column(entry: dict) -> Column:
    meta = entry.get("meta", {})
    default = meta.get("default")
    return Column(
        name=entry["name"],
        data_type=entry["data_type"],
        description=entry.get("description", ""),
        required=bool(meta.get("required", False)),
        default=None if default is None else str(default),
        derived=bool(meta.get("derived", False)),
        allowed=tuple(meta.get("allowed", ())),
        pseudonym=meta.get("pseudonym"),
    )
