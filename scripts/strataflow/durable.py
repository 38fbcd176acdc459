"""Writes that a power cut or a kill can't leave half done.

A file written here is either the old one or the new one, whole, and once a
name points to it its content is on disk. JSON written here has one form
only, so that equal content means equal bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any


def json_text(content: Any) -> str:
    """``content`` as JSON in its one form: sorted keys, two blanks, a final newline.

    Dates and other values JSON doesn't know are written as ``str`` writes them.
    """
    return json.dumps(content, sort_keys=True, indent=2, ensure_ascii=False, default=str) + "\n"


def write_json(path: Path, content: Any) -> None:
    """Replace ``path`` by ``content`` in one step, creating its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    aside.write_text(json_text(content), encoding="utf-8")
    sync(aside)
    os.replace(aside, path)
    sync(path.parent)


def point(link: Path, target: str) -> bool:
    """Make the symbolic link ``link`` lead to ``target`` in one step.

    A reader that opens the link at any moment gets the old target or the new
    one. Returns False when it led there already and nothing was touched.
    """
    if leads_to(link, target):
        return False
    aside = link.with_name(f".link-{link.name}")
    aside.unlink(missing_ok=True)
    aside.symlink_to(target)
    os.replace(aside, link)
    sync(link.parent)
    return True


def leads_to(link: Path, target: str) -> bool:
    """Whether ``link`` is a symbolic link to ``target`` as it is written."""
    return link.is_symlink() and os.readlink(link) == target


def sync(path: Path) -> None:
    """Put a file's content, or a folder's list of names, on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(root: Path) -> None:
    """Put every file and folder below ``root`` on disk, innermost first, ``root`` last."""
    for folder, _, names in os.walk(root, topdown=False):
        for name in names:
            sync(Path(folder, name))
        sync(Path(folder))


def sha256(path: Path) -> str:
    """Hex digest of a file's bytes, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
