"""Which structures a run uses, and for what: filters and the split."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aenet_ray.config import warn_user
from aenet_ray.errors import NoTrainingDataError
from aenet_ray.features.store import FeatureStore
from aenet_ray.structures.split import split_indices
from aenet_ray.structures.structure import FloatArray, IntArray
from aenet_ray.training.config import TorchTrainingConfig


@dataclass(frozen=True, slots=True)
class Split:
    """Structures of the store used for training and validation, ascending; both after filtering."""

    train_ids: IntArray
    test_ids: IntArray


def filtered(
    store: FeatureStore, config: TorchTrainingConfig, per_atom: FloatArray, wanted: IntArray | None = None
) -> IntArray:
    """Structures that pass ``max_energy`` and ``max_forces``, in the order of ``wanted`` (None: all, ascending).

    Raises:
        TrainingError: Nothing is left.
    """
    wanted = np.arange(len(store)) if wanted is None else wanted
    per_atom = per_atom[wanted]
    absent = np.isnan(per_atom)
    if absent.any() and not absent.all():
        warn_user(
            f"{absent.sum()} of {len(wanted)} structures have no energy (the first is number "
            f"{int(wanted[absent.argmax()])}); they are left out of training and validation.",
            UserWarning,
        )
    keep = usable(store, config)[wanted]
    if config.max_energy is not None:
        keep &= per_atom <= config.max_energy
    ids = wanted[keep]
    if absent.all():
        raise NoTrainingDataError(f"none of {len(wanted)} structures has an energy to train on.")
    if not len(ids):
        there = per_atom[~absent]
        raise NoTrainingDataError(
            f"max_energy={config.max_energy} and max_forces={config.max_forces} leave none of {len(wanted)} "
            f"structures; referenced energies go from {there.min():.3f} to {there.max():.3f} eV/atom."
        )
    return ids


def usable(store: FeatureStore, config: TorchTrainingConfig) -> NDArray[np.bool_]:
    """Structures with an energy, and without a force above ``max_forces``, (n,)."""
    keep = ~np.isnan(store.energy)
    if config.max_forces is not None:
        keep &= ~(store.max_force > config.max_forces)
    return keep


def choose_split(config: TorchTrainingConfig, ids: IntArray, seed: int, given: Split | None) -> Split:
    """The split in use: the given one less what the filters drop, or a seeded one of what is left."""
    if given is not None:
        split = Split(np.intersect1d(given.train_ids, ids), np.intersect1d(given.test_ids, ids))
    else:
        train, test = split_indices(
            len(ids), config.testpercent, config.split_seed if config.split_seed is not None else seed
        )
        split = Split(np.sort(ids[train]), np.sort(ids[test]))
    if not len(split.train_ids):
        raise NoTrainingDataError(f"no training structures: {len(ids)} structures, testpercent={config.testpercent}.")
    return split
