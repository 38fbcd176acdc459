"""The sections of the page: which numbers are told together, and what they say today.

A module per subject, a function per section. Each turns small results of
``facts``, ``history`` and ``landings`` into cards, charts and tables. Where a
shop has nothing to show (no order yet, no earlier version) the section says so
instead of showing an empty chart.
"""

from __future__ import annotations

from strataflow.report import facts, history
from strataflow.report.blocks import Section
from strataflow.report.sections.classes import changes, classes, flow, scores
from strataflow.report.sections.lifecycle import lifecycle, retention
from strataflow.report.sections.received import received
from strataflow.report.sections.subject import Overview, Subject
from strataflow.report.sections.tags import tags
from strataflow.report.sections.today import today
from strataflow.report.sections.value import churn, top


def all_sections(subject: Subject) -> list[Section]:
    """Every section of the page, in order."""
    at = subject.connection
    earlier = history.last_published(at, subject.home, subject.as_of)
    overview = Overview(
        now=facts.headline(at),
        classes=facts.classes(at),
        before=history.headline_of(at, earlier) if earlier else None,
        earlier=earlier,
        ledger_agrees=facts.ledger_agrees(at, subject.as_of),
    )
    return [
        today(subject, overview),
        changes(subject, overview),
        classes(subject, overview),
        scores(subject, overview),
        flow(subject, overview),
        lifecycle(subject, overview),
        retention(subject, overview),
        top(subject, overview),
        churn(subject, overview),
        tags(subject, overview),
        *received(subject),
    ]
