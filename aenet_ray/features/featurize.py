"""From a structure store to a feature store: which shards there are, and how one is made.

A shard holds what training needs of a range of structures: features, geometry, labels, and each structure's
share of the statistics. It is written to a temporary folder and renamed, so a shard that exists is whole.
Everything here runs in one process, without Ray; the Ray pipeline calls the same functions from its actors.
Any number of processes may make the same entry at once: one works and the others wait, and where they do not
(no locks on the file system, a holder that hangs), a whole shard is never touched and the first one in place stays.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import time
import uuid
import zlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from aenet_ray.descriptors.chebyshev import ChebyshevDescriptor
from aenet_ray.errors import StoreError, UnknownSpeciesError
from aenet_ray.features.locks import held
from aenet_ray.files import replacing, write_text
from aenet_ray.progress import progress_bar
from aenet_ray.structures.block import StructureBlock, chunks_by_atoms
from aenet_ray.structures.compositions import count_species
from aenet_ray.structures.store import StructureStore
from aenet_ray.structures.structure import FloatArray, IntArray

logger = logging.getLogger(__name__)

SCHEMA = 1
SHARD_BYTES = 64 << 20
# An atom has hundreds of edges of 28 bytes: as many atoms as keep them within a processor's cache.
EDGE_ATOMS = 1024
# A process that makes an entry shows a sign of life with every shard, which takes minutes where they are large.
PATIENCE = 900.0
SWAP_PATIENCE = 30.0
PER_ATOM = ("features", "positions", "species", "forces")
PER_STRUCTURE = ("n_atoms", "cell", "pbc", "energy", "has_forces", "max_force", "composition", "moments")
JOINED = ("n_atoms", "energy", "has_forces", "max_force", "composition")


@dataclass(frozen=True, slots=True)
class Shard:
    """Structures [start, stop) of the store, kept in the folder ``name``."""

    number: int
    start: int
    stop: int

    @property
    def name(self) -> str:
        return f"shard_{self.number:06d}"


def entry_key(store: StructureStore, descriptor: ChebyshevDescriptor, dtype: str) -> str:
    """Name of the entry: what went in decides it, so equal input finds equal output."""
    text = json.dumps([SCHEMA, store.content_hash, descriptor.fingerprint(), dtype])
    return hashlib.sha256(text.encode()).hexdigest()[:32]


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


def structure_moments(features: FloatArray, offsets: IntArray) -> FloatArray:
    """Sum, sum of squares, minimum and maximum over each structure's atoms, (n, 4, n_features)."""
    starts = offsets[:-1]
    return np.stack(
        [
            np.add.reduceat(features, starts),
            np.add.reduceat(features**2, starts),
            np.minimum.reduceat(features, starts),
            np.maximum.reduceat(features, starts),
        ],
        axis=1,
    )


def block_features(block: StructureBlock, descriptor: ChebyshevDescriptor, species: IntArray) -> FloatArray:
    """Features of all atoms, (n_atoms, n_features), with the edges of few atoms in memory at a time."""
    features = np.empty((block.n_atoms, descriptor.n_features))
    for part in chunks_by_atoms(np.diff(block.offsets), EDGE_ATOMS):
        atoms = slice(int(block.offsets[part.start]), int(block.offsets[part.stop]))
        edges = descriptor.edges(block.take(part.start, part.stop))
        features[atoms] = descriptor.features(edges, species[atoms])
    return features


def shard_columns(
    block: StructureBlock, descriptor: ChebyshevDescriptor, dtype: str, features: FloatArray | None = None
) -> dict[str, np.ndarray]:
    """All columns of a shard, features included, which are computed unless they are known."""
    species = descriptor.species_index(block.numbers)
    features = block_features(block, descriptor, species) if features is None else features.astype(np.float64)
    magnitude = np.sqrt(np.einsum("ax,ax->a", block.forces, block.forces))
    return {
        "features": features.astype(dtype),
        "positions": block.positions,
        "species": species.astype(np.int8),
        "forces": block.forces,
        "n_atoms": np.diff(block.offsets).astype(np.int32),
        "cell": block.cell,
        "pbc": block.pbc,
        "energy": block.energy,
        "has_forces": block.has_forces,
        "max_force": np.maximum.reduceat(magnitude, block.offsets[:-1]),
        "composition": count_species(species, block.offsets, len(descriptor.species)).astype(np.int32),
        "moments": structure_moments(features, block.offsets),
    }


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


def index_is_whole(entry: Path) -> bool:
    """Whether the index is there, and the joined columns beside it are as they were written."""
    try:
        index = json.loads((entry / "index.json").read_text())
        return index["schema"] == SCHEMA and all(unchanged(entry / f"{c}.npy", index["columns"][c]) for c in JOINED)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def missing_shards(entry: Path, shards: Sequence[Shard]) -> list[Shard]:
    return [s for s in shards if read_record(entry, s) is None]


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
