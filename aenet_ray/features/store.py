"""The feature store: memory-mapped shards read by structure index."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aenet_ray.errors import StoreError
from aenet_ray.features import gather
from aenet_ray.features.featurize import SCHEMA
from aenet_ray.features.moments import FeatureMoments
from aenet_ray.structures.block import StructureBlock
from aenet_ray.structures.structure import FloatArray, IntArray


@dataclass(slots=True)
class GatheredFeatures:
    """Normalised features of a batch, rows sorted by species.

    Args:
        x: (n_atoms, n_features).
        counts: Rows of each species.
        structure: Structure of each row, (n_atoms,).
        row_of_atom: Row of each atom in structure order, (n_atoms,).
    """

    x: np.ndarray
    counts: list[int]
    structure: IntArray
    row_of_atom: IntArray


@dataclass(slots=True)
class SideBySide:
    """Normalised features of several batches in tables of equal length, rows sorted by species.

    Args:
        x: (n_batches, n_rows, n_features), zeros where a batch has fewer rows of a species than another.
        counts: Rows of each species in every table.
        structure: Structure of each row, (n_batches, n_rows), counted through all batches; their number where no
            atom is.
    """

    x: np.ndarray
    counts: list[int]
    structure: IntArray


@dataclass(slots=True)
class BatchRows:
    """Where the rows of a batch, sorted by species, come from.

    Args:
        number: Of each row in a table of atoms, -1 for rows that are not in it, (n_atoms,).
        counts, structure, row_of_atom: As in ``GatheredFeatures``.
    """

    number: IntArray
    counts: list[int]
    structure: IntArray
    row_of_atom: IntArray


class FeatureStore:
    """One entry: features, geometry and labels of all structures of a structure store.

    Per-structure columns and shards are memory maps: nothing is read before it is asked for, and all
    processes of a node share the pages. Safe to pickle; reopened by path.

    Raises:
        StoreError: The entry is missing, incomplete or of another version.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).absolute()
        try:
            index: dict[str, Any] = json.loads((self.path / "index.json").read_text())
        except FileNotFoundError:
            raise StoreError(
                f"{self.path}: no feature store here (no index.json); run featurize first, or start the run again with "
                "run.resume=auto, which makes it."
            ) from None
        except ValueError as error:
            raise StoreError(f"{self.path / 'index.json'}: damaged: {error}; delete it and featurize.") from None
        if index.get("schema") != SCHEMA:
            raise StoreError(
                f"{self.path}: feature store version {index.get('schema')}, expected {SCHEMA}; featurize again."
            )
        self.index = index
        self.n_structures: int = index["n_structures"]
        self.n_atoms_total: int = index["n_atoms"]
        self.n_features: int = index["n_features"]
        self.dtype = np.dtype(index["dtype"])
        self.species: tuple[str, ...] = tuple(index["descriptor"]["species"])
        self._starts = np.array([s["start"] for s in index["shards"]], dtype=np.int64)
        self._maps: dict[tuple[int, str], np.ndarray] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["path"])  # type: ignore[misc]

    def __len__(self) -> int:
        return self.n_structures

    def _column(self, name: str) -> np.ndarray:
        return _mapped(self.path / f"{name}.npy")

    @cached_property
    def n_atoms(self) -> NDArray[np.int32]:
        """Atoms of each structure, (n,)."""
        return self._column("n_atoms")

    @cached_property
    def energy(self) -> FloatArray:
        """Total energies, (n,), eV, NaN where absent."""
        return self._column("energy")

    @cached_property
    def has_forces(self) -> NDArray[np.bool_]:
        return self._column("has_forces")

    @cached_property
    def max_force(self) -> FloatArray:
        """Largest |F| of each structure, (n,), eV/Å, NaN where it has none."""
        return self._column("max_force")

    @cached_property
    def composition(self) -> NDArray[np.int32]:
        """Atoms of each species, (n, n_species), in descriptor order."""
        return self._column("composition")

    def _shard(self, number: int, name: str) -> np.ndarray:
        """A column of a shard as an ordinary array over mapped pages; kept open."""
        key = (number, name)
        if key not in self._maps:
            self._maps[key] = _mapped(self.path / f"shard_{number:06d}" / f"{name}.npy")
        return self._maps[key]

    def _first(self, number: int) -> IntArray:
        """First atom of each structure within its shard."""
        key = (number, "first")
        if key not in self._maps:
            count = self._shard(number, "n_atoms").astype(np.int64)
            self._maps[key] = np.cumsum(count) - count
        return self._maps[key]

    def _by_shard(self, ids: IntArray) -> Iterator[tuple[int, slice, IntArray]]:
        """(shard, its part of the ids, ids within the shard) for ascending ids."""
        shard = np.searchsorted(self._starts, ids, side="right") - 1
        cuts = np.flatnonzero(np.diff(shard)) + 1
        edges = [0, *cuts.tolist(), len(ids)]
        for a, b in pairwise(edges):
            if b > a:
                number = int(shard[a])
                yield number, slice(a, b), ids[a:b] - self._starts[number]

    def features(self, ids: IntArray, scale: np.ndarray, offset: np.ndarray) -> GatheredFeatures:
        """Normalised features of structures ``ids`` (ascending, repeats allowed)."""
        totals = self.composition[ids].sum(axis=0, dtype=np.int64)
        n_atoms = int(totals.sum())
        x = np.empty((n_atoms, self.n_features), dtype=self.dtype)
        structure = np.empty(n_atoms, dtype=np.int64)
        row_of_atom = np.empty(n_atoms, dtype=np.int64)
        cursor = np.cumsum(totals) - totals
        atom = 0
        for number, part, local in self._by_shard(ids):
            first, count = self._first(number)[local], self._shard(number, "n_atoms")[local]
            gather.gather_features(
                self._shard(number, "features"),
                self._shard(number, "species"),
                first,
                count,
                scale,
                offset,
                x,
                structure,
                row_of_atom,
                cursor,
                part.start,
                atom,
            )
            atom += int(count.sum())
        return GatheredFeatures(x, totals.tolist(), structure, row_of_atom)

    def side_by_side(self, ids: IntArray, scale: np.ndarray, offset: np.ndarray) -> SideBySide:
        """Normalised features of several batches of equally many structures, (n_batches, n), as one table each.

        Tables are as long as the longest of each species; ``structure`` counts through all batches.
        """
        n_batches, n = ids.shape
        totals = self.composition[ids].sum(axis=1, dtype=np.int64)
        longest = totals.max(axis=0)
        x = np.empty((n_batches, int(longest.sum()), self.n_features), dtype=self.dtype)
        structure = np.full(x.shape[:2], ids.size, dtype=np.int64)
        begin = np.cumsum(longest) - longest
        cursor = np.repeat(begin[None], n_batches, axis=0)
        flat = ids.ravel()
        label = np.argsort(flat, kind="stable")
        for number, part, local in self._by_shard(flat[label]):
            gather.gather_side_by_side(
                self._shard(number, "features"),
                self._shard(number, "species"),
                self._first(number)[local],
                self._shard(number, "n_atoms")[local],
                label[part] // n,
                label[part],
                scale,
                offset,
                x,
                structure,
                cursor,
            )
        gather.clear_between(x, cursor, np.repeat((begin + longest)[None], n_batches, axis=0))
        return SideBySide(x, longest.tolist(), structure)

    def rows(self, ids: IntArray, start: IntArray) -> BatchRows:
        """The rows that ``features`` would make, by their numbers in a table of atoms.

        Args:
            ids: Structures, ascending, repeats allowed, (n,).
            start: First atom of each in the table, whose others follow; -1 for those not in it, (n,).
        """
        totals = self.composition[ids].sum(axis=0, dtype=np.int64)
        number, structure, row_of_atom = (np.empty(int(totals.sum()), dtype=np.int64) for _ in range(3))
        cursor = np.cumsum(totals) - totals
        atom = 0
        for shard, part, local in self._by_shard(ids):
            first, count = self._first(shard)[local], self._shard(shard, "n_atoms")[local]
            species = self._shard(shard, "species")
            gather.number_rows(
                species, first, count, start[part], number, structure, row_of_atom, cursor, part.start, atom
            )
            atom += int(count.sum())
        return BatchRows(number, totals.tolist(), structure, row_of_atom)

    def raw(self, ids: IntArray) -> np.ndarray:
        """Features of structures ``ids``, in any order, as they are stored, (n_atoms, n_features)."""
        order = np.argsort(ids, kind="stable")
        ones, zeros = np.ones(self.n_features, self.dtype), np.zeros(self.n_features, self.dtype)
        gathered = self.features(ids[order], ones, zeros)
        x = gathered.x[gathered.row_of_atom]
        if (order == np.arange(len(ids))).all():
            return x
        counts = self.n_atoms[ids].astype(np.int64)
        parts = np.split(x, np.cumsum(counts[order])[:-1])
        return np.concatenate([parts[k] for k in np.argsort(order)])

    def geometry(self, ids: IntArray) -> tuple[StructureBlock, IntArray]:
        """Structures ``ids`` (ascending) as a flat block with forces, and species indices, (n_atoms,).

        ``numbers`` of the block is empty: descriptors need the species index only.
        """
        counts = self.n_atoms[ids].astype(np.int64)
        offsets = np.concatenate([[0], np.cumsum(counts)])
        n, n_atoms = len(ids), int(offsets[-1])
        positions, forces = np.empty((n_atoms, 3)), np.empty((n_atoms, 3))
        species = np.empty(n_atoms, dtype=np.int64)
        cell, pbc = np.empty((n, 3, 3)), np.empty((n, 3), dtype=bool)
        for number, part, local in self._by_shard(ids):
            first, count, start = self._first(number)[local], counts[part], int(offsets[part.start])
            gather.copy_rows(self._shard(number, "positions"), first, count, positions, start)
            gather.copy_rows(self._shard(number, "forces"), first, count, forces, start)
            gather.copy_rows(self._shard(number, "species")[:, None], first, count, species[:, None], start)
            cell[part], pbc[part] = self._shard(number, "cell")[local], self._shard(number, "pbc")[local]
        has_forces = self.has_forces[ids]
        energy = self.energy[ids]
        numbers = np.empty(0, dtype=np.int16)
        block = StructureBlock(offsets, positions, numbers, cell, pbc, energy, forces, ~np.isnan(energy), has_forces)
        return block, species

    def moments(self, ids: IntArray) -> FeatureMoments:
        """Statistics of the atoms of structures ``ids`` (ascending), merged from the shards' partial sums."""
        total, squares = np.zeros(self.n_features), np.zeros(self.n_features)
        minimum, maximum = np.full(self.n_features, np.inf), np.full(self.n_features, -np.inf)
        for number, _, local in self._by_shard(ids):
            m = self._shard(number, "moments")
            for chunk in np.array_split(local, -(-len(local) // 4096)):
                part = m[chunk]
                total += part[:, 0].sum(axis=0)
                squares += part[:, 1].sum(axis=0)
                minimum = np.minimum(minimum, part[:, 2].min(axis=0))
                maximum = np.maximum(maximum, part[:, 3].max(axis=0))
        return FeatureMoments(int(self.n_atoms[ids].sum()), total, squares, minimum, maximum)


# Batches are made in threads, and Python 3.11 may fail when two parse an array's header at once ("AST constructor
# recursion depth mismatch").
_READING = threading.Lock()


def _mapped(path: Path) -> np.ndarray:
    """A file of the entry as an ordinary array over mapped pages.

    Raises:
        StoreError: It is gone or damaged.
    """
    try:
        with _READING:
            return gather.plain(np.load(path, mmap_mode="r"))
    except (OSError, ValueError) as error:
        raise StoreError(f"{path}: cannot be read ({error}); featurize again to rebuild it.") from None
