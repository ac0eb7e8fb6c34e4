"""What the fits of reference energies may be told, checked."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence, Sized
from typing import Any

import numpy as np

from aenet_ray.errors import ReferenceEnergyError, ReferenceEnergyTypeError
from aenet_ray.structures.store import StructureStore


def checked_fixed(fixed: Mapping[str, float] | None) -> dict[str, float]:
    if fixed is None:
        return {}
    if not isinstance(fixed, Mapping):
        raise ReferenceEnergyTypeError(
            f"fixed_atomic_energies: {fixed!r:.60}, expected a mapping such as {{'O': -432.5}}."
        )
    for species, energy in fixed.items():
        if isinstance(energy, bool) or not isinstance(energy, int | float | np.number):
            raise ReferenceEnergyTypeError(f"fixed_atomic_energies[{species!r}]: {energy!r}, expected a number, eV.")
        if not math.isfinite(energy):
            raise ReferenceEnergyError(f"fixed_atomic_energies[{species!r}]: {energy}, expected a finite number, eV.")
    return {s: float(fixed[s]) for s in sorted(fixed)}


def checked_percentiles(percentiles: Sequence[float]) -> tuple[float, float]:
    if len(percentiles) != 2 or not 0 <= percentiles[0] < percentiles[1] <= 100:
        raise ReferenceEnergyError(f"percentiles: {percentiles}, expected a lower and an upper one, 0 to 100.")
    return float(percentiles[0]), float(percentiles[1])


def subset_size_of(
    samples: Any, stores: Sequence[StructureStore], size: int | None, fraction: float | None
) -> int | None:
    """How many samples to draw; None for all."""
    if size is not None and fraction is not None:
        raise ReferenceEnergyError(f"subset_size={size} and subset_fraction={fraction}: expected one of them.")
    if size is not None:
        if isinstance(size, bool) or not isinstance(size, int | np.integer):
            raise ReferenceEnergyTypeError(f"subset_size: {size!r}, expected a positive whole number.")
        if size < 1:
            raise ReferenceEnergyError(f"subset_size: {size}, expected a positive whole number.")
        return int(size)
    if fraction is None:
        return None
    if isinstance(fraction, bool) or not isinstance(fraction, int | float):
        raise ReferenceEnergyTypeError(f"subset_fraction: {fraction!r}, expected a number above 0, at most 1.")
    if not 0 < fraction <= 1:
        raise ReferenceEnergyError(f"subset_fraction: {fraction}, expected a number above 0, at most 1.")
    if stores:
        return math.ceil(fraction * sum(store.n_with("energy") for store in stores))
    paths = isinstance(samples, list | tuple) and any(isinstance(s, str | os.PathLike) for s in samples)
    if isinstance(samples, str) or not isinstance(samples, Sized) or paths:
        raise ReferenceEnergyTypeError(
            f"subset_fraction needs samples of known number, found {'paths' if paths else type(samples).__name__}; "
            "give a list of samples, or a store, or subset_size."
        )
    return math.ceil(fraction * len(samples))
