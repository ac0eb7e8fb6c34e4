"""Potentials whose files scale features and energies each in its own way, rewritten to scale them in one.

ænet keeps average and spread of the features, and scaling and shift of the energies, in every species' file; files of
its own training differ in the former. A model here has one of each. Affine maps before the first layer and behind the
last one go into their weights, so that energies stay what they were.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from aenet_ray.export.species_potential import FloatArray, SpeciesPotential


def with_shared_scaling(potentials: Mapping[str, SpeciesPotential]) -> dict[str, SpeciesPotential]:
    """The same potentials with one feature normaliser, one energy scaling and one set of atomic energies.

    A feature that ænet switches off (no spread) gets zero weights. Of atomic energies, each file's own species' counts:
    it is the one that ænet adds.
    """
    first = next(iter(potentials.values()))
    mean, std = _shared_normalizer(list(potentials.values()))
    energies = {s: p.atomic_energies.get(s, 0.0) for s, p in potentials.items()}
    ranges = _shared_ranges(list(potentials.values()))
    shared = {}
    for species, p in potentials.items():
        layers = list(p.layers)
        layers[0] = _first_layer(p, mean, std)
        layers[-1] = _last_layer(p, layers[-1], first.E_scaling, first.E_shift)
        shared[species] = replace(
            p,
            layers=tuple(layers),
            feature_mean=mean,
            feature_std=std,
            feature_second_moment=None,
            normalize_features=any(q.normalize_features for q in potentials.values()),
            **ranges,
            E_scaling=first.E_scaling,
            E_shift=first.E_shift,
            atomic_energies=energies,
        )
    return shared


def _shared_normalizer(potentials: list[SpeciesPotential]) -> tuple[FloatArray, FloatArray]:
    """Mean and spread of the features, (n_features,) each: the common ones, or else those of all species together."""
    shifts, factors = (np.array(values) for values in zip(*(p.normalizer() for p in potentials), strict=True))
    used = factors > 0
    spreads = np.divide(1.0, factors, out=np.zeros_like(factors), where=used)
    if (shifts == shifts[0]).all() and (factors == factors[0]).all():
        p = potentials[0]
        known = p.feature_std if p.normalize_features else spreads[0]
        return shifts[0], np.where(used[0], known, 1.0)
    mean = shifts.mean(axis=0)
    std = np.sqrt((spreads**2).mean(axis=0) + shifts.var(axis=0))
    return mean, np.where(std > 1e-9, std, 1.0)


def _first_layer(p: SpeciesPotential, mean: FloatArray, std: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(G − shift) f = (G − mean)/std · std f + (mean − shift) f"""
    weight, bias = p.layers[0]
    shift, factor = p.normalizer()
    own = p.feature_std if p.normalize_features else np.ones_like(std)
    # Where the normaliser is the same already, the weights stay what they are to the last digit.
    ratio = np.where(factor == 0.0, 0.0, np.where(own == std, 1.0, std * factor))
    return weight * ratio, bias + weight @ ((mean - shift) * factor)


def _last_layer(
    p: SpeciesPotential, layer: tuple[FloatArray, FloatArray], scaling: float, shift: float
) -> tuple[FloatArray, FloatArray]:
    """y/scaling_p + shift_p = (y scaling/scaling_p + (shift_p − shift) scaling)/scaling + shift"""
    weight, bias = layer
    ratio = scaling / p.E_scaling
    return weight * ratio, bias * ratio + (p.E_shift - shift) * scaling


def _shared_ranges(potentials: list[SpeciesPotential]) -> dict[str, Any]:
    low = [p.feature_min for p in potentials if p.feature_min is not None]
    high = [p.feature_max for p in potentials if p.feature_max is not None]
    if min(len(low), len(high)) < len(potentials):
        return {"feature_min": None, "feature_max": None}
    return {"feature_min": np.min(low, axis=0), "feature_max": np.max(high, axis=0)}
