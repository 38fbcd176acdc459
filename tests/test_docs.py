"""Links between the pages lead somewhere: to a file, and to a heading in it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from strataflow.home import Home
from strataflow.project import Project

ROOT = Project.locate().root
FOLDERS = (ROOT / "dags", ROOT / "expectations")
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(folder / "README.md" for folder in FOLDERS)])


def headings(page: Path) -> set[str]:
    """The anchors of a page, as the common renderers make them: small letters, blanks to hyphens, signs dropped."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page):
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    dead = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        if not found.exists() or (anchor and anchor not in headings(found)):
            dead.append(target)
    assert dead == []


def test_every_folder_of_a_home_is_told_with_whether_it_may_be_removed():
    home = Home(Path("/home"))
    folders = {getattr(home, name) for name, kind in vars(Home).items() if isinstance(kind, property)}
    page = ROOT.joinpath("docs", "for-data-engineers.md").read_text(encoding="utf-8")
    table = page.partition("## The shape of a home")[2].partition("\n## ")[0]
    told = {
        name for row in table.splitlines() for name in re.findall(r"`(\w+)/`", row.split("|")[1] if "|" in row else "")
    }
    assert {folder.name for folder in folders if folder.parent == home.root} <= told
