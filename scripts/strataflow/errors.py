"""What can go wrong, told to the person who has to mend it.

Every error says what happened, where, and what to do. The exit code of the
command line follows from the class: 1 for bad data and failed gates, 2 for a
call or a configuration that can't be carried out.
"""

from __future__ import annotations


class StrataflowError(Exception):
    """Base of all errors this project raises on purpose.

    Args:
        what: the fault in one sentence.
        where: the file, row, table or setting it was found in.
        todo: what the reader can do about it.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str | None = None, todo: str | None = None) -> None:
        self.what, self.where, self.todo = what, where, todo
        parts = [what]
        if where:
            parts.append(f"where: {where}")
        if todo:
            parts.append(f"what to do: {todo}")
        super().__init__("\n  ".join(parts))


class UsageError(StrataflowError):
    """The call or a setting can't be carried out as written."""

    exit_code = 2


class Busy(StrataflowError):
    """Another process is at work here; the same call can succeed once that one has ended."""

    exit_code = 2


class InputError(StrataflowError):
    """A delivered file is missing, broken or not what its source describes."""


class GateFailed(StrataflowError):
    """A critical expectation did not hold; nothing was published."""


class StepFailed(StrataflowError):
    """A step broke for a reason that is neither the data nor the call."""
