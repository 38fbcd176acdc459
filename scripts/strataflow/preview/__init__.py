"""What an edit of the rules would change, before anyone else sees it.

The rules of the working tree are built beside a published version, for the same
day and the same received data, in a folder of their own: nothing is published,
and what the home keeps between days stays as it is. The two are then compared
customer by customer in the database.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from strataflow.errors import StepFailed, UsageError
from strataflow.preview.aside import aside
from strataflow.publish import current_version, read_manifest, version_of
from strataflow.sources import Shop

if TYPE_CHECKING:
    from strataflow.build import Build, Progress
    from strataflow.home import Home
    from strataflow.project import Project


@dataclass(frozen=True)
class Version:
    """A published version that something is compared with."""

    path: Path
    manifest: dict[str, Any]

    @property
    def as_of(self) -> date:
        """The day its results hold for."""
        return date.fromisoformat(self.manifest["as_of"])

    @property
    def known_at(self) -> date:
        """Data received up to this day was counted."""
        return date.fromisoformat(self.manifest["known_at"])

    def files(self, table: str) -> list[str]:
        """Paths of a table's Parquet files."""
        return [str(self.path / entry["path"]) for entry in self.manifest["tables"][table]["files"]]


def published(home: Home, against: str | None) -> Version:
    """The published version that ``against`` names.

    Args:
        against: a day (YYYY-MM-DD), the name of a version, or None for the one readers see now.

    Raises:
        UsageError: nothing is published, or nothing of that name.
    """
    if against is None:
        path = current_version(home)
    elif _is_day(against):
        path = version_of(home, date.fromisoformat(against))
    else:
        path = home.published / "versions" / Path(against).name
        path = path if path.is_dir() else None
    if path is None:
        days = sorted(link.name for link in (home.published / "days").glob("[0-9]*"))
        raise UsageError(
            "nothing is published yet to compare with" if against is None else f"{against} is not published",
            where=str(home.published),
            todo=f"published days: {days[0]} to {days[-1]}" if days else "strataflow run --date YYYY-MM-DD",
        )
    return Version(path, read_manifest(path))


def preview(
    home: Home, project: Project, version: Version, shop: Shop | None = None, *, progress: Progress | None = None
) -> dict[str, Any]:
    """Build the rules of ``project`` beside ``version`` and tell what would move.

    Args:
        shop: as its description says now; the version's own if None.

    Returns:
        See docs/preview.md: ``against``, ``rules``, ``data_changed``, ``moves`` per attribute,
        ``largest_movers``, ``tags``, ``tables``, ``cutoffs``, ``would_move`` (customers), ``is_same``.

    Raises:
        StepFailed: the edited rules don't build, or data landed while they did.
        Busy: another preview or, for a moment, a writer is at work.
    """
    from strataflow.build import build
    from strataflow.lake import received
    from strataflow.preview.moves import compare

    chosen = shop or Shop.model_validate(version.manifest["shop"])
    digest = received(home, version.known_at).digest()
    with aside(home) as own:
        made = build(own, project, chosen, version.as_of, version.known_at, progress=progress)
        if received(home, version.known_at).digest() != digest:
            raise StepFailed(
                "data landed while the preview was being built", where=str(home.lake), todo="run the preview again"
            )
        compared = compare(version, made)
    return {
        "against": {"version": version.path.name, "as_of": str(version.as_of), "known_at": str(version.known_at)},
        "shop": chosen.name,
        "currency": chosen.currency,
        "data_changed": version.manifest["inputs"]["sha256"] != digest,
        "rules": _rules(version.manifest, made),
        "cutoffs": _cutoffs(version.manifest, made),
        **compared,
    }


def _rules(manifest: dict[str, Any], made: Build) -> dict[str, Any]:
    """Which files and vars differ; ``files`` is None where the version was published without a list of them."""
    before, after = manifest.get("rules"), made.meta["rules"]
    code = {"before": manifest["code_version"], "after": made.meta["code_version"]}
    same = {"rules": manifest["rules_hash"] == made.meta["rules_hash"], "code": code["before"] == code["after"]}
    if before is None:
        return {"same": same, "code": code, "files": None, "vars": None}
    return {"same": same, "code": code} | {
        part: [
            {"name": name, **change}
            for name in sorted({*before[part], *after[part]})
            if (change := _change(before[part], after[part], name, shows_values=part == "vars"))
        ]
        for part in ("files", "vars")
    }


def _change(before: dict[str, Any], after: dict[str, Any], name: str, *, shows_values: bool) -> dict[str, Any] | None:
    if name in before and name in after and before[name] == after[name]:
        return None
    kind = "edited" if name in before and name in after else "added" if name in after else "removed"
    values = {"before": _text(before.get(name)), "after": _text(after.get(name))} if shows_values else {}
    return {"change": kind, **values}


def _text(value: Any) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False)


def _cutoffs(manifest: dict[str, Any], made: Build) -> list[dict[str, Any]]:
    """Score cut-offs that would be others."""
    before, after = manifest["cutoffs"], made.meta["cutoffs"]
    return [
        {"measure": measure, "before": before.get(measure), "after": after.get(measure)}
        for measure in sorted({*before, *after})
        if before.get(measure) != after.get(measure)
    ]


def write_page(told: dict[str, Any], target: Path) -> Path:
    """Write what :func:`preview` told as one self-contained HTML file, replacing it in one step."""
    from strataflow.preview.page import page

    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".{target.name}.part")
    beside.write_text(page(told), encoding="utf-8", newline="\n")
    shutil.move(beside, target)
    return target


def _is_day(text: str) -> bool:
    try:
        return str(date.fromisoformat(text)) == text
    except ValueError:
        return False
