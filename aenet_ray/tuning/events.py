"""The lines of JSON that a search leaves behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

EVENTS = "events.jsonl"
"""In the search's folder: a line when a trial starts, tells an epoch, starts again or ends, with its Unix time."""


def read_events(folder: Path) -> list[dict[str, Any]]:
    """All events of a search; none if there are none yet."""
    try:
        lines = (folder / EVENTS).read_text().splitlines()
    except FileNotFoundError:
        return []
    found = []
    for line in lines:
        try:
            found.append(json.loads(line))
        except ValueError:  # cut by a kill
            continue
    return found
