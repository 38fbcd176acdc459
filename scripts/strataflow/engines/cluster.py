"""A real Spark standalone cluster on this machine: one master and some workers, each a process of its own.

A deployment without a cluster gets one for the length of a build, so that
switching the engine takes one setting; the tests use it to lose a worker on
purpose. Everything listens on the loopback address only and asks for a secret
that only this user can read, so nobody else on the machine can make the
workers run anything. Every process ends with the one that started it, however
that one ends.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from strataflow.errors import StepFailed, UsageError

LOOPBACK = "127.0.0.1"
_SECONDS_TO_START = 120
_DAEMON_MEMORY = "256m"

# A build on this machine is short: compiling its code as well as Java can costs more than it gains.
_QUICK_JVM = "-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m"

# Runs a server and ends with it, its executors included, as soon as the starting process is gone:
# then nobody holds the other end of standard input any more.
_GUARD = """
exec 3<&0
"$@" 3<&- &
server=$!
{ read -r -u 3; kill -KILL 0; } &
wait "$server"
kill -KILL 0
"""


def spark_home() -> Path:
    """The folder of the installed pyspark package, which holds all of Spark.

    Raises:
        UsageError: pyspark or Java is not installed.
    """
    from importlib.util import find_spec

    found = find_spec("pyspark")
    if found is None or found.origin is None or find_spec("dbt.adapters.spark") is None:
        raise UsageError(
            "the Spark engine is not installed",
            where="STRATAFLOW_ENGINE=spark",
            todo="install the extra: pip install 'strataflow[spark]'",
        )
    if not (os.environ.get("JAVA_HOME") or shutil.which("java")):
        raise UsageError(
            "Spark needs Java 17, and there is no java on this machine",
            where="STRATAFLOW_ENGINE=spark",
            todo="sudo apt-get install -y openjdk-17-jre-headless, or use the engine duckdb",
        )
    return Path(found.origin).parent


class LocalCluster:
    """A master and its workers, up while the context lasts.

    Args:
        folder: gets the logs, the workers' files and what executors spill; must be writable.
        workers: number of worker processes.
        memory: what one worker gives to its executor, as Spark writes it (``1g``).

    Attributes:
        url: address of the master, ``spark://127.0.0.1:port``; the port is one that was free.
        settings: folder for ``$SPARK_CONF_DIR`` of a program that uses the cluster.
    """

    def __init__(self, folder: Path, *, workers: int = 2, memory: str = "1g") -> None:
        self.folder = folder
        self.settings = folder / "conf"
        self.url = ""
        self._workers = workers
        self._memory = memory
        self._servers: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        """Start the master, then the workers.

        Raises:
            UsageError: pyspark or Java is not installed.
            StepFailed: a process ended or did not answer in time.
        """
        self._write_settings()
        try:
            self._start("master", "org.apache.spark.deploy.master.Master", "--host", LOOPBACK, "--port", "0")
            self.url = self._wait_for("master", r"Starting Spark master at (spark://\S+)")
            numbers = range(1, self._workers + 1)
            for number in numbers:
                self._start(
                    f"worker-{number}", "org.apache.spark.deploy.worker.Worker", "--host", LOOPBACK, "--cores", "1",
                    "--memory", self._memory, "--work-dir", str(self.folder / f"worker-{number}"), self.url,
                )  # fmt: skip
            for number in numbers:
                self._wait_for(f"worker-{number}", r"(Successfully registered) with master")
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def kill_worker(self, number: int) -> None:
        """Lose a machine: the worker (counted from 1) and its executors end at once, without a word."""
        server = self._servers[f"worker-{number}"]
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()

    def _write_settings(self) -> None:
        """Small memory, no web pages for the driver, loopback only, and the secret; read by servers and drivers."""
        self.settings.mkdir(parents=True)
        defaults = self.settings / "spark-defaults.conf"
        defaults.touch(mode=0o600)
        values = {
            "spark.authenticate": "true",
            "spark.authenticate.secret": secrets.token_hex(32),
            "spark.master.rest.enabled": "false",
            "spark.driver.host": LOOPBACK,
            "spark.driver.bindAddress": LOOPBACK,
            "spark.driver.memory": self._memory,
            "spark.executor.memory": self._memory,
            "spark.driver.defaultJavaOptions": _QUICK_JVM,
            "spark.executor.defaultJavaOptions": _QUICK_JVM,
            "spark.local.dir": self.folder / "spill",
            "spark.sql.shuffle.partitions": 2 * self._workers,
            "spark.ui.enabled": "false",
        }
        defaults.write_text("".join(f"{name} {value}\n" for name, value in values.items()), encoding="utf-8")

    def _start(self, name: str, server: str, *arguments: str) -> None:
        home = spark_home()
        environment = os.environ | {
            "SPARK_HOME": str(home),
            "SPARK_CONF_DIR": str(self.settings),
            "SPARK_LOCAL_IP": LOOPBACK,
            "SPARK_LOCAL_DIRS": str(self.folder / "spill"),
            "SPARK_DAEMON_MEMORY": _DAEMON_MEMORY,
            "SPARK_DAEMON_JAVA_OPTS": _QUICK_JVM,
        }
        command = [str(home / "bin" / "spark-class"), server, "--webui-port", "0", *arguments]
        with self._log(name).open("wb") as log:
            self._servers[name] = subprocess.Popen(
                ["bash", "-c", _GUARD, "guard", *command],  # noqa: S607 - Spark's own scripts look for bash the same way
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )

    def _log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def _wait_for(self, name: str, pattern: str) -> str:
        """The first group of ``pattern``, once the log of ``name`` has a line that matches it."""

        def said() -> str | None:
            found = re.search(pattern, self._log(name).read_text(encoding="utf-8", errors="replace"))
            return found.group(1) if found else None

        return _eventually(said, self._servers[name], name, self._log(name))

    def _stop(self) -> None:
        for server in self._servers.values():
            if server.stdin:
                server.stdin.close()
        for server in self._servers.values():
            server.wait()
        self._servers.clear()


def _eventually(ask: Callable[[], str | None], server: subprocess.Popen[bytes], name: str, log: Path) -> str:
    deadline = time.monotonic() + _SECONDS_TO_START
    while time.monotonic() < deadline and server.poll() is None:
        answer = ask()
        if answer is not None:
            return answer
        time.sleep(0.1)
    raise StepFailed(
        f"Spark's {name} " + ("ended while starting" if server.poll() is not None else "did not start in time"),
        where=str(log),
        todo="read the log; a common cause is too little memory",
    )
