"""What a potential file tells of the training set besides what ænet computes with; and what may be said about it.

The average and second moment of the features in a file are part of the potential: they must be those that the networks
were trained with. Others are never written, whatever is passed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import numpy as np

from aenet_ray.config import warn_user
from aenet_ray.errors import ExportError
from aenet_ray.export.species_potential import FloatArray
from aenet_ray.models.ann import ANNModel
from aenet_ray.structures.block import StructureBlock
from aenet_ray.structures.structure import Structure

BLOCK = 64


def trained_statistics(model: ANNModel) -> tuple[FloatArray, FloatArray]:
    """Average and second moment of the features, (n_features,), as ænet must use them: 0 and 1 for a network of raw
    features."""
    norm, n = model.normalization, model.descriptor.n_features
    if norm.feature_mean is None or norm.feature_std is None:
        return np.zeros(n), np.ones(n)
    return norm.feature_mean, norm.feature_std**2 + norm.feature_mean**2


def from_statistics(model: ANNModel, stats: Mapping[str, Any]) -> dict[str, Any]:
    """``min`` and ``max`` of given statistics, once ``avg`` and ``cov`` have been found to be the trained ones.

    Raises:
        ExportError: Another key, shape or value; or statistics that the networks were not trained with.
    """
    unknown = sorted(set(stats) - {"min", "max", "avg", "cov"})
    if unknown:
        raise ExportError(f"descriptor_stats: unknown keys {', '.join(unknown)}; expected some of min, max, avg, cov.")
    arrays = {key: _column(key, value, model.descriptor.n_features) for key, value in stats.items()}
    average, moment = trained_statistics(model)
    slack = 1e-6 * (moment - average**2) + 2e-12 + 1e-12 * average**2
    for key, trained, allowed in (("avg", average, np.sqrt(slack)), ("cov", moment, slack)):
        if key in arrays and (bad := np.abs(arrays[key] - trained) > allowed).any():
            k = int(bad.argmax())
            why = "" if model.normalization.normalize_features else " (it takes raw features: avg is 0, cov is 1)"
            raise ExportError(
                f"descriptor_stats: {key} of feature {k} is {arrays[key][k]:.10g}, the potential was trained with "
                f"{trained[k]:.10g}{why}. ænet normalises with what is written, so that it would compute other "
                "energies. Leave descriptor_stats out: the trained statistics are known."
            )
    if {"min", "max"} <= arrays.keys() and (arrays["min"] > arrays["max"]).any():
        raise ExportError("descriptor_stats: min is above max for some features.")
    return {f"feature_{key}": arrays[key] for key in ("min", "max") if key in arrays}


def _column(key: str, value: Any, n: int) -> FloatArray:
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ExportError(f"descriptor_stats: {key} are no numbers: {error}.") from None
    if array.shape != (n,) or not np.isfinite(array).all():
        raise ExportError(f"descriptor_stats: {key} has shape {array.shape}, expected ({n},) finite numbers.")
    return array


def from_structures(model: ANNModel, structures: Iterable[Structure], *, compute_stats: bool) -> dict[str, Any]:
    """Counts and energies of these structures, and the range of their features where ``compute_stats``.

    Warns where their average is not the trained one: the trained one is written all the same.

    Raises:
        ExportError: There is no structure.
        DescriptorError: A species is unknown.
    """
    n_atoms, energies, moments = 0, list[float](), _Moments()
    n = 0
    for chunk in _chunks(structures):
        n += len(chunk)
        n_atoms += sum(s.n_atoms for s in chunk)
        energies += [_referenced(model, s) for s in chunk if s.energy is not None]
        if compute_stats:
            block = StructureBlock.from_structures(chunk)
            index = model.descriptor.species_index(block.numbers)
            moments.add(model.descriptor.features(model.descriptor.edges(block), index))
    if n == 0:
        raise ExportError("structures: none given; leave the argument out, or give those trained on.")
    known: dict[str, Any] = {"total_atoms": n_atoms, "n_structures": n}
    if energies:
        known |= {"E_min": min(energies), "E_max": max(energies), "E_avg": float(np.mean(energies))}
    if compute_stats:
        _warn_if_others(model, moments)
        known |= {"feature_min": moments.low, "feature_max": moments.high}
    return known


def _chunks(structures: Iterable[Structure]) -> Iterator[list[Structure]]:
    iterator = iter(structures)
    while chunk := list(islice(iterator, BLOCK)):
        yield chunk


def _referenced(model: ANNModel, structure: Structure) -> float:
    assert structure.energy is not None
    references = sum(model.atomic_energies.get(s, 0.0) for s in structure.species)
    return (structure.energy - references) / structure.n_atoms


class _Moments:
    """Of the features of atoms that come block by block."""

    def __init__(self) -> None:
        self.count, self.total, self.squares = 0, np.zeros(()), np.zeros(())
        self.low, self.high = np.array(np.inf), np.array(-np.inf)

    def add(self, features: FloatArray) -> None:
        self.count += len(features)
        self.total = self.total + features.sum(axis=0)
        self.squares = self.squares + np.square(features).sum(axis=0)
        self.low = np.minimum(self.low, features.min(axis=0))
        self.high = np.maximum(self.high, features.max(axis=0))


def _warn_if_others(model: ANNModel, moments: _Moments) -> None:
    norm = model.normalization
    if norm.feature_mean is None or norm.feature_std is None:
        return
    mean = moments.total / moments.count
    std = np.sqrt(np.maximum(moments.squares / moments.count - mean**2, 0.0) + 1e-12)
    off = np.maximum(np.abs(mean - norm.feature_mean), np.abs(std - norm.feature_std)) / norm.feature_std
    # 1e-6 is the spread of a constant feature, whose rounding is no difference.
    worst = float(off[norm.feature_std > 2e-6].max(initial=0.0))
    if worst > 1e-5:
        warn_user(
            f"to_aenet: the features of these {moments.count} atoms have other averages than those trained with (up to "
            f"{worst:.2g} standard deviations). Written are the trained ones, without which ænet would compute other "
            "energies; only minima, maxima, counts and energies are of the structures given.",
            UserWarning,
        )
