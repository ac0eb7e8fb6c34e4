"""How raw features and energies relate to what the network sees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from aenet_ray.structures.structure import FloatArray


@dataclass(frozen=True, slots=True)
class Normalization:
    """How raw features and energies relate to what the network sees.

    Args:
        E_shift: eV/atom; E_scaling: 1/(eV/atom). Network energy = (E_coh/N − E_shift) E_scaling per atom.
        feature_mean, feature_std: (n_features,), None where features are not normalised.
        feature_min, feature_max: (n_features,), None where unknown (needed by exports for information only).
    """

    E_shift: float = 0.0
    E_scaling: float = 1.0
    feature_mean: FloatArray | None = None
    feature_std: FloatArray | None = None
    feature_min: FloatArray | None = None
    feature_max: FloatArray | None = None
    normalize_energy: bool = False

    @property
    def normalize_features(self) -> bool:
        return self.feature_mean is not None

    def scale_and_offset(self, n_features: int) -> tuple[FloatArray, FloatArray]:
        """(1/std, mean): normalised = (x − mean) / max(std, 1e-12); ones and zeros if switched off."""
        if self.feature_mean is None or self.feature_std is None:
            return np.ones(n_features), np.zeros(n_features)
        return 1.0 / np.maximum(self.feature_std, 1e-12), self.feature_mean

    def to_dict(self) -> dict[str, Any]:
        def plain(a: FloatArray | None) -> list[float] | None:
            return None if a is None else [float(v) for v in a]

        return {
            "normalize_features": self.normalize_features,
            "normalize_energy": self.normalize_energy,
            "E_shift": self.E_shift,
            "E_scaling": self.E_scaling,
            "feature_mean": plain(self.feature_mean),
            "feature_std": plain(self.feature_std),
            "feature_min": plain(self.feature_min),
            "feature_max": plain(self.feature_max),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Normalization:
        def array(name: str) -> FloatArray | None:
            value = values.get(name)
            return None if value is None else np.asarray(value, dtype=np.float64)

        on = values.get("normalize_features", True)
        return cls(
            E_shift=float(values["E_shift"]),
            E_scaling=float(values["E_scaling"]),
            feature_mean=array("feature_mean") if on else None,
            feature_std=array("feature_std") if on else None,
            feature_min=array("feature_min"),
            feature_max=array("feature_max"),
            normalize_energy=bool(values.get("normalize_energy", True)),
        )


def energy_normalization(energy_per_atom: FloatArray) -> tuple[float, float]:
    """(E_shift, E_scaling) that map referenced energies per atom to [−1, 1]; (0, 1) if all are equal."""
    low, high = float(energy_per_atom.min()), float(energy_per_atom.max())
    if high == low:
        return 0.0, 1.0
    return (high + low) / 2.0, 2.0 / (high - low)
