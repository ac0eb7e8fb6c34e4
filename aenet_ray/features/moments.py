"""Additive statistics of features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aenet_ray.structures.structure import FloatArray


@dataclass(frozen=True, slots=True)
class FeatureMoments:
    """Additive statistics of feature columns over atoms; merged, they give any split's statistics.

    Args:
        count: Number of atoms.
        total, squares, minimum, maximum: (n_features,).
    """

    count: int
    total: FloatArray
    squares: FloatArray
    minimum: FloatArray
    maximum: FloatArray

    @property
    def mean(self) -> FloatArray:
        return self.total / self.count

    @property
    def std(self) -> FloatArray:
        """sqrt(max(0, E[x²] − E[x]²) + 1e-12): a constant column has 1e-6, never zero."""
        variance = np.maximum(0.0, self.squares / self.count - self.mean**2)
        return np.sqrt(variance + 1e-12)
