_ONE_DAY = date.resolution


def _section(key: str, lead: Both | None, parts: Sequence[Part]) -> Section:
    return Section(key, say(f"sections.{key}"), lead, tuple(parts))


def _figure(subject: Subject, key: str, rows: Sequence[Row], draw: charts.Draw, note: str) -> Figure:
    return Figure(subject.chart(key, rows, draw), say(f"charts.{key}"), say(f"charts.{note}"))


def _figures(subject: Subject, *each: tuple[str, Sequence[Row], charts.Draw, str]) -> Figures:
    return Figures([_figure(subject, *one) for one in each], across=min(2, len(each)))


def _sum(rows: Any) -> int:
    return sum(row["customers"] for row in rows)


def _kind(row: Row) -> str:
    """Whether a class is important, general, or that of customers without an order."""
    if row.get("has_ordered") is False:
        return "none"
    return "important" if row["is_important"] else "general"


def _numbered(row: Row) -> Both:
    return Both(f"{row['position']} {row['name_en']}", f"{row['position']} {row['name_zh']}")


def _dashed(text: Both) -> Both:
    return Both(f"{NOTHING} {text.en}", f"{NOTHING} {text.zh}")


def _short(value: date | None) -> str:
    return NOTHING if value is None else str(value)


def _joined(texts: Sequence[Both], english: str = " ", chinese: str = "") -> Both:
    return Both(english.join(text.en for text in texts), chinese.join(text.zh for text in texts))


def _months_between(earlier: date, later: date) -> int:
    return (later.year - earlier.year) * 12 + later.month - earlier.month


def _month_after(value: date) -> date:
    return date(value.year + value.month // 12, value.month % 12 + 1, 1)
