"""How a build becomes what readers see, in one step or not at all.

A version is a folder that is complete before it gets its name and never
changes afterwards. Readers follow a link to it; publishing is the moment
that link is renamed. Whatever happens to this process, a reader finds one
whole version, the old one or the new one, and publishing again is the repair.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

from strataflow import export
from strataflow.durable import json_text, leads_to, point, sha256, sync, sync_tree
from strataflow.errors import GateFailed, InputError
from strataflow.marks import Marks, clear_unfinished, note_replaced

if TYPE_CHECKING:
    from strataflow.build import Build
    from strataflow.home import Home

# Rises when a reader of the manifest or of the folder's layout has to change.
SCHEMA_VERSION = 1

MANIFEST = "manifest.json"
STAGING = ".staging-"
PRUNED = ".pruned-"
READABLE_FOLDER, FINAL_FILE = 0o755, 0o444


@dataclass(frozen=True)
class Published:
    """One published version and what publishing it changed.

    Attributes:
        path: the version's folder, never a link.
        manifest: content of its ``manifest.json``.
        changed: False when the very same content was already what readers of that day see.
        is_current: whether ``published/current`` leads to this version.
    """

    path: Path
    manifest: dict[str, Any]
    changed: bool
    is_current: bool

    @property
    def version(self) -> str:
        """The version's name, ``<as_of>-<id>``."""
        return self.path.name

    @property
    def as_of(self) -> date:
        """The day the results hold for."""
        return date.fromisoformat(self.manifest["as_of"])


def publish(home: Home, build: Build) -> Published:
    """Publish a build that passed its gate; the caller holds the writer's lock.

    The same content published again changes nothing. Other content for a day
    already published becomes a version of its own, which that day's link then
    leads to. ``published/current`` follows the newest day, past versions that
    were rolled back. A restatement has a link of its own in ``published/restatements``; what was said of the day then
    stays, and ``current`` never leads to a restatement.

    Raises:
        GateFailed: gate 2 did not pass, or passed another build.
        StepFailed: the build lacks a published table or an export is not what was built.
    """
    gate = passed_gate(home, build)
    _prepare(home)
    staging = Path(mkdtemp(prefix=STAGING, dir=home.published))
    try:
        manifest = _fill(staging, build, gate)
        version = _version_path(home, build.as_of, staging)
        moved = _move_in(staging, version, manifest)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    link, target = _link(home, build.as_of, build.known_at), f"../versions/{version.name}"
    left = {path.name for path in (_resolved(link), current_version(home)) if path and path != version}
    if left and not leads_to(link, target):
        note_replaced(home, left)
    switched = point(link, target)
    newest_switched = follow_newest_day(home, left)
    return Published(
        path=version,
        manifest=manifest,
        changed=moved or switched or newest_switched,
        is_current=current_version(home) == version,
    )


def current_version(home: Home) -> Path | None:
    """Folder of the version that ``published/current`` leads to now; None before the first.

    Resolve once and read below the answer: it never changes, while the link may.
    """
    return _resolved(home.published / "current")


def version_of(home: Home, day: date, known_at: date | None = None) -> Path | None:
    """Folder of the latest published version of ``day``; None if the day is not published.

    Args:
        known_at: of a restatement, the day up to which data was counted.
    """
    return _resolved(_link(home, day, known_at or day))


def day_link(home: Home, day: date) -> Path:
    """The link that leads to the latest version of ``day``."""
    return home.published / "days" / str(day)


def link_folders(home: Home) -> tuple[Path, Path]:
    """The folders of links to versions: of the days, and of restatements."""
    return home.published / "days", home.published / "restatements"


def version_path(home: Home, name: str) -> Path:
    """Where the version called ``name`` lies, or would."""
    return home.published / "versions" / name


def day_of(version: Path | str) -> date:
    """The day a version is about, from its name."""
    return date.fromisoformat(Path(version).name[:10])


def restated_at(home: Home, day: date) -> list[date]:
    """The days up to which data was counted in the restatements of ``day``, earliest first."""
    links = (home.published / "restatements").glob(f"{day}@*")
    return sorted(date.fromisoformat(link.name.partition("@")[2]) for link in links if link.exists())


def _link(home: Home, day: date, known_at: date) -> Path:
    if known_at == day:
        return day_link(home, day)
    return home.published / "restatements" / home.named(day, known_at)


def published_days(home: Home) -> list[date]:
    """Days that have a published version, oldest first."""
    links = (home.published / "days").glob("[0-9]*")
    return sorted(date.fromisoformat(link.name) for link in links if link.exists())


def read_manifest(version: Path) -> dict[str, Any]:
    """The manifest of a version's folder.

    Raises:
        InputError: it is missing or not JSON.
    """
    path = version / MANIFEST
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as fault:
        raise InputError(
            f"the manifest can't be read ({fault})",
            where=str(path),
            todo="publish that day again",
        ) from fault


def damage(version: Path, manifest: dict[str, Any], *, thorough: bool = True) -> list[str]:
    """Files of a version that are missing or not what its manifest says, as sentences.

    Args:
        thorough: compare checksums, too, not only sizes.
    """
    found = [f"{name} is missing" for name in (MANIFEST, "current.duckdb") if not (version / name).is_file()]
    for entry in _file_entries(manifest):
        path = version / entry["path"]
        if not path.is_file():
            found.append(f"{entry['path']} is missing")
        elif path.stat().st_size != entry["bytes"]:
            found.append(f"{entry['path']} has {path.stat().st_size} bytes instead of {entry['bytes']}")
        elif thorough and sha256(path) != entry["sha256"]:
            found.append(f"{entry['path']} has other content than was published")
    return found


def passed_gate(home: Home, build: Build) -> dict[str, Any]:
    """The report of gate 2 on this very build, read from disk: the proof that it may be published.

    Raises:
        GateFailed: there is no report, it did not pass, or it is about another build.
    """
    path = home.gates / home.named(build.as_of, build.known_at) / "built" / "report.json"
    known = "" if build.known_at == build.as_of else f" --known-at {build.known_at}"
    again = f"strataflow validate --gate built --date {build.as_of}{known}"
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as missing:
        raise GateFailed("this build has not been through gate 2", where=str(path), todo=f"run: {again}") from missing
    except ValueError as broken:
        raise GateFailed("the gate's report is broken", where=str(path), todo=f"run: {again}") from broken
    if report.get("build_id") != build.meta["build_id"]:
        raise GateFailed(
            f"gate 2 looked at build {report.get('build_id')}, not at {build.meta['build_id']}",
            where=str(path),
            todo=f"run: {again}",
        )
    if report.get("passed") is not True:
        raise GateFailed(
            "gate 2 did not pass this build; nothing was published",
            where=str(path),
            todo="read the failed expectations there, mend the cause, build and validate again",
        )
    return report


def _prepare(home: Home) -> None:
    """Create the folders and clear what killed runs left; nothing of that kind was ever seen by a reader."""
    links = list(link_folders(home))
    for folder in (home.published, home.published / "versions", *links):
        folder.mkdir(parents=True, exist_ok=True)
        if folder.stat().st_mode & 0o777 != READABLE_FOLDER:
            folder.chmod(READABLE_FOLDER)
    for kind in (STAGING, PRUNED):
        for left in home.published.glob(f"{kind}*"):
            shutil.rmtree(left)
    for folder in (home.published, *links):
        for left in folder.glob(".link-*"):
            left.unlink()
    clear_unfinished(home)


def _fill(staging: Path, build: Build, gate: dict[str, Any]) -> dict[str, Any]:
    """Write a whole version into ``staging``, put it on disk, and return its manifest."""
    spill = staging.with_name(f"{staging.name}-spill")
    with export.opened(build.path, spill) as connection:
        tables = {
            name: export.export_table(connection, staging, name, spec["key"], build.as_of)
            for name, spec in sorted(build.meta["published"].items())
        }
        spreadsheets = {
            name: export.export_spreadsheet(connection, staging, name, tables[name])
            for name in export.SPREADSHEETS
            if name in tables
        }
        documents = export.export_model_card(staging, build.meta["model_card"]) if "model_card" in build.meta else {}
        manifest = _manifest(build, gate, tables, spreadsheets) | {"documents": documents}
        (staging / MANIFEST).write_text(json_text(manifest), encoding="utf-8")
        export.export_database(connection, staging, tables, manifest["contracts"], _about(staging, manifest))
    shutil.rmtree(spill, ignore_errors=True)
    make_readable(staging)
    sync_tree(staging)
    return manifest


def _manifest(
    build: Build, gate: dict[str, Any], tables: dict[str, Any], spreadsheets: dict[str, Any]
) -> dict[str, Any]:
    """Everything that decided or describes the content, and nothing else: equal content, equal bytes."""
    made_from = (
        "shop",
        "inputs",
        "cutoffs",
        "rules_hash",
        "rules",
        "expectations_hash",
        "code_version",
        "build_id",
        "fingerprint",
    )
    return {
        "schema_version": SCHEMA_VERSION,
        "as_of": str(build.as_of),
        "known_at": str(build.known_at),
        **{name: build.meta[name] for name in made_from},
        "holdout": build.meta.get("holdout"),
        "gate": {"name": "built", "passed": True, "expectations": _expectations(gate)},
        "tables": tables,
        "contracts": {name: build.meta["published"][name] for name in tables} | build.meta.get("references", {}),
        "spreadsheets": spreadsheets,
    }


def _expectations(gate: dict[str, Any]) -> int:
    return len(gate.get("expectations", []))


def _about(staging: Path, manifest: dict[str, Any]) -> dict[str, Any]:
    return {
        "version": _version_name(staging, manifest["as_of"]),
        "as_of_date": date.fromisoformat(manifest["as_of"]),
        "known_at_date": date.fromisoformat(manifest["known_at"]),
        "schema_version": manifest["schema_version"],
        "rules_hash": manifest["rules_hash"],
        "code_version": manifest["code_version"],
    }


def _version_name(staging: Path, as_of: str) -> str:
    return f"{as_of}-{sha256(staging / MANIFEST)[:12]}"


def _version_path(home: Home, as_of: date, staging: Path) -> Path:
    return home.published / "versions" / _version_name(staging, str(as_of))


def _move_in(staging: Path, version: Path, manifest: dict[str, Any]) -> bool:
    """Give the staged folder its name; False if a whole version of that content is there already.

    A version that someone damaged is replaced by its whole self.
    """
    damaged = staging.with_name(f"{staging.name}-damaged")
    if version.exists():
        if not damage(version, manifest) and sha256(version / MANIFEST) == sha256(staging / MANIFEST):
            return False
        version.rename(damaged)
    staging.rename(version)
    sync(version.parent)
    shutil.rmtree(damaged, ignore_errors=True)
    return True


def leading_version(home: Home) -> Path | None:
    """The version ``published/current`` is to lead to: of the newest day whose version is not held back.

    Where all are held back, it is the one that readers see now.
    """
    held_back = Marks.of(home).held_back
    for day in reversed(published_days(home)):
        version = version_of(home, day)
        if version and version.name not in held_back:
            return version
    return current_version(home)


def follow_newest_day(home: Home, left: Iterable[str] = ()) -> bool:
    """Lead ``published/current`` to :func:`leading_version` in one step; the caller holds the writer's lock.

    Args:
        left: versions that other links have just been led away from.

    Returns:
        Whether readers now see another version.
    """
    version = leading_version(home)
    if version is None:
        return False
    link, target = home.published / "current", f"versions/{version.name}"
    before = current_version(home)
    if before and not leads_to(link, target):
        note_replaced(home, {*left, before.name})
    switched = point(link, target)
    return point(home.published / "current.duckdb", "current/current.duckdb") or switched


def _resolved(link: Path) -> Path | None:
    try:
        return link.resolve(strict=True)
    except FileNotFoundError:
        return None


def make_readable(root: Path) -> None:
    """Everyone may read, nobody may write: a version is final. Folders stay the owner's to remove."""
    for folder, _, names in os.walk(root):
        Path(folder).chmod(READABLE_FOLDER)
        for name in names:
            Path(folder, name).chmod(FINAL_FILE)


def _file_entries(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    of_tables = [entry for table in manifest["tables"].values() for entry in table["files"]]
    return [*of_tables, *manifest["spreadsheets"].values(), *manifest.get("documents", {}).values()]
