"""Whether a folder holds the run that is asked for, so that it goes on; what may differ then, and what not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from aenet_ray.descriptors.chebyshev import ChebyshevDescriptor
from aenet_ray.errors import TrainingError
from aenet_ray.features.store import FeatureStore
from aenet_ray.models.ann import ANNModel
from aenet_ray.training.config import TorchTrainingConfig
from aenet_ray.training.run_folder import holds_run
from aenet_ray.training.spec import RunSpec

# What a run may be resumed with another value of: none of it changes a number, patience only their end.
FREE = (
    *("show_progress", "device", "checkpoint_interval", "checkpoint_seconds", "max_checkpoints", "save_best"),
    *("num_workers", "prefetch_factor", "persistent_workers", "show_batch_progress", "memory_mode"),
    *(name for name in TorchTrainingConfig.model_fields if name.startswith("cache_")),
    *("early_stopping_patience", "save_energies", "save_forces", "timing"),
)


def check_descriptor(run_dir: Path, mode: str, descriptor: ChebyshevDescriptor) -> None:
    """Before features are made for it: whether a run that goes on has the descriptor it began with.

    Raises:
        TrainingError: It began with another one; names what differs. Or as ``holds_run``.
    """
    if not holds_run(run_dir, mode):
        return
    then, now = RunSpec.load(run_dir).descriptor, descriptor.config()
    free = ("device", "dtype", "backend")  # of these, or of features kept in them, no weight knows
    changed = [f"{k} {then.get(k)} -> {now[k]}" for k in now if k not in free and then.get(k) != now[k]]
    if changed:
        raise TrainingError(
            f"{run_dir}: began with another descriptor ({'; '.join(changed)}). Choose another run.name."
        )


def continues(run_dir: Path, mode: str, store: FeatureStore, model: ANNModel, config: TorchTrainingConfig) -> bool:
    """Whether the folder holds this run already, so that it goes on instead of beginning.

    It goes on with the settings given now; ``iterations`` may have grown, which makes the run longer.

    Raises:
        TrainingError: As ``holds_run``; or it holds another run.
    """
    if not holds_run(run_dir, mode):
        return False
    check_descriptor(run_dir, mode, model.descriptor)
    before = RunSpec.load(run_dir)
    config = precise(config, model)
    now = config.to_dict() | {"arch": model.net.arch, "structures or their features": store.path.name}
    then = before.config.to_dict() | {"arch": before.arch, "structures or their features": Path(before.features).name}
    more = config.iterations - before.config.iterations
    free = (*FREE, "iterations") if more >= 0 else FREE
    changed = [f"{k}: {then[k]} -> {now[k]}" for k in now if k not in free and then[k] != now[k]]
    if changed:
        raise TrainingError(f"{run_dir}: began with other settings ({'; '.join(changed)}). Choose another run.name.")
    replace(before, config=config, features=str(store.path), epochs=before.epochs + more).save(run_dir)
    return True


def precise(config: TorchTrainingConfig, model: ANNModel) -> TorchTrainingConfig:
    """The configuration with the precision it stands for."""
    return config.model_copy(update={"precision": str(model.dtype).removeprefix("torch.")})
