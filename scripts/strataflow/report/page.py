"""From sections to one HTML file.

The page trusts nothing it shows. Text goes through autoescaping, chart data
into a block of JSON in which no character can end the block, and the browser
is told to run the page's own scripts only, by their hashes, and to fetch
nothing at all.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from strataflow.report.blocks import Section
from strataflow.report.charts import CONFIG, ROWS
from strataflow.report.sections import Subject
from strataflow.report.words import day, say

TEMPLATES = Path(__file__).parent / "templates"


def render(subject: Subject, meta: Mapping[str, Any], sections: Sequence[Section]) -> str:
    """The whole page as text.

    Args:
        meta: content of the build's ``build.json``.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    scripts = [chart_library(), _template("page.js")]
    return environment.get_template("page.html").render(
        title=say("page.title", shop=meta["shop"]["name"]),
        shop=meta["shop"]["name"],
        as_of=say("page.as_of", day=day(subject.as_of)),
        known_at=say("page.known_at", day=day(subject.known_at)) if subject.known_at != subject.as_of else None,
        sections=sections,
        definitions=say("page.definitions", currency=subject.currency, window=subject.window_days),
        made_from=say(
            "page.made_from", build=meta["build_id"], rules=meta["rules_hash"][:12], code=meta["code_version"]
        ),
        say=say,
        style=Markup(_template("page.css")),  # noqa: S704  our own file
        charts=Markup(safe_json(_charts(sections))),  # noqa: S704  escaped by safe_json
        scripts=[Markup(script) for script in scripts],  # noqa: S704  the library and our own file
        policy=_policy(scripts),
    )


@cache
def chart_library() -> str:
    """Vega, Vega-Lite and Vega-Embed in one script, of the version that Altair writes for.

    Made once per process: bundling takes seconds and the result never differs.
    """
    import altair as alt
    import vl_convert

    version = alt.SCHEMA_VERSION.removeprefix("v").rpartition(".")[0]
    return vl_convert.javascript_bundle(vl_version=version).replace("</script", "<\\/script")


def safe_json(content: Any) -> str:
    """``content`` as JSON that may stand inside a script element: nothing in it can end the element."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), sort_keys=True, allow_nan=False)
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def _charts(sections: Sequence[Section]) -> dict[str, Any]:
    charts = [chart for section in sections for chart in section.charts]
    return {
        "config": CONFIG,
        "charts": {chart.key: {"datasets": {ROWS: chart.rows}, **chart.specs} for chart in charts},
    }


def _policy(scripts: Sequence[str]) -> str:
    """What the browser may do: run these scripts, and load nothing from anywhere.

    Vega turns a chart's expressions into functions, hence ``unsafe-eval``; the
    expressions are ours and hold no data.
    """
    hashes = " ".join(f"'sha256-{_digest(script)}'" for script in scripts)
    return (
        f"default-src 'none'; script-src {hashes} 'unsafe-eval'; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _template(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")
