"""The draws of an epoch as global batches, and a worker's share of each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aenet_ray.structures.structure import IntArray
from aenet_ray.training.comm import Comm
from aenet_ray.training.plan import share
from aenet_ray.training.state import TrainState
from aenet_ray.training.step import GlobalBatch

# A supervised atom costs about this many times an atom of which only the energy counts (benchmarks/train_epoch.py).
FORCE_COST = 20.0


@dataclass(frozen=True, slots=True)
class PlannedBatch:
    """One global batch, the same on every worker.

    Args:
        ids: Structures of the store, in order of use, (n,).
        n_atoms: (n,).
        supervised: Whose forces are used, (n,).
        counts: Over all workers.
    """

    ids: IntArray
    n_atoms: NDArray[np.int32]
    supervised: NDArray[np.bool_]
    counts: GlobalBatch

    def mine(self, comm: Comm) -> IntArray:
        """This worker's places in the batch, in ascending order of structure."""
        costs = self.n_atoms * np.where(self.supervised, FORCE_COST, 1.0)
        places = share(costs, comm.size, comm.rank)
        return places[np.argsort(self.ids[places], kind="stable")]


@dataclass(frozen=True, slots=True)
class EpochPlan:
    """All draws of an epoch; what belongs to a batch is looked up when its turn comes, not kept for millions.

    Args:
        drawn: Positions in the training split in order of use, (n_draws,).
        supervised: Whose forces are used this epoch, (n_train,).
    """

    drawn: IntArray
    supervised: NDArray[np.bool_]

    @classmethod
    def of(cls, state: TrainState) -> EpochPlan:
        seed, epoch = state.spec.seed, state.epoch
        return cls(state.policy.draw(seed, epoch), state.subset.draw(seed, epoch))

    def batch(self, part: slice, state: TrainState) -> PlannedBatch:
        drawn = self.drawn[part]
        ids = state.spec.train_ids[drawn]
        n_atoms, supervised = state.maker.store.n_atoms[ids], self.supervised[drawn]
        atoms, fraction = int(n_atoms[supervised].sum()), 1.0
        if state.spec.config.force_scale_unbiased:
            labelled = int(n_atoms[state.subset.labelled[drawn]].sum())
            fraction = atoms / labelled if 0 < atoms < labelled else 1.0
        return PlannedBatch(ids, n_atoms, supervised, GlobalBatch(len(ids), 3 * atoms, fraction))
