"""Reading YAML safely and, where PyYAML was built with it, in C: ten times as fast, hundreds of pages a day."""

from __future__ import annotations

from typing import Any

import yaml

FAST_LOADER: type = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def load(text: str) -> Any:
    """What ``text`` says, as plain lists, dictionaries and values.

    Raises:
        yaml.YAMLError: it is not valid YAML.
    """
    return yaml.load(text, Loader=FAST_LOADER)  # noqa: S506 (a safe loader)
