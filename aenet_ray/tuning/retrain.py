"""The best configuration of a search, trained as a committee on the search's own store, split and features."""

from __future__ import annotations

import os
from pathlib import Path

from torch.utils.data import Subset

from aenet_ray.committee.config import TorchCommitteeConfig
from aenet_ray.committee.potential import TorchCommitteePotential
from aenet_ray.datasets.hdf5 import HDF5StructureDataset
from aenet_ray.experiment import ExperimentConfig
from aenet_ray.training.config import RunConfig
from aenet_ray.tuning.results import TuneResults
from aenet_ray.workflow import written_split

COMMITTEE = "committee"


def train_committee(results: TuneResults, members: int, *, show_progress: bool = True) -> Path:
    """Train members that differ in their seeds, or go on with them; returns the committee's folder.

    Side by side as far as the machine's CPUs go; one after the other on a GPU.

    Raises:
        TrainingError: No trial has finished an epoch, or members failed; the others are kept.
    """
    config = ExperimentConfig.from_mapping(results.best_settings())
    store, folder = results.search.store, results.folder / COMMITTEE
    update = {"show_progress": show_progress, "cache_persist_dir": str(Path(config.features_folder).absolute())}
    training = config.training.model_copy(update=update)
    threads = 1 if config.scaling is None else config.scaling.cpus_per_worker
    on_gpu = config.scaling is not None and config.scaling.use_gpu
    parallel = 1 if on_gpu else max(1, min(members, (os.cpu_count() or 1) // threads))
    descriptor = config.descriptor.build()
    dataset = HDF5StructureDataset(descriptor, store.path, mode="load")
    split = written_split(config.data, store)
    parts = (
        {"dataset": dataset}
        if split is None
        else {
            "train_dataset": Subset(dataset, split.train_ids.tolist()),
            "test_dataset": Subset(dataset, split.test_ids.tolist()),
        }
    )
    if not on_gpu:
        training = training.model_copy(update={"device": "cpu"})
    TorchCommitteePotential(config.arch(), descriptor).train(
        **parts,
        config=training,
        committee_config=TorchCommitteeConfig(num_members=members, max_parallel=parallel, output_dir=str(folder)),
        run=RunConfig(resume="auto", storage_path=str(results.folder)),
    )
    return folder
