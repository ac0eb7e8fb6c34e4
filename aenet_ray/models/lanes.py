"""Several networks of one architecture evaluated at once by compiled code."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from aenet_ray.descriptors.neighbors import read_only
from aenet_ray.descriptors.several import LANES
from aenet_ray.models.ann import ANNModel
from aenet_ray.models.lanes_kernel import KINDS, lanes_kernel
from aenet_ray.models.network import SpeciesNetworks
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
        # A model's parameters lie layer by layer, weights before biases, as the kernel reads them.
        flat = [np.concatenate([p.detach().numpy().ravel() for p in m.net.parameters()]) for m in models]
        self.table = _in_lanes(flat)
        self.plan = _plan(models[0].net)

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
            read_only(features, np.float64), order, np.asarray(counts), self.scale, self.offset, self.factors,
            self.plan, self.table, gradient, energies, slopes,
        )  # fmt: skip
        return energies.T[: self.n_models], slopes if gradient else None


def _in_lanes(values: Sequence[FloatArray]) -> FloatArray:
    """With the models last, (..., 8)."""
    return np.stack([*values, *[values[-1]] * (LANES - len(values))], axis=-1)


def _plan(net: SpeciesNetworks) -> IntArray:
    """Inputs, outputs, activation and first row in the table of each layer, (n_species, n_layers, 4); zeros behind."""
    plan, first = list[list[list[int]]](), 0
    for k, symbol in enumerate(net.species):
        plan.append([])
        for (weight, bias, _), name in zip(net.steps(k), [*(a for _, a in net.arch[symbol]), "linear"], strict=True):
            n_out, n_in = weight.shape
            plan[-1].append([n_in, n_out, KINDS[name], first])
            first += weight.numel() + bias.numel()
    deepest = max(map(len, plan))
    return np.array([layers + [[0] * 4] * (deepest - len(layers)) for layers in plan])
