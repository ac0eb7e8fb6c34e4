"""Several networks of one architecture evaluated at once by compiled code."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from aenet_ray.descriptors.several import LANES
from aenet_ray.models.ann import ANNModel
from aenet_ray.models.architecture import ACTIVATION_NAMES
from aenet_ray.models.lanes_kernel import lanes_kernel
from aenet_ray.structures.structure import FloatArray, IntArray


class LaneNetworks:
    """Up to eight models of one architecture, a model a lane; lanes without one repeat the last.

    Args:
        models: Of one architecture and descriptor, float64, on the CPU.
    """

    def __init__(self, models: Sequence[ANNModel]) -> None:
        self.n_models = len(models)
        n_features = models[0].descriptor.n_features
        scalings = [m.normalization.scale_and_offset(n_features) for m in models]
        self.scale, self.offset = (_in_lanes([s[k] for s in scalings]) for k in (0, 1))
        self.factors = self.scale / _in_lanes([np.array(m.normalization.E_scaling) for m in models])
        layers = [zip(*(m.net.steps(k) for m in models), strict=True) for k in range(len(models[0].net.species))]
        rows, plan, names = list[FloatArray](), list[list[list[int]]](), models[0].net.arch
        first = 0
        for symbol, of_species in zip(models[0].net.species, layers, strict=True):
            plan.append([])
            kinds = [*(name for _, name in names[symbol]), "linear"]
            for members, kind in zip(of_species, kinds, strict=True):
                n_out, n_in = members[0][0].shape
                plan[-1].append([n_in, n_out, ACTIVATION_NAMES.index(kind), first])
                for part in (0, 1):
                    rows.append(_in_lanes([m[part].detach().numpy().ravel() for m in members]))
                    first += len(rows[-1])
        deepest = max(map(len, plan))
        self.plan = np.array([p + [[0] * 4] * (deepest - len(p)) for p in plan])
        self.table = np.concatenate(rows)

    def __call__(
        self, features: FloatArray, order: IntArray, counts: Sequence[int], *, gradient: bool
    ) -> tuple[FloatArray, FloatArray | None]:
        """Atom energies in the units of the networks, (n_models, n_atoms), and dE/d(feature), (n_atoms, F, 8), eV.

        Args:
            features: Not normalised, (n_atoms, n_features).
            order: Atoms sorted by species, (n_atoms,); counts: of each species.
            gradient: Whether to make the second, which is None without.
        """
        shape = (*features.shape, LANES) if gradient else (0, 0, LANES)
        energies, slopes = np.empty((len(features), LANES)), np.empty(shape)
        lanes_kernel(
            np.ascontiguousarray(features), order, np.asarray(counts), self.scale, self.offset, self.factors,
            self.plan, self.table, gradient, energies, slopes,
        )  # fmt: skip
        return energies.T[: self.n_models], slopes if gradient else None


def _in_lanes(values: Sequence[FloatArray]) -> FloatArray:
    """With the models last, (..., 8)."""
    return np.stack([*values, *[values[-1]] * (LANES - len(values))], axis=-1)
