"""Decide a run before any worker starts: filters, split, references, normalisation, first weights."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from aenet_ray.config import warn_user
from aenet_ray.descriptors.chebyshev import ChebyshevDescriptor
from aenet_ray.errors import ConfigError, NoTrainingDataError, TrainingError
from aenet_ray.features.store import FeatureStore
from aenet_ray.models.ann import ANNModel, reference_array
from aenet_ray.models.model_file import write_model_file
from aenet_ray.models.normalization import Normalization, energy_normalization
from aenet_ray.reference_energies.least_squares import CompositionFit, explain_rank
from aenet_ray.structures.split import split_indices
from aenet_ray.structures.structure import FloatArray, IntArray
from aenet_ray.training.config import TorchTrainingConfig
from aenet_ray.training.loggers import check_loggers
from aenet_ray.training.resume import check_atomic_energies
from aenet_ray.training.run_checks import check_checkpoints, check_forces, check_validation
from aenet_ray.training.run_folder import holds_run
from aenet_ray.training.spec import RESUME, RunSpec

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Split:
    """Structures of the store used for training and validation, ascending; both after filtering."""

    train_ids: IntArray
    test_ids: IntArray


def choose_references(
    config: TorchTrainingConfig,
    store: FeatureStore,
    known: Mapping[str, float] | None = None,
    wanted: IntArray | None = None,
) -> dict[str, float]:
    """ε of each species: the configuration's, else the ``known`` ones; zeros with a warning where there are none.

    Args:
        wanted: Structures whose species need one; None: all.

    Raises:
        ConfigError: Some species of the data has none.
    """
    given = known if config.atomic_energies in (None, "fit") else config.atomic_energies
    if not isinstance(given, Mapping) or not given:
        warn_user(
            "no atomic_energies: training on total energies. Give the energy of each isolated atom, or fit "
            "them, to train on cohesive energies.",
            UserWarning,
        )
        return dict.fromkeys(store.species, 0.0)
    present = (store.composition if wanted is None else store.composition[wanted]).sum(axis=0) > 0
    missing = [s for s, p in zip(store.species, present, strict=True) if p and s not in given]
    if missing:
        raise ConfigError(f"atomic_energies: none for {', '.join(missing)}; given are {', '.join(given)}.")
    return {s: float(given.get(s, 0.0)) for s in store.species}


def fit_references(
    config: TorchTrainingConfig,
    store: FeatureStore,
    seed: int,
    given: Split | None,
    wanted: IntArray | None = None,
) -> tuple[dict[str, float], Split]:
    """ε by least squares on the training part, and the split; drawn before ``max_energy``, which needs ε, is applied.

    Raises:
        ConfigError: The compositions do not determine ε, or a species is in no training structure.
    """
    wanted = np.arange(len(store)) if wanted is None else wanted
    split = choose_split(config, wanted[_usable(store, config)[wanted]], seed, given)
    fit = CompositionFit()
    fit.add_rows(store.species, store.composition[split.train_ids], store.energy[split.train_ids])
    solution = fit.solve()
    if solution.rank < len(solution.energies):
        raise ConfigError(
            f"atomic_energies: fit: {explain_rank(solution, fit.n_samples)} For instance: 'aenet-ray atomic-energies "
            "DATA --fixed SPECIES=E -o energies.yaml', then 'atomic_energies: energies.yaml'."
        )
    unseen = [
        s
        for s, n in zip(store.species, store.composition[wanted].sum(axis=0), strict=True)
        if n and s not in solution.energies
    ]
    if unseen:
        raise ConfigError(
            f"atomic_energies: fit: {', '.join(unseen)} is in no training structure, only in others; give its energy, "
            "or another split."
        )
    rmse = np.sqrt(solution.residual_sum_squares / fit.n_samples)
    found = ", ".join(f"{s} {e:.6f}" for s, e in solution.energies.items())
    logger.info(
        "atomic energies: least squares on the %d training structures, eV: %s; rmse %.4g eV per structure",
        fit.n_samples,
        found,
        rmse,
    )
    return solution.energies, split


def cohesive_per_atom(store: FeatureStore, references: FloatArray) -> FloatArray:
    """(E − Σε)/N of all structures, (n,), eV/atom."""
    return (store.energy - store.composition @ references) / store.n_atoms


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
    keep = _usable(store, config)[wanted]
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


def _usable(store: FeatureStore, config: TorchTrainingConfig) -> NDArray[np.bool_]:
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
    config = _precise(config, model)
    now = config.to_dict() | {"arch": model.net.arch, "structures or their features": store.path.name}
    then = before.config.to_dict() | {"arch": before.arch, "structures or their features": Path(before.features).name}
    more = config.iterations - before.config.iterations
    free = (*FREE, "iterations") if more >= 0 else FREE
    changed = [f"{k}: {then[k]} -> {now[k]}" for k in now if k not in free and then[k] != now[k]]
    if changed:
        raise TrainingError(f"{run_dir}: began with other settings ({'; '.join(changed)}). Choose another run.name.")
    replace(before, config=config, features=str(store.path), epochs=before.epochs + more).save(run_dir)
    return True


def _precise(config: TorchTrainingConfig, model: ANNModel) -> TorchTrainingConfig:
    """The configuration with the precision it stands for."""
    return config.model_copy(update={"precision": str(model.dtype).removeprefix("torch.")})


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
    energies = choose_references(config, store, fitted or _known_references(known), wanted)
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
        config=_precise(config, model),
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


def _known_references(known: Mapping[str, Any]) -> dict[str, float]:
    """Those of a checkpoint; a zero beside others stands for a species that its data did not have."""
    energies = known.get("atomic_energies") or {}
    return {s: e for s, e in energies.items() if e} or dict(energies)
