"""Putting a structure store in its place without taking away what a run began with."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aenet_ray.errors import StoreError, TrainingError
from aenet_ray.structures.store import StructureStore


def replace_store(build: Callable[[Path], Any], path: Path, *, keep: bool) -> StructureStore:
    """Build a store at ``path`` and open it.

    Args:
        build: Writes a store to the path it is given, whole or not at all, as ``build_store`` does. It may write
            ``<path>.skipped.csv`` as well.
        path: Where the store belongs.
        keep: A run began with the store that is there: its structures must not change. The new one is built
            beside it and compared; where the content is the same, the old file stays.

    Raises:
        TrainingError: ``keep``, and the store that is there holds other structures. It is left as it is.
    """
    before = _readable(path) if keep else None
    if before is None:
        build(path)
        return StructureStore(path)
    temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}{path.suffix}")
    try:
        build(temporary)
        with StructureStore(temporary) as now:
            found = now.content_hash, len(now), now.n_atoms
        if found[0] != before.content_hash:
            raise TrainingError(
                f"{path}: the run began with other structures ({len(before)} with {before.n_atoms} atoms, now "
                f"{found[1]} with {found[2]}); choose another run.name."
            )
        if _report(temporary).exists():
            os.replace(_report(temporary), _report(path))
    finally:
        temporary.unlink(missing_ok=True)
        _report(temporary).unlink(missing_ok=True)
    return before


def _report(path: Path) -> Path:
    """What ``build_store`` lists the structures in that it left out."""
    return path.with_name(f"{path.name}.skipped.csv")


def _readable(path: Path) -> StructureStore | None:
    """The store that is there; None where there is none to keep, or only a damaged one."""
    try:
        return StructureStore(path)
    except StoreError:
        return None
