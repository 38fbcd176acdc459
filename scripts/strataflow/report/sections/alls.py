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


