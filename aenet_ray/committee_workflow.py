"""The main job for several potentials: from an experiment file to a committee of what it describes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Subset

from aenet_ray.committee.config import TorchCommitteeConfig
from aenet_ray.committee.layout import METADATA
from aenet_ray.committee.potential import TorchCommitteePotential
from aenet_ray.committee.prepare import begun, make_folder
from aenet_ray.committee.train_result import TorchCommitteeTrainResult
from aenet_ray.datasets.hdf5 import HDF5StructureDataset
from aenet_ray.experiment import ExperimentConfig
from aenet_ray.run_data import structures_of, test_structures
from aenet_ray.structures.store import StructureStore
from aenet_ray.structures.structure import FloatArray
from aenet_ray.training.choose import Split
from aenet_ray.training.run_folder import lasting_path, run_path
from aenet_ray.workflow import note_settings


@dataclass(frozen=True, slots=True, eq=False)
class CommitteeErrors:
    """Energy errors of a committee on a test set: RMSE, eV/atom.

    Args:
        mean: Of the mean of its members.
        members: Of each member, (num_members,).
    """

    mean: float
    members: FloatArray


def run_committee(
    config: ExperimentConfig, settings: TorchCommitteeConfig
) -> tuple[TorchCommitteeTrainResult, CommitteeErrors | None]:
    """The committee of a run's settings, in the run's folder; and its errors where there is a test set.

    Raises:
        AenetRayError: Input does not fit, before any member starts; or members failed, the others are kept.
    """
    given = settings.output_dir
    folder = lasting_path(given, "committee.output_dir") if given else run_path(config.run)
    begun(folder, config.run.resume)  # before anything is made or touched
    there = (folder / METADATA).exists()
    make_folder(folder)
    store, split = structures_of(config.data, folder, progress=config.training.show_progress, keep=there)
    test = test_structures(config, folder)
    asked = config.to_dict() | {"committee": settings.model_dump(mode="json")}
    if not there:
        note_settings(folder, asked)
    potential, result = train_committee(config, store, split, settings.replace(output_dir=str(folder)))
    if there:  # accepted: a refused change leaves what the members trained with
        note_settings(folder, asked)
    errors = None if test is None else _errors_on(potential, test)
    if config.export:
        potential.to_aenet_ascii(folder / "aenet")
    return result, errors


def train_committee(
    config: ExperimentConfig, store: StructureStore, split: Split | None, settings: TorchCommitteeConfig
) -> tuple[TorchCommitteePotential, TorchCommitteeTrainResult]:
    """A committee of what the experiment describes, on structures that are there, with features shared by its runs."""
    descriptor = config.descriptor.build()
    dataset = HDF5StructureDataset(descriptor, store.path, mode="load")
    parts: dict[str, Any] = {"dataset": dataset}
    if split is not None:
        train, held_out = (Subset(dataset, ids.tolist()) for ids in (split.train_ids, split.test_ids))
        parts = {"train_dataset": train, "test_dataset": held_out}
    features = str(Path(config.features_folder).absolute())
    potential = TorchCommitteePotential(config.arch(), descriptor)
    result = potential.train(
        **parts,
        config=config.training.model_copy(update={"cache_persist_dir": features}),
        committee_config=settings,
        scaling=config.scaling,
        run=config.run,
    )
    return potential, result


def _errors_on(potential: TorchCommitteePotential, test: StructureStore) -> CommitteeErrors:
    found = potential.predict_dataset(HDF5StructureDataset(potential.descriptor, test.path, mode="load"))
    errors = (found.member_energies - test.energies()) / found.n_atoms
    return CommitteeErrors(_rmse(errors.mean(axis=0)), np.array([_rmse(of_member) for of_member in errors]))


def _rmse(errors: FloatArray) -> float:
    """Over structures with an energy; those without have NaN."""
    return float(np.sqrt(np.nanmean(np.square(errors))))
