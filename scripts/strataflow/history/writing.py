"""Parquet of the history tables: the same rows give the same bytes, and few of them.

A customer's class seldom changes, so what a daily snapshot costs is its ids.
They are sorted and written as differences to the one before; all other columns
have a handful of values and are written as numbers into a dictionary.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from strataflow.durable import sha256, sync

if TYPE_CHECKING:
    import duckdb

ROW_GROUP = 1 << 20
COMPRESSION_LEVEL = 3


def write_parquet(connection: duckdb.DuckDBPyConnection, query: str, path: Path) -> dict[str, Any]:
    """Write the rows of ``query``, which must be in a fixed order, to a new file at ``path``.

    Returns:
        rows, bytes and sha256 of the file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    reader = connection.sql(query).to_arrow_reader(ROW_GROUP)
    names = reader.schema.names
    rows, waiting = 0, pa.Table.from_batches([], schema=reader.schema)
    with pq.ParquetWriter(
        path,
        reader.schema,
        compression="zstd",
        compression_level=COMPRESSION_LEVEL,
        use_dictionary=[name for name in names if name != "customer_id"],
        column_encoding={"customer_id": "DELTA_BYTE_ARRAY"} if "customer_id" in names else None,
    ) as writer:
        for batch in reader:
            waiting = pa.concat_tables([waiting, pa.Table.from_batches([batch])])
            while waiting.num_rows >= ROW_GROUP:
                writer.write_table(waiting.slice(0, ROW_GROUP), row_group_size=ROW_GROUP)
                waiting = waiting.slice(ROW_GROUP)
                rows += ROW_GROUP
        rows += waiting.num_rows
        writer.write_table(waiting.combine_chunks(), row_group_size=ROW_GROUP)
    path.chmod(0o444)
    sync(path)
    return {"rows": rows, "bytes": path.stat().st_size, "sha256": sha256(path)}
