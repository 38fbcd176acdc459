"""The preview as a page, to be attached to the change it speaks of.

One self-contained file without a script or an outside address, in English and
Chinese (a switch in plain CSS), readable on a phone; equal previews give equal bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from decimal import Decimal
from html import escape
from typing import Any

from strataflow.report.words import NOTHING, Both, amount, count, day, percent, share

_STYLE = """
:root { --ink: #16242f; --muted: #5b6b78; --line: #dde4ea; --paper: #fff; --back: #f3f6f8; --blue: #0b5cad; }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, -apple-system, "PingFang SC", "Noto Sans CJK SC", sans-serif; margin: 0;
  color: var(--ink); background: var(--back); }
main, header { max-width: 62rem; margin: 0 auto; padding: 0 16px; }
header { padding-top: 20px; }
h1 { font-size: 1.6rem; margin: .4rem 0; }
h2 { font-size: 1.2rem; margin: 2rem 0 .4rem; }
p { margin: .4rem 0; }
.muted { color: var(--muted); font-size: .9rem; overflow-wrap: anywhere; }
.verdict { font-size: 1.15rem; background: var(--paper); border-left: 5px solid var(--blue); padding: 12px 16px; }
.warning { background: #fdf0d5; border-left: 5px solid #b06f00; padding: 12px 16px; }
.scroll { overflow-x: auto; background: var(--paper); border-radius: 8px; padding: 4px 14px; margin: .6rem 0; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; }
caption { text-align: left; font-weight: 600; padding: 8px 0; }
th, td { text-align: left; padding: 7px 10px 7px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
tbody tr:last-child > * { border-bottom: 0; }
thead th { color: var(--muted); font-weight: 500; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.bar { display: block; height: 6px; border-radius: 3px; background: var(--blue); min-width: 1px; }
/* On a phone a table is scrolled, rather than squeezed until words stand upright. */
td:first-child, th:first-child { min-width: 5.5em; }
td:last-child:not(.number, .drawn) { min-width: 13em; }
td.drawn { width: 22%; min-width: 70px; vertical-align: middle; }
.switch { float: right; }
.switch label { margin-left: 10px; cursor: pointer; }
body:has(#en:checked) [lang="zh-Hans"].text, body:has(#zh:checked) [lang="en"].text { display: none; }
@media print { .switch { display: none; } }
"""

_ATTRIBUTES = {
    "rfm_class": Both("RFM class", "RFM 分层"),
    "ecommerce_stage": Both("E-commerce stage", "电商阶段"),
    "high_ticket_stage": Both("High-ticket stage", "高客单价阶段"),
    "activity_stage": Both("Activity stage", "活跃阶段"),
    "value_tier": Both("Value tier", "价值等级"),
}
_CHANGES = {"edited": Both("edited", "修改"), "added": Both("added", "新增"), "removed": Both("removed", "删除")}
_NOBODY = Both("not a customer", "非客户")
_CUSTOMERS, _REVENUE = Both("customers", "客户数"), Both("revenue", "收入")
_FROM, _TO = Both("from", "原"), Both("to", "新")


def page(told: dict[str, Any]) -> str:
    """The page about what :func:`strataflow.preview.preview` told, as HTML."""
    against = told["against"]
    title = Both(f"{told['shop']}: preview of an edit", f"{told['shop']}：规则修改预览")
    on = day(date.fromisoformat(against["as_of"]))
    compared = Both(
        f"The rules of the working tree beside version {against['version']}, as of {on.en}.",
        f"当前工作区规则与已发布版本 {against['version']} 的对比，截至 {on.zh}。",
    )
    body = [
        f'<p class="verdict">{_text(verdict(told))}</p>',
        *_warnings(told),
        _rules(told),
        *_moves(told),
        _movers(told),
        _tags(told),
        _tables(told),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{escape(title.en)}</title><style>{_STYLE}</style></head>\n<body>\n<header>"
        '<div class="switch"><label><input type="radio" name="language" id="en" checked> English</label>'
        '<label lang="zh-Hans"><input type="radio" name="language" id="zh"> 中文</label></div>'
        f'<h1>{_text(title)}</h1><p class="muted">{_text(compared)}</p></header>\n<main>\n'
        + "\n".join(part for part in body if part)
        + "\n</main></body></html>\n"
    )


def verdict(told: dict[str, Any]) -> Both:
    """The outcome in one sentence."""
    moving, before = told["would_move"], told["customers"]["before"]
    if told["is_same"]:
        return Both(
            "Nothing would move: every row of every table stays as it is.", "不会有任何变化：各表的每一行都保持不变。"
        )
    if not moving:
        return Both(
            "No customer would move; the tables below would change in other columns.",
            "没有客户会移动；下列各表仅有其他字段发生变化。",
        )
    part, money = percent(share(moving, before)), amount(Decimal(told["would_move_revenue"]))
    return Both(
        f"{count(moving)} of {count(before)} customers ({part}) would move; they brought {money} {told['currency']}.",
        f"{count(before)} 位客户中有 {count(moving)} 位（{part}）会移动，涉及收入 {money} {told['currency']}。",
    )


def warnings(told: dict[str, Any]) -> list[Both]:
    """What a reader has to know before trusting the moves to come from the edit."""
    found = []
    if told["data_changed"]:
        found.append(
            Both(
                "Days were landed again since that version was published: some moves may come from data, not rules.",
                "该版本发布后有数据被重新接收：部分变化可能来自数据而非规则。",
            )
        )
    if told["rules"]["files"] is None:
        found.append(
            Both(
                "That version was published without a list of its rules, so the files that differ can't be named.",
                "该版本发布时未记录规则清单，无法列出有差异的文件。",
            )
        )
    elif not told["rules"]["same"]["code"] and not _edits_code(told):
        found.append(
            Both(
                "The program's own code differs, too; models, seeds and vars alone may not explain every move.",
                "程序代码也有差异；变化未必全部来自模型、种子与变量。",
            )
        )
    return found


def _edits_code(told: dict[str, Any]) -> bool:
    """Whether models, macros or data tests differ, which by themselves change the code's version."""
    return any(entry["name"].startswith(("models/", "macros/", "tests/")) for entry in told["rules"]["files"])


def _warnings(told: dict[str, Any]) -> list[str]:
    return [f'<p class="warning">{_text(warning)}</p>' for warning in warnings(told)]


def _rules(told: dict[str, Any]) -> str:
    rules = told["rules"]
    heading = f"<h2>{_text(Both('What was edited', '修改内容'))}</h2>"
    if not rules["files"] and not rules["vars"]:
        nothing = Both("No file of the rules differs.", "规则文件没有差异。")
        return "" if rules["files"] is None else heading + f"<p>{_text(nothing)}</p>"
    tables = []
    if rules["vars"]:
        head = (Both("var", "变量"), _FROM, _TO)
        rows = [(entry["name"], entry["before"] or NOTHING, entry["after"] or NOTHING) for entry in rules["vars"]]
        tables.append(_table(head, rows))
    head = (Both("file", "文件"), Both("change", "变更"))
    tables.append(_table(head, [(entry["name"], _CHANGES[entry["change"]]) for entry in rules["files"]]))
    if told["cutoffs"]:
        head = (Both("score cut-offs", "评分分界"), _FROM, _TO)
        rows = [
            (entry["measure"], *(cutoffs_of(entry[side]) for side in ("before", "after"))) for entry in told["cutoffs"]
        ]
        tables.append(_table(head, rows))
    return heading + "".join(tables)


def cutoffs_of(side: dict[str, Any] | None) -> str:
    """The cut-offs of one side in order, with the mean score."""
    return NOTHING if side is None else f"{', '.join(side['cutoffs'])} (∅ {side['mean_score']})"


def _moves(told: dict[str, Any]) -> list[str]:
    if not told["would_move"]:
        return []
    parts = [f"<h2>{_text(Both('Who would move', '谁会移动'))}</h2>"]
    for attribute, label in _ATTRIBUTES.items():
        moves = told["moves"][attribute]
        if not moves:
            unmoved = Both(f"{label.en}: nobody would move.", f"{label.zh}：无变化。")
            parts.append(f'<p class="muted">{_text(unmoved)}</p>')
            continue
        largest = max(move["customers"] for move in moves)
        rows = [
            (
                name_of(told, attribute, move["from"]),
                name_of(told, attribute, move["to"]),
                move["customers"],
                Decimal(move["revenue"]),
                _Bar(move["customers"] / largest),
            )
            for move in moves
        ]
        revenue = Both(f"revenue {told['currency']}", f"收入 {told['currency']}")
        parts.append(_table((_FROM, _TO, _CUSTOMERS, revenue, Both("", "")), rows, label))
    return parts


def _movers(told: dict[str, Any]) -> str:
    if not told["largest_movers"]:
        return ""
    rows = []
    for mover in told["largest_movers"]:
        steps = [step_of(told, step) for step in mover["changes"]]
        words = Both("; ".join(step.en for step in steps), "；".join(step.zh for step in steps))
        rows.append((mover["customer_id"], Decimal(mover["monetary"]), words))
    head = (
        Both("customer", "客户"),
        Both(f"revenue {told['currency']}", f"收入 {told['currency']}"),
        Both("moves", "移动"),
    )
    return f"<h2>{_text(Both('The largest movers', '收入最高的移动客户'))}</h2>" + _table(head, rows)


def _tags(told: dict[str, Any]) -> str:
    if not told["tags"]:
        return ""
    head = (
        Both("tag", "标签"),
        Both("", ""),
        Both("gained", "获得"),
        Both("lost", "失去"),
        Both("other value", "取值变化"),
    )
    rows = [
        (name_of(told, "tag_id", tag["tag_id"]), tag["tag_id"], tag["gained"], tag["lost"], tag["changed"])
        for tag in told["tags"]
    ]
    return f"<h2>{_text(Both('Tags', '标签'))}</h2>" + _table(head, rows)


def _tables(told: dict[str, Any]) -> str:
    rows = [
        (table["table"], table["added"], table["removed"], table["changed"], _columns(table))
        for table in told["tables"]
        if any(table[part] for part in ("added", "removed", "changed", "columns_added", "columns_removed"))
    ]
    rows += [
        (table, NOTHING, NOTHING, NOTHING, Both("on one side only", "仅存在于一侧"))
        for table in told["tables_of_one_side"]
    ]
    if not rows:
        return ""
    head = (
        Both("table", "表"), Both("rows added", "新增行"), Both("removed", "删除行"), Both("changed", "变化行"),
        Both("in columns", "涉及字段"),
    )  # fmt: skip
    return f"<h2>{_text(Both('Published tables', '发布表'))}</h2>" + _table(head, rows)


def _columns(table: dict[str, Any]) -> str:
    changed = [f"{column} ({count(rows)})" for column, rows in sorted(table["columns"].items())]
    new, gone = (
        [f"{sign}{column}" for column in table[part]]
        for sign, part in (("+", "columns_added"), ("−", "columns_removed"))
    )
    return ", ".join([*changed, *new, *gone])


def step_of(told: dict[str, Any], step: dict[str, Any]) -> Both:
    """One change of one customer, as ``Value tier: High value → Mid value``."""
    label = _ATTRIBUTES[step["attribute"]]
    before, after = (name_of(told, step["attribute"], step[side]) for side in ("from", "to"))
    return Both(f"{label.en}: {before.en} → {after.en}", f"{label.zh}：{before.zh} → {after.zh}")


def name_of(told: dict[str, Any], attribute: str, value: str | None) -> Both:
    """The name of a class, stage, tier or tag; a value that no seed names stands for itself."""
    if value is None:
        return _NOBODY
    return Both(*told["names"].get(attribute, {}).get(value, (value, value)))


class _Bar(float):
    """A share drawn as a bar."""


def _table(head: Iterable[Both], rows: Iterable[Sequence[Any]], caption: Both | None = None) -> str:
    listed = [tuple(row) for row in rows]
    is_number = [bool(listed) and isinstance(cell, int | Decimal) for cell in (listed[0] if listed else ())]
    heads = "".join(
        f'<th scope="col"{" class=number" if numeric else ""}>{_text(title)}</th>'
        for title, numeric in zip(head, is_number, strict=True)
    )
    body = "".join(f"<tr>{''.join(_cell(cell) for cell in row)}</tr>" for row in listed)
    named = f"<caption>{_text(caption)}</caption>" if caption else ""
    return f'<div class="scroll"><table>{named}<thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>'


def _cell(cell: Any) -> str:
    if isinstance(cell, _Bar):
        return f'<td class="drawn"><span class="bar" style="width:{cell * 100:.1f}%"></span></td>'
    if isinstance(cell, Decimal):
        return f'<td class="number">{amount(cell)}</td>'
    if isinstance(cell, int):
        return f'<td class="number">{count(cell)}</td>'
    return f"<td>{_text(cell)}</td>"


def _text(text: Both | str) -> str:
    """Both languages, of which the switch shows one; a text that is equal in both stands once."""
    if isinstance(text, str):
        return escape(text)
    if text.en == text.zh:
        return escape(text.en)
    pairs = (("en", text.en), ("zh-Hans", text.zh))
    return "".join(f'<span class="text" lang="{language}">{escape(words)}</span>' for language, words in pairs)
