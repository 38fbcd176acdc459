"""What people decided about published versions, kept where the versions lie.

A version never changes, so what is decided about it later stands beside it in
``published/marks.json``: which versions readers must not be led to, which must
not be removed, and which days had a version that is gone. The file depends on
those decisions alone, not on when they were made; who decided and when stands
in the run log.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING

from strataflow.durable import write_json
from strataflow.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from strataflow.home import Home

FILE = "marks.json"
SCHEMA_VERSION = 1
READABLE_FILE = 0o644


@dataclass(frozen=True)
class Marks:
    """The decisions in force; names are those of versions, ``<as_of>-<id>``.

    Attributes:
        held_back: versions that ``published/current`` does not follow.
        pinned: versions that are never removed.
        pruned: per day, the version it had when retention removed it.
    """

    held_back: frozenset[str] = frozenset()
    pinned: frozenset[str] = frozenset()
    pruned: dict[date, str] = field(default_factory=dict)

    @classmethod
    def of(cls, home: Home) -> Marks:
        """The marks of a home; none were made if there is no file.

        Raises:
            InputError: the file is broken.
        """
        path = home.published / FILE
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            return cls(
                held_back=frozenset(content["held_back"]),
                pinned=frozenset(content["pinned"]),
                pruned={date.fromisoformat(day): name for day, name in content["pruned"].items()},
            )
        except FileNotFoundError:
            return cls()
        except (ValueError, KeyError, TypeError, AttributeError) as fault:
            raise InputError(
                f"what was rolled back, pinned and pruned can't be read ({fault})",
                where=str(path),
                todo="restore the file from a backup; without it, roll back and pin again after removing it",
            ) from fault

    def save(self, home: Home) -> bool:
        """Put these marks in force in one step; False if they are already. The caller holds the writer's lock."""
        clear_unfinished(home)
        if self == Marks.of(home):
            return False
        path = home.published / FILE
        content = {
            "schema_version": SCHEMA_VERSION,
            "held_back": sorted(self.held_back),
            "pinned": sorted(self.pinned),
            "pruned": {str(day): name for day, name in self.pruned.items()},
        }
        write_json(path, content)
        path.chmod(READABLE_FILE)
        return True


def clear_unfinished(home: Home) -> None:
    """Remove what a process killed while saving left."""
    for left in home.published.glob(f".{FILE}.*.tmp"):
        left.unlink()


def replaced(home: Home) -> frozenset[str]:
    """Versions that the last publish or rollback led readers away from, who may still be in them."""
    try:
        return frozenset(json.loads(_replaced_file(home).read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError):
        return frozenset()


def note_replaced(home: Home, names: Iterable[str]) -> None:
    """Say, before links are switched, which versions they lead to until then."""
    for left in home.root.glob(f".{_replaced_file(home).name}.*.tmp"):
        left.unlink()
    write_json(_replaced_file(home), sorted(set(names)))


def _replaced_file(home: Home) -> Path:
    # Not below published: it tells of the order of runs, and what is published must not depend on that.
    return home.root / "replaced.json"
