"""Which model a day is scored with, and training it when it is not there yet.

Training is weekly, and which week's model a day gets depends on dates alone: the one
trained as of the last Sunday before the day, from what had been received by that
Sunday. A replay of the day, in any order, from an empty home, trains the same model
from the same rows and gives the same bytes. Models are kept in ``models/<day>/`` with
the fingerprint of what they came from; another fingerprint means training again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from strataflow import ledger
from strataflow.durable import json_text, write_json
from strataflow.errors import InputError
from strataflow.home import Home
from strataflow.lake import Received, received
from strataflow.prediction import lifetime_value
from strataflow.prediction.churn import MIN_CUSTOMERS, ChurnModel, Training, train
from strataflow.prediction.features import MACRO_FILES, Ledgers
from strataflow.prediction.lifetime_value import ValueModel
from strataflow.project import Project
from strataflow.rules import variables
from strataflow.sqltext import quoted

CARD, MODEL, VALUE = "model_card.json", "churn_model.json", "value_model.json"

if TYPE_CHECKING:
    import duckdb

# Stands for the relation of features in the scoring query handed to dbt.
FEATURES = "__features__"


@dataclass(frozen=True)
class InForce:
    """What a day is scored with.

    Attributes:
        model: None where the estimate from the customer's own rhythm is used.
        card: what is published of the training.
        value: None where it is fitted to the day's own ledger, being small.
    """

    model: ChurnModel | None
    card: dict[str, Any]
    value: ValueModel | None = None

    def dbt_vars(self) -> dict[str, Any]:
        """What the dbt project needs of it: the scoring query and the rows of the card's table."""
        rows = [
            {"candidate": name, "is_used": name == self.card["used"], **quality}
            for name, quality in self.card["candidates"].items()
        ]
        if self.model is None:
            rows.append({"candidate": "baseline", "is_used": True, "auc": None, "log_loss": None, "brier": None})
        return {
            "churn_scoring_sql": self.model.scoring_sql(FEATURES) if self.model else None,
            "churn_model_card": {
                "trained_at": self.card["as_of"], "horizon_days": self.card["horizon_days"],
                "reason": self.card["reason"], "candidates": rows,
            },
        }  # fmt: skip


def training_day(as_of: date) -> date:
    """The last Sunday before ``as_of``: what was known then is complete when the day is built."""
    return as_of - timedelta(days=as_of.isoweekday() % 7 or 7)


def model_in_force(
    home: Home, project: Project, as_of: date, rules: str, build_ledgers: Callable[[Received], None]
) -> InForce:
    """The model for the build of ``as_of``, trained now if it is not kept or came from something else.

    Args:
        rules: digest of the rules that ledger rows depend on.
        build_ledgers: brings the kept ledgers up to what had been received by a day;
            called only if they don't reach the training day.
    """
    day, horizon = training_day(as_of), int(variables(project)["churn_horizon_days"])
    try:
        known = received(home, day)
    except InputError:
        return InForce(None, _nothing_to_learn(day, horizon, f"nothing had been received by {day}"))
    orders = sum(delivery.rows for delivery in known.deliveries if delivery.table in {"orders", "order_lines"})
    if orders < MIN_CUSTOMERS:
        return InForce(None, _nothing_to_learn(day, horizon, f"{orders} order rows by {day}: too few to learn from"))
    fingerprint = _fingerprint(project, known, horizon, rules)
    kept = _kept(home, day, fingerprint)
    if kept:
        return kept
    reach = ledger.valid_through(ledger.kept(home, rules), known)
    if reach is None or reach < day:
        build_ledgers(known)
    trained, value = train_from_kept_ledgers(home, project, day, horizon)
    return _keep(home, day, trained, value, fingerprint)


def score_lifetime_value(database: Path, in_force: InForce, as_of: date, yearly_discount: float) -> None:
    """Add the table of lifetime values to a build."""
    import duckdb

    with duckdb.connect(str(database)) as connection:
        ledgers = Ledgers("int_order_ledger", "int_interaction_ledger", "interaction_kinds")
        value = in_force.value or lifetime_value.fit(connection, ledgers, as_of)
        lifetime_value.score(connection, value, "int_customer_features_computed", as_of, yearly_discount)


def train_from_kept_ledgers(home: Home, project: Project, day: date, horizon: int) -> tuple[Training, ValueModel]:
    """Train as of ``day`` from the ledgers in ``state/``, which have to reach that day."""
    with kept_ledgers(home, project) as (connection, ledgers):
        return train(connection, project, ledgers, day, horizon), lifetime_value.fit(connection, ledgers, day)


@contextmanager
def kept_ledgers(home: Home, project: Project) -> Iterator[tuple[duckdb.DuckDBPyConnection, Ledgers]]:
    """A connection and what to read in it: the ledgers in ``state/``, as far as they reach."""
    import duckdb

    with duckdb.connect() as connection:
        connection.execute("set memory_limit = '5GB'")
        connection.execute(f"set temp_directory = {quoted(str(home.scratch / 'training-spill'))}")
        seed = project.dbt / "seeds" / "interaction_kinds.csv"
        connection.execute(f"create temp table interaction_kinds as from read_csv({quoted(str(seed))}, header = true)")
        ledgers = Ledgers(
            f"read_parquet({quoted(str(home.state / 'order_ledger' / '*.parquet'))})",
            f"read_parquet({quoted(str(home.state / 'interaction_ledger' / '*.parquet'))})",
            "interaction_kinds",
        )
        yield connection, ledgers


def _fingerprint(project: Project, known: Received, horizon: int, rules: str) -> str:
    return fingerprint_of(project, rules, known.digest(), str(horizon))


def fingerprint_of(project: Project, *parts: str) -> str:
    """Hex digest of ``parts`` and of the code and rules that every model learnt from features depends on."""
    code = [path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py"))]
    macros = [(project.dbt / "macros" / name).read_bytes() for name in MACRO_FILES]
    kinds = (project.dbt / "seeds" / "interaction_kinds.csv").read_bytes()
    digests = [hashlib.sha256(part).hexdigest() for part in (*code, *macros, kinds)]
    return hashlib.sha256("\n".join([*digests, *parts]).encode()).hexdigest()


def _nothing_to_learn(day: date, horizon: int, reason: str) -> dict[str, Any]:
    return {"as_of": str(day), "horizon_days": horizon, "used": "baseline", "candidates": {}, "reason": reason}


def _kept(home: Home, day: date, fingerprint: str) -> InForce | None:
    folder = home.models / str(day)
    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
        if card.get("fingerprint") != fingerprint:
            return None
        contents = {}
        for name, digest in card["files"].items():
            text = (folder / name).read_text(encoding="utf-8")
            if hashlib.sha256(text.encode()).hexdigest() != digest:
                return None
            contents[name] = json.loads(text)
        model = ChurnModel.from_json(contents[MODEL]) if MODEL in contents else None
        return InForce(model, card, ValueModel.from_json(contents[VALUE]))
    except (FileNotFoundError, ValueError, KeyError):
        return None


def _keep(home: Home, day: date, trained: Training, value: ValueModel, fingerprint: str) -> InForce:
    """The models first, the card that names their checksums last: a card is always of whole models."""
    folder = home.models / str(day)
    contents = {VALUE: value.to_json()} | ({MODEL: trained.model.to_json()} if trained.model else {})
    card = {**trained.card, "lifetime_value": contents[VALUE], "fingerprint": fingerprint, "files": {}}
    for name, content in contents.items():
        write_json(folder / name, content)
        card["files"][name] = hashlib.sha256(json_text(content).encode()).hexdigest()
    write_json(folder / CARD, card)
    return InForce(trained.model, card, value)
