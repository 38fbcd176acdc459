"""What the published tables of a day hold about customers, collected by customer.

Each table is asked once for all customers wanted, so that a thousand explanations cost
little more than one. Numbers and keys are handed on as published; names come from the
seeds that are published beside them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from strataflow.errors import StrataflowError, UsageError
from strataflow.explain.since import tagged_since
from strataflow.publish import current_version, published_days, read_manifest, version_of
from strataflow.sqltext import named

if TYPE_CHECKING:
    import duckdb

    from strataflow.home import Home

Row = dict[str, Any]

TABLE = "customer_explanations"
MEASURES = {"recency": "recency_days", "frequency": "frequency", "monetary": "monetary"}
LADDERS = ("ecommerce", "high_ticket", "activity")
CUTOFFS = ("cutoff_1", "cutoff_2", "cutoff_3", "cutoff_4")
# The stages of the activity ladder that any activity ends.
INACTIVE = ("silent", "churned")
# What became of a statement of staff that is neither in force nor among the conflicts.
SETTLED = ("removed", "expired", "queued", "not_yet")
_NEAREST = 3
_DAYS_TOLD = 5


def explain(home: Home, customer_id: str, day: date | None = None) -> Row:
    """Everything that is published of one customer on a day, with the reasons.

    Args:
        day: a published day; by default the one readers see.

    Returns:
        As :func:`explained` for this customer; tags that the data gave have their ``since_date`` filled from the
        published days, and ``may_be_longer`` where it is the first of them.

    Raises:
        UsageError: nothing is published, not that day, not with explanations, or nothing of that customer,
            who may have been erased.
    """
    version = _version(home, day)
    found = explained(version, [customer_id])
    if customer_id not in found:
        raise _erased(version, customer_id) if _was_erased(home, customer_id) else _unknown(version, customer_id)
    told = found[customer_id]
    since = tagged_since(home, customer_id, told["as_of"])
    for tag in told["tags"]:
        if tag["source"] == "automatic" and (known := since.get((tag["tag_id"], tag["tag_value"]))):
            tag |= {"since_date": known.day, "may_be_longer": known.is_first_published}
    return told


def explained(version: Path, customer_ids: Iterable[str]) -> dict[str, Row]:
    """The explanations of those of the customers whom a published version knows, by id.

    Args:
        version: the version's folder, resolved.

    Returns:
        Per customer: customer_id, as_of, known_at, version, currency, is_holdout; rfm_class (key, names, stance,
        next), measures (value, score, is_high, cut-offs and means in force, what is missing, when it is lost),
        value_tier, stages (per ladder, with next), tags, tags_lost, churn, lifetime_value. Money and
        cut-offs are decimals, days are dates; what does not apply is None.

    Raises:
        UsageError: the version was published before there were explanations.
    """
    manifest = read_manifest(version)
    if TABLE not in manifest["tables"]:
        raise UsageError(
            f"the published version of {manifest['as_of']} has no table {TABLE}: it was made before there was one",
            where=str(version),
            todo=f"strataflow run --skip-land --date {manifest['as_of']}",
        )
    with _opened(version) as connection:
        reader = _Reader(connection, manifest, list(dict.fromkeys(customer_ids)))
        return {row["customer_id"]: _explanation(reader, version.name, row) for row in reader.main}


class _Reader:
    """The rows of some customers in every table that an explanation draws on, each table read once."""

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, manifest: Mapping[str, Any], customers: list[str]
    ) -> None:
        self.manifest = manifest
        self._connection, self._customers = connection, customers
        self._tables = {name for (name,) in connection.execute("select table_name from duckdb_tables()").fetchall()}
        segments = {row["customer_id"]: row for row in self._rows("customer_segments")}
        self.main = [segments[row["customer_id"]] | row for row in self._rows(TABLE)]
        self.tags = self._by_customer("customer_tags", "tag_group, tag_id")
        self.conflicts = self._by_customer("tag_conflicts", "tag_group, tag_id, source")
        self.statements = self._by_customer("manual_tag_outcomes", "tagged_at, tag_text")
        self.risks = self._by_customer("churn_risk")
        self.values = self._by_customer("customer_lifetime_value")
        self.cutoffs = {row["measure"]: row for row in self._all("rfm_cutoffs")}
        self.classes = {row["rfm_class"]: row for row in self._all("rfm_classes")}
        self.tiers = {row["value_tier"]: row for row in self._all("value_tiers")}
        self.stages = {(row["ladder"], row["stage"]): row for row in self._all("lifecycle_stages")}
        self.words = {row["tag_id"]: row for row in self._all("tag_dictionary")}
        self.model = next((row for row in self._all("churn_model_card") if row["is_used"]), None)

    def _by_customer(self, table: str, order: str = "customer_id") -> dict[str, list[Row]]:
        found: dict[str, list[Row]] = defaultdict(list)
        if table in self._tables:
            for row in self._rows(table, order):
                found[row["customer_id"]].append(row)
        return found

    def _rows(self, table: str, order: str = "customer_id") -> list[Row]:
        wanted = "customer_id in (select unnest($customers))"
        return _fetched(
            self._connection.execute(
                f"select * from {named(table)} where {wanted} order by {order}", {"customers": self._customers}
            )
        )

    def _all(self, table: str) -> list[Row]:
        return _fetched(self._connection.execute(f"from {named(table)}"))


def _fetched(cursor: duckdb.DuckDBPyConnection) -> list[Row]:
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def _explanation(reader: _Reader, version: str, row: Row) -> Row:
    customer, manifest = row["customer_id"], reader.manifest
    return {
        "customer_id": customer,
        "as_of": row["as_of_date"],
        "known_at": date.fromisoformat(manifest["known_at"]),
        "version": version,
        "currency": manifest["shop"]["currency"],
        "is_holdout": row["is_holdout"],
        "lifetime_orders": row["lifetime_orders"],
        "rfm_class": _class(reader, row),
        "measures": [_measure(reader, row, measure) for measure in MEASURES],
        "value_tier": _tier(reader, row),
        "stages": [_stage(reader, row, ladder) for ladder in LADDERS],
        "tags": [_tag(reader, tag) for tag in reader.tags[customer]],
        "tags_lost": [*_lost(reader, reader.conflicts[customer]), *_settled(reader, reader.statements[customer])],
        "churn": _churn(reader, row),
        "lifetime_value": next(iter(reader.values[customer]), None),
    }


def _class(reader: _Reader, row: Row) -> Row:
    following = None
    if row["next_rfm_class"]:
        following = {
            **_named(reader.classes, row["next_rfm_class"]),
            "orders": row["next_rfm_class_orders"],
            "amount": row["next_rfm_class_amount"],
            "by_date": row["next_rfm_class_by_date"],
        }
    found = reader.classes.get(row["rfm_class"], {})
    return {**_named(reader.classes, row["rfm_class"]), "stance": found.get("stance"), "next": following}


def _measure(reader: _Reader, row: Row, measure: str) -> Row:
    """One of the three measures: the customer's value and score, and what they were compared with."""
    limits = reader.cutoffs[measure]
    missing = {
        "frequency": {"missing": row["frequency_orders_missing"]},
        "monetary": {"missing": row["monetary_amount_missing"]},
        "recency": {"lost_date": row["recency_lost_date"], "lost_in_days": row["recency_lost_in_days"]},
    }
    return {
        "measure": measure,
        "value": row[MEASURES[measure]],
        "score": row[f"{measure}_score"],
        "is_high": row[f"{measure}_is_high"],
        "cutoffs": [limits[name] for name in CUTOFFS if limits[name] is not None],
        "mean_score": limits["mean_score"],
        "mean_value": limits["mean_value"],
        "method": limits["method"],
        "high_rule": limits["high_rule"],
        "high_score_at_least": reader.manifest["rules"]["vars"].get("high_score_at_least"),
        **missing[measure],
    }


def _tier(reader: _Reader, row: Row) -> Row:
    following = None
    if row["next_value_tier"]:
        following = {
            **_named(reader.tiers, row["next_value_tier"]),
            "amount": row["next_value_tier_amount"],
            "by_date": row["next_value_tier_by_date"],
        }
    return {**_named(reader.tiers, row["value_tier"]), "monetary": row["monetary"], "next": following}


def _stage(reader: _Reader, row: Row, ladder: str) -> Row:
    stage, following = row[f"{ladder}_stage"], row[f"next_{ladder}_stage"]
    names = {key: told for (of, key), told in reader.stages.items() if of == ladder}
    told = None
    if following:
        takes = ("orders", "interactions", "date")
        columns = {"date": f"next_{ladder}_stage_date"} | {each: f"next_{ladder}_stage_{each}" for each in takes[:2]}
        told = {**_named(names, following), **{each: row[columns[each]] for each in takes if columns[each] in row}}
    return {
        "ladder": ladder,
        **_named(names, stage),
        "definition": names.get(stage, {}).get("definition"),
        "next": told,
        "again": _named(names, "active") if ladder == "activity" and stage in INACTIVE else None,
    }


def _tag(reader: _Reader, tag: Row) -> Row:
    """A tag in force: every column that the table has of it, with its names."""
    kept = {name: value for name, value in tag.items() if name not in ("customer_id", "as_of_date")}
    return {**_tag_names(reader, tag["tag_id"]), **kept}


def _lost(reader: _Reader, conflicts: Iterable[Row]) -> Iterator[Row]:
    for tag in conflicts:
        yield {**_tag(reader, tag), "against": tag["against_tag_id"] and _tag_names(reader, tag["against_tag_id"])}


def _settled(reader: _Reader, statements: Iterable[Row]) -> Iterator[Row]:
    """What staff said and took back, let end, or wrote in words that nobody has a tag for."""
    for said in statements:
        if said["outcome"] in SETTLED and said["action"] == "add":
            names = _tag_names(reader, said["tag_id"]) if said["tag_id"] else {}
            kept = ("tag_id", "tag_value", "tag_text", "tagged_by", "tagged_at", "reason", "expires_at")
            yield {
                **names,
                **{name: said[name] for name in kept},
                "source": "manual",
                "conflict": said["outcome"],
                "against": None,
            }


def _churn(reader: _Reader, row: Row) -> Row | None:
    if row["churn_probability"] is None:
        return None
    listed = next(iter(reader.risks[row["customer_id"]]), {})
    return {
        "probability": row["churn_probability"],
        "model": reader.model and reader.model["candidate"],
        "horizon_days": reader.model and reader.model["horizon_days"],
        "rank": listed.get("rank"),
        "of": reader.manifest["tables"]["churn_risk"]["rows"],
        "reasons": listed.get("reasons"),
        "suggested_action": listed.get("suggested_action"),
        "suggested_action_zh": listed.get("suggested_action_zh"),
    }


def _named(seed: Mapping[str, Row], key: str) -> Row:
    """A key with its names; a key that the seed lacks is its own name."""
    found = seed.get(key, {})
    return {"key": key, "name_en": found.get("name_en", key), "name_zh": found.get("name_zh", key)}


def _tag_names(reader: _Reader, tag_id: str) -> Row:
    found = reader.words.get(tag_id, {})
    return {
        "tag_id": tag_id,
        "name_en": found.get("name_en", tag_id),
        "name_zh": found.get("name_zh", tag_id),
        "definition": found.get("definition"),
    }


@contextmanager
def _opened(version: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    import duckdb

    with duckdb.connect(str(version / "current.duckdb"), read_only=True) as connection:
        yield connection


def _version(home: Home, day: date | None) -> Path:
    version = version_of(home, day) if day else current_version(home)
    if version is not None:
        return version
    days = published_days(home)
    if not days or day is None:
        raise UsageError("nothing is published yet", where=str(home.published), todo="strataflow run --date YYYY-MM-DD")
    near = sorted(days, key=lambda each: (abs((each - day).days), each))[:_DAYS_TOLD]
    raise UsageError(
        f"{day} is not published; the nearest published days are {_listed(str(each) for each in sorted(near))}",
        where=str(home.published / "days"),
        todo=f"give one of them as --date, or publish it: strataflow run --date {day}",
    )


def _was_erased(home: Home, customer_id: str) -> bool:
    from strataflow.privacy.tombstones import Tombstones

    try:
        return Tombstones.of(home).holds(customer_id)
    except (StrataflowError, OSError):
        # Who reads what is published need have neither the key of that list nor the right to read it.
        return False


def _erased(version: Path, customer_id: str) -> UsageError:
    return UsageError(
        f"customer {customer_id!r} was erased: nothing is kept that could be explained",
        where=str(version),
        todo="see docs/privacy.md; an erasure is not taken back",
    )


def _unknown(version: Path, customer_id: str) -> UsageError:
    """The error for a customer who is not in a version, with the ids that are nearest to the one given."""
    with _opened(version) as connection:
        near = connection.execute(
            "select customer_id from customer_segments order by levenshtein(customer_id, ?), customer_id limit ?",
            [customer_id, _NEAREST],
        ).fetchall()
    nearest = f"; the nearest ids are {_listed(each for (each,) in near)}" if near else ""
    return UsageError(
        f"no customer {customer_id!r} on {version.name[:10]}{nearest}",
        where=str(version),
        todo="check the id; who was erased, or came later, is not in a version",
    )


def _listed(texts: Iterable[str]) -> str:
    listed: Sequence[str] = list(texts)
    return ", ".join(listed)
