"""Tables and views of the database, brought to what a contract says.

Each table changes in a transaction of its own, before a day is copied, and in a way that lets readers pass: what has
to lock them out gives up within a moment and tries again (:func:`~strataflow.postgres.session.between_readers`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from strataflow import contracts
from strataflow.errors import UsageError
from strataflow.export import literal, quoted
from strataflow.postgres.contract import DAY_COLUMN, PART_COLUMN, Contract, excerpts, merged
from strataflow.postgres.layout import READER, WRITER, Layout, view_name
from strataflow.postgres.session import between_readers

if TYPE_CHECKING:
    from strataflow.postgres.session import Session

SECONDS_TO_FIND_A_GAP = 120


@dataclass(frozen=True)
class Standing:
    """A contract that has tables in the database, and the name its views have now."""

    contract: Contract
    view: str


@dataclass(frozen=True)
class _Face:
    """One name under which readers find a contract's rows, in both schemas: all its columns or an excerpt.

    Attributes:
        columns: comment by name, without those that reach a person.
    """

    view: str
    comment: str
    columns: dict[str, str]


def prepare(session: Session, layout: Layout) -> None:
    """Create roles, schemas and the writer's notes where they are missing, and act as the writer from then on.

    Raises:
        UsageError: they are missing and this login may not create them, it is no member of the writer's role, or the
            store is one that code from before a day had copies has made.
    """
    named = ", ".join(literal(name) for name in layout.schemas)
    found = session.value(f"select count(*) from pg_namespace where nspname in ({named})")
    if found < len(layout.schemas):
        session.run(*layout.preparation())
    session.run(f"set role {WRITER}")
    for table, script in (("versions", "notes.sql"), ("runs", "runs.sql"), ("parts", "parts.sql")):
        if session.value(f"select to_regclass({literal(layout.note(table))})::text") is None:
            session.run(*layout.script(script))
    session.commit()
    if session.value(f"select to_regclass({literal(layout.note('copies'))})::text") is None:
        raise UsageError(
            "the tables there were laid out by an earlier version of Strataflow, in another way",
            where=layout.store,
            todo=f"drop schema {', '.join(layout.schemas)} cascade; then publish to PostgreSQL again with --from: "
            "the files are the truth",
        )


def standing(session: Session, layout: Layout) -> dict[tuple[str, int], Standing]:
    """The contracts that have tables in the database, by table and version."""
    found = session.rows(
        f"select table_name, contract_version, content::text, view_name from {layout.note('contracts')}"
    )
    return {
        (table, version): Standing(Contract.from_content(table, version, json.loads(content)), view)
        for table, version, content, view in found
    }


def bring_up(session: Session, layout: Layout, offers: Iterable[Contract]) -> dict[str, Contract]:
    """Make room for what a version offers; commits.

    Returns:
        The contract in force for each table offered.

    Raises:
        UsageError: an offer breaks readers without a new contract version; nothing has changed then.
        StepFailed: readers held a table for too long.
    """
    known = standing(session, layout)
    wanted, shown_of = {}, excerpts(contracts.across_days("history"))
    for offered in offers:
        offer = replace(offered, excerpts=shown_of.get(offered.table, ()))
        before = known.get((offer.table, offer.version))
        wanted[offer.table] = merged(before.contract, offer) if before else offer
    for table, contract in wanted.items():
        before = known.get((table, contract.version))
        if before is None:
            _create(session, layout, contract, is_first=not any(name == table for name, _ in known))
        elif before.contract != contract:
            _alter(session, layout, before, contract)
        contact = {name for name, column in contract.columns.items() if column.is_contact}
        for (name, version), other in known.items():
            if name == table and version != contract.version:
                _hide(session, layout, other, contact)
        session.commit()
    return wanted


def removal(layout: Layout, one: Standing) -> list[str]:
    """SQL that removes a contract's views and table."""
    table, version = one.contract.table, one.contract.version
    return [
        *_without_views(layout, one),
        f"drop table {layout.stored(table, version)}",
        *(
            f"delete from {layout.note(note)} where table_name = {literal(table)} and contract_version = {version}"
            for note in ("shown", "contents", "parts", "contracts")
        ),
    ]


def taking_the_plain_name(layout: Layout, in_force: Standing, holder: Standing | None) -> list[str]:
    """SQL that gives the views of a contract the table's own name; whoever had it gets its version's."""
    table = in_force.contract.table
    renames = [(in_force, table)]
    if holder:
        renames.insert(0, (holder, view_name(table, holder.contract.version)))
    statements = []
    for one, name in renames:
        for old, new in zip(_faces(one.contract, one.view), _faces(one.contract, name), strict=True):
            statements += [
                f"alter view {layout.current_view(old.view)} rename to {quoted(new.view)}",
                f"alter view {layout.history_view(old.view)} rename to {quoted(new.view)}",
            ]
        statements.append(
            f"update {layout.note('contracts')} set view_name = {literal(name)} "
            f"where table_name = {literal(table)} and contract_version = {one.contract.version}"
        )
    return statements


def _create(session: Session, layout: Layout, contract: Contract, *, is_first: bool) -> None:
    table = layout.stored(contract.table, contract.version)
    columns = [_column(contract, name) for name in contract.columns]
    if contract.spans_days or contract.is_partitioned:
        columns.append(f"{PART_COLUMN} integer not null")
    split = f" partition by range ({DAY_COLUMN}, {PART_COLUMN})" if contract.is_partitioned else ""
    session.run(f"create table {table} ({', '.join(columns)}){split}", *keys(contract, table))
    view = contract.table if is_first else view_name(contract.table, contract.version)
    session.run(
        f"insert into {layout.note('contracts')} (table_name, contract_version, content, view_name) values "
        f"({literal(contract.table)}, {contract.version}, {_content(contract)}, {literal(view)})",
        *_views(layout, contract, view),
        *_comments(layout, contract, view),
    )


def keys(contract: Contract, table: str) -> list[str]:
    """SQL for the key; where columns of it may be null, which no primary key allows, as a unique index."""
    if not contract.spans_days:
        copy = [PART_COLUMN] if contract.is_partitioned else []
        columns = dict.fromkeys([*contract.key, DAY_COLUMN, *copy]) if contract.key else {}
        return [f"alter table {table} add primary key ({_listed(columns)})"] if columns else []
    if not contract.may_be_empty:
        return [f"alter table {table} add primary key ({_listed(contract.key)})"]
    whole = [f"coalesce({quoted(name)}, '')" if name in contract.may_be_empty else name for name in contract.key]
    return [f"create unique index on {table} ({', '.join(whole)})"]


def _listed(names: Iterable[str]) -> str:
    return ", ".join(quoted(name) for name in names)


def _alter(session: Session, layout: Layout, before: Standing, contract: Contract) -> None:
    """Everything that differs, in place."""
    table = layout.stored(contract.table, contract.version)
    added = [name for name in contract.columns if name not in before.contract.columns]
    locking = [f"alter table {table} add column {_column(contract, name)}" for name in added]
    old, new = (_shown(one, before.view) for one in (before.contract, contract))
    if (old, before.contract.current) != (new, contract.current):
        if any(new.get(view, [])[: len(columns)] != columns for view, columns in old.items()):
            locking += _without_views(layout, before)
        locking += _views(layout, contract, before.view)
    if locking:
        between_readers(session, lambda: locking, SECONDS_TO_FIND_A_GAP)
    if replace(before.contract, day=contract.day) != contract:
        session.run(*_comments(layout, contract, before.view))
    session.run(_remember(layout, contract))


def _hide(session: Session, layout: Layout, other: Standing, contact: set[str]) -> None:
    """Take columns that are now known to reach a person out of the views of another version, too."""
    columns = {
        name: replace(column, is_contact=True) if name in contact else column
        for name, column in other.contract.columns.items()
    }
    hidden = replace(other.contract, columns=columns)
    if hidden.visible == other.contract.visible:
        return
    statements = [*_without_views(layout, other), *_views(layout, hidden, other.view), _remember(layout, hidden)]
    between_readers(session, lambda: statements, SECONDS_TO_FIND_A_GAP)
    session.run(*_comments(layout, hidden, other.view))


def _column(contract: Contract, name: str) -> str:
    """A column's definition; ids sort by their bytes, as the files do, which is fastest to load and to look up."""
    kind = contract.columns[name].kind
    order = ' collate "C"' if kind == "text" and name in contract.key else ""
    return f"{quoted(name)} {kind}{order}"


def _views(layout: Layout, contract: Contract, view: str) -> list[str]:
    """The views of a contract, for readers to select from: two of each face, of the day they see and of all days."""
    stored = layout.stored(contract.table, contract.version)
    of_the_day, of_all_days = _conditions(layout, contract)
    statements = []
    for face in _faces(contract, view):
        current, history = layout.current_view(face.view), layout.history_view(face.view)
        statements += [
            f"create or replace view {current} as select {_listed(face.columns)} from {stored} where {of_the_day}",
            f"create or replace view {history} as select {_listed(face.columns)} from {stored} where {of_all_days}",
            f"grant select on {current}, {history} to {READER}",
        ]
    return statements


def _faces(contract: Contract, view: str) -> list[_Face]:
    """What a contract is shown as while its own views are called ``view``."""
    visible = {name: contract.columns[name].comment for name in contract.visible}
    faces = [_Face(view, contract.comment, visible)]
    for excerpt in contract.excerpts:
        name = excerpt.table if view == contract.table else view_name(excerpt.table, contract.version)
        columns = {name: comment for name, comment in excerpt.columns.items() if name in visible}
        faces.append(_Face(name, excerpt.comment, columns))
    return faces


def _shown(contract: Contract, view: str) -> dict[str, list[str]]:
    """The columns of each face, by its name."""
    return {face.view: list(face.columns) for face in _faces(contract, view)}


def _conditions(layout: Layout, contract: Contract) -> tuple[str, str]:
    """The conditions for the rows of the day that readers see, and for those of all days."""
    if contract.spans_days:
        return _as_of(layout, contract), "true"
    copy = f"{DAY_COLUMN}, {PART_COLUMN}" if contract.is_partitioned else DAY_COLUMN
    theirs = f"where table_name = {literal(contract.table)} and contract_version = {contract.version}"
    held = f"select {copy} from {layout.note('contents')}"
    shown = f"{held} inner join {layout.note('shown')} using (table_name, contract_version, as_of_date)"
    return f"({copy}) = ({shown} {theirs})", f"({copy}) in ({held} {theirs})"


def _as_of(layout: Layout, contract: Contract) -> str:
    """The condition for the rows of a table that spans days which hold on the day that readers see."""
    shown = f"(select as_of_date from {layout.note('pointer')})"
    reached = (
        f"(select as_of_date from {layout.note('pointer')} inner join {layout.note('versions')} using (as_of_date) "
        f"inner join {layout.note('told')} using (as_of_date, version))"
    )
    stored = layout.stored(contract.table, contract.version)
    return contract.current.format(shown=shown, reached=reached, table=stored)


def _without_views(layout: Layout, one: Standing) -> list[str]:
    return [
        f"drop view {place(face.view)}"
        for face in _faces(one.contract, one.view)
        for place in (layout.history_view, layout.current_view)
    ]


def _comments(layout: Layout, contract: Contract, view: str) -> list[str]:
    everything = {name: column.comment for name, column in contract.columns.items()}
    relations = [("table", layout.stored(contract.table, contract.version), contract.comment, everything)]
    relations += [
        ("view", place(face.view), face.comment, face.columns)
        for face in _faces(contract, view)
        for place in (layout.current_view, layout.history_view)
    ]
    statements = []
    for kind, relation, comment, columns in relations:
        statements.append(f"comment on {kind} {relation} is {literal(comment)}")
        statements += [
            f"comment on column {relation}.{quoted(name)} is {literal(said)}" for name, said in columns.items()
        ]
    return statements


def _remember(layout: Layout, contract: Contract) -> str:
    return (
        f"update {layout.note('contracts')} set content = {_content(contract)} "
        f"where table_name = {literal(contract.table)} and contract_version = {contract.version}"
    )


def _content(contract: Contract) -> str:
    return f"{literal(json.dumps(contract.content(), ensure_ascii=False))}::jsonb"
