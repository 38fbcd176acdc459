"""The charts of the page, as Vega-Lite made with Altair, once per language.

A chart's rows stand on the page once and serve both languages; only titles,
legends and the column that holds the names differ. Data reaches a chart as
data alone: no value of the shop is ever part of an expression. Colours are
those of Okabe and Ito, which readers with any colour vision can tell apart,
and none of them carries a meaning that is not written as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

import altair as alt

from strataflow.report.facts import Row
from strataflow.report.words import LANGUAGES, Both, say

INK, MUTED, LINE, FAINT = "#1d2a36", "#5a6978", "#e4e9ee", "#eff2f5"
BLUE, SKY, ORANGE, VERMILION, GREEN, GREY = "#0072b2", "#56b4e9", "#e69f00", "#d55e00", "#009e73", "#9aa6b2"
LIGHT_TO_DARK = ["#eaf3fa", "#b9dbf0", "#6db3dd", "#1f80bb", "#0b4a78"]
FONT = (
    "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, "
    "'PingFang SC', 'Hiragino Sans GB', 'Microsoft YaHei', 'Noto Sans CJK SC', sans-serif"
)
ROWS = "rows"
# Asked of the element around the chart, so that a phone gets shorter labels.
NARROW = "containerSize()[0] < 480"
NAME_WIDTH = alt.ExprRef(f"{NARROW} ? 150 : 210")
NAME_SIZE = alt.ExprRef(f"{NARROW} ? 11 : 12")
PERCENT = ".1%"
COUNT = ",d"
MONEY = ",.0f"

_CELL = {"cornerRadius": 3, "stroke": "white", "strokeWidth": 2}
_LOUD = {"fontSize": 13, "fontWeight": 600}
_AXIS_TEXT = {
    "labelColor": MUTED,
    "titleColor": MUTED,
    "labelFontSize": 12,
    "titleFontSize": 12,
    "titleFontWeight": 500,
}
CONFIG: dict[str, Any] = {
    "font": FONT,
    "background": "transparent",
    "view": {"stroke": None},
    "axis": {
        **_AXIS_TEXT, "domain": False, "ticks": False, "gridColor": LINE,
        "labelPadding": 6, "titlePadding": 10, "labelOverlap": True, "labelSeparation": 5,
    },
    "axisBand": {"grid": False, "labelOverlap": False},
    "legend": {**_AXIS_TEXT, "orient": "top", "offset": 8, "symbolType": "square", "columnPadding": 14},
    "text": {"fontSize": 12, "color": INK},
    "bar": {"cornerRadiusEnd": 3},
}  # fmt: skip


@dataclass(frozen=True)
class Chart:
    """A chart as the page needs it: its rows, and one Vega-Lite specification per language.

    ``key`` names its element and its texts, ``charts.<key>`` and so on.
    """

    key: str
    rows: list[dict[str, Any]]
    specs: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Voice:
    """How a chart speaks: the language, the currency of its money axes, and the rows it speaks of."""

    language: str
    currency: str
    rows: list[dict[str, Any]]

    def __call__(self, key: str, **values: object) -> str:
        """The text of ``key`` in this language."""
        return say(key, currency=self.currency, **values).within(self.language)

    def field(self, column: str) -> str:
        """The column that holds a :class:`Both` in this language."""
        return f"{column}_{self.language}"

    def high(self, step: int, column: str) -> int:
        """Pixels for a row of ``step`` pixels per value of ``column``."""
        return step * max(1, len({row[column] for row in self.rows}))

    def room_for(self, column: str) -> alt.Scale:
        """A scale that ends beyond the longest bar, so that its label fits."""
        longest = max((row[column] for row in self.rows), default=0)
        return alt.Scale(domain=[0, longest * 1.28 if longest > 0 else 1], nice=False)


Draw = Callable[[Voice], alt.TopLevelMixin]


def chart(key: str, rows: Iterable[Row], currency: str, draw: Draw) -> Chart:
    """Draw a chart in both languages over the same rows."""
    plain = [_plain(row) for row in rows]
    return Chart(
        key=key,
        rows=plain,
        specs={language: _specification(draw(Voice(language, currency, plain))) for language in LANGUAGES},
    )


def class_bars(measure: str, title: str, number_format: str) -> Draw:
    """Bars of one measure per class, labelled with their share. Columns: name, position, kind, ``measure``, share."""

    def draw(voice: Voice) -> alt.TopLevelMixin:
        base = _rows().encode(
            y=_names(voice),
            x=alt.X(measure, type="quantitative", title=voice(title), axis=_few(), scale=voice.room_for(measure)),
            tooltip=[
                _tip(voice.field("name"), voice("words.class"), "nominal"),
                _tip(measure, voice(title), number_format=number_format),
                _tip("share", voice("words.share"), number_format=PERCENT),
            ],
        )
        return _sized(
            base.mark_bar().encode(color=_kinds(voice, legend=False)) + _end_label(base, "share"),
            voice.high(30, "position"),
        )

    return draw


def changes(voice: Voice) -> alt.TopLevelMixin:
    """Customers who came to and left each class. Columns: name, position, direction, customers (left: negative)."""
    colors = alt.Scale(domain=["joined", "left"], range=[BLUE, ORANGE])
    words = {"joined": voice("words.joined"), "left": voice("words.left")}
    base = _rows().encode(
        y=_names(voice),
        x=alt.X("customers", type="quantitative", title=voice("axis.customers"), axis=_few("+,d"), stack=None),
    )
    bars = base.mark_bar().encode(
        color=alt.Color("direction", type="nominal", scale=colors, legend=_legend(words)),
        tooltip=[
            _tip(voice.field("name"), voice("words.class"), "nominal"),
            _tip("customers", voice("axis.customers"), number_format="+,d"),
        ],
    )
    return _sized(bars + _rule_at("x", 0), voice.high(28, "position"))


def score_map(measure: str, number_format: str, scores: tuple[int, int]) -> Draw:
    """Recency score × frequency score, coloured by ``measure``, each cell with its number.

    Args:
        scores: highest recency score and highest frequency score, so that empty rows are there as well.
    """

    def draw(voice: Voice) -> alt.TopLevelMixin:
        recency, frequency = scores
        base = _rows().encode(
            x=alt.X("recency_score", type="ordinal", title=voice("axis.recency_score"),
                    scale=alt.Scale(domain=list(range(1, recency + 1))), axis=alt.Axis(labelAngle=0)),
            y=alt.Y("frequency_score", type="ordinal", title=voice("axis.frequency_score"),
                    scale=alt.Scale(domain=list(range(frequency, 0, -1)))),
            tooltip=[
                _tip("recency_score", voice("axis.recency_score"), "ordinal"),
                _tip("frequency_score", voice("axis.frequency_score"), "ordinal"),
                _tip("customers", voice("axis.customers"), number_format=COUNT),
                _tip("revenue", voice("axis.revenue"), number_format=MONEY),
                _tip("revenue_per_customer", voice("axis.revenue_per_customer"), number_format=MONEY),
            ],
        )  # fmt: skip
        return _sized(_heat(base, measure, number_format), 46 * frequency)

    return draw


def flow(voice: Voice) -> alt.TopLevelMixin:
    """Class then × class now. Columns: then, now, stays, share (of the row), customers, from_position, to_position."""
    labels = alt.Axis(
        labelAngle=0, labelExpr=f"{NARROW} ? split(datum.label, ' ')[0] : split(datum.label, ' ')", labelLimit=120
    )
    base = _rows().encode(
        x=alt.X(voice.field("now"), type="nominal", sort=_by("to_position"), title=voice("axis.class_now"),
                axis=labels),
        y=alt.Y(voice.field("then"), type="nominal", sort=_by("from_position"), title=voice("axis.class_then"),
                axis=_row_labels()),
        tooltip=[
            _tip(voice.field("then"), voice("words.then"), "nominal"),
            _tip(voice.field("now"), voice("words.now"), "nominal"),
            _tip("customers", voice("axis.customers"), number_format=COUNT),
            _tip("share", voice("words.share_of_row"), number_format=PERCENT),
        ],
    )  # fmt: skip
    moved = (
        base.transform_filter("!datum.stays")
        .mark_rect(**_CELL)
        .encode(color=alt.Color("share", type="quantitative", legend=None, scale=_heat_scale(maximum=0.5)))
    )
    stayed = base.transform_filter("datum.stays").mark_rect(**_CELL, color=LINE)
    text = base.mark_text(fontSize=alt.ExprRef(_phone_size(9, 12))).encode(
        text=alt.Text("percent", type="nominal"),
        color=alt.condition("!datum.stays && datum.share > 0.34", alt.value("white"), alt.value(INK)),
    )
    return _sized(alt.layer(stayed, moved, text), voice.high(34, "from_position"))


def ladder(voice: Voice) -> alt.TopLevelMixin:
    """Stages of a ladder in order: who stands there now and, where the steps build on each other, who got that far.

    Columns: name, position, series (now or reached), customers, share.
    """
    words = {"reached": voice("words.reached"), "now": voice("words.stands_here")}
    legend = _legend(words) if _occurs(voice, "series", "reached") else None
    colors = alt.Scale(domain=["reached", "now"], range=[SKY, BLUE])
    base = _rows().encode(
        y=_names(voice, width=92),
        x=alt.X(
            "customers",
            type="quantitative",
            title=voice("axis.customers"),
            axis=_few(),
            scale=voice.room_for("customers"),
            stack=None,
        ),
    )
    bars = base.mark_bar().encode(
        color=alt.Color("series", type="nominal", scale=colors, legend=legend),
        tooltip=[
            _tip(voice.field("name"), voice("words.stage"), "nominal"),
            _tip("customers", voice("axis.customers"), number_format=COUNT),
            _tip("share", voice("words.share"), number_format=PERCENT),
        ],
    )
    reached, now = (bars.transform_filter(f"datum.series === '{series}'") for series in words)
    furthest = base.transform_filter("datum.is_furthest")
    return _sized(alt.layer(reached, now, _end_label(furthest, "share")), voice.high(40, "position"))


def cohorts(voice: Voice) -> alt.TopLevelMixin:
    """First-order month × months since, coloured by the share that ordered.

    Columns: cohort, position, months_since, customers, share, percent.
    """
    base = _rows().encode(
        x=alt.X("months_since", type="ordinal", title=voice("axis.months_since"),
                axis=alt.Axis(labelAngle=0, orient="top")),
        y=alt.Y(voice.field("cohort"), type="nominal", sort=_by("position"), title=voice("axis.cohort"),
                axis=_row_labels()),
        tooltip=[
            _tip(voice.field("cohort"), voice("axis.cohort"), "nominal"),
            _tip("months_since", voice("axis.months_since"), "ordinal"),
            _tip("customers", voice("axis.came_back"), number_format=COUNT),
            _tip("share", voice("words.share"), number_format=PERCENT),
        ],
    )  # fmt: skip
    cells = base.mark_rect(**_CELL).encode(
        color=alt.Color("share", type="quantitative", legend=None, scale=_heat_scale(maximum=1))
    )
    text = base.mark_text(fontSize=alt.ExprRef(_phone_size(9, 12))).encode(
        text=alt.Text("percent", type="nominal"),
        color=alt.condition("datum.share > 0.68", alt.value("white"), alt.value(INK)),
    )
    return _sized(cells + text, voice.high(30, "position"))


def concentration(voice: Voice) -> alt.TopLevelMixin:
    """Share of revenue over share of buyers, best first. Columns: buyers, revenue (fractions), is_top, label."""
    x = alt.X(
        "buyers",
        type="quantitative",
        title=voice("axis.share_of_buyers"),
        axis=_few(".0%"),
        scale=alt.Scale(domain=[0, 1]),
    )
    y = alt.Y(
        "revenue",
        type="quantitative",
        title=voice("axis.share_of_revenue"),
        axis=_few(".0%"),
        scale=alt.Scale(domain=[0, 1]),
        stack=None,
    )
    tips = [
        _tip("buyers", voice("axis.share_of_buyers"), number_format=PERCENT),
        _tip("revenue", voice("axis.share_of_revenue"), number_format=PERCENT),
    ]
    base = _rows().encode(x=x, y=y)
    equal = _given([{"buyers": 0, "revenue": 0}, {"buyers": 1, "revenue": 1}]).mark_line(
        color=GREY, strokeDash=[5, 5], strokeWidth=1.5
    ).encode(x="buyers:Q", y="revenue:Q")  # fmt: skip
    area = base.mark_area(color=SKY, opacity=0.22)
    line = base.mark_line(color=BLUE, strokeWidth=2.5)
    catch = base.mark_point(size=120, opacity=0, filled=True).encode(tooltip=tips)
    top = base.transform_filter("datum.is_top")
    dot = top.mark_point(size=110, filled=True, color=VERMILION, opacity=1).encode(tooltip=tips)
    text = alt.Text("label", type="nominal")
    beside = (
        top.transform_filter("datum.buyers <= 0.5").mark_text(align="left", dx=12, dy=12, **_LOUD).encode(text=text)
    )
    before = (
        top.transform_filter("datum.buyers > 0.5").mark_text(align="right", dx=-12, dy=12, **_LOUD).encode(text=text)
    )
    return _sized(alt.layer(equal, area, line, catch, dot, beside, before), 300)


def churn_spread(voice: Voice) -> alt.TopLevelMixin:
    """Where the churn probabilities of a class lie. Columns: name, position, kind, p10, p25, p50, p75, p90."""
    axis = voice("axis.churn_probability")
    base = _rows().encode(
        y=_names(voice),
        tooltip=[
            _tip(voice.field("name"), voice("words.class"), "nominal"),
            _tip("customers", voice("axis.customers"), number_format=COUNT),
            *(
                _tip(f"p{share}", voice("words.percentile", percent=share), number_format=PERCENT)
                for share in (10, 25, 50, 75, 90)
            ),
        ],
    )
    x = {"type": "quantitative", "title": axis, "axis": _few(".0%"), "scale": alt.Scale(domain=[0, 1])}
    whisker = base.mark_rule(color=GREY, strokeWidth=2).encode(x=alt.X("p10", **x), x2="p90")
    box = base.mark_bar(size=14, cornerRadius=3).encode(
        x=alt.X("p25", **x), x2="p75", color=_kinds(voice, legend=False)
    )
    median = base.mark_tick(color=INK, thickness=3, size=22).encode(x=alt.X("p50", **x))
    return _sized(alt.layer(whisker, box, median), voice.high(30, "position"))


def churn_histogram(voice: Voice) -> alt.TopLevelMixin:
    """Customers per tenth of churn probability. Columns: range, kind, kind_name, customers, revenue."""
    tenths = [f"{tenth * 10}–{tenth * 10 + 10}" for tenth in range(10)]
    bars = _rows().mark_bar(cornerRadiusEnd=0).encode(
        x=alt.X("range", type="ordinal", scale=alt.Scale(domain=tenths), title=voice("axis.churn_percent"),
                axis=alt.Axis(labelAngle=0, labelExpr=f"{NARROW} ? split(datum.label, '–')[0] : datum.label")),
        y=alt.Y("customers", type="quantitative", title=voice("axis.customers"), axis=_few()),
        color=_kinds(voice, legend=True),
        order=alt.Order("kind", type="nominal", sort="descending"),
        tooltip=[
            _tip("range", voice("axis.churn_percent"), "ordinal"),
            _tip(voice.field("kind_name"), voice("words.class"), "nominal"),
            _tip("customers", voice("axis.customers"), number_format=COUNT),
            _tip("revenue", voice("axis.revenue"), number_format=MONEY),
        ],
    )  # fmt: skip
    return _sized(bars, 240)


def calibration(voice: Voice) -> alt.TopLevelMixin:
    """Forecast against outcome. Columns: predicted, actual (fractions), customers."""
    both_axes = alt.Scale(domain=[0, 1])
    honest = _given([{"predicted": 0, "actual": 0}, {"predicted": 1, "actual": 1}]).mark_line(
        color=GREY, strokeDash=[5, 5], strokeWidth=1.5
    ).encode(x="predicted:Q", y="actual:Q")  # fmt: skip
    base = _rows().encode(
        x=alt.X("predicted", type="quantitative", title=voice("axis.predicted"), axis=_few(".0%"), scale=both_axes),
        y=alt.Y("actual", type="quantitative", title=voice("axis.stayed_away"), axis=_few(".0%"), scale=both_axes),
    )
    dots = base.mark_point(filled=True, color=BLUE, opacity=0.9).encode(
        size=alt.Size("customers", type="quantitative", legend=None, scale=alt.Scale(range=[40, 700])),
        tooltip=[
            _tip("predicted", voice("axis.predicted"), number_format=PERCENT),
            _tip("actual", voice("axis.stayed_away"), number_format=PERCENT),
            _tip("customers", voice("axis.customers"), number_format=COUNT),
        ],
    )
    return _sized(alt.layer(honest, base.mark_line(color=SKY), dots), 280)


def tag_groups(voice: Voice) -> alt.TopLevelMixin:
    """Share of customers with a tag of each group. Columns: name, position, need, share, customers."""
    words = {"mandatory": voice("words.mandatory"), "optional": voice("words.optional")}
    colors = alt.Scale(domain=list(words), range=[BLUE, SKY])
    base = _rows().encode(
        y=_names(voice),
        x=alt.X("share", type="quantitative", title=voice("axis.share_of_customers"),
                axis=alt.Axis(format="%", values=[0, 0.25, 0.5, 0.75, 1]), scale=alt.Scale(domain=[0, 1.32])),
        tooltip=[
            _tip(voice.field("name"), voice("words.tag_group"), "nominal"),
            _tip("customers", voice("axis.customers"), number_format=COUNT),
            _tip("share", voice("words.share"), number_format=PERCENT),
        ],
    )  # fmt: skip
    bars = base.mark_bar().encode(color=alt.Color("need", type="nominal", scale=colors, legend=_legend(words)))
    return _sized(bars + _end_label(base, "share"), voice.high(24, "position"))


def value_bars(voice: Voice) -> alt.TopLevelMixin:
    """The most frequent values of one tag. Columns: value, position, customers, share."""
    base = _rows().encode(
        y=alt.Y(
            "value",
            type="nominal",
            sort=_by("position"),
            title=None,
            axis=_name_labels(),
        ),
        x=alt.X(
            "customers",
            type="quantitative",
            title=voice("axis.customers"),
            axis=_few(),
            scale=voice.room_for("customers"),
        ),
        tooltip=[
            _tip("value", voice("words.value"), "nominal"),
            _tip("customers", voice("axis.customers"), number_format=COUNT),
            _tip("share", voice("words.share"), number_format=PERCENT),
        ],
    )
    return _sized(base.mark_bar(color=BLUE) + _end_label(base, "share"), voice.high(24, "position"))


def landing_calendar(days: list[date]) -> Draw:
    """Source × day received. Columns: source, day, state (rows, empty or missing), fill, landed, quarantined."""

    def draw(voice: Voice) -> alt.TopLevelMixin:
        weekly = [str(day) for day in days[::7]]
        states = ("rows", "empty", "missing")
        words = {state: voice(f"words.landing_{state}") for state in states if _occurs(voice, "state", state)}
        base = _rows().encode(
            x=alt.X("day", type="ordinal", title=voice("axis.day_received"),
                    scale=alt.Scale(domain=[str(day) for day in days]),
                    axis=alt.Axis(values=weekly, labelExpr="slice(datum.label, 5)", labelAngle=0,
                                  labelOverlap="greedy", labelSeparation=6)),
            y=alt.Y("source", type="nominal", title=None, axis=_name_labels()),
        )  # fmt: skip
        colors = alt.Scale(domain=states, range=[BLUE, "#c3ccd5", FAINT])
        cells = base.mark_rect(cornerRadius=2, stroke="white", strokeWidth=1).encode(
            color=alt.Color("state", type="nominal", scale=colors, legend=_legend(words)),
            opacity=alt.Opacity(
                "fill", type="quantitative", legend=None, scale=alt.Scale(domain=[0, 1], range=[0.3, 1])
            ),
            tooltip=[
                _tip("source", voice("words.source"), "nominal"),
                _tip("day", voice("axis.day_received"), "nominal"),
                _tip("landed", voice("words.rows_landed"), number_format=COUNT),
                _tip("quarantined", voice("words.rows_quarantined"), number_format=COUNT),
            ],
        )
        refused = base.transform_filter("datum.quarantined > 0").mark_point(
            filled=True, color=VERMILION, size=alt.ExprRef(_phone_size(10, 26)), opacity=1
        )
        return _sized(cells + refused, voice.high(30, "source"))

    return draw


def refused_rows(voice: Voice) -> alt.TopLevelMixin:
    """Refused rows per source and reason. Columns: name, position, rows, source, reason."""
    base = _rows().encode(
        y=_names(voice),
        x=alt.X(
            "rows", type="quantitative", title=voice("axis.rows_refused"), axis=_few(), scale=voice.room_for("rows")
        ),
        tooltip=[
            _tip("source", voice("words.source"), "nominal"),
            _tip(voice.field("reason"), voice("words.reason"), "nominal"),
            _tip("rows", voice("axis.rows_refused"), number_format=COUNT),
        ],
    )
    return _sized(base.mark_bar(color=VERMILION) + _end_label(base, "rows", COUNT), voice.high(26, "position"))


# ---------------------------------------------------------------- parts


def _rows() -> alt.Chart:
    return alt.Chart(alt.NamedData(name=ROWS))


def _given(values: list[dict[str, float]]) -> alt.Chart:
    return alt.Chart(alt.InlineData(values=values))


def _sized(drawn: alt.TopLevelMixin, height: int) -> alt.TopLevelMixin:
    """As wide as the page gives, and ``height`` pixels high without axes and legends."""
    fitted = alt.AutoSizeParams(type="fit-x", contains="padding")
    return drawn.properties(width="container", height=height, autosize=fitted)


def _by(column: str) -> alt.EncodingSortField:
    return alt.EncodingSortField(field=column, op="min", order="ascending")


def _names(voice: Voice, width: int | None = None) -> alt.Y:
    return alt.Y(
        voice.field("name"), type="nominal", sort=_by("position"), title=None,
        axis=_name_labels(width),
    )  # fmt: skip


def _name_labels(width: int | None = None) -> alt.Axis:
    return alt.Axis(labelLimit=width or NAME_WIDTH, labelFontSize=NAME_SIZE, labelColor=INK)


def _row_labels() -> alt.Axis:
    """Names of the rows of a heat map, smaller on a phone."""
    return alt.Axis(
        labelLimit=alt.ExprRef(f"{NARROW} ? 142 : 210"), labelFontSize=alt.ExprRef(_phone_size(10, 12)), labelColor=INK
    )


def _few(number_format: str = "~s") -> alt.Axis:
    """An axis with few ticks, each shortened on its own (500 and 1k, not 0.5k and 1k); numbers are whole."""
    label = f"datum.value === 0 ? '0' : format(datum.value, '{number_format}')"
    if "%" in number_format:
        return alt.Axis(tickCount=4, labelExpr=label)
    # Vega keeps a tick in the middle of 0 and 1, which would read as a second 1.
    return alt.Axis(tickCount=4, labelExpr=f"datum.value % 1 ? '' : {label}", tickMinStep=1)


def _end_label(base: alt.Chart, column: str, number_format: str = PERCENT) -> alt.Chart:
    return base.mark_text(align="left", dx=5, color=MUTED).encode(
        text=alt.Text(column, type="quantitative", format=number_format)
    )


def _tip(column: str, title: str, kind: str = "quantitative", number_format: str | None = None) -> alt.Tooltip:
    return alt.Tooltip(column, type=kind, title=title, **({"format": number_format} if number_format else {}))


def _kinds(voice: Voice, *, legend: bool) -> alt.Color:
    """Important classes dark, general ones light, customers without an order grey."""
    words = {kind: voice(f"words.kind_{kind}") for kind in ("important", "general", "none")}
    shown = {kind: words[kind] for kind in ("important", "general")}
    scale = alt.Scale(domain=list(words), range=[BLUE, SKY, GREY])
    return alt.Color("kind", type="nominal", scale=scale, legend=_legend(shown) if legend else None)


def _legend(words: dict[str, str]) -> alt.Legend:
    """A legend that shows words for keys; both come from this module and the texts, never from data."""
    cases = " : ".join(f"datum.label === {_quoted(key)} ? {_quoted(word)}" for key, word in words.items())
    return alt.Legend(
        title=None,
        values=list(words),
        labelExpr=f"{cases} : datum.label",
        labelLimit=260,
        columns=alt.ExprRef(f"{NARROW} ? 2 : 4"),
    )


def _occurs(voice: Voice, column: str, value: str) -> bool:
    return any(row[column] == value for row in voice.rows)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _rule_at(axis: str, value: float) -> alt.Chart:
    return _given([{"at": value}]).mark_rule(color=MUTED, strokeWidth=1).encode(**{axis: alt.X("at:Q")})


def _heat_scale(maximum: float | None = None) -> alt.Scale:
    if maximum is None:
        return alt.Scale(range=LIGHT_TO_DARK, domainMin=0, zero=True)
    return alt.Scale(range=LIGHT_TO_DARK, domain=[0, maximum], clamp=True)


def _heat(base: alt.Chart, measure: str, number_format: str) -> alt.TopLevelMixin:
    """Cells with their numbers; white on the darker half, told by the column ``<measure>_is_dark``."""
    cells = base.mark_rect(**_CELL).encode(
        color=alt.Color(measure, type="quantitative", legend=None, scale=_heat_scale())
    )
    text = base.mark_text().encode(
        text=alt.Text(measure, type="quantitative", format=number_format),
        color=alt.condition(f"datum.{measure}_is_dark", alt.value("white"), alt.value(INK)),
    )
    return cells + text


def _phone_size(phone: int, desk: int) -> str:
    return f"{NARROW} ? {phone} : {desk}"


def _specification(drawn: alt.TopLevelMixin) -> dict[str, Any]:
    """Vega-Lite without what names a web address; the page brings the renderer and the configuration."""
    spec = drawn.to_dict()
    for needless in ("$schema", "config"):
        spec.pop(needless, None)
    return spec


def _plain(row: Row) -> dict[str, Any]:
    """A row as JSON can hold it; a :class:`Both` becomes a column per language."""
    plain: dict[str, Any] = {}
    for column, value in row.items():
        if isinstance(value, Both):
            plain |= {f"{column}_{language}": value.within(language) for language in LANGUAGES}
        elif isinstance(value, Decimal):
            plain[column] = float(round(value, 6))
        else:
            plain[column] = str(value) if isinstance(value, date) else value
    return plain
