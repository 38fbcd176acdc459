"""OpenLineage events of every run and step, where an OpenLineage client is configured.

Somebody who looks at a number in a catalogue then finds which run made it from what. Events are told to whatever the
client's own settings name (``OPENLINEAGE_URL``, ``OPENLINEAGE_CONFIG``, ``OPENLINEAGE__...``, ``openlineage.yml``);
without any nothing is imported or sent. They are told, not relied on: a server that does not answer is named once in
the log, and the run goes on.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from strataflow import __version__

if TYPE_CHECKING:
    from openlineage.client import OpenLineageClient

    from strataflow.runlog import Step

log = logging.getLogger(__name__)

PRODUCER = f"urn:strataflow:{__version__}"
NAMESPACE_SETTING, NAMESPACE = "OPENLINEAGE_NAMESPACE", "strataflow"
SETTINGS = ("OPENLINEAGE_URL", "OPENLINEAGE_CONFIG")
SETTINGS_PREFIX = "OPENLINEAGE__"
CONFIG_FILES = (Path("openlineage.yml"), Path("~/.openlineage/openlineage.yml"))


def is_configured() -> bool:
    """Whether the settings of the OpenLineage client say where events go."""
    if os.environ.get("OPENLINEAGE_DISABLED", "").lower() in ("true", "1"):
        return False
    named = any(os.environ.get(name) for name in SETTINGS)
    return (
        named
        or any(name.startswith(SETTINGS_PREFIX) for name in os.environ)
        or any(path.expanduser().is_file() for path in CONFIG_FILES)
    )


@dataclass
class Lineage:
    """Tells of one run: when it starts and ends, and the same of its steps, which name it as their parent."""

    client: OpenLineageClient | None
    job: str
    day: str
    run_id: str = ""
    _steps: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, command: str, day: str) -> Lineage:
        """For a run that begins now; silent unless a client is configured and installed."""
        if not is_configured():
            return cls(None, command, day)
        try:
            from openlineage.client import OpenLineageClient
            from openlineage.client.uuid import generate_new_uuid

            return cls(OpenLineageClient(), command, day, str(generate_new_uuid()))
        except ModuleNotFoundError:
            log.warning("OpenLineage is configured but not installed: install strataflow with its extra `lineage`")
        except Exception as fault:  # noqa: BLE001  a wrong setting of the client must not stop a run
            log.warning("OpenLineage is configured wrongly, no events are sent: %s", fault)
        return cls(None, command, day)

    def run_started(self) -> None:
        """The run has begun."""
        self._tell("START", self.job, self.run_id)

    def run_ended(self, error: str | None) -> None:
        """The run is over; ``error`` if it failed."""
        self._tell("FAIL" if error else "COMPLETE", self.job, self.run_id, error=error)

    def step_started(self, name: str) -> None:
        """A step has begun."""
        if self.client is None:
            return
        from openlineage.client.uuid import generate_new_uuid

        self._steps[name] = str(generate_new_uuid())
        self._tell("START", f"{self.job}.{name}", self._steps[name])

    def step_ended(self, step: Step, error: str | None) -> None:
        """A step is over; what it read and wrote is named now."""
        self._tell(
            "FAIL" if error else "COMPLETE", f"{self.job}.{step.name}", self._steps.get(step.name, ""),
            inputs=step.inputs, outputs=step.outputs, error=error,
        )  # fmt: skip

    def _tell(
        self,
        state: str,
        job: str,
        run_id: str,
        *,
        inputs: Iterable[str] = (),
        outputs: Iterable[str] = (),
        error: str | None = None,
    ) -> None:
        if self.client is None:
            return
        try:
            with _quiet_tries():
                self.client.emit(self._event(state, job, run_id, inputs, outputs, error))
        except Exception as fault:  # noqa: BLE001  whatever the client meets, the run goes on
            log.warning("no more OpenLineage events of this run, one could not be sent: %s", fault)
            self.client = None

    def _event(
        self, state: str, job: str, run_id: str, inputs: Iterable[str], outputs: Iterable[str], error: str | None
    ) -> Any:
        from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState
        from openlineage.client.facet_v2 import error_message_run, job_type_job, nominal_time_run, parent_run

        namespace = os.environ.get(NAMESPACE_SETTING) or NAMESPACE
        facets: dict[str, Any] = {"nominalTime": nominal_time_run.NominalTimeRunFacet(f"{self.day}T00:00:00Z")}
        if run_id != self.run_id:
            facets["parent"] = parent_run.ParentRunFacet(
                run=parent_run.Run(runId=self.run_id), job=parent_run.Job(namespace=namespace, name=self.job)
            )
        if error:
            facets["errorMessage"] = error_message_run.ErrorMessageRunFacet(error, "python")
        kind = job_type_job.JobTypeJobFacet("BATCH", "STRATAFLOW", jobType="JOB" if "parent" not in facets else "TASK")
        return RunEvent(
            eventTime=datetime.now(UTC).isoformat(timespec="milliseconds"),
            producer=PRODUCER,
            run=Run(runId=run_id, facets=facets),
            job=Job(namespace=namespace, name=job, facets={"jobType": kind}),
            eventType=RunState[state],
            inputs=[InputDataset(namespace=namespace, name=name) for name in inputs],
            outputs=[OutputDataset(namespace=namespace, name=name) for name in outputs],
        )


@contextmanager
def _quiet_tries() -> Iterator[None]:
    """The client tries again and its library warns of each try; what comes of them is told once, by us."""
    tries = logging.getLogger("urllib3.connectionpool")
    before = tries.level
    tries.setLevel(logging.ERROR)
    try:
        yield
    finally:
        tries.setLevel(before)
