"""What a structure store holds: counts, ranges, outliers. One pass over the store, by blocks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from ase.data import atomic_numbers

from aenet_ray.structures.block import StructureBlock
from aenet_ray.structures.compositions import Distinct, count_species
from aenet_ray.structures.distances import closest_pairs
from aenet_ray.structures.store import StructureStore
from aenet_ray.structures.structure import FloatArray, IntArray
from aenet_ray.structures.unit_slips import Evidence, Suspicion, all_electron_energy, find_unit_slips

BLOCK_STRUCTURES = 2048
DISTANCE_STRUCTURES = 20_000
"""Nearest distances are taken of at most about this many structures, spread over the store."""

OUTLIER_SCORE = 10.0
"""Robust z-score from which an energy is called an outlier."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Least, median and largest value."""

    least: float
    median: float
    largest: float

    @classmethod
    def of(cls, values: FloatArray) -> Spread | None:
        values = values[np.isfinite(values)]
        if len(values) == 0:
            return None
        return cls(least=float(values.min()), median=float(np.median(values)), largest=float(values.max()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlier:
    """A structure whose energy is far from what its composition suggests."""

    index: int
    identifier: str
    energy_per_atom: float  # eV, above the fit by composition
    score: float  # robust z-score


@dataclass(slots=True, kw_only=True)
class StoreSummary:
    """What :func:`summarize` finds. Energies eV, lengths Å, forces eV/Å; None where nothing has the label.

    Args:
        compositions: Number of structures by formula, the most frequent first.
        species_structures, species_atoms: Structures with, and atoms of, each species.
        periodicity: Structures by number of periodic directions.
        relative_energy: Per atom, above the fit by composition that leaves out outliers.
        robust_atomic_energies: Energy per species of that fit, eV; empty where the compositions do not tell the
            species apart. Least squares on everything is :class:`aenet_ray.ReferenceEnergies`.
        force: Largest force (magnitude) of each structure.
        force_rms: Over all components; ``net_force``: largest total force per atom of a structure.
        nearest_distance: Closest two atoms of each structure, of ``n_distances`` structures.
        outliers: The worst; ``n_outliers`` in all, with a score of at least ``OUTLIER_SCORE``.
        suspicions: What looks like a unit slip, with the evidence.
    """

    path: str
    content_hash: str
    n_bytes: int
    n_structures: int
    n_atoms: int
    label_counts: dict[str, int]
    fidelities: dict[str, int] = field(default_factory=dict)
    compositions: dict[str, int] = field(default_factory=dict)
    n_compositions: int = 0
    species_structures: dict[str, int] = field(default_factory=dict)
    species_atoms: dict[str, int] = field(default_factory=dict)
    periodicity: dict[int, int] = field(default_factory=dict)
    atoms_per_structure: Spread | None = None
    volume_per_atom: Spread | None = None
    energy_per_atom: Spread | None = None
    robust_atomic_energies: dict[str, float] = field(default_factory=dict)
    relative_energy: Spread | None = None
    force: Spread | None = None
    force_rms: float | None = None
    net_force: float | None = None
    nearest_distance: Spread | None = None
    n_distances: int = 0
    n_outliers: int = 0
    outliers: list[Outlier] = field(default_factory=list)
    suspicions: list[Suspicion] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def summarize(store: StructureStore, *, n_outliers: int = 10, n_compositions: int = 20) -> StoreSummary:
    """Summarise a store.

    Args:
        n_outliers, n_compositions: How many to list; the rest is counted.

    Raises:
        StoreError: The store is damaged.
    """
    numbers = np.array([atomic_numbers[s] for s in store.species])
    tally = _Tally(store, numbers)
    for start, block in _blocks(store):
        tally.add(start, block)
    tally.finish()
    summary = StoreSummary(
        path=str(store.path),
        content_hash=store.content_hash,
        n_bytes=store.n_bytes,
        n_structures=len(store),
        n_atoms=store.n_atoms,
        label_counts=store.label_counts,
        fidelities=tally.fidelities,
        atoms_per_structure=Spread.of(tally.n_atoms.astype(float)),
        periodicity=dict(sorted(tally.periodicity.items())),
        volume_per_atom=Spread.of(tally.volume),
        force=Spread.of(tally.force),
        force_rms=float(np.sqrt(tally.force_square / tally.n_components)) if tally.n_components else None,
        net_force=float(np.nanmax(tally.net_force)) if tally.n_components else None,
        nearest_distance=Spread.of(tally.distance),
        n_distances=int((~np.isnan(tally.distance)).sum()),
    )
    _compositions(summary, store, tally, n_compositions)
    _energies(summary, store, tally, n_outliers)
    evidence = Evidence(
        all_electron_ratio=tally.energy / (tally.compositions.rows @ all_electron_energy(numbers))[tally.composition],
        relative_energy=tally.relative_energy,
        force_rms=tally.rms,
        bond_ratio=tally.bond_ratio,
        work=np.array(tally.work).reshape(-1, 2),
    )
    summary.suspicions = find_unit_slips(evidence)
    return summary


def _blocks(store: StructureStore) -> Iterator[tuple[int, StructureBlock]]:
    for start in range(0, len(store), BLOCK_STRUCTURES):
        yield start, store.read(start, min(start + BLOCK_STRUCTURES, len(store)))


class _Tally:
    """Per-structure numbers, gathered block by block; NaN where a structure has none."""

    def __init__(self, store: StructureStore, numbers: IntArray) -> None:
        n = len(store)
        self.store, self.numbers = store, numbers
        self.n_atoms = np.zeros(n, dtype=np.int64)
        self.composition, self.compositions = np.zeros(n, dtype=np.int64), Distinct()
        self.energy, self.volume, self.distance, self.bond_ratio = (np.full(n, np.nan) for _ in range(4))
        self.force, self.rms, self.net_force = (np.full(n, np.nan) for _ in range(3))
        self.relative_energy = np.full(n, np.nan)
        self.force_square, self.n_components = 0.0, 0
        self.periodicity: dict[int, int] = {}
        self.fidelities: dict[str, int] = {}
        self.work: list[tuple[float, float]] = []
        n_blocks = -(-n // BLOCK_STRUCTURES)
        self.every = max(1, round(n_blocks * BLOCK_STRUCTURES / DISTANCE_STRUCTURES))

    def add(self, start: int, block: StructureBlock) -> None:
        rows = slice(start, start + block.n_structures)
        self.n_atoms[rows] = np.diff(block.offsets)
        self.energy[rows] = block.energy
        self._add_compositions(rows, block)
        self._add_forces(rows, block)
        for n_periodic, count in zip(*np.unique(block.pbc.sum(1), return_counts=True), strict=True):
            self.periodicity[int(n_periodic)] = self.periodicity.get(int(n_periodic), 0) + int(count)
        solid = block.pbc.all(1)
        volume = np.abs(np.linalg.det(block.cell)) / np.diff(block.offsets)
        self.volume[rows] = np.where(solid, volume, np.nan)
        if start // BLOCK_STRUCTURES % self.every == 0:
            self._add_distances(rows, block)
            if len(self.work) < 4000:
                self.work += work_along_pairs(block)

    def _add_compositions(self, rows: slice, block: StructureBlock) -> None:
        kind = np.searchsorted(self.numbers, block.numbers)
        self.composition[rows] = self.compositions.add(count_species(kind, block.offsets, len(self.numbers)))

    def _add_forces(self, rows: slice, block: StructureBlock) -> None:
        if not block.has_forces.any():
            return
        counts, starts = np.diff(block.offsets), block.offsets[:-1]
        square = np.square(block.forces).sum(1)
        total = np.add.reduceat(square, starts)
        self.force[rows] = np.sqrt(np.maximum.reduceat(square, starts))
        self.rms[rows] = np.sqrt(total / (3 * counts))
        self.net_force[rows] = np.linalg.norm(np.add.reduceat(block.forces, starts, axis=0), axis=1) / counts
        self.force_square += float(np.nansum(total))
        self.n_components += 3 * int(counts[block.has_forces].sum())

    def _add_distances(self, rows: slice, block: StructureBlock) -> None:
        from ase.data import covalent_radii

        pairs = closest_pairs(block)
        found = pairs.atoms[:, 0] >= 0
        numbers = block.numbers[np.where(found[:, None], pairs.atoms, 0)]
        inert = np.isin(numbers, (2, 10, 18, 36, 54, 86)).any(1)  # no bonds to compare with
        radii = covalent_radii[numbers].sum(1)
        self.distance[rows] = np.where(found, pairs.distances, np.nan)
        self.bond_ratio[rows] = np.where(found & ~inert, self.distance[rows] / radii, np.nan)

    def finish(self) -> None:
        names = (*self.store.fidelities, "unnamed")
        if self.store.fidelities:
            indices, counts = np.unique(self.store.fidelity_indices(), return_counts=True)
            self.fidelities = {names[i]: int(c) for i, c in zip(indices.tolist(), counts, strict=True)}


def work_along_pairs(block: StructureBlock) -> list[tuple[float, float]]:
    """(energy difference, minus mean force times displacement), eV, of neighbouring frames of one trajectory.

    Where the two labels are in matching units, the two numbers agree for small steps.
    """
    pairs = []
    both = block.has_forces & block.has_energy
    for i in range(block.n_structures - 1):
        a, b, c = block.offsets[i : i + 3]
        if not (both[i] and both[i + 1]) or b - a != c - b or not np.allclose(block.cell[i], block.cell[i + 1]):
            continue
        if not np.array_equal(block.numbers[a:b], block.numbers[b:c]):
            continue
        step = block.positions[b:c] - block.positions[a:b]
        if block.pbc[i].any():
            turns = np.linalg.solve(block.cell[i].T, step.T).T
            step = step - np.where(block.pbc[i], np.round(turns), 0.0) @ block.cell[i]
        if 1e-5 < np.abs(step).max() < 0.6:
            force = 0.5 * (block.forces[a:b] + block.forces[b:c])
            pairs.append((float(block.energy[i + 1] - block.energy[i]), -float((force * step).sum())))
    return pairs


def _compositions(summary: StoreSummary, store: StructureStore, tally: _Tally, n_listed: int) -> None:
    rows = tally.compositions.rows
    counts = np.bincount(tally.composition, minlength=len(rows))
    summary.n_compositions = len(rows)
    for k in np.argsort(-counts, kind="stable")[:n_listed].tolist():
        summary.compositions[formula(store.species, rows[k])] = int(counts[k])
    for s, species in enumerate(store.species):
        summary.species_structures[species] = int(counts[rows[:, s] > 0].sum())
        summary.species_atoms[species] = int((counts * rows[:, s]).sum())


def formula(species: tuple[str, ...], counts: IntArray) -> str:
    """Such as 'O4Ti2'."""
    return "".join(f"{s}{n if n > 1 else ''}" for s, n in zip(species, counts.tolist(), strict=True) if n)


def _energies(summary: StoreSummary, store: StructureStore, tally: _Tally, n_listed: int) -> None:
    summary.energy_per_atom = Spread.of(tally.energy / tally.n_atoms)
    present = np.isfinite(tally.energy)
    if not present.any():
        return
    rows = tally.compositions.rows
    fitted, above = fit_by_composition(tally.energy, tally.n_atoms, tally.composition, rows)
    if np.linalg.matrix_rank(rows) == len(store.species):
        summary.robust_atomic_energies = dict(zip(store.species, fitted.tolist(), strict=True))
    tally.relative_energy = above
    summary.relative_energy = Spread.of(above)
    scores = robust_scores(above)
    bad = np.flatnonzero(np.abs(np.nan_to_num(scores)) >= OUTLIER_SCORE)
    summary.n_outliers = len(bad)
    for i in bad[np.argsort(-np.abs(scores[bad]))][:n_listed].tolist():
        identifier = store.identifiers(i, i + 1)[0]
        summary.outliers.append(
            Outlier(index=i, identifier=identifier, energy_per_atom=float(above[i]), score=float(scores[i]))
        )


def fit_by_composition(
    energy: FloatArray, n_atoms: IntArray, composition: IntArray, rows: IntArray, rounds: int = 4
) -> tuple[FloatArray, FloatArray]:
    """Robust least squares of the energies on the compositions.

    Repeated without the outliers of the round before. Where compositions do not tell the species apart, the
    solution of least norm.

    Returns:
        Energy per species, (n_species,), eV; energy per atom above the fit, (n,), eV, NaN without energy.
    """
    per_atom = energy / n_atoms
    fractions = rows / rows.sum(1, keepdims=True)
    keep = np.isfinite(energy)
    for _ in range(rounds):
        weight = np.bincount(composition[keep], minlength=len(rows)).astype(float)
        total = np.bincount(composition[keep], per_atom[keep], minlength=len(rows))
        used = weight > 0
        root = np.sqrt(weight[used])
        fitted = np.linalg.lstsq(fractions[used] * root[:, None], total[used] / root, rcond=None)[0]
        above = per_atom - (fractions @ fitted)[composition]
        keep = np.isfinite(energy) & (np.abs(np.nan_to_num(robust_scores(above))) < 4.0)
    return fitted, above


def robust_scores(values: FloatArray) -> FloatArray:
    """Distance from the median in units of the scaled median absolute deviation; 0 where that vanishes."""
    deviation = values - np.nanmedian(values)
    scale = 1.4826 * np.nanmedian(np.abs(deviation))
    return deviation / scale if scale > 1e-9 else np.zeros_like(values)
