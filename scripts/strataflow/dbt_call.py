"""One call of dbt, in this process, for one target of the project's profile.

Both engines go through here: what differs between them is where dbt writes and
what must be there before it starts. dbt is imported on call; importing it takes
seconds.
"""

from __future__ import annotations

import gc
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import TYPE_CHECKING, Any

from strataflow.errors import StepFailed
from strataflow.home import Home
from strataflow.project import Project

if TYPE_CHECKING:
    from dbt.contracts.graph.manifest import Manifest

Progress = Callable[[str, int, int], None]
LOG = "dbt.log"
LOG_BYTES = 10 << 20

# A message of Spark goes on with the plan or the stack of the JVM; dbt's log has all of it.
_LONGEST_MESSAGE = 600


def run_dbt(
    home: Home,
    project: Project,
    target: str,
    run_vars: Mapping[str, Any],
    *,
    variables: Mapping[str, str] | None = None,
    select: Sequence[str] = (),
    tests: bool = True,
    progress: Progress | None = None,
) -> None:
    """Run ``dbt build`` without its unit tests, which judge the rules and not the data.

    Args:
        home: gets dbt's log and, per target, its artefacts.
        project: holds the dbt project with its profile.
        target: an output of the profile.
        run_vars: what the run is about, over the vars of ``dbt_project.yml``.
        variables: environment variables that the profile reads, set during the call only.
        select: dbt's selection of nodes; all of them if empty.
        tests: also run the data tests of what is built.
        progress: called with each finished node.

    Raises:
        StepFailed: a model or a data test failed; the message names each.
    """
    from dbt.cli.main import dbtRunner

    logs = home.root / "logs"
    excluded = ["unit_test"] if tests else ["unit_test", "test"]
    arguments = [
        "--quiet", "--log-level", "none", "--log-level-file", "none", "--log-path", str(logs), "--no-use-colors",
        "--no-send-anonymous-usage-stats", "--no-version-check", "build", "--target", target,
        *(f"--exclude-resource-type={kind}" for kind in excluded),
        "--project-dir", str(project.dbt), "--profiles-dir", str(project.dbt),
        "--target-path", str(artefacts(home, target)), "--vars", json.dumps(dict(run_vars)),
    ]  # fmt: skip
    if select:
        arguments += ["--select", *select]
    told = [_reporter(progress)] if progress else []
    with (
        environment(variables or {}),
        _logging(logs / LOG) as logged,
        _without_inner_steps(),
        _without_collection(),
        _parsed(artefacts(home, target), target, project, run_vars) as parsed,
    ):
        if parsed.is_described:
            arguments.append("--no-write-json")
        outcome = dbtRunner(manifest=parsed.manifest, callbacks=[logged, *told]).invoke(arguments)
    if isinstance(outcome.exception, KeyboardInterrupt):
        raise outcome.exception
    if not outcome.success:
        raise StepFailed(
            "dbt could not build the tables:\n  " + "\n  ".join(_failures(outcome)),
            where=str(project.dbt),
            todo=f"mend the model or the rule named above; more is in {logs / LOG}, the SQL below "
            f"{artefacts(home, target)}",
        )
    # dbt writes its own account of a run only with its whole manifest, which is not written every day
    took = {result.node.unique_id: round(result.execution_time, 3) for result in outcome.result.results}
    node_seconds(home, target).write_text(json.dumps(took, indent=1), encoding="utf-8")


def node_seconds(home: Home, target: str) -> Path:
    """What each node of the last run for a target took, in seconds by dbt's id of the node."""
    return artefacts(home, target) / "node_seconds.json"


def compile_models(
    home: Home, project: Project, place: str, run_vars: Mapping[str, Any], names: Sequence[str] = ()
) -> dict[str, dict[str, Any]]:
    """Nodes of dbt's manifest by name; those of models have their SQL as ``compiled_code``.

    The SQL is DuckDB's, for a database called ``memory``.

    Args:
        place: name of a folder of artefacts, apart from those of the builds.
        run_vars: as for a build.
        names: models and seeds; all if empty.

    Raises:
        StepFailed: dbt can't compile the project.
    """
    from dbt.cli.main import dbtRunner

    logs = home.root / "logs"
    arguments = [
        "--quiet", "--log-level", "none", "--log-path", str(logs), "--no-use-colors",
        "--no-send-anonymous-usage-stats", "--no-version-check", "compile", "--target", "duckdb",
        "--indirect-selection", "empty", "--project-dir", str(project.dbt), "--profiles-dir", str(project.dbt),
        "--target-path", str(artefacts(home, place)), "--vars", json.dumps(dict(run_vars)),
    ]  # fmt: skip
    if names:
        arguments += ["--select", *names]
    memory = {"STRATAFLOW_BUILD_DB": ":memory:"}
    with (
        environment(memory),
        _without_collection(),
        _parsed(artefacts(home, place), "duckdb", project, run_vars) as parsed,
    ):
        if parsed.manifest:
            arguments.append("--no-write-json")
        outcome = dbtRunner(manifest=parsed.manifest).invoke(arguments)
    if not outcome.success:
        raise StepFailed(
            "dbt could not compile the models:\n  " + "\n  ".join(_failures(outcome)),
            where=str(project.dbt),
            todo=f"mend the model or the rule named above; dbt's own log is {logs / LOG}",
        )
    if parsed.manifest:  # dbt leaves what it compiled in the manifest it was given
        found = [
            node.to_dict(omit_none=False) for node in parsed.manifest.nodes.values() if not names or node.name in names
        ]
    else:
        found = manifest(home, place)["nodes"].values()
    return {node["name"]: node for node in found if not names or node["name"] in names}


def artefacts(home: Home, target: str) -> Path:
    """Folder of dbt's manifest for a target; one per target, so that each keeps its parsed project."""
    return home.root / "dbt" / target


def manifest(home: Home, target: str) -> dict[str, Any]:
    """The manifest that dbt left for ``target``; it tells of the project as it is, its SQL may be of an earlier day."""
    return json.loads((artefacts(home, target) / "manifest.json").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class _Parsed:
    """The project as dbt parsed it before, if it did, and whether ``manifest.json`` already tells of it.

    Writing that file takes an eighth of a small shop's build, and what is read from it depends on no day.
    """

    manifest: Manifest | None
    is_described: bool


@contextmanager
def _parsed(folder: Path, target: str, project: Project, run_vars: Mapping[str, Any]) -> Iterator[_Parsed]:
    """The project as dbt parsed it the last time, nothing where it has changed since or never was.

    dbt itself parses anew whenever a var differs, and the day always does, which takes longer than
    building a small shop. What a day's vars change in the parsed project is which models read which:
    that depends on the tables landed, on whether a churn model is there, and on optional models switched on by
    the call instead of by ``dbt_project.yml``, and on nothing else of them.
    It is kept beside the folders of dbt's artefacts, or for all homes together in ``$STRATAFLOW_DBT_CACHE``.
    """
    of_project = f"parsed-{target}-{_project_key(project)}-"
    kept = Path(os.environ.get("STRATAFLOW_DBT_CACHE") or folder.parent) / f"{of_project}{_reads_key(run_vars)}"
    described, fresh = folder / kept.name.replace("parsed", "described"), folder / "partial_parse.msgpack"
    # The manifest tells of all homes alike; another place than the target's is for another database.
    shared = (
        kept.with_name(f"{described.name}.json") if kept.parent != folder.parent and folder.name == target else None
    )
    if not described.is_file():  # whatever is there tells of another project, also if this call is interrupted
        for outdated in (folder / "manifest.json", *folder.glob("described-*")):
            outdated.unlink(missing_ok=True)
        if shared and shared.is_file() and kept.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(shared, folder / "manifest.json")
            described.touch()
    parsed = _taken_up(kept, project)
    if parsed:
        yield _Parsed(parsed, described.is_file())
    else:
        of_others = [path for path in folder.parent.glob(f"parsed-{target}-*") if not path.name.startswith(of_project)]
        for outdated in (fresh, *of_others):
            outdated.unlink(missing_ok=True)
        yield _Parsed(None, is_described=False)
        if fresh.is_file():
            os.replace(fresh, folder.parent / kept.name)
            _share(folder.parent / kept.name, kept)
    if (folder / "manifest.json").is_file():
        described.touch()
        if shared and not shared.is_file():
            _share(folder / "manifest.json", shared)


def _taken_up(kept: Path, project: Project) -> Manifest | None:
    """A kept project as it would be parsed here, None if there is none.

    Of the project's place dbt keeps only from where it reads seeds; names of relations begin with the database.
    """
    from dbt.contracts.graph.manifest import Manifest
    from dbt.parser.manifest import extended_mashumuro_decoder

    try:
        manifest = Manifest.from_msgpack(kept.read_bytes(), decoder=extended_mashumuro_decoder)
    except FileNotFoundError:
        return None
    database = Path(os.environ.get("STRATAFLOW_BUILD_DB", "")).stem.strip(":")
    for node in (*manifest.nodes.values(), *manifest.sources.values()):
        if node.resource_type == "seed":
            node.root_path = str(project.dbt)
        if database and node.database and node.database != database:
            if node.relation_name:
                node.relation_name = node.relation_name.replace(f'"{node.database}".', f'"{database}".', 1)
            node.database = database
    manifest.build_flat_graph()
    return manifest


def _share(own: Path, shared: Path) -> None:
    """Keep a file of a home where all homes look for it."""
    if shared != own:
        copied = shared.with_name(f".{os.getpid()}-{shared.name}")
        shutil.copyfile(own, copied)
        os.replace(copied, shared)


def _project_key(project: Project) -> str:
    """Digest of what dbt parses, and of the dbt that does."""
    from dbt.version import __version__

    from strataflow.rules import project_hash

    return hashlib.sha256(f"{__version__} {project_hash(project)}".encode()).hexdigest()[:16]


def _reads_key(run_vars: Mapping[str, Any]) -> str:
    """Digest of what of a run decides which model reads which."""
    reads = [
        sorted(run_vars.get("landed_tables", ())), bool(run_vars.get("churn_scoring_sql")), run_vars.get("clusters"),
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(reads).encode()).hexdigest()[:16]


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for a while, for programs that can be told in no other way."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _logging(path: Path) -> Iterator[Callable[[Any], None]]:
    """A dbt event callback that keeps the end of each node, warnings and errors in a file that people can read.

    The file that dbt would write also tells each of its inner steps, thousands of lines that take a tenth of a
    small shop's build.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = RotatingFileHandler(path, maxBytes=LOG_BYTES, backupCount=1, encoding="utf-8", delay=True)
    levels = {"info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}

    def log(event: Any) -> None:
        level = levels.get(event.info.level)
        if level and not event.info.name.endswith("Start"):
            text = f"{event.info.ts.ToJsonString()} {event.info.level:<5} {event.info.msg}"
            handler.emit(logging.LogRecord("dbt", level, str(path), 0, text, None, None))

    try:
        yield log
    finally:
        handler.close()


@contextmanager
def _without_inner_steps() -> Iterator[None]:
    """Let dbt not make messages of its inner steps: thousands that nobody is shown, a tenth of a small shop's build."""
    from dbt_common.events.base_types import BaseEvent, EventLevel
    from dbt_common.events.event_manager import EventManager
    from dbt_common.events.event_manager_client import ctx_set_event_manager, get_event_manager

    class ForPeople(EventManager):
        def fire_event(self, e: BaseEvent, level: EventLevel | None = None, *more: Any, **named: Any) -> None:
            if (level or e.level_tag()) != EventLevel.DEBUG:
                super().fire_event(e, level, *more, **named)

    before = get_event_manager()
    ctx_set_event_manager(ForPeople())
    try:
        yield
    finally:
        ctx_set_event_manager(before)


@contextmanager
def _without_collection() -> Iterator[None]:
    """Let Python not look for cycles meanwhile: dbt's objects live as long as its call, looking takes a tenth of it."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _reporter(progress: Progress) -> Callable[[Any], None]:
    """A dbt event callback that reports each finished node."""

    def report(event: Any) -> None:
        if event.info.name in {"LogModelResult", "LogSeedResult", "LogTestResult"}:
            of_tests = event.info.name == "LogTestResult"
            progress("build", int(event.data.index), int(event.data.num_models if of_tests else event.data.total))

    return report


def _failures(outcome: Any) -> list[str]:
    """The failing nodes of a dbt run, one line each."""
    if outcome.exception is not None:
        return [_one_line(outcome.exception)]
    return [
        f"{result.node.resource_type} {result.node.name}: {_one_line(result.message or '')}"
        for result in getattr(outcome.result, "results", ())
        if str(result.status) in {"error", "fail", "runtime error"}
    ] or ["no node failed, yet the run did"]


def _one_line(message: object) -> str:
    text = " ".join(str(message).partition("JVM stacktrace:")[0].split())
    return text if len(text) <= _LONGEST_MESSAGE else f"{text[:_LONGEST_MESSAGE]} …"
