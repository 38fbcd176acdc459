"""The commands ``strataflow tags ...``; ``cli`` adds the options that all commands share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from strataflow.errors import UsageError
from strataflow.screen import Screen

if TYPE_CHECKING:
    from strataflow.tags.seeds import Problem


@click.group("tags")
def tags_group() -> None:
    """Work on the vocabulary of tags."""


@tags_group.command(
    "lint",
    epilog="""\b
Examples:
  strataflow tags lint
  strataflow tags lint --json
""",
)
@click.pass_obj
def lint_command(obj: dict[str, Any] | None) -> None:
    """Refuse a vocabulary that contradicts itself.

    Reads the seeds tag_dictionary and tag_aliases and names every row that breaks a rule
    (docs/tags.md), with what to do. Ends with 2 if there is one; every build asks the same.
    """
    from strataflow.project import Project
    from strataflow.tags.lint import problems, refused
    from strataflow.tags.profile import outdated
    from strataflow.tags.seeds import read

    project = Project.locate()
    rows = read(project)
    found = [*problems(rows), *outdated(project, rows)]
    document = {
        "ok": not found,
        "command": "tags lint",
        "tags": len(rows.tags),
        "aliases": len(rows.aliases),
        "problems": [vars(problem) for problem in found],
    }
    if found:
        fault = refused(found)
        document["error"] = {"kind": "usage", "what": fault.what, "where": fault.where, "todo": fault.todo}
    text = _told(found) or f"{len(rows.tags)} tags and {len(rows.aliases)} aliases: every word means one tag."
    screen: Screen = (obj or {}).get("screen") or Screen()
    screen.result(document, lambda console: console.print(text, highlight=False, markup=False, soft_wrap=True))
    if found:
        raise click.exceptions.Exit(UsageError.exit_code)


@tags_group.command(
    "profile",
    epilog="""\b
Examples:
  strataflow tags profile
""",
)
@click.pass_obj
def profile_command(obj: dict[str, Any] | None) -> None:
    """Write the columns of the table customer_profile.

    They follow the seed tag_dictionary; run it after a tag was added or renamed. Says whether anything changed.
    """
    from strataflow.project import Project
    from strataflow.tags.lint import problems, refused
    from strataflow.tags.profile import COLUMNS_FILE, columns, write
    from strataflow.tags.seeds import read

    project = Project.locate()
    rows = read(project)
    found = problems(rows)
    if found:
        raise refused(found)
    changed, count = write(project, rows), len(columns(rows))
    document = {"ok": True, "command": "tags profile", "file": COLUMNS_FILE, "columns": count, "changed": changed}
    text = f"{COLUMNS_FILE}: {count} columns of tags, {'written' if changed else 'up to date'}."
    screen: Screen = (obj or {}).get("screen") or Screen()
    screen.result(document, lambda console: console.print(text, highlight=False, markup=False, soft_wrap=True))


def _told(found: list[Problem]) -> str:
    lines = []
    for problem in found:
        lines.append(f"{problem.file}:{problem.line}  {problem.rule}  {problem.what}")
        lines.append(f"  what to do: {problem.todo}")
    return "\n".join([*lines, f"{len(found)} found." if found else ""]).strip()
