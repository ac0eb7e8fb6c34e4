"""From a structure store to a feature store: the shards that are missing, and the index of all.

Everything here runs in one process, without Ray; the Ray pipeline makes the same shards in its actors.
Any number of processes may make the same entry at once: one works and the others wait, and where they do not
(no locks on the file system, a holder that hangs), they may write the same shards.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from aenet_ray.descriptors.chebyshev import ChebyshevDescriptor
from aenet_ray.errors import StoreError, UnknownSpeciesError
from aenet_ray.features.locks import held
from aenet_ray.features.shards import (
    Shard,
    describe_file,
    missing_shards,
    plan_shards,
    read_record,
    unchanged,
    write_shard,
)
from aenet_ray.files import replacing, write_text
from aenet_ray.progress import progress_bar
from aenet_ray.structures.store import StructureStore
from aenet_ray.structures.structure import FloatArray

logger = logging.getLogger(__name__)

SCHEMA = 1
# A process that makes an entry shows a sign of life with every shard, which takes minutes where they are large.
PATIENCE = 900.0
JOINED = ("n_atoms", "energy", "has_forces", "max_force", "composition")


def entry_key(store: StructureStore, descriptor: ChebyshevDescriptor, dtype: str) -> str:
    """Name of the entry: what went in decides it, so equal input finds equal output."""
    text = json.dumps([SCHEMA, store.content_hash, descriptor.fingerprint(), dtype])
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def check_species(store: StructureStore, descriptor: ChebyshevDescriptor) -> None:
    """Raises:
    UnknownSpeciesError: The store has species that the descriptor does not know.
    """
    unknown = [s for s in store.species if s not in descriptor.species]
    if unknown:
        raise UnknownSpeciesError(
            f"{store.path}: holds species {', '.join(unknown)}, which the descriptor "
            f"(species {', '.join(descriptor.species)}) does not list. Add them to its species, or build the "
            "store without those structures."
        )


def index_is_whole(entry: Path) -> bool:
    """Whether the index is there, and the joined columns beside it are as they were written."""
    try:
        index = json.loads((entry / "index.json").read_text())
        return index["schema"] == SCHEMA and all(unchanged(entry / f"{c}.npy", index["columns"][c]) for c in JOINED)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def write_index(
    entry: Path, store: StructureStore, descriptor: ChebyshevDescriptor, dtype: str, shards: Sequence[Shard]
) -> None:
    """Join the shards' per-structure columns and write the index: the entry is complete once it exists.

    Processes that do so at once write the same, and each file is replaced in one step.

    Raises:
        StoreError: A shard is missing or damaged.
    """
    records = [_needed_record(entry, s) for s in shards]
    joined = {}
    for name in JOINED:
        parts = [np.load(entry / s.name / f"{name}.npy") for s in shards]
        joined[name] = _save(entry / f"{name}.npy", np.concatenate(parts))
    index = {
        "schema": SCHEMA,
        "key": entry_key(store, descriptor, dtype),
        "store": {"path": str(store.path), "content_hash": store.content_hash},
        "descriptor": descriptor.config(),
        "descriptor_fingerprint": descriptor.fingerprint(),
        "dtype": dtype,
        "n_features": descriptor.n_features,
        "n_structures": store.n_structures,
        "n_atoms": store.n_atoms,
        "columns": joined,
        "shards": [{k: r[k] for k in ("number", "start", "stop", "n_atoms")} for r in records],
    }
    write_text(entry / "index.json", json.dumps(index, indent=1, default=str))


def _needed_record(entry: Path, shard: Shard) -> dict[str, Any]:
    record = read_record(entry, shard)
    if record is None:
        raise StoreError(f"{entry / shard.name}: missing or damaged, no index without it; featurize again.")
    return record


def _save(path: Path, values: np.ndarray) -> dict[str, int]:
    """Replace a file at once; returns what ``unchanged`` compares with."""
    with replacing(path) as temporary:
        with temporary.open("wb") as file:
            np.save(file, values)
        return describe_file(temporary)


def _clear_away(entry: Path, age: float = 3600.0) -> None:
    """Remove what killed runs were writing; younger ones may belong to a run that is still going."""
    for path in (p for p in entry.glob(".*") if p.suffix != ".lock"):
        with suppress(OSError):  # somebody else removes it
            if time.time() - path.stat().st_mtime > age:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


ShardRunner = Callable[[StructureStore, Path, ChebyshevDescriptor, str, Sequence[Shard], Callable[[int], None]], None]
"""Makes the given shards, calling back with the structures of each one done."""


def in_process(
    store: StructureStore,
    entry: Path,
    descriptor: ChebyshevDescriptor,
    dtype: str,
    shards: Sequence[Shard],
    done: Callable[[int], None],
) -> None:
    """Make shards with this process's cores: the compiled kernels release the interpreter."""

    def make(shard: Shard) -> int:
        if read_record(entry, shard) is None:  # as it was a while ago, before other processes went on
            write_shard(store.read(shard.start, shard.stop), shard, entry, descriptor, dtype)
        return shard.stop - shard.start

    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        results: Iterable[int] = pool.map(make, shards)
        for n in results:
            done(n)


KnownFeatures = Callable[[int, int], FloatArray | None]
"""Features of structures [start, stop), (n_atoms, n_features), or None where they are not kept."""


def from_known(known: KnownFeatures, otherwise: ShardRunner) -> ShardRunner:
    """Make shards of features that are known; those that are not, ``otherwise``."""

    def run(
        store: StructureStore,
        entry: Path,
        descriptor: ChebyshevDescriptor,
        dtype: str,
        shards: Sequence[Shard],
        done: Callable[[int], None],
    ) -> None:
        left = []
        for shard in shards:
            features = known(shard.start, shard.stop)
            if features is None:
                left.append(shard)
                continue
            write_shard(store.read(shard.start, shard.stop), shard, entry, descriptor, dtype, features)
            done(shard.stop - shard.start)
        if left:
            otherwise(store, entry, descriptor, dtype, left, done)

    return run


def featurize(
    store: StructureStore,
    descriptor: ChebyshevDescriptor,
    directory: str | Path,
    dtype: str = "float64",
    *,
    run: ShardRunner = in_process,
    progress: bool = True,
) -> Path:
    """Make sure that the features of a store exist, and return the folder of the entry.

    What is there and whole is kept: a second call does nothing, a killed one is finished, a damaged shard is
    made again. While another process makes the same entry, this one waits for it.

    Args:
        store: Structures.
        descriptor: Features are raw, before any normalisation.
        directory: Parent of all entries.
        dtype: 'float32' or 'float64', of the stored features. Geometry, labels and statistics are float64.
        run: How missing shards are made: in this process, or on Ray.
        progress: Show a progress bar.

    Raises:
        UnknownSpeciesError: The store holds species the descriptor does not know.
    """
    check_species(store, descriptor)
    entry = Path(directory).absolute() / entry_key(store, descriptor, dtype)
    shards = plan_shards(store, descriptor.n_features, dtype)
    if not missing_shards(entry, shards) and index_is_whole(entry):
        logger.info("features: %d structures already there in %s, nothing to do", store.n_structures, entry)
        return entry
    entry.mkdir(parents=True, exist_ok=True)
    message = f"features: another process is making {entry}, waiting for it"
    with held(entry / ".entry.lock", PATIENCE, message):
        missing = missing_shards(entry, shards)
        if missing or not index_is_whole(entry):
            _complete(store, entry, descriptor, dtype, shards, missing, run, progress)
    logger.info("features: %d structures, %d atoms in %s", store.n_structures, store.n_atoms, entry)
    return entry


def _complete(
    store: StructureStore,
    entry: Path,
    descriptor: ChebyshevDescriptor,
    dtype: str,
    shards: Sequence[Shard],
    missing: Sequence[Shard],
    run: ShardRunner,
    progress: bool,
) -> None:
    """Make the missing shards, and the index."""
    _clear_away(entry)
    n_missing = sum(s.stop - s.start for s in missing)
    if n_missing < store.n_structures:
        logger.info(
            "features: %d of %d structures are there, making the rest",
            store.n_structures - n_missing,
            store.n_structures,
        )
    with progress_bar("featurizing", n_missing, "structures", show=progress) as advance:
        if missing:
            run(store, entry, descriptor, dtype, missing, advance)
    if left := missing_shards(entry, shards):
        raise StoreError(
            f"{entry}: {len(left)} of {len(shards)} shards could not be made (the first is {left[0].name})."
        )
    write_index(entry, store, descriptor, dtype, shards)
