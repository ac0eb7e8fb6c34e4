"""Many structures as flat arrays: what moves between store, actors, batches and predictions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import ArrayLike, NDArray

from aenet_ray.structures.structure import FloatArray, IntArray, Structure

_PER_ATOM = {"positions", "numbers", "forces", "charges"}


@dataclass(slots=True)
class StructureBlock:
    """n structures of n_atoms atoms in all. A NaN label is absent; ``has_*`` says so too.

    Args:
        offsets: First atom of each structure and the end of the last one, (n + 1,).
        positions: (n_atoms, 3), Å.
        numbers: Atomic numbers, (n_atoms,), int16.
        cell: (n, 3, 3), Å; zero for isolated structures.
        pbc: (n, 3).
        energy: (n,), eV, NaN where absent.
        forces: (n_atoms, 3), eV/Å, NaN where absent.
        has_energy: (n,).
        has_forces: (n,).
        stress: (n, 3, 3), eV/Å³, or None if not read. Like the columns below, NaN where absent.
        charges: Partial charges, (n_atoms,), e.
        charge: Total charge, (n,), e.
        multiplicity: (n,).
    """

    offsets: IntArray
    positions: FloatArray
    numbers: NDArray[np.int16]
    cell: FloatArray
    pbc: NDArray[np.bool_]
    energy: FloatArray
    forces: FloatArray
    has_energy: NDArray[np.bool_]
    has_forces: NDArray[np.bool_]
    stress: FloatArray | None = None
    charges: FloatArray | None = None
    charge: FloatArray | None = None
    multiplicity: FloatArray | None = None

    @property
    def n_structures(self) -> int:
        return len(self.offsets) - 1

    @property
    def n_atoms(self) -> int:
        return int(self.offsets[-1])

    @property
    def structure_index(self) -> IntArray:
        """Structure of each atom, (n_atoms,)."""
        return np.repeat(np.arange(self.n_structures), np.diff(self.offsets))

    @classmethod
    def from_structures(cls, structures: Sequence[Structure]) -> StructureBlock:
        counts = [s.n_atoms for s in structures]
        offsets = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]).astype(np.int64)
        n, n_atoms = len(structures), int(offsets[-1])
        block = cls(
            offsets=offsets,
            positions=np.empty((n_atoms, 3)),
            numbers=np.empty(n_atoms, dtype=np.int16),
            cell=np.zeros((n, 3, 3)),
            pbc=np.zeros((n, 3), dtype=bool),
            energy=np.full(n, np.nan),
            forces=np.full((n_atoms, 3), np.nan),
            has_energy=np.zeros(n, dtype=bool),
            has_forces=np.zeros(n, dtype=bool),
        )
        for i, s in enumerate(structures):
            a, b = offsets[i], offsets[i + 1]
            block.positions[a:b] = s.positions
            block.numbers[a:b] = s.numbers
            if s.cell is not None and s.pbc is not None:
                block.cell[i], block.pbc[i] = s.cell, s.pbc
            if s.energy is not None:
                block.energy[i], block.has_energy[i] = s.energy, True
            if s.forces is not None:
                block.forces[a:b], block.has_forces[i] = s.forces, True
        block.stress = _optional_rows([s.stress for s in structures], (3, 3))
        block.charge = _optional_rows([s.charge for s in structures], ())
        block.multiplicity = _optional_rows([s.multiplicity for s in structures], ())
        if any(s.charges is not None for s in structures):
            block.charges = np.concatenate(
                [np.full(s.n_atoms, np.nan) if s.charges is None else s.charges for s in structures]
            )
        return block

    def structure(self, i: int) -> Structure:
        """Structure i as a record."""
        a, b = self.offsets[i], self.offsets[i + 1]
        isolated = not self.cell[i].any()

        def label(values: FloatArray | None) -> FloatArray | None:
            return None if values is None or np.isnan(values).all() else values

        def scalar(values: FloatArray | None) -> float | None:
            return None if values is None or np.isnan(values[i]) else float(values[i])

        return Structure(
            self.positions[a:b],
            [chemical_symbols[z] for z in self.numbers[a:b]],
            float(self.energy[i]) if self.has_energy[i] else None,
            self.forces[a:b] if self.has_forces[i] else None,
            None if isolated else self.cell[i],
            None if isolated else self.pbc[i],
            stress=label(None if self.stress is None else self.stress[i]),
            charges=label(None if self.charges is None else self.charges[a:b]),
            charge=scalar(self.charge),
            multiplicity=scalar(self.multiplicity),
        )

    def take(self, start: int, stop: int) -> StructureBlock:
        """Structures [start, stop) as views."""
        a, b = self.offsets[start], self.offsets[stop]
        rows, atoms = slice(start, stop), slice(a, b)
        return self._part(self.offsets[start : stop + 1] - a, rows, atoms)

    def select(self, indices: ArrayLike) -> StructureBlock:
        """Structures by index or mask, copied, in the order given."""
        rows = np.arange(self.n_structures)[np.asarray(indices)]
        counts = np.diff(self.offsets)[rows]
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        atoms = np.arange(offsets[-1]) + np.repeat(self.offsets[rows] - offsets[:-1], counts)
        return self._part(offsets, rows, atoms)

    def _part(self, offsets: IntArray, rows: slice | IntArray, atoms: slice | IntArray) -> StructureBlock:
        values = {
            f.name: column[atoms if f.name in _PER_ATOM else rows]
            for f in fields(self)
            if f.name != "offsets" and (column := getattr(self, f.name)) is not None
        }
        return StructureBlock(offsets=offsets, **values)


def _optional_rows(values: Sequence[Any], shape: tuple[int, ...]) -> FloatArray | None:
    """Rows (n, *shape) with NaN where a value is None; None if all are."""
    if all(value is None for value in values):
        return None
    return np.array([np.full(shape, np.nan) if value is None else value for value in values])


def chunks_by_atoms(n_atoms: IntArray | NDArray[np.int32], limit: int) -> Iterator[slice]:
    """Consecutive structures with at most ``limit`` atoms together (at least one structure)."""
    ends = np.cumsum(n_atoms, dtype=np.int64)
    start = 0
    while start < len(ends):
        before = ends[start - 1] if start else 0
        stop = max(int(np.searchsorted(ends, before + limit, side="right")), start + 1)
        yield slice(start, stop)
        start = stop
