"""What every dataset of structures offers, and the sample that an index gives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from aenet_ray.descriptors.chebyshev import ChebyshevDescriptor
from aenet_ray.errors import StoreError
from aenet_ray.structures.store import StructureStore
from aenet_ray.structures.structure import FloatArray, IntArray, Structure


class BaseDataset(Dataset[dict[str, Any]], ABC):
    """Structures by index, with their features: a torch dataset.

    Attributes:
        descriptor: Makes the features.
        atomic_energies: Reference energy of each species, eV, or None: zeros.
        max_energy: Structures with (E − Σε)/N above it were left out, eV/atom.
        max_forces: Structures with |F| above it were left out, eV/Å.
        seed: Kept as given. A dataset draws nothing at random, so it changes nothing.
    """

    descriptor: ChebyshevDescriptor | None
    atomic_energies: dict[str, float] | None
    max_energy: float | None
    max_forces: float | None = None
    seed: int | None
    with_forces = True
    """Whether samples have forces, and training may use them."""

    def __repr__(self) -> str:
        limits = {"max_energy": self.max_energy, "max_forces": self.max_forces}
        shown = "".join(f", {name}={value:g}" for name, value in limits.items() if value is not None)
        return f"{type(self).__name__}({self._content()}{shown}; {self.descriptor})"

    def _content(self) -> str:
        return f"{len(self)} structures, {int(self.force_mask().sum())} with forces for training"

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def get_structure(self, i: int) -> Structure:
        """Structure i. Raises IndexError outside the dataset."""

    @abstractmethod
    def get_structure_identifier(self, i: int) -> str:
        """The text that stands for structure i in output files."""

    @abstractmethod
    def get_entry_metadata(self, i: int) -> dict[str, Any]:
        """Of structure i: source_id, frame_idx, source_kind, display_name, has_forces, n_atoms, energy, name."""

    @abstractmethod
    def force_mask(self) -> np.ndarray:
        """Whether each structure has forces that training may use, (n,)."""

    @abstractmethod
    def resolve(self, directory: Path) -> tuple[StructureStore, IntArray]:
        """A structure store that holds the structures, and the row of each, (n,).

        Args:
            directory: Where a store may be written if there is none yet.
        """

    def features_folder(self) -> Path | None:
        """Parent of the feature stores that belong to the dataset; None where it keeps none."""
        return None

    def load_persisted_features(self, i: int) -> Tensor | None:
        """Features of structure i that were kept, (n_atoms, n_features); None where this one's were not.

        Raises:
            StoreError: The dataset keeps no features.
        """
        raise StoreError(
            f"{type(self).__name__}: keeps no features. Use CachedStructureDataset, or an HDF5StructureDataset built "
            "with persist_features=True."
        )

    def rows(self, positions: IntArray) -> IntArray:
        """Rows of the store for indices of the dataset, (n,)."""
        return positions

    def rows_token(self) -> object:
        """The same object for datasets whose rows are those of one store."""
        return self

    def kept_rows(self, rows: IntArray) -> FloatArray | None:
        """Features of store rows, one after the other, (n_atoms, n_features); None where they are not kept."""
        return None

    def needed_descriptor(self) -> ChebyshevDescriptor:
        """Raises:
        StoreError: There is none.
        """
        if self.descriptor is None:
            raise StoreError(f"{type(self).__name__}: has no descriptor, so there are no features. Give it one.")
        return self.descriptor

    def position(self, i: int) -> int:
        """Index from 0; negative ones count from the end.

        Raises:
            IndexError: Outside the dataset.
        """
        n = len(self)
        if not -n <= i < n:
            raise IndexError(f"{type(self).__name__}: structure {i} asked for, there are {n}.")
        return int(i) % n

    def __getitem__(self, i: int) -> dict[str, Any]:
        """Structure i as a sample: features, positions, species, labels; absent labels are None, energies NaN.

        Tensors have the descriptor's dtype and stand on the CPU, from where DataLoader workers can send them.
        """
        i = self.position(i)
        structure, descriptor = self.get_structure(i), self.needed_descriptor()
        index = descriptor.species_index(structure.numbers)
        features = self.kept_rows(self.rows(np.array([i])))
        if features is None:
            features = descriptor_features(descriptor, structure)
        dtype = descriptor.dtype
        use_forces = structure.forces is not None and self.with_forces
        return {
            "features": torch.tensor(features, dtype=dtype),
            "positions": torch.tensor(structure.positions, dtype=dtype),
            "species": list(structure.species),
            "species_indices": torch.from_numpy(index),
            "cell": None if structure.cell is None else torch.tensor(structure.cell, dtype=dtype),
            "pbc": None if structure.pbc is None else torch.tensor(structure.pbc),
            "energy": np.nan if structure.energy is None else structure.energy,
            "forces": torch.tensor(structure.forces, dtype=dtype) if use_forces else None,
            "has_forces": structure.forces is not None,
            "use_forces": use_forces,
            "n_atoms": structure.n_atoms,
            "name": structure.name,
            "identifier": self.get_structure_identifier(i),
            "source_index": i,
        }

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[i] for i in range(len(self)))

    def iter_structures(self) -> Iterator[Structure]:
        return (self.get_structure(i) for i in range(len(self)))

    def get_force_indices(self) -> list[int]:
        """Structures with forces that training may use, ascending."""
        return np.flatnonzero(self.force_mask()).tolist()

    def warmup(self, show_progress: bool = True) -> int:
        """Bring into memory what the dataset keeps there; how many structures that are."""
        return len(self)

    def get_statistics(self) -> dict[str, Any]:
        """Counts: n_structures, n_force_structures, n_energy_only, n_without_energy, n_atoms, species."""
        species, n_without = self.count_species_and_missing_energies()
        n_forces = int(self.force_mask().sum())
        return {
            "n_structures": len(self),
            "n_force_structures": n_forces,
            "n_energy_only": len(self) - n_forces,
            "n_without_energy": n_without,
            "n_atoms": species.total(),
            "species": dict(sorted(species.items())),
        }

    def count_species_and_missing_energies(self) -> tuple[Counter[str], int]:
        """Atoms by species, and structures without energy."""
        species: Counter[str] = Counter()
        n_without = 0
        for structure in self.iter_structures():
            species.update(structure.species)
            n_without += structure.energy is None
        return species, n_without


def descriptor_features(descriptor: ChebyshevDescriptor, structure: Structure) -> FloatArray:
    """Features of one structure, (n_atoms, n_features), float64."""
    from aenet_ray.features.compute import block_features
    from aenet_ray.structures.block import StructureBlock

    block = StructureBlock.from_structures([structure])
    return block_features(block, descriptor, descriptor.species_index(block.numbers))
