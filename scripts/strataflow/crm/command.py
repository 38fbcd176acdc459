"""``strataflow deliver``: tell the targets what changed, take an acknowledgement, say what waits."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from strataflow.errors import StepFailed, StrataflowError, UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from strataflow.crm.delivering import Delivered
    from strataflow.crm.targets import Target
    from strataflow.home import Home
    from strataflow.runlog import RunLog

WORDS = {
    "unchanged": "nothing to tell",
    "acknowledged": "acknowledged",
    "handed_over": "handed over, waits for an acknowledgement",
    "waiting": "was handed over before and waits for an acknowledgement",
}


@click.command(
    "deliver",
    epilog="""\b
Examples:
  strataflow deliver                                    to every target of $STRATAFLOW_TARGETS
  strataflow deliver --target crm
  strataflow deliver --target mailing --acknowledge 00000013-3f9ac01b52de
  strataflow deliver --waiting                          what each target has, and what waits
""",
)
@click.option(
    "--targets",
    "file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="YAML file that describes the targets.  [default: $STRATAFLOW_TARGETS]",
)
@click.option("--target", "names", multiple=True, help="Only this one; may be repeated.  [default: all of them]")
@click.option("--acknowledge", metavar="ID", help="Take this delivery of files as acknowledged; needs one --target.")
@click.option("--waiting", "ask", is_flag=True, help="Only say what is acknowledged and what waits.")
@click.option(
    "--home",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder that holds lake, builds and published.  [default: $STRATAFLOW_HOME]",
)
@click.pass_obj
def deliver_command(
    obj: dict[str, Any],
    file: Path | None,
    names: tuple[str, ...],
    acknowledge: str | None,
    ask: bool,
    home: Path | None,
) -> None:
    """Tell other systems who entered a segment, who left and what changed.

    Each target is told the difference between what it has acknowledged and what readers see now, also
    after a rollback. Files go into its folder and wait for --acknowledge; an endpoint acknowledges batch
    by batch. Killed or failed, the same command goes on where it stopped.
    """
    from strataflow.crm.delivering import waiting
    from strataflow.crm.targets import load_targets
    from strataflow.home import Home

    at = Home.at(home)
    obj["home"] = at
    targets = _chosen(load_targets(file), names)
    if acknowledge and len(targets) != 1:
        raise UsageError("an acknowledgement is of one target's delivery", todo="give one --target")
    screen = obj["screen"]
    screen.quiet, screen.verbose = bool(obj.get("quiet")), bool(obj.get("verbose"))
    screen.log_to_stderr()
    if ask:
        found = [waiting(at, target) for target in targets]
        screen.result(
            {"ok": True, "command": "deliver", "targets": found}, lambda console: _print_waiting(found, console)
        )
        return
    done = acknowledged(at, targets[0], acknowledge) if acknowledge else [*deliver_all(at, targets)]
    document = {"ok": True, "command": "deliver", "targets": [each.as_dict() for each in done]}
    screen.result(document, lambda console: _print(done, console))


def deliver_all(home: Home, targets: Iterable[Target]) -> list[Delivered]:
    """Deliver to each target, recorded in the run log; one that fails does not keep the others waiting.

    Raises:
        StepFailed: at least one failed; names each.
        StrataflowError: the only one failed, with its own error.
    """
    from strataflow.crm.delivering import deliver

    done, faults = [], []
    log = _log(home)
    with log.closing():
        for target in targets:
            try:
                with log.step(f"deliver {target.name}") as step:
                    told = deliver(home, target)
                    step.rows = sum(told.changes.values())
                    step.outcome = "unchanged" if told.outcome in ("unchanged", "waiting") else "ok"
                    step.detail = told.as_dict()
            except StrataflowError as fault:
                faults.append(fault)
            else:
                done.append(told)
        if len(faults) == 1:
            raise faults[0]
        if faults:
            raise StepFailed(
                "\n  ".join([f"{len(faults)} targets were not told:", *(fault.what for fault in faults)]),
                todo="each goes on where it stopped when it is delivered to again",
            )
        if all(step["outcome"] == "unchanged" for step in log.record["steps"]):
            log.ends_as("unchanged")
    return done


def acknowledged(home: Home, target: Target, named: str) -> list[Delivered]:
    """Take a delivery as acknowledged, recorded in the run log.

    Raises:
        UsageError: no such delivery waits.
    """
    from strataflow.crm.delivering import acknowledge

    log = _log(home)
    with log.closing(), log.step(f"acknowledge {target.name}") as step:
        told = acknowledge(home, target, named)
        step.detail = told.as_dict()
    return [told]


def _log(home: Home) -> RunLog:
    from strataflow.publish import current_version, day_of
    from strataflow.runlog import RunLog

    version = current_version(home)
    day = day_of(version) if version else None
    if not isinstance(day, date):
        raise UsageError("nothing is published yet", where=str(home.published), todo="strataflow run --date YYYY-MM-DD")
    return RunLog.start(home, "deliver", day, {})


def _chosen(targets: dict[str, Target], names: tuple[str, ...]) -> list[Target]:
    unknown = [name for name in names if name not in targets]
    if unknown:
        raise UsageError(
            f"there is no target {', '.join(unknown)}", todo=f"described are: {', '.join(targets) or 'none'}"
        )
    return [target for name, target in targets.items() if not names or name in names]


def _print(done: list[Delivered], console: Console) -> None:
    for told in done:
        counts = ", ".join(f"{count} {kind}" for kind, count in told.changes.items() if count)
        parts = [f"{told.target}: {WORDS[told.outcome]}", counts, told.delivery or ""]
        console.print("  ".join(part for part in parts if part), highlight=False, soft_wrap=True)
        for path in told.files:
            console.print(f"  {path}", highlight=False, soft_wrap=True)


def _print_waiting(found: list[dict[str, Any]], console: Console) -> None:
    for target in found:
        last = target["acknowledged"]
        said = f"has acknowledged {last['version']}" if last else "has acknowledged no delivery as a whole"
        console.print(f"{target['target']}: {said}", highlight=False, soft_wrap=True)
        for each in target["waiting"]:
            counts = ", ".join(f"{count} {kind}" for kind, count in each["changes"].items() if count)
            console.print(
                f"  waits: {each['delivery']}  {each['version']}  {counts}; "
                f"{each['acknowledged_batches']} of {each['batches']} batches acknowledged",
                highlight=False,
                soft_wrap=True,
            )
