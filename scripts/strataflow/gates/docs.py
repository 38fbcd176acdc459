"""Data Docs: what a gate found as pages that people read.

Great Expectations renders the expectations and what was observed; its own
site, however, loads styles and scripts from the network, names pages after the
clock and renders all of history anew on each run. So its content blocks go
into pages of ours: self-contained, one per gate and day, the oldest dropped.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from strataflow.gates.report import GateReport
from strataflow.gates.suites import UNEXPECTED_ROWS

if TYPE_CHECKING:
    from strataflow.gates.gx_duckdb import Outcome
    from strataflow.gates.suites import Suite

KEPT_PAGES = 60
_TEMPLATES = "data_docs"
_FACTS = re.compile("<!--facts (.*?)-->")


def write_page(
    site: Path, expectations: Path, report: GateReport, judged: Sequence[tuple[Suite, Sequence[Outcome]]]
) -> None:
    """Write the page of one gate's outcome and the index that leads to it.

    Args:
        site: folder of the Data Docs.
        expectations: the project's folder with the templates.
        report: the outcome; its ``docs`` says where the page goes.
        judged: suites with what Great Expectations found.
    """
    view = _view(expectations / _TEMPLATES)
    _write(report.docs, view.render(_document(report, judged), "page.j2", report=report))
    _forget_old_pages(report.docs.parent)
    _write(site / "index.html", view.env.get_template("index.j2").render(pages=_pages(site)))


def page_name(report_day: Any, tables: Sequence[str] | None) -> str:
    """File name of a page; a gate that judged only some tables has a page of its own."""
    return "-".join([str(report_day), *(tables or ())]) + ".html"


def _view(templates: Path) -> Any:
    from great_expectations.render.view import DefaultJinjaPageView
    from jinja2 import ChoiceLoader, FileSystemLoader

    view = DefaultJinjaPageView()
    view.env.loader = ChoiceLoader([FileSystemLoader(str(templates)), view.env.loader])
    return view


def _document(report: GateReport, judged: Sequence[tuple[Suite, Sequence[Outcome]]]) -> Any:
    from great_expectations.render import RenderedDocumentContent

    return RenderedDocumentContent(
        renderer_type="ValidationResultsPageRenderer",
        page_title=f"Gate {report.gate}, {report.day}",
        sections=[_section(suite, outcomes) for suite, outcomes in judged],
        utm_medium="none",
    )


def _section(suite: Suite, outcomes: Sequence[Outcome]) -> Any:
    from great_expectations.render import RenderedHeaderContent, RenderedSectionContent, RenderedTableContent

    title = RenderedHeaderContent(header=suite.name.replace("_", " ").capitalize(), subheader=escape(suite.about))
    table = RenderedTableContent(
        header_row=["Status", "Expectation", "Observed", "Severity", "Why"],
        table=[row for outcome in outcomes for row in _rows(outcome)],
        styling={"classes": ["wide"], "body": {"classes": ["expectations"]}},
    )
    return RenderedSectionContent(section_name=suite.name, content_blocks=[title, table])


def _rows(outcome: Outcome) -> list[list[Any]]:
    """What Great Expectations renders for one expectation, with severity and reason beside it."""
    from great_expectations.render.renderer.content_block import ValidationResultsTableContentBlockRenderer

    rendered = ValidationResultsTableContentBlockRenderer.render([outcome.raw], include_column_name=True)
    spec = outcome.expectation
    observed = f"{outcome.observed} rows" if spec.kind == UNEXPECTED_ROWS else str(outcome.observed)
    observed += "" if outcome.unexpected_count is None else " fail"
    return [[*cells[:-1], escape(observed), spec.severity, escape(spec.why)] for cells in rendered.table]


def _forget_old_pages(folder: Path) -> None:
    for page in sorted(folder.glob("*.html"), reverse=True)[KEPT_PAGES:]:
        page.unlink(missing_ok=True)


def _pages(site: Path) -> list[dict[str, Any]]:
    """What the index lists, newest day first; each page says in a comment what it is about."""
    found = []
    for page in site.glob("*/*.html"):
        facts = _FACTS.search(page.read_text(encoding="utf-8"))
        if facts:
            found.append({**json.loads(facts[1]), "href": f"{page.parent.name}/{page.name}"})
    return sorted(found, key=lambda facts: (facts["day"], facts["gate"], facts["href"]), reverse=True)


def _write(path: Path, html: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    aside.write_text(html, encoding="utf-8")
    os.replace(aside, path)
