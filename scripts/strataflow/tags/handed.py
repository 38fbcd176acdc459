"""What the models need of the vocabulary and can't work out in SQL, as Parquet files for one build.

Folding is Unicode's work, likeness is a search, implications are a closure:
none of them has the same words in every engine. The distinct texts that staff
typed are few, whatever the number of customers, so they are looked up here and
the models join. Rules stay rules: the files are made anew for each build from
the seeds as they are, so an alias added today holds for the rows of the past.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from strataflow.sqltext import quoted
from strataflow.tags.relations import relations
from strataflow.tags.seeds import Period, Rows, read
from strataflow.tags.spelling import fold
from strataflow.tags.vocabulary import Vocabulary, split

if TYPE_CHECKING:
    import pyarrow as pa

    from strataflow.home import Home
    from strataflow.lake import Received
    from strataflow.project import Project

TABLE = "manual_tags"
NEAREST = 3


@dataclass(frozen=True)
class Typed:
    """A text as it was typed, and the business dates of its first and last row."""

    text: str
    first: date
    last: date


def hand_over(home: Home, project: Project, known: Received, as_of: date, folder: Path) -> str | None:
    """Write the files of a build of ``as_of`` into ``folder``, which must not exist.

    Returns:
        The folder, as the models' var ``tag_texts``; None where no manual tag has been received by then.

    Raises:
        UsageError: the vocabulary has problems.
    """
    if TABLE not in known.tables:
        return None
    write(project, typed_texts(home, known.known_at), as_of, folder)
    return str(folder)


def typed_texts(home: Home, known_at: date) -> list[Typed]:
    """The distinct texts received up to and including ``known_at``, in order."""
    import duckdb

    folders = sorted(
        path for path in (home.lake / TABLE).glob("received_date=*") if path.name <= f"received_date={known_at}"
    )
    if not folders:
        return []
    files = ", ".join(quoted(str(path / "*.parquet")) for path in folders)
    with duckdb.connect() as connection:
        rows = connection.execute(
            f"select tag, min(tagged_date), max(tagged_date) from read_parquet([{files}], hive_partitioning = false) "
            "group by tag order by tag"
        ).fetchall()
    return [Typed(*row) for row in rows]


def write(project: Project, texts: Iterable[Typed], as_of: date, folder: Path) -> None:
    """Write what ``texts`` mean and which tags go together: a folder per table, each with one Parquet file.

    ``texts``: one row per text, with its folded word and, if on some day between its first and last row
    nothing is meant by it, the tags nearest to it on ``as_of``. ``meanings``: one row per text and period.
    ``relations``: :func:`strataflow.tags.relations.relations` on ``as_of``.
    """
    rows = read(project)
    vocabulary = Vocabulary.of(rows)
    listed = list(texts)
    _write(folder / "texts", _texts(vocabulary, listed, as_of))
    _write(folder / "meanings", _meanings(vocabulary, listed))
    _write(folder / "relations", _relations(rows, as_of))


def _texts(vocabulary: Vocabulary, texts: list[Typed], as_of: date) -> pa.Table:
    import pyarrow as pa

    columns: dict[str, list[Any]] = {"tag_text": [], "word": []}
    names = [(n, f"nearest_{n}_tag_id", f"nearest_{n}_score", f"nearest_{n}_spelling") for n in range(1, NEAREST + 1)]
    for _, *three in names:
        columns |= {name: [] for name in three}
    for typed in texts:
        columns["tag_text"].append(typed.text)
        columns["word"].append(fold(typed.text))
        near = [] if _is_understood(vocabulary, typed) else vocabulary.nearest(split(typed.text)[0], NEAREST, on=as_of)
        for n, tag_id, score, spelling in names:
            found = near[n - 1] if len(near) >= n else None
            columns[tag_id].append(found.tag_id if found else None)
            columns[score].append(found.score if found else None)
            columns[spelling].append(found.spelling if found else None)
    types = {name: pa.float64() if name.endswith("score") else pa.string() for name in columns}
    return pa.table(columns, schema=pa.schema(list(types.items())))


def _is_understood(vocabulary: Vocabulary, typed: Typed) -> bool:
    """Whether something is meant by the text on every day from its first row to its last."""
    asked = Period(typed.first, typed.last)
    return any(meaning.period.covers(asked) for meaning in vocabulary.meanings(typed.text))


def _meanings(vocabulary: Vocabulary, texts: list[Typed]) -> pa.Table:
    import pyarrow as pa

    said = [(typed.text, meaning) for typed in texts for meaning in vocabulary.meanings(typed.text)]
    columns = {
        "tag_text": pa.array([text for text, _ in said], pa.string()),
        "tag_id": pa.array([meaning.tag_id for _, meaning in said], pa.string()),
        "tag_value": pa.array([meaning.value for _, meaning in said], pa.string()),
        "valid_from": pa.array([_unless(meaning.period.first, date.min) for _, meaning in said], pa.date32()),
        "valid_to": pa.array([_unless(meaning.period.last, date.max) for _, meaning in said], pa.date32()),
    }
    return pa.table(columns)


def _unless(day: date, open_end: date) -> date | None:
    """The day, or nothing where a period is open: not every engine reads the first and last days of all."""
    return None if day == open_end else day


def _relations(rows: Rows, as_of: date) -> pa.Table:
    import pyarrow as pa

    found = relations(rows, as_of)
    columns = {name: [getattr(one, name) for one in found] for name in ("tag_id", "relation", "other_tag_id")}
    return pa.table(columns, schema=pa.schema([(name, pa.string()) for name in columns]))


def _write(folder: Path, table: pa.Table) -> None:
    from pyarrow import parquet

    folder.mkdir(parents=True)
    parquet.write_table(table, folder / f"{folder.name}.parquet")
