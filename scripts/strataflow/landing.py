"""Landing: delivered files become a day of the lake, whole or not at all.

    find files ▶ read, map, judge ▶ write aside ▶ reconcile ▶ limits ▶ move into place, manifest last

Nothing is moved before every day of every source asked for has been read,
counted twice and found good enough. Each day and source is then replaced as a
whole; its manifest is taken away first and put back last, so its presence
means that the day is whole. A landing that is killed at any point is repaired
by running it again.

The caller holds the writer's lock of the home.
"""

from __future__ import annotations

import shutil
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from strataflow.deliveries import (
    REPLACING,
    Past,
    Plan,
    days_between,
    delivered_lookups,
    identity,
    plan_days,
)
from strataflow.durable import json_text, sha256
from strataflow.errors import InputError, StepFailed, UsageError
from strataflow.landing_report import Landing, LandingReport
from strataflow.privacy import pseudonyms
from strataflow.privacy.tombstones import Tombstones
from strataflow.project import canonical_tables
from strataflow.rates import first_rates
from strataflow.reasons import ERASED, NEVER_COUNTED
from strataflow.staging import Span, Staged, Workbench
from strataflow.tags import inbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from datetime import date
    from pathlib import Path

    from strataflow.home import Home
    from strataflow.project import Project, Table
    from strataflow.rawfiles import Columns, Delivered
    from strataflow.records import Header, Tally
    from strataflow.sources import Shop, Source, Sources

    Progress = Callable[[str, int, int], None]

BATCH_BYTES = 256 << 20
BATCH_FILES = 512
REFUSED_SHOWN = 5
# rows_read = rows_landed + rows_quarantined + rows_erased, per file and per day.
COUNTS = ("rows_read", "rows_landed", "rows_quarantined", "rows_erased")
# What is planned for a day to which nothing is to be done.
SETTLED = ("unchanged", "kept")


def land(
    home: Home,
    project: Project,
    sources: Sources,
    first: date,
    last: date,
    tables: Iterable[str] | None = None,
    progress: Progress | None = None,
) -> LandingReport:
    """Land the days from ``first`` to ``last``, both included, of all sources that feed ``tables``.

    Args:
        home: where the lake is; the caller holds its writer's lock.
        project: where the canonical tables are defined.
        sources: the shop and its sources.
        first: first day received.
        last: last day received.
        tables: names of canonical tables; None for all.
        progress: told (step, done, total) as work goes on.

    Returns:
        What was landed, read and refused, by source and day.

    Raises:
        InputError: a file is missing or broken, or a day has more refused rows
            than its limit; nothing has been moved into the lake.
        UsageError: a source description can't be carried out, or the lake holds
            days of a source that nothing describes any more.
        StepFailed: counts don't reconcile; nothing has been moved.
    """
    if last < first:
        raise UsageError(f"the first day {first} lies after the last, {last}", todo="swap them")
    canonical = canonical_tables(project)
    wanted = None if tables is None else list(tables)
    for name in wanted or ():
        if name not in canonical:
            raise UsageError(f"there is no table '{name}'", todo=f"allowed: {', '.join(canonical)}")
    _refuse_stranded(home, inbox.including(home, sources), wanted if wanted is not None else list(canonical))
    pseudonyms.refuse_other_key(home, sources, canonical)
    days = days_between(first, last)
    scratch, tombstones = home.scratch / "landing", Tombstones.of(home)
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        flows: list[_Flow] = []
        prepared: list[_Day] = []
        for source, asked in _asked(home, sources, wanted, days):
            table, folder = canonical[source.table], scratch / source.name
            flows.append(_flow(home, project, source, table, sources.shop, folder, tombstones, progress))
            prepared += flows[-1].prepare(asked)
        _refuse_bad_days(home, prepared)
        if any(day.manifest.get("pseudonym_key") for day in prepared) and (key := pseudonyms.key_in_force()):
            pseudonyms.note_key(home, key)
        for done, day in enumerate(prepared, 1):
            day.move(home)
            if progress:
                progress("move into place", done, len(prepared))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    landings = tuple(day.landing for day in prepared)
    notes = tuple(note for flow in flows for note in flow.notes)
    return LandingReport(first, last, landings, notes)


def has_landed(home: Home, project: Project, sources: Sources, first: date, last: date) -> bool:
    """Whether landing these days again would find the very same deliveries and change nothing.

    Costs a look at each file and partition, no reading of rows; writes nothing and needs no lock.
    """
    canonical = canonical_tables(project)
    days = days_between(first, last)
    sources = inbox.including(home, sources)
    if _stranded(home, sources, list(canonical)):
        return False
    try:
        return all(
            _flow(home, project, source, canonical[source.table], sources.shop, home.scratch).is_settled(asked)
            for source in sources.sources
            if (asked := [day for day in days if source.begins is None or day >= source.begins])
        )
    except InputError:
        return False


def _asked(
    home: Home, sources: Sources, tables: Sequence[str] | None, days: Sequence[date]
) -> Iterator[tuple[Source, list[date]]]:
    """The sources to land with the days asked of each; what was typed on the command line comes last.

    Its days are closed when its turn comes, after the others' deliveries were found: a mistyped day ends before.
    It lands all its days up to the last that have not landed, too, as what was typed may be older than the shop's
    first delivery.
    """
    yield from ((source, list(days)) for source in sources.feeding(tables) if source.name != inbox.SOURCE)
    if tables is not None and inbox.TABLE not in tables:
        return
    inbox.close(home, days[-1])
    typed = inbox.source(home)
    if typed is None or typed.begins > days[-1]:
        return
    landed = set(Past(home, typed.name).days) - set(days)
    yield typed, [day for day in days_between(typed.begins, days[-1]) if day not in landed]


@dataclass
class _Day:
    """One day of one source, ready to be moved: its manifest, and the files written aside if it has rows."""

    source: Source
    manifest: dict[str, Any]
    status: str
    day: date
    landed: Path | None = None
    refused: Path | None = None

    @property
    def landing(self) -> Landing:
        return Landing(self.source.name, self.source.table, self.day, self.status, self.manifest)

    @property
    def is_refused(self) -> bool:
        return self.status == "landed" and (self.manifest["quarantine_ratio"] > self.source.limits.max_quarantine_ratio)

    def move(self, home: Home) -> None:
        """Replace the day in the lake: manifest away, files, manifest back; then sweep up after former tries."""
        manifest = home.landing(self.source.name, self.day)
        replaced = manifest.with_name(manifest.name + REPLACING)
        if self.status == "landed":
            manifest.parent.mkdir(parents=True, exist_ok=True)
            former = Past(home, self.source.name).manifest(self.day)
            if manifest.exists():
                manifest.replace(replaced)
            if former and former["table"] != self.source.table:
                _put(None, home.partition(former["table"], self.day, self.source.name))
            _put(self.landed, home.partition(self.source.table, self.day, self.source.name))
            _put(self.refused, home.quarantined(self.day, self.source.name))
            aside = home.scratch / "landing" / "manifest.json"
            aside.parent.mkdir(parents=True, exist_ok=True)
            aside.write_text(json_text(self.manifest), encoding="utf-8")
            aside.replace(manifest)
        replaced.unlink(missing_ok=True)
        shutil.rmtree(_refused_folder(home, self.source.name, self.day), ignore_errors=True)


def _put(written: Path | None, place: Path) -> None:
    """Put a written file in its place; without one, clear the place."""
    if written is not None:
        place.parent.mkdir(parents=True, exist_ok=True)
        written.replace(place)
        return
    place.unlink(missing_ok=True)
    if place.parent.is_dir() and not any(place.parent.iterdir()):
        place.parent.rmdir()


class _Flow:
    """One source on its way: from its files to days that are ready to be moved."""

    def __init__(
        self,
        home: Home,
        source: Source,
        table: Table,
        shop: Shop,
        folder: Path,
        rates: dict[str, date],
        tombstones: Tombstones | None,
        progress: Progress | None,
    ) -> None:
        self.tombstones = tombstones
        self.home, self.source, self.table, self.shop, self.folder = home, source, table, shop, folder
        self.rates = rates
        self.identity = identity(source, table, shop, rates)
        self.limits = source.limits.model_dump(mode="json")
        self.lookups: list[dict[str, Any]] = []
        self.notes: list[str] = []
        self._progress = progress

    def prepare(self, days: Sequence[date]) -> list[_Day]:
        """Read, judge and write aside all of ``days`` that are new or changed."""
        lookups, plans = self._plans(days)
        past = Past(self.home, self.source.name)
        made: dict[date, _Day] = {}
        for plan in plans:
            if plan.action in SETTLED:
                made[plan.day] = _Day(self.source, past.manifest(plan.day) or {}, plan.action, plan.day)
            elif plan.action == "same_snapshot" or not plan.files or not any(file.bytes for file in plan.files):
                made[plan.day] = self._empty_day(plan)
        open_plans = [plan for plan in plans if plan.day not in made]
        if open_plans:
            with Workbench(self.folder, self.source, self.table, self.shop, self.rates, self.tombstones) as bench:
                bench.load_lookups(lookups)
                for day in self._worked(bench, open_plans):
                    made[day.day] = day
        kept = [day for day in made.values() if day.status == "kept"]
        if kept:
            self.notes.append(
                f"{self.source.name}: {len(kept)} earlier days of this snapshot stay as they were received; "
                "its file has changed since"
            )
        return [made[day] for day in days]

    def is_settled(self, days: Sequence[date]) -> bool:
        """Whether none of ``days`` is new or changed."""
        return all(plan.action in SETTLED for plan in self._plans(days)[1])

    def _plans(self, days: Sequence[date]) -> tuple[dict[str, Delivered], list[Plan]]:
        """The files of the source's lookups, and what is to be done for each day."""
        lookups = delivered_lookups(self.source)
        self.lookups = [_file_entry(lookups[name]) | {"lookup": name} for name in sorted(lookups)]
        return lookups, plan_days(self.home, self.source, days, self._is_same, self._step("fingerprint"))

    def _worked(self, bench: Workbench, plans: list[Plan]) -> Iterator[_Day]:
        if self.source.kind == "split":
            span = Span(
                plans[0].day,
                plans[-1].day,
                plans[0].day if plans[0].takes_earlier else None,
                next((plan.day for plan in reversed(plans) if plan.takes_undated), None),
            )
            yield from self._batch(bench, plans, plans[0].files, span)
            return
        done = 0
        for batch in self._batches(bench, plans):
            files = tuple(file for plan in batch for file in plan.files)
            yield from self._batch(bench, batch, files, None)
            done += len(batch)
            if self._progress:
                self._progress(f"land {self.source.name}", done, len(plans))

    def _batches(self, bench: Workbench, plans: list[Plan]) -> Iterator[list[Plan]]:
        """Plans in portions that one staged table can hold; Parquet files of other columns start a new one."""
        batch: list[Plan] = []
        size = count = 0
        shape: Header | Columns | None = None
        for plan in plans:
            own = self._shape(bench, plan)
            bytes_of_day = sum(file.bytes for file in plan.files)
            full = size + bytes_of_day > BATCH_BYTES or count + len(plan.files) > BATCH_FILES
            if batch and (full or own != shape):
                yield batch
                batch, size, count = [], 0, 0
            batch.append(plan)
            size, count, shape = size + bytes_of_day, count + len(plan.files), own
        if batch:
            yield batch

    def _shape(self, bench: Workbench, plan: Plan) -> Header | Columns | None:
        if self.source.format.type != "parquet":
            return None
        shapes = [bench.columns_of(file.path) for file in plan.files]
        for file, shape in zip(plan.files, shapes, strict=True):
            if shape != shapes[0]:
                raise InputError(
                    f"source {self.source.name}: two files of one day have different columns or types",
                    where=f"{plan.files[0].path} and {file.path}",
                    todo="have them written alike",
                )
        return shapes[0]

    def _batch(
        self, bench: Workbench, plans: list[Plan], files: Sequence[Delivered], span: Span | None
    ) -> Iterator[_Day]:
        filled = tuple(file for file in files if file.bytes)
        before = [_stamp(file.path) for file in filled]
        headers = [bench.columns_of(file.path) for file in filled]
        staged = bench.stage(filled, headers, span, progress=self._bytes_read(filled))
        for file, stamp in zip(filled, before, strict=True):
            if _stamp(file.path) != stamp:
                raise InputError(
                    "the file changed while it was being read",
                    where=str(file.path),
                    todo="land the day again",
                )
        self._reconcile_files(staged)
        if span is not None:
            self._refuse_stale(staged, span.last)
        writer = ThreadPoolExecutor(int(bench.threads))
        with writer:
            yield from writer.map(lambda plan: self._day(bench, staged, plan, files), plans)

    def _refuse_stale(self, staged: Staged, last: date) -> None:
        """Raise if a file of many days ends before the day asked for: an old file would look like a closed shop."""
        if self.source.files.if_missing == "empty" or (staged.newest and staged.newest >= last):
            return
        found = f"its newest row is of {staged.newest}" if staged.newest else "it has no row with a date"
        raise InputError(
            f"source {self.source.name}: the file looks stale: {found}, none is of {last} or later",
            where=", ".join(str(file.path) for file in staged.files),
            todo="have a newer file delivered, or, if days without a row at its end are normal, set "
            f"files.if_missing: empty in {self.source.defined_in.name}",
        )

    def _day(self, bench: Workbench, staged: Staged, plan: Plan, files: Sequence[Delivered]) -> _Day:
        """Write one day aside, and count what has been written against what has been staged."""
        counts = {key: rows for key, rows in staged.counts.items() if key[1] == plan.day}
        landed = refused = None
        if any(fault is None for _, _, fault in counts):
            landed = self.folder / "landed" / f"{plan.day}.parquet"
            bench.write_landed(staged, plan.day, landed)
        if any(fault not in (None, ERASED) for _, _, fault in counts):
            refused = self.folder / "refused" / f"{plan.day}.parquet"
            bench.write_refused(staged, plan.day, refused)
        self._reconcile_day(plan.day, counts, landed, refused)
        place = {file.name: number for number, file in enumerate(staged.files)}
        entries = [
            self._counted_entry(file, place.get(file.name), staged, counts)
            for file in (plan.files if self.source.kind != "split" else files)
        ]
        manifest = self._manifest(plan, entries, _reasons(counts), landed, refused)
        manifest["unmapped_columns"] = list(staged.unmapped)
        return _Day(self.source, manifest, "landed", plan.day, landed, refused)

    # -- counting

    def _reconcile_files(self, staged: Staged) -> None:
        """Rows staged per file against records counted from the file's bytes."""
        for place, (file, tally) in enumerate(zip(staged.files, staged.tallies, strict=True)):
            rows = sum(rows for (number, _, _), rows in staged.counts.items() if number == place)
            # Of a file that is split by date, rows of days not asked for stay where they are.
            fits = rows <= tally.records if self.source.kind == "split" else rows == tally.records
            if not fits:
                raise StepFailed(
                    f"counts don't reconcile: the file holds {tally.records:,} records, {rows:,} were judged",
                    where=str(file.path),
                    todo="nothing has landed; please report this with the file",
                )

    def _reconcile_day(
        self,
        day: date,
        counts: dict[tuple[int, date, str | None], int],
        landed: Path | None,
        refused: Path | None,
    ) -> None:
        """Rows in the files written against rows judged."""
        for path, is_landed in ((landed, True), (refused, False)):
            kept = [rows for (_, _, fault), rows in counts.items() if fault != ERASED and (fault is None) == is_landed]
            judged = sum(kept)
            written = _rows_in(path) if path else 0
            if judged != written:
                raise StepFailed(
                    f"counts don't reconcile: {judged:,} rows were judged, {written:,} written",
                    where=f"source {self.source.name}, {day}",
                    todo="nothing has landed; please report this with the files of that day",
                )

    def _counted_entry(
        self,
        file: Delivered,
        place: int | None,
        staged: Staged,
        counts: dict[tuple[int, date, str | None], int],
    ) -> dict[str, Any]:
        mine = {fault: rows for (number, _, fault), rows in counts.items() if number == place}
        rows = sum(mine.values())
        landed, erased = mine.get(None, 0), mine.get(ERASED, 0)
        entry = _file_entry(file) | {
            "rows_read": rows,
            "rows_landed": landed,
            "rows_quarantined": rows - landed - erased,
            "rows_erased": erased,
        }
        return entry | (_whole_file(staged.tallies[place]) if place is not None else {"rows_in_file": 0})

    # -- manifests

    def _empty_day(self, plan: Plan) -> _Day:
        nothing = dict.fromkeys(COUNTS, 0)
        manifest = self._manifest(plan, [_file_entry(file) | nothing for file in plan.files], {}, None, None)
        return _Day(self.source, manifest, "landed", plan.day)

    def _manifest(
        self,
        plan: Plan,
        files: list[dict[str, Any]],
        reasons: dict[str, int],
        landed: Path | None,
        refused: Path | None,
    ) -> dict[str, Any]:
        rows = {key: sum(file[key] for file in files) for key in COUNTS}
        manifest = self.identity | rows | {
            "source": self.source.name,
            "table": self.table.name,
            "received_date": str(plan.day),
            "reasons": reasons,
            "files": files,
            "lookups": self.lookups,
            "partition_sha256": sha256(landed) if landed else None,
            "quarantine_sha256": sha256(refused) if refused else None,
            "limits": self.limits,
            "quarantine_ratio": quarantine_ratio(rows["rows_landed"], reasons, self.source.limits.expected),
        }  # fmt: skip
        if self.source.kind == "split":
            manifest |= {"takes_earlier": plan.takes_earlier, "takes_undated": plan.takes_undated}
        if plan.unchanged_since:
            manifest["unchanged_since"] = str(plan.unchanged_since)
        return manifest

    def _is_same(self, manifest: dict[str, Any], files: Sequence[Delivered]) -> bool:
        """Whether a manifest tells of the very same files, lookups, mapping, code and limits."""
        seen = [{key: file[key] for key in ("path", "bytes", "sha256")} for file in manifest["files"]]
        return (
            all(manifest.get(key) == value for key, value in self.identity.items())
            and manifest["limits"] == self.limits
            and manifest["lookups"] == self.lookups
            and manifest["table"] == self.table.name
            and seen == [_file_entry(file) for file in files]
        )

    # -- progress

    def _step(self, name: str) -> Callable[[int, int], None] | None:
        if self._progress is None:
            return None
        return lambda done, total: self._progress(f"{name} {self.source.name}", done, total)

    def _bytes_read(self, files: Sequence[Delivered]) -> Callable[[int], None] | None:
        if self._progress is None:
            return None
        total, done = sum(file.bytes for file in files), 0

        def read(size: int) -> None:
            nonlocal done
            done += size
            self._progress(f"read {self.source.name}", done, total)

        return read


def _flow(
    home: Home,
    project: Project,
    source: Source,
    table: Table,
    shop: Shop,
    folder: Path,
    tombstones: Tombstones | None = None,
    progress: Progress | None = None,
) -> _Flow:
    """The flow of one source, with the rates that the project has for it."""
    rates = first_rates(project, source, table, shop)
    return _Flow(home, source, table, shop, folder, rates, tombstones, progress)


def _stranded(home: Home, sources: Sources, tables: Sequence[str]) -> list[tuple[str, str]]:
    """Sources with days in the lake that no file describes, each with the one of ``tables`` that it fed last."""
    described = {source.name for source in sources.sources}
    folders = home.landings.iterdir() if home.landings.is_dir() else ()
    found = []
    for name in sorted(folder.name for folder in folders if folder.is_dir() and folder.name not in described):
        past = Past(home, name)
        newest = next((told for day in reversed(past.days) if (told := past.manifest(day))), None)
        if newest and newest["table"] in tables:
            found.append((name, newest["table"]))
    return found


def _refuse_stranded(home: Home, sources: Sources, tables: Sequence[str]) -> None:
    """Raise if the lake holds days of a source that nothing describes.

    Its rows would go on counting. Were it merely renamed, all that it
    delivered would land a second time under the new name and count twice.
    """
    stranded = _stranded(home, sources, tables)
    if not stranded:
        return
    name, table = stranded[0]
    others = f"; so do those of {', '.join(other for other, _ in stranded[1:])}" if stranded[1:] else ""
    raise UsageError(
        f"the lake holds days of a source {name} that no file describes; its rows still count in {table}{others}",
        where=f"{home.landings / name}, and {sources.directory} has no source of that name",
        todo=f"if it was renamed, give it back the name {name}, or remove its files "
        f"lake/*/received_date=*/{name}.parquet, then lake/landings/{name}, and land its days again under the new "
        "name; if it has ended, keep its description with files.if_missing: empty",
    )


def _refuse_bad_days(home: Home, days: list[_Day]) -> None:
    """Raise if any day has more refused rows than its limit; what was refused is kept outside the lake."""
    bad = [day for day in days if day.is_refused]
    if not bad:
        return
    for day in bad:
        folder = _refused_folder(home, day.source.name, day.day)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        day.refused.replace(folder / "quarantine.parquet")
        (folder / "landing.json").write_text(json_text(day.manifest), encoding="utf-8")
    told = [f"{day.source.name}, {day.day}: {_refusal(day)}" for day in bad[:REFUSED_SHOWN]]
    if len(bad) > REFUSED_SHOWN:
        told.append(f"and {len(bad) - REFUSED_SHOWN} more")
    folder = _refused_folder(home, bad[0].source.name, bad[0].day)
    raise InputError(
        "too many rows are refused, so nothing has landed:\n    " + "\n    ".join(told),
        where=str(folder / "quarantine.parquet"),
        todo="look at the rows and their reasons there, then mend the file or the mapping; if such rows are normal, "
        f"name the reason under limits.expected, or raise the limit, in {bad[0].source.defined_in}",
    )


def _refusal(day: _Day) -> str:
    manifest = day.manifest
    ordered = sorted(manifest["reasons"].items(), key=lambda item: (-item[1], item[0]))
    reasons = ", ".join(f"{code} {count:,}" for code, count in ordered)
    return (
        f"{manifest['rows_quarantined']:,} of {manifest['rows_read']:,} rows ({reasons}); the share that counts is "
        f"{manifest['quarantine_ratio']:.2%}, its limit {day.source.limits.max_quarantine_ratio:.2%}"
    )


def _refused_folder(home: Home, source: str, day: date) -> Path:
    return home.refused / source / str(day)


def _file_entry(file: Delivered) -> dict[str, Any]:
    return {"path": file.name, "bytes": file.bytes, "sha256": file.sha256}


def _whole_file(tally: Tally) -> dict[str, int]:
    """What a file holds as a whole: lines = header_lines + blank_lines + continuation_lines + rows_in_file."""
    told = {"rows_in_file": tally.records}
    if tally.lines:
        told |= {
            "lines": tally.lines,
            "header_lines": tally.header_lines,
            "blank_lines": tally.blank_lines,
            "continuation_lines": tally.continuation_lines,
        }
    return told


def quarantine_ratio(landed: int, reasons: Mapping[str, int], expected: Sequence[str]) -> float:
    """The share of refused rows that a day's limit is held against: those that count, of those and the landed."""
    unexpected = sum(count for code, count in reasons.items() if code not in (*NEVER_COUNTED, *expected))
    return round(unexpected / (landed + unexpected), 6) if unexpected else 0.0


def _reasons(counts: dict[tuple[int, date, str | None], int]) -> dict[str, int]:
    totals: Counter[str] = Counter()
    for (_, _, fault), rows in counts.items():
        if fault not in (None, ERASED):
            totals[fault] += rows
    return dict(sorted(totals.items()))


def _rows_in(path: Path) -> int:
    from pyarrow import parquet

    return parquet.read_metadata(path).num_rows


def _stamp(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns
