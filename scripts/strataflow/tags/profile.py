"""The columns of the table ``customer_profile``, written from the dictionary.

The table is one row per customer, a column per exclusive group and one per other tag, so its columns
follow the dictionary; but dbt's contract wants them in a file. This module writes that file, which
makes the model's SQL as well (``macros/customer_profile.sql``), and the lint says when it is out of date:
a further tag needs no hand in it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from strataflow.errors import UsageError
from strataflow.project import Project
from strataflow.tags.seeds import Problem, Rows, Tag, read

COLUMNS_FILE = "dbt_project/models/marts/_customer_profile__columns.yml"
COMMAND = "strataflow tags profile"

_HEAD = """\
# Written by `strataflow tags profile` from seeds/tag_dictionary.csv; edits here are lost.
version: 2

models:
  - name: customer_profile
    description: >
      What the tags say of every customer, as a column per exclusive group and one per other tag; the evidence is in
      customer_tags. One row per customer.
    config:
      contract: {enforced: true}
      meta:
        published: true
        key: [customer_id]
        zh: 标签描绘的每位客户：每个互斥组一列，其余每个标签一列；依据见 customer_tags。每位客户一行。
    columns:
      - name: customer_id
        data_type: varchar
        description: "{{ doc('customer_id') }}"
        config: {meta: {zh: 客户编号。}}
        constraints: [{type: not_null}]
        data_tests: [unique]
      - name: as_of_date
        data_type: date
        description: "{{ doc('as_of_date') }}"
        config: {meta: {zh: 本行数据所截至的日期。}}
"""


@dataclass(frozen=True)
class Column:
    """A column that holds tags.

    Attributes:
        holds: ``tag_id`` (which of its tags a customer has), ``value`` (the value that comes with them) or ``flag``.
        tags: the tags that it tells apart, in the order of the dictionary.
    """

    name: str
    holds: str
    tags: tuple[Tag, ...]

    @property
    def description(self) -> str:
        """What stands in it, in English."""
        first = self.tags[0]
        if self.holds == "tag_id":
            return f"Which of these the customer is: {_listed(self.tags, 'name_en')}; empty if none."
        if self.holds == "value":
            return f"{', '.join(tag.name_en for tag in self.tags)}: {first.definition}; empty if it is not known."
        return f"{first.name_en}: {first.definition}."

    @property
    def description_zh(self) -> str:
        """The same in Chinese."""
        if self.holds == "tag_id":
            return f"客户属于其中哪一个：{_listed(self.tags, 'name_zh')}；都不是则为空。"
        if self.holds == "value":
            return f"{'、'.join(tag.name_zh for tag in self.tags)}；未知则为空。"
        return f"是否有标签“{self.tags[0].name_zh}”。"

    def as_yaml(self) -> str:
        """The column as an entry of dbt's list of columns."""
        first = self.tags[0]
        meta = {
            "holds": self.holds,
            "tag_group": first.tag_group,
            "is_mandatory": first.is_mandatory,
            "tags": [tag.tag_id for tag in self.tags],
            "zh": self.description_zh,
        }
        kind = "boolean" if self.holds == "flag" else "varchar"
        return (
            f"      - name: {self.name}\n"
            f"        data_type: {kind}\n"
            f"        description: {_quoted(self.description)}\n"
            f"        config: {{meta: {{{', '.join(f'{key}: {_quoted(value)}' for key, value in meta.items())}}}}}\n"
        )


def columns(rows: Rows) -> list[Column]:
    """The columns that hold tags, in the order in which the dictionary first names their group or tag.

    A tag keeps its column when it is no longer used; it stays empty then.
    """
    return list(_columns(rows))


def _columns(rows: Rows) -> Iterator[Column]:
    groups: dict[str, list[Tag]] = {}
    for tag in rows.tags:
        groups.setdefault(tag.tag_group, []).append(tag)
    for group, tags in groups.items():
        if tags[0].is_exclusive:
            holds = "value" if any(tag.value_kind == "value" for tag in tags) else "tag_id"
            yield Column(group, holds, tuple(tags))
        else:
            for tag in tags:
                holds = "value" if tag.value_kind == "value" else "flag"
                yield Column(tag.tag_id if holds == "value" else f"is_{tag.tag_id}", holds, (tag,))


def text(rows: Rows) -> str:
    """The file as it has to be."""
    return _HEAD + "".join(column.as_yaml() for column in columns(rows))


def write(project: Project, rows: Rows) -> bool:
    """Bring the file up to date; whether it was not."""
    path = project.root / COLUMNS_FILE
    if _standing(path) == text(rows):
        return False
    aside = path.with_name(f".{path.name}")
    aside.write_text(text(rows), encoding="utf-8", newline="\n")
    os.replace(aside, path)
    return True


def outdated(project: Project, rows: Rows) -> list[Problem]:
    """The problem that the file does not agree with the dictionary, if so; a project without the table has none."""
    path = project.root / COLUMNS_FILE
    if not (path.parent / "customer_profile.sql").is_file() or _standing(path) == text(rows):
        return []
    what = "the columns of customer_profile are not those that the dictionary asks for"
    return [Problem(COLUMNS_FILE, 1, "profile_outdated", what, f"run `{COMMAND}`, which writes this file")]


def refuse_outdated(project: Project) -> None:
    """Stop a build that would publish a table without the newest tags.

    Raises:
        UsageError: the file does not agree with the dictionary.
    """
    for problem in outdated(project, read(project)):
        raise UsageError(problem.what, where=problem.file, todo=problem.todo)


def _standing(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _listed(tags: tuple[Tag, ...], name: str) -> str:
    return ", ".join(f"{tag.tag_id} ({getattr(tag, name)})" for tag in tags)


def _quoted(value: object) -> str:
    """``value`` as YAML, which knows JSON."""
    return json.dumps(value, ensure_ascii=False)
