"""A model as what potential files hold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from aenet_ray.export.species_potential import SpeciesPotential
from aenet_ray.export.training_information import from_statistics, from_structures
from aenet_ray.models.ann import ANNModel
from aenet_ray.structures.structure import Structure


def species_potentials(
    model: ANNModel,
    name: str,
    stats: Mapping[str, Any] | None,
    structures: Iterable[Structure] | None,
    *,
    compute_stats: bool,
) -> list[SpeciesPotential]:
    """Every species' share, in the descriptor's order.

    Args:
        name: Of the training set.
        stats, structures, compute_stats: As ``descriptor_stats`` and so on of ``TorchANNPotential.to_aenet_ascii``.

    Raises:
        ExportError: Statistics other than the trained ones.
    """
    known: dict[str, Any] = {}
    if structures is not None:
        known |= from_structures(model, structures, compute_stats=compute_stats)
    if stats is not None:
        known |= from_statistics(model, stats)
    return [replace(_share(model, symbol, name), **known) for symbol in model.descriptor.species]


def _share(model: ANNModel, symbol: str, name: str) -> SpeciesPotential:
    norm, d = model.normalization, model.descriptor
    layers = [
        (w.detach().double().cpu().numpy(), b.detach().double().cpu().numpy()) for w, b in model.net.layers(symbol)
    ]
    return SpeciesPotential(
        central_species=symbol,
        species=tuple(d.species),
        layers=tuple(layers),
        activations=(*(a for _, a in model.net.arch[symbol]), "linear"),
        rad_order=d.rad_order,
        rad_cutoff=d.rad_cutoff,
        ang_order=d.ang_order,
        ang_cutoff=d.ang_cutoff,
        min_cutoff=d.min_cutoff,
        feature_mean=np.zeros(d.n_features) if norm.feature_mean is None else norm.feature_mean,
        feature_std=np.ones(d.n_features) if norm.feature_std is None else norm.feature_std,
        feature_min=norm.feature_min,
        feature_max=norm.feature_max,
        normalize_features=norm.normalize_features,
        E_scaling=norm.E_scaling,
        E_shift=norm.E_shift,
        atomic_energies=model.atomic_energies,
        training_set=name,
    )
