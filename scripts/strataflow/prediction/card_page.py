"""The model card as a page: what the churn model is, how good it was, and what it was compared with.

One self-contained file without a script or an outside address; equal cards give equal bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

SIDE, MARGIN = 320, 44

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 46rem; padding: 0 1rem; color: #1b1b1b; }
table { border-collapse: collapse; width: 100%; margin: 1rem 0; }
th, td { border-bottom: 1px solid #ccc; padding: .3rem .5rem; text-align: right; }
th:first-child, td:first-child { text-align: left; }
tr.used { background: #e6f0fa; font-weight: 600; }
"""


def page(card: Mapping[str, Any]) -> str:
    """The card (see :func:`strataflow.prediction.churn.train`) as one HTML page."""
    parts = [
        f"<h1>Churn model as of {_text(card['as_of'])}</h1>",
        _summary(card),
        _data(card),
        _candidates(card),
    ]
    if "calibration" in card:
        parts += [_quality(card), _calibration(card["calibration"]), _importance(card["importance"])]
    if "behaviour_clusters" in card:
        parts.append(_groups(card["behaviour_clusters"]))
    body = "\n".join(part for part in parts if part)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Churn model card</title><style>{_STYLE}</style></head>\n<body>\n{body}\n</body></html>\n"
    )


def _summary(card: Mapping[str, Any]) -> str:
    return (
        f"<p>Probability of no valid order in the next {card['horizon_days']} days. "
        f"In use: <strong>{_text(card['used'])}</strong> ({_text(card['reason'])}).</p>"
    )


def _data(card: Mapping[str, Any]) -> str:
    if "data" not in card:
        return ""
    lines = [
        f"Orders from {card['data']['first_order']} to {card['data']['last_order']} of {card['customers']} customers."
    ]
    learnt = card.get("learnt_from")
    if learnt:
        lines.append(
            f"Learnt from {learnt['customers']} customers ({learnt['sample']}) on {len(learnt['final'])} days up to "
            f"{learnt['final'][0]}; judged on {learnt['judged_on']} after learning up to {learnt['judging'][0]}."
        )
    return "<h2>Data</h2><p>" + _text(" ".join(lines)) + "</p>"


def _candidates(card: Mapping[str, Any]) -> str:
    if not card["candidates"]:
        return ""
    ranked = sorted(card["candidates"].items(), key=lambda item: (item[1]["log_loss"], item[0]))
    rows = [
        ((name, *(f"{values[key]:.4f}" for key in ("log_loss", "auc", "brier"))), name == card["used"])
        for name, values in ranked
    ]
    return "<h2>Candidates</h2>" + _table(("candidate", "log loss", "AUC", "Brier"), rows)


def _quality(card: Mapping[str, Any]) -> str:
    return (
        f"<p>Of {card['judged_customers']} customers on the judged day {card['churned_share']:.1%} did not come back; "
        f"among the tenth with the highest predictions it was {card['top_decile_lift']:.2f} times that share.</p>"
    )


def _calibration(groups: Iterable[Mapping[str, Any]]) -> str:
    """Predicted against observed share, with the observed share's 95% interval."""
    span = SIDE - 2 * MARGIN

    def across(share: float) -> float:
        return round(MARGIN + share * span, 1)

    def up(share: float) -> float:
        return round(SIDE - MARGIN - share * span, 1)

    marks = [
        f'<line x1="{across(0)}" y1="{up(0)}" x2="{across(1)}" y2="{up(1)}" stroke="#999" stroke-dasharray="4"/>',
        f'<rect x="{across(0)}" y="{up(1)}" width="{span}" height="{span}" fill="none" stroke="#555"/>',
        f'<text x="{SIDE / 2}" y="{SIDE - 8}" text-anchor="middle">predicted (0 to 1)</text>',
        f'<text x="{-SIDE / 2}" y="14" text-anchor="middle" transform="rotate(-90)">observed (0 to 1)</text>',
    ]
    rows = []
    for group in groups:
        x = across(group["predicted"])
        low, high = up(group["observed_low"]), up(group["observed_high"])
        marks.append(f'<line x1="{x}" y1="{low}" x2="{x}" y2="{high}" stroke="#0b5cad"/>')
        marks.append(f'<circle cx="{x}" cy="{up(group["observed"])}" r="4" fill="#0b5cad"/>')
        interval = f"{group['observed_low']:.3f} to {group['observed_high']:.3f}"
        rows.append(((group["customers"], f"{group['predicted']:.3f}", f"{group['observed']:.3f}", interval), False))
    chart = f'<svg viewBox="0 0 {SIDE} {SIDE}" width="{SIDE}" role="img" font-size="12"><title>Calibration</title>'
    table = _table(("customers", "predicted", "observed", "95% interval"), rows)
    return f"<h2>Calibration</h2>{chart}{''.join(marks)}</svg>{table}"


def _importance(groups: Mapping[str, Mapping[str, float]]) -> str:
    ranked = sorted(groups.items(), key=lambda item: (-item[1]["spread"], item[0]))
    rows = [((name, f"{values['spread']:.3f}"), False) for name, values in ranked]
    return (
        "<h2>What it looks at</h2><p>How much each group of a customer's numbers moves the log-odds from one customer "
        "to another (standard deviation).</p>" + _table(("group", "spread of log-odds"), rows)
    )


def _groups(fit: Mapping[str, Any]) -> str:
    """The groups of customers who behave alike, where a shop has them switched on."""
    said = f"<h2>Groups of customers</h2><p>Fitted on {_text(fit['fitted_on'])}: {_text(fit['reason'])}.</p>"
    if not fit["found"]:
        return said
    measures = [scale["measure"] for scale in fit["found"]["scales"]]
    rows = [
        (
            (one["cluster_id"], one["name_en"], one["name_zh"], f"{one['share']:.1%}",
             *(f"{one['typical'][measure]:.2f}" for measure in measures)), False,
        )
        for one in fit["found"]["clusters"]
    ]  # fmt: skip
    return said + _table(("group", "name", "名称", "share", *measures), rows)


def _table(header: Iterable[str], rows: Iterable[tuple[Iterable[Any], bool]]) -> str:
    head = "".join(f"<th>{_text(name)}</th>" for name in header)
    body = "".join(
        f"<tr{' class=used' if used else ''}>{''.join(f'<td>{_text(cell)}</td>' for cell in cells)}</tr>"
        for cells, used in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _text(value: Any) -> str:
    return escape(str(value))
