"""How uncertain a committee is about the structures of a chunk."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from ase.data import atomic_numbers

from aenet_ray.committee.ensemble import spread
from aenet_ray.committee.potential import TorchCommitteePotential
from aenet_ray.committee.predict_result import METRICS
from aenet_ray.features.compute import EDGE_ATOMS, block_features
from aenet_ray.inference.blocks import DescribedBlock, Evaluator
from aenet_ray.selection.candidates import BLOCK_ATOMS, Chunk, Part
from aenet_ray.selection.table import Kept, count
from aenet_ray.structures.block import StructureBlock, chunks_by_atoms
from aenet_ray.structures.parsing import Skipped
from aenet_ray.structures.structure import FloatArray, IntArray


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """What came of a chunk.

    Args:
        kept: Those of its structures that may be among the least certain of all.
        counts: Histogram of the metric over all of them.
        n_structures, n_atoms: Of all that were scored.
        skipped: Structures that cannot be used, and why.
    """

    key: tuple[int, int]
    kept: Kept
    counts: IntArray
    n_structures: int
    n_atoms: int
    skipped: list[Skipped]


class Scorer:
    """Scores chunks one after the other, in this process or in an actor.

    What it has scored before tells which structures cannot be among the ``n_keep`` least certain any more: these need
    not travel.

    Args:
        committee: At least two members.
        metric: One of ``METRICS``; those of forces cost forces of every member.
        n_keep: Candidates that will be kept of all.
        vectors: Whether their places in feature space are wanted.
    """

    def __init__(self, committee: TorchCommitteePotential, metric: str, n_keep: int, *, vectors: bool) -> None:
        self.descriptor, self.models = committee.descriptor, [m.model for m in committee.members]
        self.evaluate = Evaluator(self.models)
        self.metric, self.n_keep, self.vectors, self.forces = metric, n_keep, vectors, "force" in metric
        self._largest = np.empty(0)

    def one_thread(self) -> Scorer:
        """For an actor, which has a processor to itself."""
        torch.set_num_threads(1)
        return self

    def __call__(self, chunk: Chunk) -> Scored:
        kept, skipped = [Kept.empty(self.n_dimensions)], list[Skipped]()
        counts = count(np.empty(0))
        n_structures = n_atoms = 0
        for whole in chunk.parts():
            part = self._known(whole)
            skipped += part.skipped
            for rows in chunks_by_atoms(np.diff(part.block.offsets), BLOCK_ATOMS):
                found, lost = self._score(chunk.key, part, rows)
                value = found.values[:, METRICS.index(self.metric)]
                counts = counts + count(value)
                n_structures, n_atoms = n_structures + len(found), n_atoms + int(found.n_atoms.sum())
                skipped += lost
                kept.append(found.take(self._worth_keeping(value)))
        best = Kept.joined(kept).best(self.n_keep, self.metric)
        return Scored(chunk.key, best, counts, n_structures, n_atoms, skipped)

    @property
    def n_dimensions(self) -> int:
        return len(self.descriptor.species) * self.descriptor.n_features if self.vectors else 0

    def _worth_keeping(self, value: FloatArray) -> IntArray:
        """Rows that are not below the ``n_keep`` largest values seen so far; equal ones may come first elsewhere."""
        largest = np.concatenate([self._largest, value])
        if len(largest) > self.n_keep:
            largest = np.partition(largest, len(largest) - self.n_keep)[len(largest) - self.n_keep :]
        self._largest = largest
        full = len(largest) == self.n_keep
        return np.flatnonzero(value >= largest.min()) if full else np.arange(len(value))

    def _known(self, part: Part) -> Part:
        """Without structures that hold species the committee was not trained on."""
        block = part.block
        known = np.isin(block.numbers, [atomic_numbers[s] for s in self.descriptor.species])
        if known.all():
            return part
        strange = np.unique(block.structure_index[~known])
        sound = np.setdiff1d(np.arange(block.n_structures), strange)
        skipped = list(part.skipped)
        for i in strange.tolist():
            source, frame = part.place(i)
            reason = f"{source}, frame {frame}: has species the committee (of {', '.join(self.descriptor.species)}) "
            skipped.append(Skipped(source, frame, reason + "does not know."))
        return Part(part.index[sound], block.select(sound), skipped, [part.place(int(i)) for i in sound])

    def _score(self, key: tuple[int, int], part: Part, rows: slice) -> tuple[Kept, list[Skipped]]:
        block = part.block.take(rows.start, rows.stop)
        species = self.descriptor.species_index(block.numbers)
        values, features = self._with_forces(block) if self.forces else self._energies(block, species)
        index = part.index[rows]
        place = np.column_stack([np.full(len(index), key[0]), np.full(len(index), key[1]), index])
        vectors = self._vectors(block, species, features) if self.vectors else np.empty((len(index), 0))
        found = Kept(place, values, np.diff(block.offsets), vectors)
        finite = np.isfinite(values[:, METRICS.index(self.metric)])
        lost = []
        for i in np.flatnonzero(~finite).tolist():
            source, frame = part.place(rows.start + i)
            lost.append(Skipped(source, frame, f"{source}, frame {frame}: its {self.metric} is not finite."))
        return (found.take(np.flatnonzero(finite)) if lost else found), lost

    def _energies(self, block: StructureBlock, species: IntArray) -> tuple[FloatArray, FloatArray]:
        """Metrics, (n, 4), and features, (n_atoms, n_features); edges of few atoms are in memory at a time."""
        features = block_features(block, self.descriptor, species)
        described = DescribedBlock.of(self.descriptor, block, features, only=True)
        energies = np.array([r.energy for r in self.evaluate(described)])
        return _metrics(energies, block.offsets), features

    def _with_forces(self, block: StructureBlock) -> tuple[FloatArray, FloatArray]:
        values, features = [], []
        for rows in chunks_by_atoms(np.diff(block.offsets), EDGE_ATOMS):
            part = block.take(rows.start, rows.stop)
            described = DescribedBlock.of(self.descriptor, part)
            found = self.evaluate(described, forces=True)
            energies, forces = np.array([r.energy for r in found]), np.array([r.forces for r in found])
            values.append(_metrics(energies, part.offsets, forces))
            features.append(described.features)
        return np.concatenate(values), np.concatenate(features)

    def _vectors(self, block: StructureBlock, species: IntArray, features: FloatArray) -> FloatArray:
        """Mean normalised features of the atoms of each species, one species after the other; 0 for absent ones."""
        scale, offset = self.models[0].normalization.scale_and_offset(features.shape[1])
        x = (features - offset) * scale
        means = []
        for k in range(len(self.descriptor.species)):
            own = species == k
            n = np.add.reduceat(own.astype(np.int64), block.offsets[:-1])
            means.append(np.add.reduceat(x * own[:, None], block.offsets[:-1]) / np.maximum(n, 1)[:, None])
        return np.concatenate(means, axis=1)


def _metrics(energies: FloatArray, offsets: IntArray, forces: FloatArray | None = None) -> FloatArray:
    """Columns of ``METRICS`` from (n_members, n) and (n_members, n_atoms, 3), as predictions have them."""
    std, n_atoms, starts = spread(energies), np.diff(offsets), offsets[:-1]
    values = np.full((len(std), len(METRICS)), np.nan)
    values[:, 0], values[:, 1] = std, std / n_atoms
    if forces is not None:
        of_atoms = spread(forces).mean(axis=1)
        values[:, 2] = np.maximum.reduceat(of_atoms, starts)
        values[:, 3] = np.add.reduceat(of_atoms, starts) / n_atoms
    return values
