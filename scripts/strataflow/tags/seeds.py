"""The two seeds of the vocabulary as they are written, row by row.

Rows keep their line, so that whoever judges them can name it. A cell that
can't be read is a problem of its row and stops nothing here: one lint names
all that is wrong.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from strataflow.errors import UsageError
from strataflow.project import Project
from strataflow.rules import variables
from strataflow.tags.spelling import fold

TAG_COLUMNS = (
    "tag_id", "tag_group", "name_en", "name_zh", "definition", "value_kind", "is_exclusive", "is_mandatory",
    "is_default", "implies", "contradicts", "agrees_with", "agrees_value", "owner", "valid_from", "valid_to",
)  # fmt: skip
ALIAS_COLUMNS = ("alias", "tag_id", "valid_from", "valid_to")
# Seeds that say what makes a tag; each column of theirs that ends in tag_id names one.
RULE_SEEDS = ("interaction_tags", "attribute_tags", "holding_tags", "need_types")
# Seeds whose words the dictionary and the seeds of rules use.
WORD_SEEDS = ("rfm_classes", "lifecycle_stages", "value_tiers", "interaction_kinds", "hour_bands")
VALUE_KINDS = ("flag", "value")
_KEY = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True)
class Period:
    """The days from ``first`` to ``last``, both included; ``date.min`` and ``date.max`` where a cell is empty."""

    first: date = date.min
    last: date = date.max

    def holds(self, day: date) -> bool:
        """Whether the day lies in it."""
        return self.first <= day <= self.last

    def overlaps(self, other: Period) -> bool:
        """Whether the two have a day in common."""
        return max(self.first, other.first) <= min(self.last, other.last)

    def covers(self, other: Period) -> bool:
        """Whether all days of the other lie in it."""
        return self.first <= other.first and other.last <= self.last

    def __str__(self) -> str:
        first = "always" if self.first == date.min else str(self.first)
        return f"{first} to {'ever' if self.last == date.max else self.last}"


@dataclass(frozen=True)
class Tag:
    """A row of ``tag_dictionary``; ``line`` is where it begins in the file, the header being line 1."""

    line: int
    tag_id: str
    tag_group: str
    name_en: str
    name_zh: str
    definition: str
    value_kind: str
    is_exclusive: bool
    is_mandatory: bool
    is_default: bool
    implies: tuple[str, ...]
    contradicts: tuple[str, ...]
    agrees_with: str
    agrees_value: str
    period: Period


@dataclass(frozen=True)
class Alias:
    """A row of ``tag_aliases``; ``line`` as for :class:`Tag`."""

    line: int
    alias: str
    tag_id: str
    period: Period


@dataclass(frozen=True)
class Problem:
    """What is wrong with a row of the vocabulary.

    Attributes:
        file: path below the project's root.
        line: where the row begins, the header being line 1.
        rule: the rule it breaks, a key of the table in docs/tags.md.
    """

    file: str
    line: int
    rule: str
    what: str
    todo: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line} {self.rule}: {self.what}; {self.todo}"


@dataclass(frozen=True)
class Named:
    """A tag that a row of a rule seed names; ``line`` as for :class:`Tag`."""

    file: str
    line: int
    column: str
    tag_id: str


@dataclass(frozen=True)
class SeedRow:
    """A row of another seed, its cells by column; ``line`` as for :class:`Tag`."""

    file: str
    line: int
    cells: dict[str, str]


@dataclass(frozen=True)
class Rows:
    """All rows of both seeds, the cells that could not be read, and what other seeds say that tags depend on.

    Attributes:
        seeds: rows by seed, of :data:`RULE_SEEDS` and :data:`WORD_SEEDS`; a seed that is not there has none.
        longest_window: days of interactions that a build reads for tags; None where the project has no vars.
    """

    tags: list[Tag]
    aliases: list[Alias]
    problems: list[Problem]
    tag_file: str
    alias_file: str
    seeds: dict[str, list[SeedRow]] = field(default_factory=dict)
    longest_window: int | None = None

    @property
    def named(self) -> Iterator[Named]:
        """The tags that the seeds of rules name."""
        for row in (row for seed in RULE_SEEDS for row in self.seeds.get(seed, ())):
            for column, cell in row.cells.items():
                if column.endswith("tag_id") and cell:
                    yield Named(row.file, row.line, column, cell)


def read(project: Project) -> Rows:
    """The rows of both seeds.

    Raises:
        UsageError: a file is missing, is not UTF-8, or lacks a column.
    """
    problems: list[Problem] = []
    tags = [_tag(cells) for cells in _cells(project, project.tag_dictionary, TAG_COLUMNS, problems)]
    aliases = [_alias(cells) for cells in _cells(project, project.tag_aliases, ALIAS_COLUMNS, problems)]
    return Rows(
        tags,
        aliases,
        problems,
        _below(project, project.tag_dictionary),
        _below(project, project.tag_aliases),
        {seed: _seed(project, project.dbt / "seeds" / f"{seed}.csv") for seed in (*RULE_SEEDS, *WORD_SEEDS)},
        _longest_window(project),
    )


def _longest_window(project: Project) -> int | None:
    """The days that ``int_customer_interactions_counted`` looks back."""
    if not (project.dbt / "dbt_project.yml").is_file():
        return None
    rules = variables(project)
    days = [rules.get(name) for name in ("engagement_window_days", "rfm_window_days")]
    return max((given for given in days if isinstance(given, int)), default=None)


def _seed(project: Project, path: Path) -> list[SeedRow]:
    """The rows of another seed; a deployment that does without it has none."""
    header, rows = _table(path) if path.is_file() else ([], [])
    return [SeedRow(_below(project, path), line, dict(zip(header, row, strict=False))) for line, row in rows]


@dataclass
class _Cells:
    """The cells of one row; whoever asks for one that can't be read gets a stand-in, and a problem is noted."""

    file: str
    line: int
    by_column: dict[str, str]
    problems: list[Problem] = field(repr=False)

    def text(self, column: str) -> str:
        """The cell without blanks around it; empty if there is nothing to see in it."""
        text = self.by_column[column].strip()
        return text if fold(text) else ""

    def needed(self, column: str) -> str:
        """The cell, which must not be empty."""
        text = self.text(column)
        if not text:
            self.problem("missing_cell", f"{column} is empty", f"fill {column}")
        return text

    def key(self, column: str) -> str:
        """The cell, which must be a key."""
        text = self.needed(column)
        if text and not _KEY.fullmatch(text):
            self.problem(
                "unreadable_cell", f"{column} is {text!r}", "write it with small letters, digits and _, a letter first"
            )
        return text

    def keys(self, column: str) -> tuple[str, ...]:
        """The cell as keys, one blank between each two, as SQL takes it apart."""
        text = self.by_column[column]
        if text != " ".join(text.split()):
            self.problem("unreadable_cell", f"{column} is {text!r}", "put one blank between tags, and none around them")
        return tuple(text.split())

    def flag(self, column: str) -> bool:
        """The cell as true or false."""
        text = self.text(column)
        if text not in ("true", "false"):
            self.problem("unreadable_cell", f"{column} is {text!r}", "write true or false")
        return text == "true"

    def period(self) -> Period:
        """The days from ``valid_from`` to ``valid_to``."""
        period = Period(self._day("valid_from", date.min), self._day("valid_to", date.max))
        if period.last >= period.first:
            return period
        self.problem("valid_to_before_valid_from", f"it is valid {period}", "give the earlier day as valid_from")
        return Period(period.last, period.first)

    def _day(self, column: str, if_empty: date) -> date:
        text = self.text(column)
        if not text:
            return if_empty
        try:
            day = date.fromisoformat(text)
        except ValueError:
            day = None
        if day is None or str(day) != text:
            self.problem("unreadable_cell", f"{column} is {text!r}", "write a day as 2026-01-31, or leave it empty")
        return day or if_empty

    def problem(self, rule: str, what: str, todo: str) -> None:
        """Note a problem of this row."""
        self.problems.append(Problem(self.file, self.line, rule, what, todo))


def _tag(cells: _Cells) -> Tag:
    kind = cells.text("value_kind")
    if kind not in VALUE_KINDS:
        cells.problem("unreadable_cell", f"value_kind is {kind!r}", f"write {' or '.join(VALUE_KINDS)}")
    definition = cells.needed("definition")
    cells.needed("owner")
    for column, language in (("name_en", "English"), ("name_zh", "Chinese")):
        if not cells.text(column):
            cells.problem("missing_name", f"the tag has no {language} name", f"fill {column}")
    return Tag(
        line=cells.line,
        tag_id=cells.key("tag_id"),
        tag_group=cells.key("tag_group"),
        name_en=cells.text("name_en"),
        name_zh=cells.text("name_zh"),
        definition=definition,
        value_kind=kind,
        is_exclusive=cells.flag("is_exclusive"),
        is_mandatory=cells.flag("is_mandatory"),
        is_default=cells.flag("is_default"),
        implies=cells.keys("implies"),
        contradicts=cells.keys("contradicts"),
        agrees_with=cells.text("agrees_with"),
        agrees_value=cells.text("agrees_value"),
        period=cells.period(),
    )


def _alias(cells: _Cells) -> Alias:
    return Alias(cells.line, cells.needed("alias"), cells.needed("tag_id"), cells.period())


def _cells(project: Project, path: Path, columns: tuple[str, ...], problems: list[Problem]) -> Iterator[_Cells]:
    """The rows of a file; one with too few or too many cells becomes a problem and is left out."""
    file = _below(project, path)
    header, rows = _table(path)
    missing = [column for column in columns if column not in header]
    if missing:
        raise UsageError(
            f"the seed lacks {', '.join(missing)}", where=str(path), todo=f"its columns are {', '.join(columns)}"
        )
    for line, row in rows:
        cells = _Cells(file, line, dict(zip(header, row, strict=False)), problems)
        if len(row) == len(header):
            yield cells
        else:
            cells.problem(
                "unreadable_row",
                f"it has {len(row)} cells and the header {len(header)}",
                'put a text that holds a comma in "quotes", and end the row with all its commas',
            )


def _table(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The header, and each further row with the line on which it begins; empty lines are passed over."""
    rows, begins = [], 1
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            for row in reader:
                rows.append((begins, row))
                begins = reader.line_num + 1
    except FileNotFoundError as missing:
        raise UsageError("a seed of the tag vocabulary is missing", where=str(path)) from missing
    except (UnicodeDecodeError, csv.Error) as broken:
        raise UsageError(
            f"the seed can't be read: {broken}", where=f"{path}:{begins}", todo="save it as CSV in UTF-8"
        ) from broken
    filled = [(line, row) for line, row in rows if row]
    return (filled[0][1] if filled else []), filled[1:]


def _below(project: Project, path: Path) -> str:
    return path.relative_to(project.root).as_posix()
