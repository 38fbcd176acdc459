"""A home beside the home: builds there read the same lake and touch nothing of it.

What a build reads and replaces (the kept ledgers, the trained models) is there as
hard links: reading costs nothing, a build that appends or starts anew does so for
itself alone. So an edit of a rule that the ledgers depend on can be tried without
the next nightly run having to build the ledgers again.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from strataflow.errors import Busy
from strataflow.home import Home

SECONDS_TO_WAIT_FOR_THE_WRITER = 60


@dataclass(frozen=True)
class HomeAside(Home):
    """A home of its own but for the lake, which is another's.

    Attributes:
        of: the home whose lake is read.
    """

    of: Home

    @property
    def lake(self) -> Path:
        """The other home's lake."""
        return self.of.lake


@contextmanager
def aside(home: Home, name: str = "preview") -> Iterator[HomeAside]:
    """A home aside with what ``home`` keeps, for as long as the block lasts.

    It stays behind when the block fails, for someone to look into; the next one of that name begins anew.

    Args:
        name: one block of a name at a time.

    Raises:
        Busy: another process is inside such a block, or a run keeps writing to the home.
    """
    root = home.scratch / name
    home.scratch.mkdir(parents=True, exist_ok=True)
    lock = FileLock(home.scratch / f".{name}.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as busy:
        raise Busy(f"another {name} is being made of this home", where=str(root), todo="wait for it to end") from busy
    try:
        shutil.rmtree(root, ignore_errors=True)
        own = HomeAside(root, home)
        # Only while the links are made: the build itself may take as long as it likes, beside a nightly run.
        with home.writing(SECONDS_TO_WAIT_FOR_THE_WRITER):
            for folder, copy in ((home.state, own.state), (home.models, own.models)):
                _link_tree(folder, copy)
        yield own
        shutil.rmtree(root, ignore_errors=True)
    finally:
        lock.release()


def _link_tree(folder: Path, copy: Path) -> None:
    """``folder`` again at ``copy``: Parquet as hard links, small files as copies."""
    copy.mkdir(parents=True)
    if folder.is_dir():
        shutil.copytree(folder, copy, dirs_exist_ok=True, copy_function=_link)


def _link(source: str, target: str) -> None:
    # Only Parquet is worth a link. It is never written in place: a file of that name is replaced whole.
    if source.endswith(".parquet"):
        try:
            os.link(source, target)
        except OSError:
            shutil.copyfile(source, target)
    else:
        shutil.copyfile(source, target)
