"""What is refused, or warned of, before a run starts: folders, forces and validation sets that do not serve it."""

from __future__ import annotations

import tempfile
from pathlib import Path

from aenet_ray.config import warn_user
from aenet_ray.errors import ConfigError, TrainingError
from aenet_ray.features.store import FeatureStore
from aenet_ray.structures.structure import IntArray
from aenet_ray.training import checkpoint
from aenet_ray.training.config import TorchTrainingConfig
from aenet_ray.training.plan import ForceSubset

FEW = 10
"""A validation set of fewer structures is warned of."""


def check_checkpoints(run_dir: Path, config: TorchTrainingConfig) -> None:
    """A run begins at the newest checkpoint it finds: there must be none of another run, and room for its own."""
    folder = None if config.checkpoint_dir is None else run_dir / config.checkpoint_dir
    if folder is None:
        return
    if checkpoint.numbered(folder):
        raise TrainingError(
            f"{folder}: holds checkpoints of another run. Choose another checkpoint_dir or run.name, or delete them."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise TrainingError(
            f"{folder}: no checkpoint can be written there ({error}). Choose another checkpoint_dir."
        ) from None


def check_validation(config: TorchTrainingConfig, n: int) -> None:
    """Say what a validation set of n structures is too small for.

    Raises:
        ConfigError: Early stopping has nothing to watch.
    """
    plateau = config.use_scheduler and config.scheduler == "plateau"
    if n == 0 and config.early_stopping_patience is not None:
        raise ConfigError(
            f"early_stopping_patience={config.early_stopping_patience} watches the validation loss, and there are no "
            "validation structures. Raise testpercent or give test_dataset, or leave it out."
        )
    if n == 0 and plateau:
        warn_user(
            "use_scheduler: without validation structures the learning rate is never reduced; raise testpercent, or "
            "set scheduler to 'cosine'.",
            UserWarning,
        )
    if 0 < n < FEW:
        uses = {"the scheduler": plateau, "best_model.pt": config.save_best and config.checkpoint_dir is not None}
        for name, used in uses.items():
            if used:
                warn_user(
                    f"only {n} validation structures: {name} follows their loss, which is mostly chance; raise "
                    "testpercent or give more data.",
                    UserWarning,
                )


def check_forces(store: FeatureStore, config: TorchTrainingConfig, train_ids: IntArray) -> None:
    if config.force_weight == 0:
        return
    labelled = store.has_forces[train_ids]
    if not labelled.any():
        raise TrainingError(
            f"force_weight={config.force_weight}, but none of the {len(train_ids)} training structures has "
            "forces. Give data with forces, or set force_weight to 0."
        )
    subset = ForceSubset(
        labelled, config.force_fraction, config.force_min_structures_per_epoch, config.force_sampling, 0
    )
    if config.force_weight == 1 and config.force_fraction < 1 and not subset.size():
        raise ConfigError(
            f"force_weight=1 and force_fraction={config.force_fraction} use no forces of {labelled.sum()} structures "
            "and no energies: nothing to train on. Raise force_fraction or force_min_structures_per_epoch."
        )
