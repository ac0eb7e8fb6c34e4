"""The batches of several members at one step of their epoch, side by side as flat tensors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from aenet_ray.structures.structure import IntArray
from aenet_ray.training.batch import Batch, BatchMaker, ForceBatch


@dataclass(slots=True)
class MembersBatch:
    """A batch for each of k members, of n structures each; members may share one.

    Args:
        x: Normalised features, (k, n_rows, n_features), rows sorted by species.
        counts: Rows of each species in every member's table; some may be of no atom.
        structure: Structure of each row, (k * n_rows,), counted through all members; k * n where no atom is.
        n_atoms: Atoms of each structure, (k, n), in the dtype of x.
        target: What the network should give per atom, (k, n).
        forces: Where members share their batch; None where no structure is supervised.
    """

    x: Tensor
    counts: list[int]
    structure: Tensor
    n_atoms: Tensor
    target: Tensor
    forces: ForceBatch | None = None


def shared_batch(batch: Batch, k: int) -> MembersBatch:
    """One batch as that of each of k members; nothing of size is copied."""
    n = batch.n_structures
    first = torch.arange(0, k * n, n, device=batch.structure.device)
    return MembersBatch(
        x=batch.x.expand(k, -1, -1),
        counts=batch.counts,
        structure=(batch.structure + first[:, None]).reshape(-1),
        n_atoms=batch.n_atoms.expand(k, -1),
        target=batch.target.expand(k, -1),
        forces=batch.forces,
    )


def own_batches(maker: BatchMaker, ids: IntArray) -> MembersBatch:
    """Batches of structures ``ids``, (k, n), for their energies. Safe to call from threads."""
    x, counts, structure = maker.side_by_side(ids)
    k, n = ids.shape
    flat = ids.ravel()
    norm = maker.normalization
    target = (maker.cohesive_per_atom(flat) - norm.E_shift) * norm.E_scaling
    dtype = maker.store.dtype

    def tensor(values: np.ndarray) -> Tensor:
        return torch.from_numpy(values).to(maker.device, non_blocking=True)

    return MembersBatch(
        x=x,
        counts=counts,
        structure=tensor(structure.reshape(-1)),
        n_atoms=tensor(maker.store.n_atoms[flat].astype(dtype).reshape(k, n)),
        target=tensor(target.astype(dtype).reshape(k, n)),
    )
