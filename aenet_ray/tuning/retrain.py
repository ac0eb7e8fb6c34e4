"""The best configuration of a search, trained as a committee on the search's own store, split and features."""

from __future__ import annotations

import os
from pathlib import Path

from aenet_ray.committee.config import TorchCommitteeConfig
from aenet_ray.committee_workflow import train_committee
from aenet_ray.experiment import ExperimentConfig
from aenet_ray.run_data import written_split
from aenet_ray.training.config import RunConfig
from aenet_ray.tuning.plan import COMMITTEE
from aenet_ray.tuning.results import TuneResults


def train_best(results: TuneResults, members: int, *, show_progress: bool = True) -> Path:
    """Train members that differ in their seeds, or go on with them; returns the committee's folder.

    Side by side as far as the machine's CPUs go; one after the other on a GPU. Without Ray, whatever the trials had.

    Raises:
        TrainingError: No trial has finished an epoch, or members failed; the others are kept.
    """
    config = ExperimentConfig.from_mapping(results.best_settings())
    store, scaling = results.search.store, config.scaling
    training = config.training.model_copy(update={"show_progress": show_progress})
    if scaling is not None and scaling.use_gpu:
        parallel = 1
    else:
        threads = 1 if scaling is None else scaling.cpus_per_worker
        parallel = max(1, min(members, (os.cpu_count() or 1) // threads))
        training = training.model_copy(update={"device": "cpu"})
    folder = results.folder / COMMITTEE
    settings = TorchCommitteeConfig(num_members=members, max_parallel=parallel, output_dir=str(folder))
    run = RunConfig(resume="auto", storage_path=str(results.folder))
    config = config.model_copy(update={"training": training, "scaling": None, "run": run})
    train_committee(config, store, written_split(config.data, store), settings)
    return folder
