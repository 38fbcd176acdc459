"""What the command line shows: words and bars for people, one JSON document for machines.

Results go to standard output, everything said on the way to standard error.
With ``--json`` nothing but the document reaches standard output, whatever a
library prints.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from strataflow.durable import json_text

if TYPE_CHECKING:
    from rich.console import Console

    from strataflow.run import Progress

WIDTH = 100
SECONDS_PER_LINE = 5


@dataclass
class Screen:
    """Where one call of the command line writes, and how much.

    Attributes:
        json: print one JSON document instead of words.
        quiet: nothing but the result and errors.
        verbose: also what libraries log, and tracebacks.
    """

    json: bool = False
    quiet: bool = False
    verbose: bool = False
    _document_to: int | None = field(default=None, repr=False)

    @contextmanager
    def keeping_stdout_clean(self) -> Iterator[None]:
        """While inside, everything printed to standard output goes to standard error; the document doesn't."""
        sys.stdout.flush()
        self._document_to = os.dup(1)
        os.dup2(2, 1)
        try:
            with redirect_stdout(sys.stderr):
                yield
        finally:
            sys.stdout.flush()
            os.dup2(self._document_to, 1)
            os.close(self._document_to)
            self._document_to = None

    def result(self, document: dict[str, Any], render: Callable[[Console], None]) -> None:
        """Show the outcome of a command: the document for machines, or what ``render`` prints for people."""
        if not self.json:
            render(self.console())
        elif self._document_to is None:
            sys.stdout.write(json_text(document))
        else:
            with os.fdopen(os.dup(self._document_to), "w", encoding="utf-8") as out:
                out.write(json_text(document))

    def say(self, line: str) -> None:
        """A line about what is going on."""
        if not self.quiet:
            print(line, file=sys.stderr, flush=True)

    def console(self) -> Console:
        """Standard output for people: as wide as the terminal, 100 columns where there is none."""
        from rich.console import Console

        console = Console()
        return console if console.is_terminal else Console(width=WIDTH, no_color=True)

    def log_to_stderr(self) -> None:
        """Let libraries' warnings through; with ``verbose`` all they have to say."""
        handler = logging.StreamHandler(sys.stderr)
        # On the handler, because some libraries set their own loggers' level.
        handler.setLevel(logging.INFO if self.verbose else logging.WARNING)
        logging.basicConfig(handlers=[handler], level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")

    @contextmanager
    def progress(self) -> Iterator[Progress | None]:
        """A function ``(step, done, total)`` for long steps: a bar on a terminal, else a line now and then."""
        if self.quiet:
            yield None
        elif sys.stderr.isatty():
            yield from self._bars()
        else:
            yield _lines(self.say)

    def _bars(self) -> Iterator[Progress]:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (TextColumn("{task.description:<10}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
            tasks: dict[str, Any] = {}

            def show(step: str, done: int, total: int) -> None:
                if step not in tasks:
                    tasks[step] = bars.add_task(step)
                bars.update(tasks[step], completed=done, total=total)

            yield show


def _lines(say: Callable[[str], None]) -> Progress:
    """Progress as lines: one every few seconds, and one at the end of a step that took so long."""
    started: dict[str, float] = {}
    told: dict[str, float] = {}

    def show(step: str, done: int, total: int) -> None:
        now = time.monotonic()
        begun = started.setdefault(step, now)
        is_long, is_due = now - begun >= SECONDS_PER_LINE, now - told.get(step, begun) >= SECONDS_PER_LINE
        if is_due or (is_long and done == total):
            told[step] = now
            say(f"{step}: {done:,} of {total:,}")

    return show
