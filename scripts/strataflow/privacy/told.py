"""What an erasure found and did, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from strataflow.privacy.erase import Erasure


def print_places(found: dict[str, int], console: Console) -> None:
    """Print which files name the customers."""
    lines = [f"  {count:>9,}  {path}" for path, count in found.items()]
    head = f"{len(found)} files name them; rows or mentions:" if found else "nothing in this home names them"
    console.print("\n".join([head, *lines]), highlight=False, markup=False, soft_wrap=True)


def print_erasure(erasure: Erasure, console: Console) -> None:
    """Print what went, where the proof is, and what comes next."""
    proof = erasure.proof
    lines = [f"Erased {proof['customers']} customers; rows and files that went or were changed:"]
    lines += [f"  {rows:>9,}  {place}" for place, rows in proof["rows"].items()]
    if not proof["rows"]:
        lines.append("  none: nothing here named them; later deliveries of them are left out all the same")
    lines.append(
        f"{proof['versions_replaced']} published versions replaced; "
        f"{proof['files_looked_through']:,} files looked through, none names them"
    )
    if proof["to_be_told"]:
        targets = ", ".join(proof["to_be_told"])
        lines.append(f"Still to be told to delete them, with their next delivery (strataflow deliver): {targets}")
    lines += [
        f"proof: {erasure.path}",
        "Builds were removed. What was published of the past keeps its cut-offs and counts; a day run again is worked",
        "out without them: strataflow run --skip-land --date DATE",
        "Not erased: the shop's own files, backups, and copies that others took (docs/privacy.md)",
    ]
    console.print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)
