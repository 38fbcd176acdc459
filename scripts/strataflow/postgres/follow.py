"""The database brought in line with a home: days that are missing or differ, and which day is current.

Whatever happened in the home since the last time (a new day, a day repaired, rolled back, withdrawn or erased from),
the same call makes up for it, and a second call changes nothing. Killed at any moment, readers have the state before
or after a whole day, and the next call goes on from there.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from strataflow import retention
from strataflow.errors import Busy, StepFailed, UsageError
from strataflow.export import literal, quoted
from strataflow.marks import Marks
from strataflow.postgres import across_days, load, migration
from strataflow.postgres.contract import DAY_COLUMN
from strataflow.postgres.layout import DEFAULT_SCHEMA, SCHEMA_SETTING, WRITER, Layout, part_of
from strataflow.postgres.session import Locked, NotStorable, Session, between_readers, connected
from strataflow.publish import current_version, day_of, published_days, version_of

if TYPE_CHECKING:
    from rich.console import Console

    from strataflow.home import Home
    from strataflow.postgres.contract import Contract
    from strataflow.runlog import Step

# How the run log calls it.
STEP = "publish to postgres"

KEEP_SETTING = "STRATAFLOW_POSTGRES_KEEP_DAYS"
DEPRECATION_DAYS = 90
SECONDS_FOR_THE_OTHER_WRITER = 60
SECONDS_TO_DETACH = 5
ELDERS = "transactions that began before are open and may read them"
CUSTOMER_COLUMN = "customer_id"
IDS_AT_ONCE = 5_000


@dataclass(frozen=True)
class Followed:
    """What following a home has changed.

    Attributes:
        version: the version that readers of the database see now.
        changed: whether anything they can see differs from before.
        loaded: versions copied, in the order they became visible.
        removed: days whose rows are gone.
        dropped: tables of deprecated contracts that are gone, as ``table_vN``.
        across_days: what of history and scorecard was brought in line.
        rows: rows copied, and rows that came or went in the tables that span days.
        tables: what the current version consists of there.
        notes: what could not be done now and will be tried again, as sentences.
    """

    version: str
    changed: bool = False
    loaded: tuple[str, ...] = ()
    removed: tuple[date, ...] = ()
    dropped: tuple[str, ...] = ()
    across_days: tuple[str, ...] = ()
    rows: int = 0
    tables: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())

    def as_dict(self) -> dict[str, Any]:
        """As one JSON document."""
        return {
            "version": self.version,
            "changed": self.changed,
            "loaded": list(self.loaded),
            "removed": [str(day) for day in self.removed],
            "dropped": list(self.dropped),
            "across_days": list(self.across_days),
            "rows": self.rows,
            "notes": list(self.notes),
        }


def layout_of(schema: str | None = None) -> Layout:
    """The schemas to use: as given, else by ``$STRATAFLOW_POSTGRES_SCHEMA``.

    Raises:
        UsageError: it is no plain lower-case name.
    """
    name = schema or os.environ.get(SCHEMA_SETTING, "").strip() or DEFAULT_SCHEMA
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,50}", name):
        raise UsageError(
            f"{name!r} is no name for a schema", where=SCHEMA_SETTING, todo="use small letters, digits and _"
        )
    return Layout(name)


def follow(
    home: Home,
    dsn: str,
    *,
    layout: Layout | None = None,
    days: Sequence[date] = (),
    since: date | None = None,
    keep_days: int | None = None,
) -> Followed:
    """Bring the database in line with what the home has published.

    Loaded are the current day, published days after the first one the database has, and those asked for; a day whose
    version is there already is left alone. Afterwards readers see the day that readers of the home see, and with it
    what the home has of history and scorecard (:mod:`~strataflow.postgres.across_days`).

    Args:
        days: further days to load.
        since: load all published days from here on.
        keep_days: days before the current one to keep; all if None.

    Raises:
        UsageError: nothing is published, a day asked for isn't, a table's contract is broken, or the schemas hold
            another shop's tables.
        InputError: the server can't be reached.
        Busy: another process is publishing to these schemas.
        StepFailed: the server refused something; readers see what they saw before.
    """
    current = current_version(home)
    if current is None:
        raise UsageError("nothing is published yet", where=str(home.published), todo="strataflow run --date YYYY-MM-DD")
    where = layout or layout_of()
    with connected(dsn) as session:
        _take_turn(session, where)
        migration.prepare(session, where)
        return _Following(session, where, home, current, keep_days, dsn).done(days, since)


def forget(dsn: str, customers: Iterable[str], *, layout: Layout | None = None) -> int:
    """Remove every row of some customers, of all days and all contracts, in one transaction.

    For a customer who is to be erased: the home's versions are replaced and followed, but the database may keep days
    that the home no longer has.

    Returns:
        Rows removed.
    """
    where, ids, removed = layout or layout_of(), sorted(set(customers)), 0
    with connected(dsn) as session:
        _take_turn(session, where)
        migration.prepare(session, where)
        tables = [
            one.contract
            for one in migration.standing(session, where).values()
            if CUSTOMER_COLUMN in one.contract.columns
        ]
        cut_off = load.cut_off(session, where, CUSTOMER_COLUMN)
        for start in range(0, len(ids), IDS_AT_ONCE):
            some = ", ".join(literal(one) for one in ids[start : start + IDS_AT_ONCE])
            theirs = f"{CUSTOMER_COLUMN} in ({some})"
            for one in tables:
                if one.spans_days:
                    across_days.mark_changed(session, where, one, theirs)
                removed += session.run(f"delete from {where.stored(one.table, one.version)} where {theirs}")
            for name in cut_off:
                removed += session.run(f"delete from {quoted(where.store)}.{quoted(name)} where {theirs}")
        session.commit()
    return removed


@dataclass(frozen=True)
class _Change:
    """What changes for readers along with the current day.

    Attributes:
        to_remove: days whose rows go.
        news: history and scorecard, as far as the database is not in line with them.
        spanning: the contracts of their tables.
    """

    to_remove: tuple[date, ...]
    news: tuple[across_days.Collection, ...]
    spanning: dict[str, Contract]

    def __bool__(self) -> bool:
        return bool(self.to_remove or self.news)


@dataclass(frozen=True)
class _Following:
    """One call of :func:`follow`, connected."""

    session: Session
    layout: Layout
    home: Home
    current: Path
    keep_days: int | None
    dsn: str

    def done(self, days: Sequence[date], since: date | None) -> Followed:
        have = self._versions()
        to_load, to_remove = self._missing(have, days, since), self._superfluous(have)
        news = across_days.news(self.session, self.layout, self.home)
        spanning = migration.bring_up(self.session, self.layout, [one for each in news for one in each.offers()])
        change = _Change(tuple(to_remove), tuple(news), spanning)
        if to_load and day_of(to_load[-1]) == day_of(self.current):
            *earlier, last = to_load
        else:
            earlier, last = to_load, None
        if to_load:
            # What was left by calls that failed would add up.
            self._drop_partitions()
        rows = sum(self._load(version) for version in earlier)
        changed = bool(to_load or change)
        if last:
            rows += self._load(last, change)
        elif change or not self._is_pointed():
            rows += _storing(lambda is_cleaned: self._change_and_point(change, is_cleaned=is_cleaned))
            changed = True
        load.follow_runs(self.session, self.layout, self.home)
        dropped, notes = self._drop_deprecated()
        notes += self._drop_partitions()
        return Followed(
            version=self.current.name,
            changed=changed or bool(dropped),
            loaded=tuple(version.name for version in to_load),
            removed=tuple(to_remove),
            dropped=tuple(dropped),
            across_days=tuple(one.name for one in news),
            rows=rows,
            tables=(*load.read_manifest(self.current)["tables"], *spanning),
            notes=tuple(notes),
        )

    def _versions(self) -> dict[date, str]:
        found = self.session.rows(f"select as_of_date, version, shop from {self.layout.note('versions')}")
        self.session.commit()
        shop = load.read_manifest(self.current)["shop"]["name"]
        others = {name for _, _, name in found} - {shop}
        if others:
            raise UsageError(
                f"the schema {self.layout.schema} holds the tables of the shop {', '.join(sorted(others))}, not {shop}",
                where=SCHEMA_SETTING,
                todo="give this shop schemas of its own with --schema",
            )
        return {day: version for day, version, _ in found}

    def _missing(self, have: dict[date, str], days: Sequence[date], since: date | None) -> list[Path]:
        """Versions to copy, the current day's last."""
        first = min([*have, *([since] if since else [])], default=day_of(self.current))
        home_days = published_days(self.home)
        unknown = sorted(set(days) - set(home_days))
        if unknown:
            raise UsageError(f"{unknown[0]} is not published", where=str(self.home.published / "days"))
        kept = self._first_kept()
        wanted = {
            day: version_of(self.home, day) for day in home_days if (day >= first or day in days) and day >= kept
        } | {day_of(self.current): self.current}
        lacking = [version for day, version in sorted(wanted.items()) if version and have.get(day) != version.name]
        return sorted(lacking, key=lambda version: (version == self.current, version.name))

    def _superfluous(self, have: dict[date, str]) -> list[date]:
        """Days that were withdrawn, and days past keeping."""
        held_back, in_home = Marks.of(self.home).held_back, set(published_days(self.home))
        return sorted(
            day
            for day, version in have.items()
            if (day not in in_home and version in held_back) or day < self._first_kept()
        )

    def _first_kept(self) -> date:
        return day_of(self.current) - timedelta(days=self.keep_days) if self.keep_days else date.min

    def _load(self, version: Path, change: _Change | None = None) -> int:
        """Copy one version and let readers see it, all of it at once; if it is the current one, with what changes."""
        day = load.Day.of(version)
        return _storing(lambda is_cleaned: self._load_day(replace(day, is_cleaned=is_cleaned), change))

    def _load_day(self, day: load.Day, change: _Change | None) -> int:
        contracts = migration.bring_up(self.session, self.layout, day.offers)
        copy, readers = load.copy_beside(self.session, self.layout, day, contracts, self.dsn)
        changed = 0
        with self._whole():
            load.wait_for(self.session, self.layout, readers)
            copy.rows.update(load.copy_small(self.session, self.layout, day, contracts))
            load.note(self.session, self.layout, day, contracts, copy)
            if change is not None:
                changed = self._apply(change, is_cleaned=day.is_cleaned)
        self.session.commit()
        return sum(copy.rows.values()) + changed

    def _change_and_point(self, change: _Change, *, is_cleaned: bool) -> int:
        with self._whole():
            changed = self._apply(change, is_cleaned=is_cleaned)
        self.session.commit()
        return changed

    @contextmanager
    def _whole(self) -> Iterator[None]:
        """Nothing of what is done within stays if a part of it fails."""
        try:
            yield
        except BaseException:
            self.session.rollback()
            raise

    def _apply(self, change: _Change, *, is_cleaned: bool) -> int:
        """What becomes visible with the current day; rows that came or went in the tables that span days."""
        self._remove(change.to_remove)
        changed = sum(
            across_days.bring_in(self.session, self.layout, one, change.spanning, is_cleaned=is_cleaned)
            for one in change.news
        )
        self._point()
        return changed

    def _is_pointed(self) -> bool:
        pointed = self.session.value(f"select as_of_date from {self.layout.note('pointer')}")
        self.session.commit()
        return pointed == day_of(self.current)

    def _point(self) -> None:
        """Note that the current version is what readers see; each table's views of its contract get the plain name."""
        note, day = self.layout.note, literal(day_of(self.current))
        self.session.run(
            f"insert into {note('pointer')} (as_of_date) values ({day}) "
            "on conflict (is_current) do update set as_of_date = excluded.as_of_date",
            f"delete from {note('shown')}",
            f"insert into {note('shown')} select table_name, contract_version, max(as_of_date) "
            f"from {note('contents')} where as_of_date <= {day} group by 1, 2",
            f"update {note('contracts')} set deprecated_date = case when (table_name, contract_version) in "
            f"({self._in_force()}) then null else coalesce(deprecated_date, {day}) end",
        )
        if self._renames():
            between_readers(self.session, self._renames, migration.SECONDS_TO_FIND_A_GAP)

    def _in_force(self) -> str:
        """SQL for the tables and contract versions of the current day, and of those that span days."""
        return (
            f"select table_name, contract_version from {self.layout.note('contents')} "
            f"where as_of_date = {literal(day_of(self.current))} "
            f"union all select table_name, contract_version from {self.layout.note('spanning')}"
        )

    def _renames(self) -> list[str]:
        known = migration.standing(self.session, self.layout)
        statements = []
        for table, version in self.session.rows(f"{self._in_force()} order by table_name"):
            if known[table, version].view != table:
                holders = [one for (name, _), one in known.items() if name == table and one.view == table]
                statements += migration.taking_the_plain_name(
                    self.layout, known[table, version], holders[0] if holders else None
                )
        return statements

    def _remove(self, days: Sequence[date]) -> None:
        """Take days out of what readers see; their partitions go afterwards."""
        for day in days:
            small = self.session.rows(
                f"select table_name, contract_version from {self.layout.note('contents')} "
                f"where as_of_date = {literal(day)} and part is null"
            )
            for table, version in small:
                stored = self.layout.stored(table, version)
                self.session.run(f"delete from {stored} where as_of_date = {literal(day)}")
            for note in ("contents", "versions"):
                self.session.run(f"delete from {self.layout.note(note)} where as_of_date = {literal(day)}")

    def _drop_deprecated(self) -> tuple[list[str], list[str]]:
        """Remove contracts whose time beside the new one is over."""
        days = load.read_manifest(self.current)["rules"]["vars"].get("deprecation_days", DEPRECATION_DAYS)
        before = literal(day_of(self.current) - timedelta(days=int(days)))
        over = self.session.rows(
            f"select table_name, contract_version from {self.layout.note('contracts')} where deprecated_date < {before}"
        )
        dropped, notes = [], []
        for table, version in over:
            one = migration.standing(self.session, self.layout)[table, version]
            statements = migration.removal(self.layout, one)
            try:
                between_readers(self.session, lambda wanted=statements: wanted, SECONDS_TO_DETACH)
            except StepFailed as kept:
                self.session.rollback()
                notes.append(f"the old contract {one.view} stays for now: {kept.what}")
                continue
            self.session.commit()
            dropped.append(f"{table}_v{version}")
        self.session.commit()
        return dropped, notes

    def _drop_partitions(self) -> list[str]:
        """Remove copies that no view shows (any more), letting those who may still read them come to their end."""
        found = self.session.rows(f"select distinct part from {self.layout.note('contents')} where part is not null")
        kept = {part for (part,) in found}
        attached = load.partitions(self.session, self.layout).items()
        left = [(name, *rest) for name, rest in sorted(attached) if part_of(name) not in kept]
        loose = self._loose(kept)
        self.session.commit()
        if not left and not loose:
            return []
        if not load.wait_for_elders(self.session):
            return [f"partitions that are no longer shown stay until the next publish: {ELDERS}"]
        store, notes = quoted(self.layout.store), []
        alone = Session(self.dsn, autocommit=True)
        try:
            alone.run(f"set role {WRITER}", f"set lock_timeout = '{SECONDS_TO_DETACH}s'")
            for name, parent, is_pending in left:
                how = "finalize" if is_pending else "concurrently"
                alone.run(f"alter table {store}.{quoted(parent)} detach partition {store}.{quoted(name)} {how}")
                alone.run(f"drop table {store}.{quoted(name)}")
            alone.run(*(f"drop table {store}.{quoted(name)}" for name in loose))
        except Locked as busy:
            notes.append(f"partitions that are no longer shown stay until the next publish: {busy}")
        finally:
            alone.close()
        return notes

    def _loose(self, kept: set[int]) -> list[str]:
        """Former partitions that a killed process detached and did not drop."""
        attached = load.partitions(self.session, self.layout)
        cut_off = load.cut_off(self.session, self.layout, DAY_COLUMN)
        return [name for name in cut_off if name not in attached and part_of(name) not in kept]


def keep_days_setting() -> int | None:
    """Days to keep by ``$STRATAFLOW_POSTGRES_KEEP_DAYS``, else as many as the home keeps.

    Raises:
        UsageError: a setting is no whole number above 0.
    """
    return retention.keep_days_setting(KEEP_SETTING) or retention.keep_days_setting()


def record(step: Step, done: Followed) -> None:
    """Keep in the run's log what was done."""
    step.outcome, step.rows, step.detail = "ok" if done.changed else "unchanged", done.rows, done.as_dict()
    step.inputs, step.outputs = ([f"{where}/{table}" for table in done.tables] for where in ("published", "postgres"))


def print_followed(done: Followed, console: Console) -> None:
    """Print what was done for people."""
    lines = [f"PostgreSQL shows {done.version}{'' if done.changed else ', as before'}"]
    lines += [f"  {name} copied" for name in done.loaded]
    lines += [f"  {day} removed" for day in done.removed]
    lines += [f"  {name} brought in line" for name in done.across_days]
    lines += [f"  {name} dropped, its time beside the new contract is over" for name in done.dropped]
    console.print("\n".join([*lines, *done.notes]), highlight=False, markup=False, soft_wrap=True)


def _storing(work: Callable[[bool], int]) -> int:
    """Do it with texts as they are, and if PostgreSQL can't hold a character of them, without that."""
    try:
        return work(False)
    except NotStorable:
        return work(True)


def _take_turn(session: Session, layout: Layout) -> None:
    """Wait until no other process publishes to these schemas; a connection that ends lets the next one in."""
    deadline = time.monotonic() + SECONDS_FOR_THE_OTHER_WRITER
    while not session.value(f"select pg_try_advisory_lock(hashtextextended({literal(layout.store)}, 0))"):
        session.commit()
        if time.monotonic() > deadline:
            raise Busy(
                f"another process is publishing to the schema {layout.schema}",
                where="pg_locks, locktype advisory",
                todo="wait for it to end, then publish again",
            )
        time.sleep(0.2)
    session.commit()
