"""A dataset in a file: any number of structures, any number of processes that read it."""

from __future__ import annotations

import os
from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aenet_ray import legacy
from aenet_ray.config import known_arguments
from aenet_ray.datasets.aenet_python import converted_beside
from aenet_ray.datasets.base import BaseDataset
from aenet_ray.datasets.database import (
    Settings,
    check_is_there,
    checked_compression,
    chosen_descriptor,
    write_database,
)
from aenet_ray.datasets.references import checked_limit, checked_references, low_enough
from aenet_ray.datasets.sources import as_collection
from aenet_ray.descriptors.chebyshev import ChebyshevDescriptor
from aenet_ray.errors import ConfigError, StoreError
from aenet_ray.features.featurize import entry_key, featurize
from aenet_ray.features.store import FeatureStore
from aenet_ray.progress import progress_bar
from aenet_ray.structures.store import StructureStore
from aenet_ray.structures.structure import FloatArray, IntArray, Structure

_ROWS_AT_ONCE = 4096


class HDF5StructureDataset(BaseDataset):
    """Structures in a structure store, with features kept beside it if wanted. Only what is asked for is read.

    Can be pickled, and be used by DataLoader workers: each process opens the file for itself, by its absolute path.

    Args:
        descriptor: Makes the features; None takes the file's, if it has one.
        database_file: The file: written by ``build_database``, any structure store, or aenet-python's training HDF5,
            of which a store is made, once, in ``NAME.converted.h5`` beside it.
        sources: What to build from: paths (directories, tar archives), SourceRecords, Structures, or a
            SourceCollection; all of one kind.
        mode: 'build' opens nothing before ``build_database``; 'load' opens what must be there; 'auto' opens it if it
            is there.
        max_energy: Leave out structures with (E − Σε)/N above it, eV/atom, and with a warning those without energy.
            They stay in the file. None takes what the file was built with; ``math.inf`` leaves out nothing.
        atomic_energies: Reference energy of each species, eV. None takes what the file was built with.
        seed: Kept; a dataset draws nothing at random.
        in_memory_cache_size: Structures kept in memory by each process, those used last.
        compression: 'zlib' or 'gzip' (the same), 'lzf', or None.
        compression_level: 0 (none) to 9.

    Raises:
        ConfigError: An argument is not allowed, or no structure is left.
        FileNotFoundError: ``mode`` is 'load' and there is no file.
        StoreError: The file is no structure store, or was built for another descriptor.
    """

    descriptor: ChebyshevDescriptor | None

    @known_arguments(
        file_paths="give the files as sources=[...].",
        parser="files are parsed by their format; for others give sources=[SourceRecord(...)] with a loader.",
    )
    def __init__(
        self,
        descriptor: ChebyshevDescriptor | None,
        database_file: str | os.PathLike[str],
        sources: Any = None,
        mode: str = "auto",
        *,
        max_energy: float | None = None,
        atomic_energies: Mapping[str, float] | None = None,
        seed: int | None = None,
        in_memory_cache_size: int = 2048,
        compression: str | None = "zlib",
        compression_level: int = 5,
    ) -> None:
        if descriptor is not None and not isinstance(descriptor, ChebyshevDescriptor):
            raise ConfigError(
                f"HDF5StructureDataset: descriptor is {descriptor!r}, expected a ChebyshevDescriptor or None."
            )
        if mode not in ("build", "load", "auto"):
            raise ConfigError(f"HDF5StructureDataset: mode is {mode!r}, expected 'build', 'load' or 'auto'.")
        _check_count("in_memory_cache_size", in_memory_cache_size)
        self._compression = checked_compression(compression, compression_level)
        self.descriptor, self.seed = descriptor, seed
        self.database_file = Path(database_file).absolute()  # workers and committees have other working directories
        self._sources = None if sources is None else as_collection(sources)
        self.max_energy = self._given_limit = checked_limit("max_energy", max_energy, "eV/atom")
        self.atomic_energies = self._given_energies = checked_references(atomic_energies, ())
        self._given_descriptor = descriptor
        self._size, self._recent = in_memory_cache_size, OrderedDict[int, Structure]()
        self._store: StructureStore | None = None
        self._features: FeatureStore | None = None
        self._rows = np.empty(0, dtype=np.int64)
        if mode == "load" or (mode == "auto" and self.database_file.exists()):
            self._open()

    def build_database(
        self,
        show_progress: bool = True,
        *,
        build_workers: int = 0,
        persist_descriptor: bool = False,
        persist_features: bool = False,
        persist_force_derivatives: bool = False,
    ) -> None:
        """Write the file, and features beside it; what was there before stays until the new one is whole.

        Args:
            show_progress: Show progress bars, on a terminal.
            build_workers: Processes (threads, for little input and for loaders that only this process knows) that
                parse; 0 and 1: none. The order of the entries does not depend on it.
            persist_descriptor: Keep the descriptor's parameters, so that ``descriptor=None`` finds them.
            persist_features: Make the features now, for every later training; with the descriptor.
            persist_force_derivatives: The same: training on forces needs the features and geometry kept there, and
                computes derivatives faster than it could read them.

        Raises:
            ConfigError: There are no sources, or ``build_workers`` is negative or not possible with them.
            StoreError: There is no descriptor to persist; or a source, which is named, cannot be used.
            InputTypeError: A loader gives something else than structures.
        """
        sources = self._sources
        if sources is None:
            raise ConfigError(f"{self.database_file}: no sources to build from; give them to HDF5StructureDataset.")
        _check_count("build_workers", build_workers)
        if build_workers > 1 and not sources.parallel_build:
            raise ConfigError(f"build_workers={build_workers}: {type(sources).__name__} forbids it; use 0.")
        persist_features = persist_features or persist_force_derivatives
        keep_descriptor = persist_descriptor or persist_features
        if keep_descriptor and self._given_descriptor is None:
            raise StoreError(f"{self.database_file}: nothing to persist without a descriptor. Give the dataset one.")
        known = self._given_descriptor if keep_descriptor else None
        limit = None if self._given_limit == np.inf else self._given_limit
        settings = Settings(limit, self._given_energies, known.config() if known else None)
        self.close()
        write_database(
            self.database_file,
            sources,
            settings,
            known_species=None if self._given_descriptor is None else self._given_descriptor.species,
            workers=build_workers,
            compression=self._compression,
            show_progress=show_progress,
        )
        self._open()
        if persist_features:
            descriptor = self.needed_descriptor()
            dtype = str(descriptor.dtype).removeprefix("torch.")
            featurize(self.store, descriptor, self.features_folder(), dtype, progress=show_progress)

    def _open(self) -> None:
        check_is_there(self.database_file)
        self.close()
        path = self.database_file
        store = StructureStore(converted_beside(path) if legacy.kind_of(path) == "training" else path)
        settings = Settings.read(store.file.attrs, self.database_file)
        self.descriptor = chosen_descriptor(self._given_descriptor, settings.descriptor, self.database_file)
        # What is given now comes before what the file was built with.
        energies = settings.atomic_energies if self._given_energies is None else self._given_energies
        self.atomic_energies = checked_references(energies, store.species)
        self.max_energy = settings.max_energy if self._given_limit is None else self._given_limit
        keep = low_enough(
            _referenced(store, self.atomic_energies or {}, self.max_energy), self.max_energy, str(self.database_file)
        )
        if not keep.any():
            raise ConfigError(
                f"{self.database_file}: max_energy={self.max_energy} leaves none of {len(store)} structures."
            )
        self._rows, self._store = np.flatnonzero(keep), store

    @property
    def store(self) -> StructureStore:
        """The open file.

        Raises:
            StoreError: There is none yet.
        """
        if self._store is None:
            raise StoreError(f"{self.database_file}: not built yet; call build_database().")
        return self._store

    def close(self) -> None:
        """Close the file; the next access opens it again. May be called any number of times."""
        if self._store is not None:
            self._store.close()
        self._features = None
        self._recent.clear()

    def __enter__(self) -> HDF5StructureDataset:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        """Without open files and structures in memory; sources stay here, they may not be able to travel."""
        return {**self.__dict__, "_features": None, "_recent": OrderedDict(), "_sources": None}

    def _content(self) -> str:
        return f"{str(self.database_file)!r}: " + ("not built yet" if self._store is None else super()._content())

    def __len__(self) -> int:
        self.store  # noqa: B018
        return len(self._rows)

    def get_structure(self, i: int) -> Structure:
        """Structure i; the arrays are the caller's own."""
        row = int(self._rows[self.position(i)])
        found = self._recent.pop(row, None)
        if found is None:
            found = self.store.structure(row)
        if self._size:
            self._recent[row] = found  # now the newest
            if len(self._recent) > self._size:
                self._recent.popitem(last=False)
        return replace(found)

    def warmup(self, show_progress: bool = True) -> int:
        """Read as many structures as are kept in memory, the first ones; how many those are."""
        n = min(self._size, len(self))
        with progress_bar("reading", n, "structures", show=show_progress) as advance:
            for i in range(n):
                self.get_structure(i)
                advance(1)
        return n

    def get_structure_identifier(self, i: int) -> str:
        """Display name, else source, else name, else ``structure_{index:06d}``, and ``#frame=k``."""
        row = int(self._rows[self.position(i)])
        return self.store.identifiers(row, row + 1)[0]

    def get_entry_metadata(self, i: int) -> dict[str, Any]:
        row = int(self._rows[self.position(i)])
        one, store = (row, row + 1), self.store
        return {
            "source_id": store.sources(*one)[0],
            "frame_idx": int(store.frames(*one)[0]),
            "source_kind": store.texts("source_kinds", *one)[0],
            "display_name": store.texts("display_names", *one)[0],
            "has_forces": bool(store.has("forces", *one)[0]),
            "n_atoms": int(store.n_atoms_per_structure(*one)[0]),
            "energy": float(store.energies(*one)[0]),
            "name": store.names(*one)[0] or "",
        }

    def force_mask(self) -> NDArray[np.bool_]:
        return self.store.has("forces")[self._rows]

    def count_species_and_missing_energies(self) -> tuple[Counter[str], int]:
        """As of the base class, from columns instead of structures."""
        store, kept = self.store, self._rows
        counts = np.zeros(len(store.species), dtype=np.int64)
        for start in range(0, len(store), _ROWS_AT_ONCE):
            stop = min(start + _ROWS_AT_ONCE, len(store))
            rows = kept[np.searchsorted(kept, start) : np.searchsorted(kept, stop)] - start
            counts += store.compositions(start, stop)[rows].sum(axis=0)
        species = Counter({s: int(n) for s, n in zip(store.species, counts, strict=True) if n})
        return species, int((~store.has("energy")[kept]).sum())

    def resolve(self, directory: Path) -> tuple[StructureStore, IntArray]:
        return self.store, self._rows

    def rows(self, positions: IntArray) -> IntArray:
        return self._rows[positions]

    def rows_token(self) -> object:
        return self.store.path, self.store.content_hash

    def features_folder(self) -> Path:
        """Where ``persist_features`` keeps features: beside the file, under its name."""
        return self.database_file.with_name(f"{self.database_file.name}.features")

    def kept_rows(self, rows: IntArray) -> FloatArray | None:
        store = self._feature_store()
        return None if store is None else store.raw(rows)

    def _feature_store(self) -> FeatureStore | None:
        """Features kept in the descriptor's precision, else in the other one."""
        if self._features is None and self.descriptor is not None and self.features_folder().is_dir():
            own = str(self.descriptor.dtype).removeprefix("torch.")
            for dtype in (own, "float64", "float32"):
                entry = self.features_folder() / entry_key(self.store, self.descriptor, dtype)
                if (entry / "index.json").exists():
                    self._features = FeatureStore(entry)
                    break
        return self._features

    def load_persisted_features(self, i: int) -> Tensor | None:
        kept = self.kept_rows(self.rows(np.array([self.position(i)])))
        if kept is None:
            raise StoreError(
                f"{self.database_file}: no features of this descriptor are kept; build with persist_features=True."
            )
        return torch.tensor(kept, dtype=self.needed_descriptor().dtype)


def _check_count(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ConfigError(f"{name}: found {value!r}, expected a whole number, 0 or more.")


def _referenced(store: StructureStore, references: Mapping[str, float], max_energy: float | None) -> FloatArray:
    """(E − Σε)/N of all structures, (n,), eV/atom; nothing is read where there is no limit."""
    if max_energy is None or max_energy == np.inf:
        return np.zeros(len(store))
    weights = np.array([references.get(s, 0.0) for s in store.species])
    starts = range(0, len(store), _ROWS_AT_ONCE)
    read = partial(_referenced_rows, store, weights)
    return np.concatenate([read(start, min(start + _ROWS_AT_ONCE, len(store))) for start in starts])


def _referenced_rows(store: StructureStore, weights: FloatArray, start: int, stop: int) -> FloatArray:
    counts = store.compositions(start, stop)
    return (store.energies(start, stop) - counts @ weights) / counts.sum(axis=1)
