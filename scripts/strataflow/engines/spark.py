"""Spark as the engine: the same dbt models on a cluster, for a shop that one machine can't hold.

The lake and the kept ledgers are read where they lie, every table is written
as Parquet into the build's scratch folder, so the home has to be on storage
that the driver and all workers see under the same path. At the end the tables
are gathered into the build's DuckDB file, with the seeds and views that dbt
defines there, so that ledgers, gates and publishing stay the same program.

The cluster is the one ``$STRATAFLOW_SPARK_MASTER`` names (``spark://host:7077``),
tuned by a ``spark-defaults.conf`` in ``$SPARK_CONF_DIR`` as any Spark program is.
Without it a small one is started on this machine for the length of the build.
"""

from __future__ import annotations

import os
import socket
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from strataflow.dbt_call import environment, manifest, run_dbt
from strataflow.engines import duckdb as duckdb_engine
from strataflow.engines.cluster import LocalCluster, spark_home
from strataflow.errors import StepFailed
from strataflow.project import canonical_tables

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from strataflow.engines import Work
    from strataflow.home import Home
    from strataflow.project import Table

# The dbt profile's schema, and the one its sources name.
_SCHEMA = "main"
_LAKE = "lake"
_RECEIVED = "received_date"

_SPARK_TYPES = {"varchar": "string", "timestamp": "timestamp_ntz"}
_DUCKDB_TYPES = {spark: duckdb for duckdb, spark in _SPARK_TYPES.items()}

# What a build needs of any cluster; memory and cores are the cluster's own settings.
_SETTINGS = {
    "spark.ui.showConsoleProgress": "false",
    # Tables live as long as the build: no metastore to set up, nothing left behind in one
    "spark.sql.catalogImplementation": "in-memory",
    "spark.sql.session.timeZone": "UTC",
    # A year of days is a few hundred folders; looking into them takes longer as a Spark job
    "spark.sql.sources.parallelPartitionDiscovery.threshold": "10000",
}

_SECONDS_TO_ANSWER = 10

_LOGGING = """\
rootLogger.level = warn
rootLogger.appenderRef.file.ref = file
appender.file.type = File
appender.file.name = file
appender.file.fileName = {log}
appender.file.append = false
appender.file.layout.type = PatternLayout
appender.file.layout.pattern = %d{{yy/MM/dd HH:mm:ss}} %p %c{{1}}: %m%n%ex
"""


@dataclass(frozen=True)
class _Written:
    """A table that Spark wrote: column names with DuckDB types in the order to keep, and where its files lie."""

    name: str
    columns: dict[str, str]
    partitioned_by: tuple[str, ...]
    folder: Path


@contextmanager
def ready(home: Home, scratch: Path) -> Iterator[None]:
    """A session for the builds inside; a program that has one open lends it, and keeps it.

    Raises:
        UsageError: pyspark, its dbt adapter or Java is not installed.
        StepFailed: the cluster does not answer.
    """
    spark_home()
    from pyspark.sql import SparkSession

    if SparkSession.getActiveSession() is not None:
        yield
        return
    log = home.root / "logs" / "spark.log"
    with _cluster(scratch / "cluster") as master, open_session(f"strataflow {scratch.name}", master, log):
        yield


def build_tables(work: Work, *, select: Sequence[str] = ()) -> None:
    """Compute all tables, or the selected ones, on Spark and gather them in ``work.database``.

    Raises:
        StepFailed: a model or a data test failed, or the cluster did.
    """
    from pyspark.sql import SparkSession

    session = SparkSession.active()
    _declare(session, work)
    run_dbt(work.home, work.project, "spark", work.run_vars, select=select, progress=work.progress)
    _gather(work, _written(session, work))
    if not select:
        # Seeds and views are dbt's own; they come from the same project, only for the other engine.
        duckdb_engine.build_tables(
            replace(work, progress=None),
            select=("config.materialized:seed", "config.materialized:view"),
            tests=False,
        )


@contextmanager
def open_session(name: str, master: str, log: Path) -> Iterator[SparkSession]:
    """A session of its own on the cluster of ``master``; at the end it is gone, with its JVM.

    Args:
        name: what the cluster's pages call it.
        master: address of the cluster.
        log: file for what Spark says, written anew.

    Raises:
        StepFailed: there is no such cluster, or it can't be used.
    """
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException
    from pyspark.sql import SparkSession

    _refuse_silent(master)
    builder = SparkSession.builder.master(master).appName(name)
    for setting, value in {**_SETTINGS, "spark.driver.extraJavaOptions": _driver_options(log)}.items():
        builder = builder.config(setting, value)
    try:
        with warnings.catch_warnings():
            # It imports a part for pandas, unused here, that warns about a pandas newer than itself
            warnings.simplefilter("ignore", FutureWarning)
            session = builder.getOrCreate()
    except (PySparkException, Py4JError) as broken:
        raise StepFailed(
            f"no Spark session could be opened on {master}",
            where=str(log),
            todo="see whether the cluster is up and of the same Spark version, then build again",
        ) from broken
    try:
        yield session
    finally:
        _end(session)


def _refuse_silent(master: str) -> None:
    """Spark itself asks a master that isn't there for a minute, and then says something else."""
    if not master.startswith("spark://"):
        return
    for address in master.removeprefix("spark://").split(","):
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host, int(port)), timeout=_SECONDS_TO_ANSWER).close()
        except (OSError, ValueError):
            continue
        return
    raise StepFailed(
        f"no Spark master answers at {master}",
        where="STRATAFLOW_SPARK_MASTER",
        todo="start the cluster or correct the address; without the setting a small cluster is started here",
    )


@contextmanager
def _cluster(folder: Path) -> Iterator[str]:
    """The address of a master; around it the environment in which a driver finds its settings."""
    given = os.environ.get("STRATAFLOW_SPARK_MASTER")
    if given:
        yield given
        return
    with LocalCluster(folder) as cluster, environment({"SPARK_CONF_DIR": str(cluster.settings)}):
        yield cluster.url


def _driver_options(log: Path) -> str:
    """Java options that let the driver log to a file; its console is where people read results."""
    log.parent.mkdir(parents=True, exist_ok=True)
    properties = log.with_suffix(".log4j2.properties")
    properties.write_text(_LOGGING.format(log=log), encoding="utf-8")
    return f"-Dlog4j2.configurationFile=file:{properties}"


def _end(session: SparkSession) -> None:
    """Stop the session and its JVM, which pyspark would keep, with all its memory, for the process's life."""
    from pyspark import SparkContext

    session.stop()
    gateway = SparkContext._gateway
    SparkContext._gateway = SparkContext._jvm = None
    if gateway is not None:
        gateway.shutdown()
        gateway.proc.stdin.close()
        gateway.proc.wait()


def _declare(session: SparkSession, work: Work) -> None:
    """Name what dbt works with: a schema for its tables, and each canonical table over its partitions in the lake."""
    for schema in (_SCHEMA, _LAKE):
        session.sql(f"drop schema if exists {schema} cascade")
        session.sql(f"create schema {schema} location '{work.scratch / schema}'")
    for name, table in canonical_tables(work.project).items():
        landed = name in work.run_vars["landed_tables"]
        folder = work.home.lake / name if landed else work.scratch / "nothing_landed" / name
        session.sql(
            f"create table {_LAKE}.{name} ({_columns(table)}, {_RECEIVED} date) using parquet "
            f"partitioned by ({_RECEIVED}) location '{folder}'"
        )
        if landed:
            session.sql(f"msck repair table {_LAKE}.{name}")


def _columns(table: Table) -> str:
    return ", ".join(
        f"{column.name} {_SPARK_TYPES.get(column.data_type, column.data_type)}" for column in table.columns
    )


def _written(session: SparkSession, work: Work) -> list[_Written]:
    """The tables that dbt's models became, as the catalog knows them."""
    there = {table.name for table in session.catalog.listTables(_SCHEMA)}
    return [
        _written_table(session, work, node)
        for node in manifest(work.home, "spark")["nodes"].values()
        if node["resource_type"] == "model" and node["config"]["materialized"] == "table" and node["name"] in there
    ]


def _written_table(session: SparkSession, work: Work, node: dict[str, Any]) -> _Written:
    name = node["name"]
    found = session.catalog.listColumns(f"{_SCHEMA}.{name}")
    types = {column.name: _DUCKDB_TYPES.get(column.dataType, column.dataType) for column in found}
    # With a contract the table has its columns in the contract's order; Spark moves partition columns to the end
    order = list(node["columns"]) if node["config"]["contract"]["enforced"] else list(types)
    return _Written(
        name=name,
        columns={column: types[column] for column in order},
        partitioned_by=tuple(column.name for column in found if column.isPartition),
        folder=work.scratch / _SCHEMA / name,
    )


def _gather(work: Work, tables: list[_Written]) -> None:
    """Load what Spark wrote into the build's DuckDB file."""
    import duckdb

    settings = {
        "memory_limit": os.environ.get("STRATAFLOW_MEMORY_LIMIT", "6GB"),
        "preserve_insertion_order": "false",
        "temp_directory": str(work.scratch / "spill"),
    }
    with duckdb.connect(str(work.database), config=settings) as connection:
        for table in tables:
            columns = ", ".join(f'"{name}" {kind}' for name, kind in table.columns.items())
            connection.execute(f'create table "{table.name}" ({columns})')
            # A table without a row may have no file at all
            if next(table.folder.rglob("*.parquet"), None) is not None:
                connection.execute(f'insert into "{table.name}" by name select * from {_files(table)}')


def _files(table: _Written) -> str:
    types = ", ".join(f"'{column}': {table.columns[column]}" for column in table.partitioned_by)
    partitions = f"hive_partitioning = true, hive_types = {{{types}}}" if types else "hive_partitioning = false"
    return f"read_parquet('{table.folder}/**/*.parquet', {partitions})"
