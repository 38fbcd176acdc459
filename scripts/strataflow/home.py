"""Where everything of one deployment lies.

One folder, the home, holds all that the pipeline writes. Its layout is the
flow itself: what was received, what is kept between days, what is being
built, what readers see.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from filelock import FileLock, Timeout

from strataflow.errors import Busy, UsageError


@dataclass(frozen=True)
class Home:
    """Paths below one home directory; creates nothing until asked."""

    root: Path

    @classmethod
    def at(cls, path: str | os.PathLike[str] | None) -> Home:
        """Home at ``path``, else at ``$STRATAFLOW_HOME``.

        Raises:
            UsageError: neither is given.
        """
        chosen = path or os.environ.get("STRATAFLOW_HOME")
        if not chosen:
            raise UsageError("no home is set", todo="give --home DIR or set STRATAFLOW_HOME")
        return cls(Path(chosen).expanduser().resolve())

    @property
    def lake(self) -> Path:
        """Parquet as received: ``lake/<table>/received_date=D/<source>.parquet``."""
        return self.root / "lake"

    @property
    def quarantine(self) -> Path:
        """Refused rows: ``lake/quarantine/received_date=D/<source>.parquet``."""
        return self.lake / "quarantine"

    @property
    def landings(self) -> Path:
        """Manifest of each landed day: ``lake/landings/<source>/D.json``."""
        return self.lake / "landings"

    @property
    def manual_tags(self) -> Path:
        """What was said of customers on the command line, by day received: ``manual_tags/D.jsonl``."""
        return self.root / "manual_tags"

    @property
    def refused(self) -> Path:
        """Days that held too many refused rows to land, kept to be looked at: ``refused/<source>/D/``."""
        return self.root / "refused"

    @property
    def state(self) -> Path:
        """What one day's build hands to the next: the order and interaction ledgers."""
        return self.root / "state"

    @property
    def builds(self) -> Path:
        """DuckDB files of dbt builds: ``builds/D/``."""
        return self.root / "builds"

    @property
    def models(self) -> Path:
        """Models trained weekly and their cards: ``models/D/``."""
        return self.root / "models"

    @property
    def month_ends(self) -> Path:
        """Where each customer stood at past month ends, for the scorecard: ``month_ends/D.parquet``."""
        return self.root / "month_ends"

    @property
    def gates(self) -> Path:
        """Reports and failing rows of the gates: ``gates/D/<gate>/``."""
        return self.root / "gates"

    @property
    def published(self) -> Path:
        """What readers see: ``published/current`` and ``published/versions``."""
        return self.root / "published"

    @property
    def crm(self) -> Path:
        """What other systems have acknowledged of changes, and what is on its way to them: ``crm/<target>/``."""
        return self.root / "crm"

    @property
    def privacy(self) -> Path:
        """Who was erased, as hashes; proofs of erasures; which key made the pseudonyms."""
        return self.root / "privacy"

    @property
    def scratch(self) -> Path:
        """Unfinished writes; emptied by the next writer."""
        return self.root / "scratch"

    def partition(self, table: str, day: date, source: str) -> Path:
        """The file that holds what ``source`` delivered for ``table`` on ``day``."""
        return self.lake / table / f"received_date={day}" / f"{source}.parquet"

    def quarantined(self, day: date, source: str) -> Path:
        """The file that holds the rows of ``source`` refused on ``day``."""
        return self.quarantine / f"received_date={day}" / f"{source}.parquet"

    def landing(self, source: str, day: date) -> Path:
        """The manifest of what ``source`` delivered on ``day``."""
        return self.landings / source / f"{day}.json"

    @staticmethod
    def named(as_of: date, known_at: date | None = None) -> str:
        """What a result is filed under: its day; for a restatement also the day its data was known at, ``D@K``."""
        return str(as_of) if known_at in (None, as_of) else f"{as_of}@{known_at}"

    @contextmanager
    def writing(self, timeout: float = 0) -> Iterator[None]:
        """Hold the one writer's lock of this home; a killed process lets go of it.

        Raises:
            Busy: another process is writing and did not finish in ``timeout`` seconds.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.root / ".writer.lock", timeout=timeout)
        try:
            lock.acquire()
        except Timeout as busy:
            raise Busy(
                "another run is writing to this home",
                where=str(self.root),
                todo="wait for it to end, or raise --wait",
            ) from busy
        try:
            yield
        finally:
            lock.release()
