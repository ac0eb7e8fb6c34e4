"""The shards of a feature store: which there are, how one is written, and whether it is whole.

A shard holds what training needs of a range of structures: features, geometry, labels, and each structure's
share of the statistics. It is written to a temporary folder and renamed, so a shard that exists is whole. Any number
of processes may write the same one: a whole shard is never touched and the first one in place stays.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
import zlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from aenet_ray.descriptors.chebyshev import ChebyshevDescriptor
from aenet_ray.errors import StoreError
from aenet_ray.features.compute import shard_columns
from aenet_ray.features.locks import held
from aenet_ray.structures.block import StructureBlock
from aenet_ray.structures.store import StructureStore
from aenet_ray.structures.structure import FloatArray

SHARD_BYTES = 64 << 20
SWAP_PATIENCE = 30.0
PER_ATOM = ("features", "positions", "species", "forces")
PER_STRUCTURE = ("n_atoms", "cell", "pbc", "energy", "has_forces", "max_force", "composition", "moments")


@dataclass(frozen=True, slots=True)
class Shard:
    """Structures [start, stop) of the store, kept in the folder ``name``."""

    number: int
    start: int
    stop: int

    @property
    def name(self) -> str:
        return f"shard_{self.number:06d}"


def plan_shards(store: StructureStore, n_features: int, dtype: str) -> list[Shard]:
    """Ranges of structures: about 64 MB of features each, and a few even of little data, to share out.

    Depends on the data alone, never on the number of workers, so that any number finds the same shards. Each holds
    at least one structure, however large.
    """
    n = store.n_structures
    total = store.n_atoms * n_features * np.dtype(dtype).itemsize
    count = min(n, max(-(-total // SHARD_BYTES), min(8, n // 256), 1))
    cuts = np.linspace(0, n, count + 1).astype(int)
    return [Shard(i, int(a), int(b)) for i, (a, b) in enumerate(pairwise(cuts))]


def write_shard(
    block: StructureBlock,
    shard: Shard,
    entry: Path,
    descriptor: ChebyshevDescriptor,
    dtype: str,
    features: FloatArray | None = None,
) -> dict[str, Any]:
    """Featurize the structures of a shard and put its folder in place; returns the record of what is there then.

    Args:
        features: Of all atoms, (n_atoms, n_features), where they are known already.

    Raises:
        StoreError: It cannot be put in place.
    """
    columns = shard_columns(block, descriptor, dtype, features)
    temporary = _aside(entry, shard)
    temporary.mkdir(parents=True)
    files = {}
    for name, values in columns.items():
        path = temporary / f"{name}.npy"
        np.save(path, np.ascontiguousarray(values))
        files[name] = describe_file(path)
    record = {
        "number": shard.number,
        "start": shard.start,
        "stop": shard.stop,
        "n_atoms": block.n_atoms,
        "files": files,
    }
    (temporary / "record.json").write_text(json.dumps(record))
    try:
        os.replace(temporary, entry / shard.name)
    except OSError as error:  # something is there
        return _replace_damaged(temporary, entry, shard, error)
    return record


def _aside(entry: Path, shard: Shard) -> Path:
    return entry / f".{shard.name}.{uuid.uuid4().hex}"


def _replace_damaged(temporary: Path, entry: Path, shard: Shard, error: OSError) -> dict[str, Any]:
    """Put a shard where there is one already: one that is whole stays, since somebody may be reading it.

    Looking and moving go together under a lock, or the shard moved away could be a whole one that another process
    has just put there in place of the damaged one.
    """
    damaged = _aside(entry, shard)
    with held(entry / ".swap.lock", SWAP_PATIENCE):
        there = read_record(entry, shard)
        if there is None:
            with suppress(FileNotFoundError):
                os.replace(entry / shard.name, damaged)
            with suppress(OSError):  # another process put its own there: asked next
                os.replace(temporary, entry / shard.name)
            there = read_record(entry, shard)
    for folder in (temporary, damaged):
        shutil.rmtree(folder, ignore_errors=True)
    if there is None:
        raise StoreError(f"{entry / shard.name}: cannot be put in place: {error}.")
    return there


def describe_file(path: Path) -> dict[str, int]:
    """What ``unchanged`` compares with."""
    return {"bytes": path.stat().st_size, "crc32": checksum(path), "mtime_ns": path.stat().st_mtime_ns}


def unchanged(path: Path, expected: dict[str, int]) -> bool:
    """Sizes are always compared; checksums only where a file's time differs from the recorded one, so that asking
    again costs nothing and a damaged or copied file is still looked at."""
    status = path.stat()
    if status.st_size != expected["bytes"]:
        return False
    return status.st_mtime_ns == expected["mtime_ns"] or checksum(path) == expected["crc32"]


def checksum(path: Path) -> int:
    value = 0
    with path.open("rb") as file:
        while chunk := file.read(1 << 22):
            value = zlib.crc32(chunk, value)
    return value


def read_record(entry: Path, shard: Shard) -> dict[str, Any] | None:
    """Record of a shard that is whole and unchanged; None if it must be (re)made."""
    folder = entry / shard.name
    try:
        record = json.loads((folder / "record.json").read_text())
        same_range = (record["start"], record["stop"]) == (shard.start, shard.stop)
        columns = (*PER_ATOM, *PER_STRUCTURE)
        whole = same_range and all(unchanged(folder / f"{c}.npy", record["files"][c]) for c in columns)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return record if whole else None


def missing_shards(entry: Path, shards: Sequence[Shard]) -> list[Shard]:
    return [s for s in shards if read_record(entry, s) is None]
