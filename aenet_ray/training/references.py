"""Reference energies of a run: given, fitted to its training part, or those of a checkpoint."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np

from aenet_ray.config import warn_user
from aenet_ray.errors import ConfigError
from aenet_ray.features.store import FeatureStore
from aenet_ray.reference_energies.least_squares import CompositionFit, explain_rank
from aenet_ray.structures.structure import FloatArray, IntArray
from aenet_ray.training.choose import Split, choose_split, usable
from aenet_ray.training.config import TorchTrainingConfig

logger = logging.getLogger(__name__)


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
    split = choose_split(config, wanted[usable(store, config)[wanted]], seed, given)
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


def known_references(known: Mapping[str, Any]) -> dict[str, float]:
    """Those of a checkpoint; a zero beside others stands for a species that its data did not have."""
    energies = known.get("atomic_energies") or {}
    return {s: e for s, e in energies.items() if e} or dict(energies)
