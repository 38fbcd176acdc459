"""Who is told of changes: a YAML file with a target per name.

The file names the environment variable that holds a signing key, never the key.
"""

from __future__ import annotations

import os
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from strataflow import yamltext
from strataflow.errors import UsageError

SETTING = "STRATAFLOW_TARGETS"

# What a CRM groups people by. Probabilities and scores move a little every day, and everybody with them.
SLOW_COLUMNS = (
    "rfm_class",
    "value_tier",
    "ecommerce_stage",
    "high_ticket_stage",
    "activity_stage",
    "lifecycle_stage",
)

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,39}$")]
Column = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


class Target(BaseModel):
    """One receiver of changes; either ``folder`` or ``url`` is given.

    Attributes:
        name: names its state in the home, so it must not be changed later.
        table: the published table, one row per customer.
        columns: what it is told of a customer; empty for :data:`SLOW_COLUMNS`, or all of another table.
        folder: where files are put for it.
        url: where batches are posted to.
        key_from: environment variable with the key that signs batches.
        batch_rows: changes in a batch.
        timeout_seconds: how long an answer may take.
        tries: how often a batch is tried before the delivery fails.
        first_wait_seconds: after the first try; doubled with each further one, up to ``longest_wait_seconds``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    table: Column = "customer_segments"
    columns: tuple[Column, ...] = ()
    folder: Path | None = None
    url: str | None = None
    key_from: str | None = None
    batch_rows: Annotated[int, Field(ge=1, le=100_000)] = 1000
    timeout_seconds: Annotated[float, Field(gt=0)] = 30
    tries: Annotated[int, Field(ge=1)] = 6
    first_wait_seconds: Annotated[float, Field(ge=0)] = 1
    longest_wait_seconds: Annotated[float, Field(ge=0)] = 60

    @field_validator("url")
    @classmethod
    def _encrypted_or_on_this_machine(cls, url: str | None) -> str | None:
        if url is None:
            return None
        parts = urlsplit(url)
        if parts.scheme == "https" and parts.hostname:
            return url
        if parts.scheme == "http" and _is_this_machine(parts.hostname):
            return url
        raise ValueError("give an https address; plain http is for this machine only, since customers are named")

    @model_validator(mode="after")
    def _one_way(self) -> Target:
        if (self.folder is None) == (self.url is None):
            raise ValueError("give either folder (files) or url (an HTTP endpoint)")
        if self.url and not self.key_from:
            raise ValueError("give key_from: the environment variable that holds the key for signing")
        return self

    def columns_of(self, available: dict[str, str]) -> dict[str, str]:
        """Type by name of the columns that are told, of those that the published table has.

        Raises:
            UsageError: a column is not there.
        """
        possible = [name for name in available if name not in ("customer_id", "as_of_date")]
        told = self.columns or (SLOW_COLUMNS if self.table == "customer_segments" else possible)
        missing = [name for name in told if name not in possible]
        if missing:
            raise UsageError(
                f"target {self.name}: {self.table} has no column {', '.join(missing)} to tell",
                todo=f"choose from: {', '.join(possible)}",
            )
        return {name: available[name] for name in told}

    def key(self) -> bytes:
        """The key that signs batches.

        Raises:
            UsageError: the environment variable is not set.
        """
        value = os.environ.get(self.key_from or "")
        if not value:
            raise UsageError(
                f"target {self.name}: there is no key to sign with",
                where=self.key_from,
                todo=f"set {self.key_from} to the key that the endpoint knows",
            )
        return value.encode()


def load_targets(path: str | os.PathLike[str] | None = None) -> dict[str, Target]:
    """The targets of a YAML file (default: ``$STRATAFLOW_TARGETS``) by name.

    Raises:
        UsageError: no file is given, it can't be read, or says something that isn't allowed.
    """
    given = path or os.environ.get(SETTING)
    if not given:
        raise UsageError("no targets are set", todo=f"give --targets FILE or set {SETTING} (docs/lists.md)")
    file = Path(given).expanduser().resolve()
    try:
        content = yamltext.load(file.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as fault:
        raise UsageError(f"the targets can't be read: {fault}", where=str(file)) from fault
    if not isinstance(content, dict) or set(content) != {"targets"} or not isinstance(content["targets"], dict):
        raise UsageError("this file describes no targets", where=str(file), todo="see docs/lists.md#targets")
    return {name: _target(name, told, file) for name, told in content["targets"].items()}


def _target(name: str, told: object, file: Path) -> Target:
    if not isinstance(told, dict):
        raise UsageError(f"target {name} is not described", where=str(file), todo="see docs/lists.md#targets")
    if isinstance(told.get("folder"), str):
        told = told | {"folder": file.parent / Path(told["folder"]).expanduser()}
    try:
        return Target.model_validate({**told, "name": name})
    except ValidationError as wrong:
        faults = [
            f"{'.'.join(str(part) for part in error['loc']) or name}: {error['msg'].removeprefix('Value error, ')}"
            for error in wrong.errors()
        ]
        raise UsageError(
            f"target {name} can't be used:\n    " + "\n    ".join(faults),
            where=str(file),
            todo="see docs/lists.md#targets",
        ) from wrong


def _is_this_machine(host: str | None) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host or "").is_loopback
    except ValueError:
        return False
