"""Datasets whose structures are in memory."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from aenet_ray.datasets.base import BaseDataset, descriptor_features
from aenet_ray.datasets.references import checked_limit, checked_references, low_enough
from aenet_ray.descriptors.chebyshev import ChebyshevDescriptor
from aenet_ray.errors import ConfigError, StoreError, StructureError, UnknownSpeciesError
from aenet_ray.progress import progress_bar
from aenet_ray.structures.checks import check
from aenet_ray.structures.readers import read_structures
from aenet_ray.structures.records import Records
from aenet_ray.structures.store import StructureStore, write_store
from aenet_ray.structures.structure import FloatArray, IntArray, Structure

D = TypeVar("D", bound="StructureDataset")
_CHECKED_AT_ONCE = 512


@dataclass(slots=True)
class Pool:
    """Structures shared by a dataset and the parts it was split into, so that all of them have one store.

    Args:
        structures: All that passed the filters.
        features: Of each, (n_atoms, n_features), where they are kept.
        stores: Written already, by folder.
    """

    structures: list[Structure]
    features: list[FloatArray] | None = None
    stores: dict[Path, Path] = field(default_factory=dict)

    def store(self, directory: Path) -> StructureStore:
        """A store of all structures in ``directory``, named by its content and written once."""
        directory = Path(directory).absolute()
        known = self.stores.get(directory)
        if known is None or not known.exists():
            directory.mkdir(parents=True, exist_ok=True)
            temporary = directory / f".structures.{secrets.token_hex(4)}.h5"
            try:
                report = write_store(self.structures, temporary, allow_duplicates=True)
                known = directory / f"structures-{report.content_hash[:16]}.h5"
                if not _is_whole(known, report.content_hash):  # one that is may be in use
                    os.replace(temporary, known)
            finally:
                temporary.unlink(missing_ok=True)
            self.stores[directory] = known
        return StructureStore(known)


def _is_whole(path: Path, content_hash: str) -> bool:
    try:
        return StructureStore(path).content_hash == content_hash
    except StoreError:
        return False


class StructureDataset(BaseDataset):
    """Structures in memory; features are computed when a sample is asked for.

    Args:
        structures: Structure records, paths, ASE Atoms, a structure store, or an iterable of these.
        descriptor: Makes the features.
        max_energy: Leave out structures with (E − Σε)/N above it, eV/atom, and with a warning those without energy.
        max_forces: Leave out structures with a force of larger magnitude |F|, eV/Å.
        atomic_energies: Reference energy of each species, eV; None: zeros in ``max_energy``, and training takes the
            configuration's.
        seed: Kept; a dataset draws nothing at random.

    Raises:
        StructureError: There is none, a file cannot be read, or a label is NaN.
        UnknownSpeciesError: A species is unknown to the descriptor.
        ConfigError: ``atomic_energies`` or a limit makes no sense, or the filters leave nothing.
    """

    def __init__(
        self,
        structures: Any,
        descriptor: ChebyshevDescriptor,
        max_energy: float | None = None,
        max_forces: float | None = None,
        atomic_energies: Mapping[str, float] | None = None,
        seed: int | None = None,
    ) -> None:
        name = type(self).__name__
        if not isinstance(descriptor, ChebyshevDescriptor):
            raise ConfigError(f"{name}: descriptor is {descriptor!r}, expected a ChebyshevDescriptor.")
        self.descriptor: ChebyshevDescriptor = descriptor
        self.max_energy = checked_limit("max_energy", max_energy, "eV/atom")
        self.max_forces = checked_limit("max_forces", max_forces, "eV/Å")
        self.seed = seed
        found = list(structures if isinstance(structures, StructureStore) else read_structures(structures))
        if not found:
            raise StructureError(f"{name}: no structures given.")
        _check_all(found)
        present = {s for structure in found for s in structure.species}
        unknown = sorted(present - set(descriptor.species))
        if unknown:
            raise UnknownSpeciesError(
                f"{name}: the structures hold {', '.join(unknown)}; the descriptor knows "
                f"{', '.join(descriptor.species)}."
            )
        self.atomic_energies = checked_references(atomic_energies, sorted(present))
        kept = self._filtered(found)
        self._pool = Pool(kept)
        self._rows = np.arange(len(kept))

    def _filtered(self, structures: list[Structure]) -> list[Structure]:
        references = self.atomic_energies or {}
        per_atom = np.array([_referenced(s, references) for s in structures])
        keep = low_enough(per_atom, self.max_energy, type(self).__name__)
        if self.max_forces is not None:
            keep &= np.array([not _largest_force(s) > self.max_forces for s in structures])
        if not keep.any():
            raise ConfigError(
                f"{type(self).__name__}: max_energy={self.max_energy} and max_forces={self.max_forces} leave none of "
                f"{len(structures)} structures."
            )
        return [s for s, k in zip(structures, keep, strict=True) if k]

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def structures(self) -> list[Structure]:
        """All structures, in order."""
        return [self._pool.structures[row] for row in self._rows]

    def get_structure(self, i: int) -> Structure:
        return self._pool.structures[self._rows[self.position(i)]]

    def get_structure_identifier(self, i: int) -> str:
        """Name, else path, else ``structure_{index:06d}``; the index is that before any split."""
        structure = self.get_structure(i)
        if structure.name:
            return structure.name
        if structure.source != "<memory>":
            return f"{structure.source}#frame={structure.frame}" if structure.frame else structure.source
        return f"structure_{self._rows[self.position(i)]:06d}"

    def get_entry_metadata(self, i: int) -> dict[str, Any]:
        structure = self.get_structure(i)
        return {
            "source_id": "" if structure.source == "<memory>" else structure.source,
            "frame_idx": structure.frame,
            "source_kind": "memory" if structure.source == "<memory>" else "file",
            "display_name": "",
            "has_forces": structure.has_forces(),
            "n_atoms": structure.n_atoms,
            "energy": np.nan if structure.energy is None else structure.energy,
            "name": structure.name or "",
        }

    def force_mask(self) -> np.ndarray:
        return np.array([self.with_forces and s.has_forces() for s in self.structures], dtype=bool)

    def resolve(self, directory: Path) -> tuple[StructureStore, IntArray]:
        return self._pool.store(directory), self._rows

    def rows(self, positions: IntArray) -> IntArray:
        return self._rows[positions]

    def rows_token(self) -> object:
        return self._pool

    def part(self: D, positions: IntArray) -> D:
        """Some of the structures as a dataset of the same kind and settings, without computing anything again."""
        part = object.__new__(type(self))
        part.__dict__.update(self.__dict__, _rows=self._rows[positions])
        return part


class CachedStructureDataset(StructureDataset):
    """Structures in memory, with features computed once, at construction; for training on energies.

    Args:
        show_progress: Show a progress bar, on a terminal.

    Others, and errors, as in :class:`StructureDataset`. Samples have no forces.
    """

    with_forces = False

    def __init__(
        self,
        structures: Any,
        descriptor: ChebyshevDescriptor,
        max_energy: float | None = None,
        max_forces: float | None = None,
        atomic_energies: Mapping[str, float] | None = None,
        seed: int | None = None,
        show_progress: bool = True,
    ) -> None:
        super().__init__(structures, descriptor, max_energy, max_forces, atomic_energies, seed)
        self._pool.features = []
        with progress_bar("featurizing", len(self), "structures", show=show_progress) as advance:
            for structure in self._pool.structures:
                self._pool.features.append(descriptor_features(descriptor, structure))
                advance(1)

    def kept_rows(self, rows: IntArray) -> FloatArray | None:
        features = self._pool.features
        return np.concatenate([features[row] for row in rows]) if features and len(rows) else None

    def load_persisted_features(self, i: int) -> Tensor | None:
        kept = self.kept_rows(self.rows(np.array([self.position(i)])))
        return None if kept is None else torch.tensor(kept, dtype=self.descriptor.dtype)


def _check_all(structures: list[Structure]) -> None:
    for start in range(0, len(structures), _CHECKED_AT_ONCE):
        check(Records.from_structures(structures[start : start + _CHECKED_AT_ONCE]), start)


def _referenced(structure: Structure, references: Mapping[str, float]) -> float:
    """(E − Σε)/N, eV/atom, NaN without an energy."""
    if structure.energy is None:
        return np.nan
    return (structure.energy - sum(references.get(s, 0.0) for s in structure.species)) / structure.n_atoms


def _largest_force(structure: Structure) -> float:
    return 0.0 if structure.forces is None else float(np.linalg.norm(structure.forces, axis=1).max())
