"""A whole Airflow on this machine, for as long as a ``with`` block lasts.

It lets one command run the real DAGs under a real scheduler with nothing
installed beside the Python packages: metadata in SQLite, everything it writes
in ``<home>/airflow``, reachable on the loopback address only, its secrets made
up at first use and readable by the owner only. Airflow's own command line
finds the same settings with ``AIRFLOW_HOME=<home>/airflow``.
"""

from __future__ import annotations

import base64
import configparser
import ctypes
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from filelock import FileLock, Timeout

from strataflow.errors import StepFailed, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from strataflow.home import Home
    from strataflow.project import Project

LOOPBACK = "127.0.0.1"
USER = "admin"
DAGS = ("ingest_orders", "ingest_interactions", "segment_customers")
WRITER_POOL = "strataflow_writer"
# The scheduler keeps its log server shut: the API server reads the same files.
COMPONENTS = {
    "api-server": ("airflow", "api-server"),
    "scheduler": ("strataflow.warm_scheduler", "--skip-serve-logs"),
    "dag-processor": ("airflow", "dag-processor"),
}
SECONDS_TO_START = 120
SECONDS_TO_STOP = 20
SECONDS_BETWEEN_LOOKS = 0.25


@dataclass
class LocalAirflow:
    """A local Airflow over one home; use it as a context manager.

    Args:
        home: its data; Airflow's own files go to ``<home>/airflow``.
        project: the checkout whose ``dags/`` are run.
        sources: folder with ``shop.yml`` and the source descriptions.
        port: where UI and API listen; None takes a free one.
        last_day: no run is scheduled for later days.
        retries: how often a failed task is tried again.
    """

    home: Home
    project: Project
    sources: Path
    port: int | None = None
    last_day: date | None = None
    retries: int = 0
    _processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict, init=False, repr=False)
    _token: str | None = field(default=None, init=False, repr=False)
    _lock: FileLock | None = field(default=None, init=False, repr=False)

    @property
    def root(self) -> Path:
        """What Airflow calls its home."""
        return self.home.root / "airflow"

    @property
    def url(self) -> str:
        """Where the UI is."""
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def password(self) -> str:
        """The password of the one user, :data:`USER`."""
        return self._secrets()["password"]

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start all components and return when they are healthy and the DAGs can be run.

        Raises:
            UsageError: another local Airflow uses this home, or the port is taken.
            StepFailed: a component ended or did not get ready; a DAG can't be imported.
        """
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._take_lock()
        self._take_port()
        self.configure()
        self._migrate()
        for name, module in COMPONENTS.items():
            self._processes[name] = self._spawn(name, module)
        self._wait_for("the API server", self._is_up)
        self._make_pool()
        self._wait_for("the DAGs", self._has_dags)

    def stop(self) -> None:
        """End what was started, the scheduler first, so that nothing new begins; never raises for the dead."""
        for name in ("scheduler", "dag-processor", "api-server"):
            process = self._processes.get(name)
            if process and process.poll() is None:
                process.terminate()
        patience = time.monotonic() + SECONDS_TO_STOP
        for process in self._processes.values():
            try:
                process.wait(max(0.1, patience - time.monotonic()))
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        self._processes.clear()
        self._token = None
        if self._lock:
            self._lock.release()

    def configure(self) -> None:
        """Write ``airflow.cfg`` and the password file, both for the owner's eyes only."""
        kept = self._secrets()
        _write_private(self._passwords, json.dumps({USER: kept["password"]}) + "\n")
        sections = configparser.ConfigParser(interpolation=None)
        sections.read_dict(_settings(self, kept))
        with _open_private(self.root / "airflow.cfg") as file:
            sections.write(file)

    def environment(self) -> dict[str, str]:
        """The environment of every process of this Airflow.

        Settings of another Airflow don't leak in, and nothing is sent to anyone.
        """
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW__")}
        package = str(Path(__file__).parents[1])
        paths = [package, *filter(None, [inherited.get("PYTHONPATH")])]
        loopback = ",".join(filter(None, [inherited.get("NO_PROXY"), LOOPBACK, "localhost"]))
        own = {
            "AIRFLOW_HOME": str(self.root),
            "PYTHONPATH": os.pathsep.join(paths),
            "PYTHONUNBUFFERED": "1",
            "NO_PROXY": loopback,
            "no_proxy": loopback,
            "SCARF_ANALYTICS": "false",
            "DO_NOT_TRACK": "1",
            "STRATAFLOW_HOME": str(self.home.root),
            "STRATAFLOW_PROJECT": str(self.project.root),
            "STRATAFLOW_SOURCES": str(self.sources),
            "STRATAFLOW_RETRIES": str(self.retries),
        }
        if self.last_day:
            own["STRATAFLOW_LAST_DAY"] = str(self.last_day)
        return inherited | own

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run Airflow's command line on this Airflow, e.g. ``command("dags", "list")``.

        Raises:
            StepFailed: it ended with an error; its last lines are in the message.
        """
        done = subprocess.run(
            [sys.executable, "-m", "airflow", *arguments],
            env=self.environment(),
            cwd=self.root,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise StepFailed(
                f"airflow {' '.join(arguments)} ended with code {done.returncode}",
                where=_tail(done.stdout + done.stderr),
            )
        return done

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Call Airflow's public API, e.g. ``call("GET", "/api/v2/dags")``, and return its JSON.

        Raises:
            StepFailed: the API answers with an error.
            OSError: nobody answers.
        """
        if self._token is None:
            login = {"username": USER, "password": self.password}
            self._token = _request("POST", f"{self.url}/auth/token", login, None)["access_token"]
        return _request(method, self.url + path, body, self._token)

    def trigger(self, dag: str, day: date, conf: dict[str, str] | None = None) -> str:
        """Start ``dag`` for ``day`` (its partition key) and return the run's id."""
        body = {"logical_date": None, "partition_key": str(day), "conf": conf or {}}
        return self.call("POST", f"/api/v2/dags/{dag}/dagRuns", body)["dag_run_id"]

    def runs(self, dag: str, day: date) -> list[dict[str, Any]]:
        """The runs of ``dag`` for ``day``, oldest first."""
        found = self.call("GET", f"/api/v2/dags/{dag}/dagRuns?order_by=id&limit=100&partition_key_pattern={day}")
        return [run for run in found["dag_runs"] if run["partition_key"] == str(day)]

    def tasks(self, dag: str, run: str) -> list[dict[str, Any]]:
        """The task instances of one run."""
        return self.call("GET", f"/api/v2/dags/{dag}/dagRuns/{run}/taskInstances")["task_instances"]

    def abandon_runs(self) -> list[str]:
        """Mark runs that a killed Airflow left unfinished as failed, so that they hold up no new one.

        Returns:
            Their DAGs and ids, as words.
        """
        abandoned = []
        for dag in DAGS:
            left = self.call("GET", f"/api/v2/dags/{dag}/dagRuns?state=running&state=queued&limit=100")["dag_runs"]
            for run in left:
                self.call("PATCH", f"/api/v2/dags/{dag}/dagRuns/{run['dag_run_id']}", {"state": "failed"})
                abandoned.append(f"{dag} {run['dag_run_id']}")
        return abandoned

    def check_alive(self) -> None:
        """Raise StepFailed if a component has ended."""
        for name, process in self._processes.items():
            if process.poll() is not None:
                log = self._log(name)
                raise StepFailed(
                    f"Airflow's {name} ended with code {process.returncode}",
                    where=f"{log}\n{_tail(log.read_text(encoding='utf-8', errors='replace'))}",
                )

    @property
    def _passwords(self) -> Path:
        return self.root / "passwords.json"

    def _log(self, component: str) -> Path:
        return self.root / "logs" / f"{component}.log"

    def _secrets(self) -> dict[str, str]:
        """Secrets of this home, made up once: sessions and stored connections outlive a restart."""
        path = self.root / "secrets.json"
        if not path.exists():
            made_up = {
                "fernet_key": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
                "jwt_secret": secrets.token_urlsafe(48),
                "secret_key": secrets.token_urlsafe(48),
                "password": secrets.token_urlsafe(12),
            }
            _write_private(path, json.dumps(made_up) + "\n")
        return json.loads(path.read_text(encoding="utf-8"))

    def _take_lock(self) -> None:
        self._lock = FileLock(self.root / ".running.lock", timeout=0)
        try:
            self._lock.acquire()
        except Timeout as busy:
            self._lock = None
            raise UsageError(
                "a local Airflow is already running over this home",
                where=str(self.home.root),
                todo="stop it (Ctrl-C where it was started), or use its UI",
            ) from busy

    def _take_port(self) -> None:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, self.port or 0))
            except OSError as taken:
                raise UsageError(
                    f"port {self.port} can't be used: {taken.strerror}", todo="choose another port"
                ) from taken
            self.port = probe.getsockname()[1]

    def _migrate(self) -> None:
        """Create or upgrade the metadata database; costs seconds, so it's done once per Airflow version."""
        version, done = metadata.version("apache-airflow-core"), self.root / "migrated.txt"
        if done.exists() and done.read_text(encoding="utf-8") == version:
            return
        self.command("db", "migrate")
        done.write_text(version, encoding="utf-8")

    def _spawn(self, name: str, module: tuple[str, ...]) -> subprocess.Popen[bytes]:
        log = self._log(name)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as output:
            return subprocess.Popen(
                [sys.executable, "-m", *module],
                env=self.environment(),
                cwd=self.root,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_end_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509 - one thread
            )

    def _wait_for(self, what: str, ready: Callable[[], bool]) -> None:
        patience = time.monotonic() + SECONDS_TO_START
        while not ready():
            self.check_alive()
            if time.monotonic() > patience:
                raise StepFailed(
                    f"Airflow did not get {what} ready in {SECONDS_TO_START} seconds",
                    where=str(self.root / "logs"),
                )
            time.sleep(SECONDS_BETWEEN_LOOKS)

    def _is_up(self) -> bool:
        try:
            health = _request("GET", f"{self.url}/api/v2/monitor/health", None, None)
        except (OSError, StepFailed):
            return False
        return all(health[part]["status"] == "healthy" for part in ("metadatabase", "scheduler", "dag_processor"))

    def _make_pool(self) -> None:
        pools = self.call("GET", "/api/v2/pools?limit=100")["pools"]
        if WRITER_POOL not in {pool["name"] for pool in pools}:
            only_one = {"name": WRITER_POOL, "slots": 1, "description": "One writer at a time per home"}
            self.call("POST", "/api/v2/pools", only_one)

    def _has_dags(self) -> bool:
        broken = self.call("GET", "/api/v2/importErrors")["import_errors"]
        if broken:
            raise StepFailed(f"Airflow can't import {broken[0]['filename']}", where=_tail(broken[0]["stack_trace"]))
        known = {dag["dag_id"] for dag in self.call("GET", "/api/v2/dags?limit=100")["dags"]}
        return known.issuperset(DAGS)


def _settings(airflow: LocalAirflow, kept: dict[str, str]) -> dict[str, dict[str, str]]:
    """What differs from Airflow's defaults, by section."""
    root = airflow.root
    return {
        "core": {
            "dags_folder": str(airflow.project.root / "dags"),
            "plugins_folder": str(root / "plugins"),
            "executor": "LocalExecutor",
            "parallelism": "2",
            "load_examples": "False",
            "dags_are_paused_at_creation": "False",
            "fernet_key": kept["fernet_key"],
            "execution_api_server_url": f"{airflow.url}/execution/",
            "simple_auth_manager_users": f"{USER}:admin",
            "simple_auth_manager_passwords_file": str(airflow._passwords),
        },
        "database": {"sql_alchemy_conn": f"sqlite:///{root / 'airflow.db'}"},
        "logging": {
            "base_log_folder": str(root / "logs"),
            "dag_processor_child_process_log_directory": str(root / "logs" / "dag_processor"),
            "colored_console_log": "False",
        },
        "api": {
            "host": LOOPBACK,
            "port": str(airflow.port),
            "base_url": airflow.url,
            "secret_key": kept["secret_key"],
            "instance_name": "Strataflow",
        },
        "api_auth": {"jwt_secret": kept["jwt_secret"]},
        # A task here takes a second or two: look for the next one often, and notice its end at once.
        "scheduler": {"scheduler_idle_sleep_time": "0.2", "task_instance_heartbeat_timeout": "60"},
        "workers": {"min_heartbeat_interval": "1"},
        "usage_data_collection": {"enabled": "False"},
    }


def _end_with_parent() -> None:
    """In a child: be told to end when the parent dies, however it dies (Linux's PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


def _request(method: str, url: str, body: dict[str, Any] | None, token: str | None) -> dict[str, Any]:
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers=headers, method=method)  # noqa: S310 - loopback
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=30) as answer:
            return json.loads(answer.read() or b"{}")
    except urllib.error.HTTPError as refused:
        said = refused.read().decode(errors="replace")[:2000]
        raise StepFailed(f"Airflow's API answered {refused.code}: {said}", where=f"{method} {url}") from refused


@contextmanager
def _open_private(path: Path) -> Iterator[Any]:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        yield file


def _write_private(path: Path, text: str) -> None:
    with _open_private(path) as file:
        file.write(text)


def _tail(text: str, lines: int = 15) -> str:
    return "\n".join(text.strip().splitlines()[-lines:])
