"""Compositions as numbers of atoms: of each structure, and the different ones among many structures."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aenet_ray.structures.structure import IntArray


def count_species(species: NDArray[np.integer], offsets: IntArray, n_species: int) -> IntArray:
    """Atoms of each species in each structure, (n, n_species).

    Args:
        species: Index of each atom's, (n_atoms,).
        offsets: First atom of each structure and the end of the last, (n + 1,).
    """
    n = len(offsets) - 1
    first = np.repeat(np.arange(n) * n_species, np.diff(offsets))
    return np.bincount(first + species, minlength=n * n_species).reshape(n, n_species)


class Distinct:
    """The different compositions of structures that are added block by block, numbered as they turn up."""

    def __init__(self) -> None:
        self._numbers: dict[bytes, int] = {}

    def add(self, counts: NDArray[np.integer]) -> IntArray:
        """Number of each composition, (n,), of atoms of each species, (n, n_species)."""
        unique, inverse = np.unique(counts.astype(np.int64), axis=0, return_inverse=True)
        known = [self._numbers.setdefault(row.tobytes(), len(self._numbers)) for row in unique]
        return np.array(known, dtype=np.int64)[inverse.ravel()]

    @property
    def rows(self) -> IntArray:
        """Atoms of each species, (n_compositions, n_species)."""
        return np.array([np.frombuffer(row, dtype=np.int64) for row in self._numbers])
