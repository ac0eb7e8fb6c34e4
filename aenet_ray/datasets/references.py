"""What datasets need to know of energies before training: references, and which structures are low enough."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from aenet_ray.config import warn_user
from aenet_ray.errors import ConfigError
from aenet_ray.structures.structure import FloatArray


def checked_references(given: Mapping[str, float] | None, species: Iterable[str]) -> dict[str, float] | None:
    """The atomic energies of a dataset as plain numbers, eV.

    Raises:
        ConfigError: No mapping of symbols to finite numbers, or none for a species that is there.
    """
    if given is None:
        return None
    if not isinstance(given, Mapping):
        raise ConfigError(
            f"atomic_energies: found {given!r}, expected a mapping such as {{'Ti': -1604.6, 'O': -432.5}}."
        )
    values = {}
    for symbol, energy in given.items():
        if isinstance(energy, bool | str) or not np.isreal(energy) or not math.isfinite(energy):
            raise ConfigError(f"atomic_energies: {symbol!r} has {energy!r}, expected a finite number in eV.")
        values[str(symbol)] = float(energy)
    missing = [s for s in species if s not in values]
    if missing:
        raise ConfigError(f"atomic_energies: none for {', '.join(missing)}; given are {', '.join(values) or 'none'}.")
    return values


def checked_limit(name: str, value: float | None, unit: str) -> float | None:
    """Raises:
    ConfigError: No number; infinity stands for no limit.
    """
    if value is None:
        return None
    if isinstance(value, bool | str) or not np.isreal(value) or math.isnan(value):
        raise ConfigError(f"{name}: found {value!r}, expected a number of {unit}, or None for no limit.")
    return float(value)


def low_enough(referenced: FloatArray, max_energy: float | None, where: str) -> NDArray[np.bool_]:
    """Which structures have (E − Σε)/N up to ``max_energy``, (n,).

    Args:
        referenced: (E − Σε)/N, (n,), eV/atom, NaN where there is no energy: such a structure cannot be judged and
            is left out with a warning, whenever there is a limit.
    """
    if max_energy is None or max_energy == math.inf:
        return np.ones(len(referenced), dtype=bool)
    unknown = np.isnan(referenced)
    if unknown.any():
        warn_user(
            f"{where}: {unknown.sum()} of {len(referenced)} structures have no energy (the first is number "
            f"{int(unknown.argmax())}); max_energy={max_energy} leaves them out.",
            UserWarning,
        )
    return np.asarray(referenced <= max_energy)
