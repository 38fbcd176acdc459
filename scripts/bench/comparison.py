"""A result beside the one committed last: how many times as long each step took."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


def timings(results: dict[str, Any]) -> dict[str, float]:
    """Every wall time of a result, in seconds, by where it stands."""
    return dict(_timings(results, ()))


def compared(now: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    """Ratios now to before of every time that both results have.

    Returns:
        ``date``, ``commit`` and ``machine`` of the earlier result, ``is_same_machine``, and ``ratios`` by step.
    """
    old, new = timings(before), timings(now)
    ratios = {name: round(new[name] / old[name], 3) for name in new if old.get(name)}
    return {
        "date": before["date"],
        "commit": before["commit"],
        "is_same_machine": before["machine"] == now["machine"],
        "ratios": ratios,
    }


def _timings(part: Any, place: tuple[str, ...]) -> Iterator[tuple[str, float]]:
    if not isinstance(part, dict):
        return
    for name in ("seconds", "task_seconds", "trigger_to_published_seconds"):
        if name in part and "extra" not in place:
            yield " / ".join(place if name == "seconds" else (*place, name.replace("_", " "))), part[name]
    for name, inner in part.items():
        if name != "compared_with":
            yield from _timings(inner, (*place, name))
