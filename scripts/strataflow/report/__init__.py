"""The report: one page that shows a day's results to people, whole in one file.

It opens without a network and without a server, in English and Chinese, on a
phone and on a desk. Everything on it comes from the build, the published
versions of earlier days, the landing manifests and the gates' reports; it
reads no clock, so the same inputs give the same bytes.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from strataflow.build import Build
    from strataflow.home import Home
    from strataflow.project import Project

PAGE = "index.html"
PAGES = "reports"
LINK = "report"


def publish_report(home: Home, project: Project, version: Path) -> bool:
    """Put the page about the version that readers see at ``published/report/index.html``, in one step.

    The page tells of gates and earlier days as well, which a version does not depend on, so it
    lies beside the versions: a page per version in ``published/reports``, the newest linked.

    Args:
        version: folder of the current version, resolved.

    Returns:
        False when that page is there already.

    Raises:
        UsageError: the build that the version was made from is gone.
        StepFailed: the build lacks a table or column that the page is made from.
    """
    from strataflow.build import Build
    from strataflow.durable import point, sync_tree
    from strataflow.publish import read_manifest

    pages = home.published / PAGES
    if (home.published / LINK).resolve() == pages / version.name and (pages / version.name / PAGE).is_file():
        return False
    manifest = read_manifest(version)
    build = Build.load(home, date.fromisoformat(manifest["as_of"]), date.fromisoformat(manifest["known_at"]))
    aside = home.scratch / f"report-page-{version.name}"
    shutil.rmtree(aside, ignore_errors=True)
    write_report(home, project, build, None, aside)
    sync_tree(aside)
    pages.mkdir(exist_ok=True)
    shutil.rmtree(pages / version.name, ignore_errors=True)
    aside.rename(pages / version.name)
    point(home.published / LINK, f"{PAGES}/{version.name}")
    for other in pages.iterdir():
        if other.name != version.name:
            shutil.rmtree(other)
    return True


def write_report(home: Home, project: Project, build: Build, gate: Mapping[str, Any] | None, target: Path) -> Path:
    """Write the page about a build into the folder ``target``.

    Args:
        home: holds earlier published versions, landing manifests and the gates' reports.
        project: holds the rules in force (window and horizon).
        build: the day's build; its tables are what the page shows.
        gate: content of gate 2's report on this build; None takes the one on file, if there is one.
        target: a folder, created if need be.

    Returns:
        The page, ``target/index.html``.

    Raises:
        StepFailed: the build lacks a table or column that the page is made from.
        InputError: a manifest or a gate's report can't be read.
    """
    from strataflow.report import facts
    from strataflow.report.page import render
    from strataflow.report.sections import Subject, all_sections
    from strataflow.rules import variables

    spill = home.scratch / f"report-{build.as_of}"
    rules = variables(project)
    try:
        with facts.opened(build.path, spill) as connection:
            subject = Subject(
                connection=connection,
                home=home,
                as_of=build.as_of,
                known_at=build.known_at,
                build_id=build.meta["build_id"],
                currency=build.meta["shop"]["currency"],
                window_days=rules["rfm_window_days"],
                horizon_days=rules["churn_horizon_days"],
                gate=gate,
            )
            sections = all_sections(subject)
    finally:
        shutil.rmtree(spill, ignore_errors=True)
    target.mkdir(parents=True, exist_ok=True)
    page = target / PAGE
    page.write_text(render(subject, build.meta, sections), encoding="utf-8", newline="\n")
    return page
