"""Predictions beside their references: exact errors, and the arrays behind a parity plot."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from aenet_ray.errors import StructureError
from aenet_ray.inference.blocks import predict_block
from aenet_ray.models.ann import ANNModel
from aenet_ray.progress import progress_bar
from aenet_ray.structures.block import StructureBlock
from aenet_ray.structures.store import StructureStore
from aenet_ray.structures.structure import FloatArray, IntArray
from aenet_ray.tables import ErrorRow

BLOCK = 64
SPARSE = 16


@dataclass(slots=True)
class Evaluation:
    """References and predictions of the structures of a set; NaN references are absent.

    Args:
        name: Of the set.
        n_atoms: (n,).
        energy, predicted_energy: (n,), eV, total.
        references: Σε of each structure, (n,), eV: what turns them into cohesive energies.
        forces, predicted_forces: (n_atoms_total, 3), eV/Å; empty if not asked for.
    """

    name: str
    n_atoms: IntArray
    energy: FloatArray
    predicted_energy: FloatArray
    references: FloatArray
    forces: FloatArray
    predicted_forces: FloatArray

    def row(self) -> ErrorRow:
        forces = (self.forces, self.predicted_forces) if len(self.forces) else (None, None)
        return ErrorRow.from_predictions(self.name, self.energy, self.predicted_energy, self.n_atoms, *forces)

    def cohesive_per_atom(self) -> tuple[FloatArray, FloatArray]:
        """(reference, prediction), (n,), eV/atom."""
        return (
            (self.energy - self.references) / self.n_atoms,
            (self.predicted_energy - self.references) / self.n_atoms,
        )

    @property
    def has_forces(self) -> bool:
        return bool(np.isfinite(self.forces).any())


def evaluate_store(
    model: ANNModel,
    store: StructureStore,
    ids: IntArray | None = None,
    *,
    name: str,
    forces: bool,
    progress: bool = False,
) -> Evaluation:
    """Evaluate a potential on structures of a store.

    Args:
        ids: Ascending; None: all.
        forces: Evaluate forces as well; structures without them count for energies only.

    Raises:
        StructureError: There is nothing to evaluate.
        DescriptorError: A species is unknown.
    """
    wanted = np.arange(len(store)) if ids is None else ids
    if not len(wanted):
        raise StructureError(f"{store.path}: no structures to evaluate for {name!r}.")
    parts = []
    with progress_bar(f"evaluating {name}", len(wanted), "structures", show=progress) as advance:
        for block in _blocks(store, wanted):
            result = predict_block(model, block, forces=forces)
            counts = np.diff(block.offsets)
            per_atom = model.references[model.descriptor.species_index(block.numbers)]
            references = np.add.reduceat(per_atom, block.offsets[:-1])
            parts.append((counts, block.energy, result.energy, references, block.forces, result.forces))
            advance(block.n_structures)
    columns = list(zip(*parts, strict=True))
    if not forces:
        columns[4] = columns[5] = (np.empty((0, 3)),)
    return Evaluation(name, *(np.concatenate(c) for c in columns))


def _blocks(store: StructureStore, ids: IntArray) -> Iterator[StructureBlock]:
    """Wanted structures in blocks, in their order."""
    for start in range(0, len(ids), BLOCK):
        part = ids[start : start + BLOCK]
        runs = list(_runs(part))
        wholes = [store.read(int(run[0]), int(run[-1]) + 1) for run in runs]
        if len(runs) == 1 and np.array_equal(part, np.arange(part[0], part[-1] + 1)):
            yield wholes[0]
        else:
            pairs = zip(wholes, runs, strict=True)
            yield StructureBlock.from_structures([w.structure(int(i - run[0])) for w, run in pairs for i in run])


def _runs(ids: IntArray) -> Iterator[IntArray]:
    """Ascending ids cut into runs that are read whole: a range costs less than many single structures, but no more
    than ``SPARSE`` times of what is wanted of it."""
    first = 0
    for k in range(1, len(ids)):
        if ids[k] - ids[first] + 1 > SPARSE * (k - first + 1):
            yield ids[first:k]
            first = k
    yield ids[first:]
