"""The two steps of ``strataflow run`` that have no command of their own, as a process each.

``python -m bench.step HOME SOURCES gate-1 DAY SINCE`` and ``python -m bench.step HOME SOURCES report DAY``.
"""

from __future__ import annotations

import sys
from datetime import date

from strataflow.run import Deployment, Steps
from strataflow.runlog import RunLog


def main(home: str, sources: str, step: str, day: str, since: str | None = None) -> None:
    """Do the step, with the writer's lock held and the run's log kept, as ``run`` does it."""
    deployment = Deployment.at(home, sources)
    with deployment.home.writing():
        log = RunLog.start(deployment.home, step, date.fromisoformat(day), {})
        with log.closing():
            steps = Steps(deployment, log)
            if step == "report":
                steps.report()
            else:
                steps.check_landed(date.fromisoformat(day), since=date.fromisoformat(since) if since else None)


if __name__ == "__main__":
    main(*sys.argv[1:])
