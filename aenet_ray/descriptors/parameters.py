"""What a descriptor accepts: one clear error for each parameter or array that does not fit."""

from __future__ import annotations

import math
import numbers as abc_numbers
from collections.abc import Sequence

import numpy as np
import torch
from ase.data import atomic_numbers
from numpy.typing import ArrayLike
from torch import Tensor

from aenet_ray.descriptors.neighbors import read_only
from aenet_ray.errors import DescriptorError
from aenet_ray.structures.structure import FloatArray, IntArray

BACKENDS = ("auto", "compiled", "torch")


def as_tensor(values: ArrayLike | Tensor) -> Tensor:
    """Tensors as they are, everything else in float64 (torch would make float32 of a list)."""
    return values if isinstance(values, Tensor) else torch.as_tensor(np.asarray(values, dtype=np.float64))


def checked_offsets(offsets: IntArray | None, n_atoms: int) -> tuple[IntArray, int]:
    """Offsets for the kernels, and the number of structures: none where there are no offsets."""
    if offsets is None:
        return read_only([0], np.int64), 0
    array = read_only(offsets, np.int64)
    if array.ndim != 1 or len(array) == 0 or array[0] != 0 or array[-1] != n_atoms or (np.diff(array) < 0).any():
        raise DescriptorError(f"structure_offsets are {offsets}, expected a rising list from 0 to {n_atoms}.")
    return array, len(array) - 1


def checked_species(species: Sequence[str]) -> list[str]:
    symbols = [species] if isinstance(species, str) else list(species)
    if not symbols:
        raise DescriptorError("species is empty, expected at least one chemical symbol.")
    for s in symbols:
        if s not in atomic_numbers or s == "X":
            raise DescriptorError(f"species contains {s!r}, expected chemical symbols such as 'Ti'.")
    if len(set(symbols)) != len(symbols):
        raise DescriptorError(f"species is {symbols}, expected every symbol once.")
    return symbols


def checked_order(name: str, value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, abc_numbers.Integral) or value < 0:
        raise DescriptorError(f"{name} is {value!r}, expected an integer >= 0.")
    return int(value)


def checked_length(name: str, value: float, *, positive: bool) -> float:
    ok = isinstance(value, abc_numbers.Real) and not isinstance(value, bool) and math.isfinite(value)
    if not ok or value < 0 or (positive and value == 0):
        raise DescriptorError(f"{name} is {value!r}, expected a finite length {'> 0' if positive else '>= 0'} in Å.")
    return float(value)


def checked_device(device: str | torch.device) -> torch.device:
    try:
        return torch.device(device)
    except RuntimeError as error:
        raise DescriptorError(f"device is {device!r}, expected one that torch knows: {error}") from None


def checked_rows(name: str, values: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    array = read_only(values, np.float64)
    if array.shape != shape:
        raise DescriptorError(f"{name} has shape {array.shape}, expected {shape}.")
    return array


def chosen_backend(backend: str, device: torch.device) -> str:
    if backend not in BACKENDS:
        raise DescriptorError(f"backend is {backend!r}, expected one of {', '.join(BACKENDS)}.")
    if backend == "compiled" and device.type != "cpu":
        raise DescriptorError(f"backend is 'compiled' on device {device}, expected 'cpu'; use 'auto' or 'torch'.")
    if backend == "auto":
        return "compiled" if device.type == "cpu" else "torch"
    return backend
