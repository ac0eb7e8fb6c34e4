"""Decide a run before any worker starts: filters, split, references, normalisation, first weights."""

from __future__ import annotations

import logging
import secrets
from pathlib import Path
from typing import Any

import numpy as np
import torch

from aenet_ray.config import warn_user
from aenet_ray.errors import ConfigError
from aenet_ray.features.store import FeatureStore
from aenet_ray.models.ann import ANNModel, reference_array
from aenet_ray.models.model_file import write_model_file
from aenet_ray.models.normalization import Normalization, energy_normalization
from aenet_ray.structures.structure import FloatArray, IntArray
from aenet_ray.training.choose import Split, choose_split, filtered
from aenet_ray.training.config import TorchTrainingConfig
from aenet_ray.training.continuing import precise
from aenet_ray.training.loggers import check_loggers
from aenet_ray.training.references import choose_references, cohesive_per_atom, fit_references, known_references
from aenet_ray.training.resume import check_atomic_energies
from aenet_ray.training.run_checks import check_checkpoints, check_forces, check_validation
from aenet_ray.training.spec import RESUME, RunSpec

logger = logging.getLogger(__name__)


def fit_normalization(
    store: FeatureStore, config: TorchTrainingConfig, train_ids: IntArray, per_atom: FloatArray
) -> Normalization:
    """Statistics of the training split; each override replaces its own value only."""
    mean = std = low = high = None
    if config.normalize_features:
        moments = store.moments(train_ids)
        mean, std, low, high = moments.mean, moments.std, moments.minimum, moments.maximum
        if config.feature_stats is not None:
            mean, std = np.array(config.feature_stats["mean"]), np.array(config.feature_stats["std"])
            if len(mean) != store.n_features:
                raise ConfigError(f"feature_stats: {len(mean)} columns, the descriptor has {store.n_features}.")
    shift, scaling = 0.0, 1.0
    if config.normalize_energy:
        shift, scaling = energy_normalization(per_atom[train_ids])
        shift = shift if config.E_shift is None else config.E_shift
        scaling = scaling if config.E_scaling is None else config.E_scaling
    return Normalization(shift, scaling, mean, std, low, high, config.normalize_energy)


def initial_weights(model: ANNModel, seed: int | None) -> dict[str, torch.Tensor]:
    """Weights as a function of the seed, or the model's own where there is none."""
    if seed is None:
        return {k: v.detach().cpu().clone() for k, v in model.state_dict().items()}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = ANNModel(model.net.arch, model.descriptor, model.dtype)
    return dict(fresh.state_dict())


def prepare_run(
    run_dir: Path,
    store: FeatureStore,
    model: ANNModel,
    config: TorchTrainingConfig,
    *,
    split: Split | None = None,
    ids: IntArray | None = None,
    start: dict[str, Any] | None = None,
    loggers: tuple[str, ...] = (),
) -> RunSpec:
    """Decide everything and write it to ``run_dir``.

    Args:
        split: Fixed beforehand; None splits by ``testpercent``.
        ids: Structures to split, where not all of the store are, in the order that the split's seed refers to.
        start: Checkpoint to go on from for ``iterations`` more epochs; ``model`` has its weights already. Its
            normalisation gives them their meaning and stays; seed and atomic energies are its own where the
            configuration has none.
        loggers: Trackers that get the metrics as well.

    Raises:
        TrainingError: No data is left, or it has no forces to train on.
        ConfigError: Settings do not fit the data.
    """
    check_loggers(loggers)
    check_checkpoints(run_dir, config)
    known = start or {}
    if start is not None:
        check_atomic_energies(config.atomic_energies, known.get("atomic_energies") or {}, "resume_from")
    seed = config.seed if config.seed is not None else known.get("seed", secrets.randbits(32))
    wanted = ids if split is None else np.union1d(split.train_ids, split.test_ids)
    fitted = None
    if config.atomic_energies == "fit" and start is None:
        fitted, split = fit_references(config, store, seed, split, wanted)
    energies = choose_references(config, store, fitted or known_references(known), wanted)
    per_atom = cohesive_per_atom(store, reference_array(energies, model.descriptor))
    ids = filtered(store, config, per_atom, wanted)
    chosen = choose_split(config, ids, seed, split)
    check_forces(store, config, chosen.train_ids)
    check_validation(config, len(chosen.test_ids))
    logger.info(
        "training on %d structures, validating on %d, %d left out by filters; seed %d",
        len(chosen.train_ids), len(chosen.test_ids),
        (len(store) if wanted is None else len(wanted)) - len(chosen.train_ids) - len(chosen.test_ids), seed,
    )  # fmt: skip
    spec = RunSpec(
        config=precise(config, model),
        arch=model.net.arch,
        descriptor=model.descriptor.config(),
        features=str(store.path),
        seed=seed,
        epochs=config.iterations + (start["epoch"] + 1 if start else 0),
        normalization=Normalization.from_dict(start["normalization"])
        if start
        else fit_normalization(store, config, chosen.train_ids, per_atom),
        atomic_energies=energies,
        train_ids=chosen.train_ids,
        test_ids=chosen.test_ids,
        initial=initial_weights(model, None if start else config.seed),
        loggers=loggers,
    )
    if start and start["split_hash"] is None:
        warn_user(
            "aenet-python's checkpoints do not tell what was trained on: give the split_seed and the data of that run, "
            "or train_dataset and test_dataset, to keep its split.",
            UserWarning,
        )
    elif start and start["split_hash"] != spec.split_hash:
        warn_user(
            "the training structures are not those of the checkpoint: some of what validates now may have been "
            "trained on. Give its split_seed and data, or train_dataset and test_dataset, to keep the split.",
            UserWarning,
        )
    (run_dir / RESUME).unlink(missing_ok=True)  # of an attempt that did not come to a run
    if start:
        run_dir.mkdir(parents=True, exist_ok=True)
        # It ended early, if it did, with what it was told then.
        waited = {"early_stopping": start["early_stopping"] | {"waited": 0}} if start.get("early_stopping") else {}
        write_model_file(run_dir / RESUME, start | waited)
    spec.save(run_dir)
    return spec
