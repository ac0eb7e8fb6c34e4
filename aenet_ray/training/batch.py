"""A worker's share of a global batch as flat tensors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aenet_ray.background import Background
from aenet_ray.descriptors.chebyshev import ChebyshevDescriptor
from aenet_ray.descriptors.neighbors import Edges
from aenet_ray.features.store import FeatureStore
from aenet_ray.models.normalization import Normalization
from aenet_ray.structures.structure import FloatArray, IntArray
from aenet_ray.training.kept import BatchFeatures


@dataclass(slots=True)
class ForceBatch:
    """What the supervised structures of a batch need beyond their features.

    Args:
        edges: Of the supervised atoms, which are numbered in structure order from 0.
        species: Species index of each, (n_supervised,).
        rows: Row of each in ``Batch.x``, (n_supervised,).
        reference: Forces, (n_supervised, 3), eV/Å.
    """

    edges: Edges
    species: IntArray
    rows: Tensor
    reference: Tensor


@dataclass(slots=True)
class Batch:
    """Structures of a batch; rows of atoms sorted by species, no padding.

    Args:
        x: Normalised features, (n_atoms, n_features).
        counts: Rows of each species.
        structure: Structure of each row, (n_atoms,).
        n_atoms: Atoms of each structure, (n,), in the dtype of x.
        target: What the network should give per atom, (n,): (E_coh/N − E_shift) E_scaling.
        forces: None where no structure is supervised.
    """

    x: Tensor
    counts: list[int]
    structure: Tensor
    n_atoms: Tensor
    target: Tensor
    forces: ForceBatch | None

    @property
    def n_structures(self) -> int:
        return len(self.target)


class BatchMaker:
    """Makes batches of one run out of the feature store, and of what is kept of it nearer by (``memory.py``).

    Args:
        references: ε of each descriptor species, (n_species,), eV.
        background: What makes batches ahead of their use.
    """

    def __init__(
        self,
        store: FeatureStore,
        descriptor: ChebyshevDescriptor,
        normalization: Normalization,
        references: FloatArray,
        device: torch.device,
        background: Background | None = None,
    ) -> None:
        self.store, self.descriptor, self.device = store, descriptor, device
        self.background = background or Background()
        self.normalization, self.references = normalization, references
        scale, offset = normalization.scale_and_offset(store.n_features)
        self._scale, self._offset = scale.astype(store.dtype), offset.astype(store.dtype)
        self.features: Callable[[IntArray], BatchFeatures] = self.from_store

    def from_store(self, ids: IntArray) -> BatchFeatures:
        """Normalised features of structures ``ids`` (ascending), on the host."""
        found = self.store.features(ids, self._scale, self._offset)
        return BatchFeatures(torch.from_numpy(found.x), found.counts, found.structure, found.row_of_atom)

    def side_by_side(self, ids: IntArray) -> tuple[Tensor, list[int], IntArray]:
        """Normalised features of several batches of structures ``ids``, (k, n), in tables of equal length.

        Returns:
            Features, (k, n_rows, n_features); rows of each species in every table; structure of each row, counted
            through all batches, k * n where no atom is, (k, n_rows).
        """
        if self.features == self.from_store:
            found = self.store.side_by_side(ids, self._scale, self._offset)
            return torch.from_numpy(found.x).to(self.device, non_blocking=True), found.counts, found.structure
        flat = ids.ravel()
        label = np.argsort(flat, kind="stable")
        kept = self.features(flat[label])
        counts = self.store.composition[ids].sum(axis=1, dtype=np.int64)
        longest = counts.max(axis=0)
        # Rows of one species and batch follow each other when sorted by both.
        structure = label[kept.structure]
        species = np.repeat(np.arange(len(longest)), kept.counts)
        order = np.lexsort((structure // ids.shape[1], species))
        begin = (np.cumsum(longest) - longest) + longest.sum() * np.arange(len(ids))[:, None]
        within = np.concatenate([np.arange(c) for c in counts.T.ravel()])
        place = np.repeat(begin.T.ravel(), counts.T.ravel()) + within
        row, owner = np.zeros(len(ids) * longest.sum(), dtype=np.int64), np.full(len(ids) * longest.sum(), ids.size)
        row[place], owner[place] = order, structure[order]
        x = kept.x.to(self.device)[self._tensor(row)]
        return x.view(len(ids), -1, x.shape[1]), longest.tolist(), owner.reshape(len(ids), -1)

    def cohesive_per_atom(self, ids: IntArray) -> FloatArray:
        """(E − Σε)/N, (n,), eV/atom."""
        composition = self.store.composition[ids]
        return (self.store.energy[ids] - composition @ self.references) / composition.sum(axis=1)

    def make(self, ids: IntArray, supervised: NDArray[np.bool_] | None = None) -> Batch:
        """Batch of structures ``ids`` (ascending); forces of those ``supervised``, (n,). Safe to call from threads."""
        gathered = self.features(ids)
        n_atoms = self.store.n_atoms[ids]
        norm = self.normalization
        target = (self.cohesive_per_atom(ids) - norm.E_shift) * norm.E_scaling
        forces = None
        if supervised is not None and supervised.any():
            forces = self._forces(ids, supervised, n_atoms, gathered.row_of_atom)
        return Batch(
            x=gathered.x.to(self.device, non_blocking=True),
            counts=gathered.counts,
            structure=self._tensor(gathered.structure),
            n_atoms=self._tensor(n_atoms.astype(self.store.dtype)),
            target=self._tensor(target.astype(self.store.dtype)),
            forces=forces,
        )

    def _forces(
        self, ids: IntArray, supervised: NDArray[np.bool_], n_atoms: np.ndarray, row_of_atom: IntArray
    ) -> ForceBatch:
        block, species = self.store.geometry(ids[supervised])
        rows = row_of_atom[np.repeat(supervised, n_atoms)]
        edges = self.descriptor.edges(block)
        return ForceBatch(edges, species, self._tensor(rows), self._tensor(block.forces))

    def _tensor(self, array: np.ndarray) -> Tensor:
        tensor = torch.from_numpy(array)
        return tensor if self.device.type == "cpu" else tensor.to(self.device, non_blocking=True)
