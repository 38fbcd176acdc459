"""One command as a whole process, measured from outside.

Wall time is from start to end of the process, start-up included. The kernel's own
accounts are read while the ended process still stands in the process table, so that
nothing between two samples is missed; only memory of several processes at once has
to be sampled.
"""

from __future__ import annotations

import os
import resource
import subprocess
import threading
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

SECONDS_BETWEEN_SAMPLES = 0.05
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
CGROUP_MEMORY = Path("/sys/fs/cgroup/memory")


@dataclass(frozen=True)
class Measured:
    """What one process and all it started took.

    Attributes:
        seconds: wall time.
        cpu_seconds: of user and system, all threads and children.
        peak_memory_bytes: resident memory; the larger of the largest process (its high-water mark) and the
            largest sum over the process tree (sampled, shared pages counted twice).
        read_bytes: handed over by read calls, wherever they came from.
        written_bytes: handed to write calls.
        disk_read_bytes: that had to come from the disk, because they weren't in memory.
        disk_written_bytes: that went to the disk.
    """

    seconds: float
    cpu_seconds: float
    peak_memory_bytes: int
    read_bytes: int
    written_bytes: int
    disk_read_bytes: int
    disk_written_bytes: int

    def as_dict(self) -> dict[str, float | int]:
        """For JSON, seconds to the millisecond."""
        return asdict(self) | {"seconds": round(self.seconds, 3), "cpu_seconds": round(self.cpu_seconds, 3)}


class CommandFailed(Exception):
    """A measured command ended with an error; what it said last is in the message."""


def measured(
    command: Sequence[str],
    log: Path,
    *,
    environment: Mapping[str, str] | None = None,
    memory_limit_bytes: int | None = None,
) -> Measured:
    """Run ``command`` to its end.

    Args:
        log: file that gets what it prints, both streams, appended.
        environment: variables on top of this process's own.
        memory_limit_bytes: a hard limit by the kernel, where this user may set one (see :func:`can_limit_memory`).

    Raises:
        CommandFailed: it ended with another code than 0.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    begins = log.stat().st_size if log.exists() else 0
    with log.open("ab") as output, _limited(memory_limit_bytes) as group:
        prefix = ["sh", "-c", f'echo $$ > "{group}/cgroup.procs" && exec "$@"', "sh"] if group else []
        started = time.perf_counter()
        process = subprocess.Popen(
            [*prefix, *command],
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
            env=os.environ | (environment or {}),
        )
        with _sampled_memory(process.pid) as sampled:
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            seconds = time.perf_counter() - started
        told = _io(process.pid)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        said = log.read_bytes()[begins:].decode(errors="replace").strip().splitlines()
        raise CommandFailed(f"{' '.join(command)}\nended with {process.returncode}:\n" + "\n".join(said[-15:]))
    return Measured(
        seconds=seconds,
        cpu_seconds=usage.ru_utime + usage.ru_stime,
        peak_memory_bytes=max(_told_peak(usage), sampled[0]),
        read_bytes=told["rchar"],
        written_bytes=told["wchar"],
        disk_read_bytes=told["read_bytes"],
        disk_written_bytes=told["write_bytes"],
    )


def can_limit_memory() -> bool:
    """Whether this user may give a process a memory limit that the kernel enforces (a memory cgroup of version 1)."""
    return (CGROUP_MEMORY / "memory.limit_in_bytes").is_file() and os.access(CGROUP_MEMORY, os.W_OK)


def bytes_on_disk(folder: Path) -> int:
    """Bytes of all files below ``folder``, each counted once however many names it has; 0 if there is none."""
    seen = {}
    for root, _, names in os.walk(folder):
        for name in names:
            stat = os.lstat(os.path.join(root, name))  # noqa: PTH118 - walks hundred thousands of files
            seen[stat.st_ino] = stat.st_size
    return sum(seen.values())


@contextmanager
def _limited(limit: int | None) -> Iterator[Path | None]:
    """A memory cgroup with ``limit``; None without one."""
    if limit is None:
        yield None
        return
    group = CGROUP_MEMORY / f"strataflow-bench-{os.getpid()}"
    group.mkdir()
    try:
        (group / "memory.limit_in_bytes").write_text(str(limit), encoding="ascii")
        yield group
    finally:
        group.rmdir()


@contextmanager
def _sampled_memory(pid: int) -> Iterator[list[int]]:
    """A list whose one number is the most resident memory that the tree of ``pid`` was seen to hold."""
    most, ended = [0], threading.Event()

    def sample() -> None:
        while not ended.wait(SECONDS_BETWEEN_SAMPLES):
            members = list(_tree(pid))
            most[0] = max(most[0], sum(map(_resident, members)), *map(_high_water, members))

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield most
    finally:
        ended.set()
        thread.join()


def _tree(pid: int) -> Iterator[int]:
    """``pid`` and its descendants, as far as they still live."""
    yield pid
    try:
        children = [
            int(child)
            for task in Path(f"/proc/{pid}/task").iterdir()
            for child in (task / "children").read_text(encoding="ascii").split()
        ]
    except (FileNotFoundError, ProcessLookupError):
        return
    for child in children:
        yield from _tree(child)


def _told_peak(usage: resource.struct_rusage) -> int:
    """The kernel's account of an ended child, 0 where it may be this process's own: a child inherits that mark."""
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return usage.ru_maxrss * 1024 if usage.ru_maxrss > own else 0


def _high_water(pid: int) -> int:
    """The most a living process ever held since it became the program it is."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * PAGE_BYTES
    except (FileNotFoundError, ProcessLookupError):
        return 0


def _io(pid: int) -> dict[str, int]:
    """The kernel's account of a process that has ended but was not waited for, with all children it waited for."""
    lines = Path(f"/proc/{pid}/io").read_text(encoding="ascii").splitlines()
    return {name: int(count) for name, count in (line.split(": ") for line in lines)}
