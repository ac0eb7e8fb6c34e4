"""Potential files as they are put in place."""

from __future__ import annotations

from pathlib import Path

from aenet_ray.files import replacing


def write_atomically(path: str | Path, content: bytes) -> Path:
    """Write a file that appears complete or not at all; missing folders are made. Returns the path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_bytes(content)
    return path
