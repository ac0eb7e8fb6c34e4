"""Files that appear complete or not at all: written beside their place and renamed."""

from __future__ import annotations

import json
import math
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Gives a path in the same folder to write to; what is there at the end takes the place of ``path`` at once.

    Whoever reads sees the old file or the new one. Where the block fails, the old one stays and nothing is left over.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):  # what went wrong is told, not that there is nothing to clear away
            temporary.unlink()
        raise


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Replace a file's content at once."""
    with replacing(path) as temporary:
        temporary.write_text(text)


def write_json(path: str | os.PathLike[str], values: Any) -> None:
    """Replace a file at once by valid JSON: what is not a finite number is null."""
    write_text(path, json.dumps(_finite(values), indent=1, allow_nan=False, default=str))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
