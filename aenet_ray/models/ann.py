"""The ænet potential: normalised features, a network per species, energies and forces in eV."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from aenet_ray.descriptors.chebyshev import ChebyshevDescriptor
from aenet_ray.descriptors.neighbors import Edges
from aenet_ray.descriptors.operators import descriptor_gradient
from aenet_ray.models.network import Architecture, SpeciesNetworks
from aenet_ray.models.normalization import Normalization
from aenet_ray.structures.structure import FloatArray, IntArray


class ANNModel(nn.Module):
    """Networks and the constants that turn their output into energies.

    Args:
        arch: Hidden layers per species.
        descriptor: Gives species order, number of features and Jacobian products.
        dtype: Of the network.
    """

    def __init__(self, arch: Architecture, descriptor: ChebyshevDescriptor, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.descriptor = descriptor
        self.net = SpeciesNetworks(arch, descriptor.species, descriptor.n_features, dtype or descriptor.dtype)
        self.normalization = Normalization()
        self.atomic_energies: dict[str, float] = {}

    @property
    def dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @property
    def references(self) -> FloatArray:
        """ε in descriptor order, (n_species,), eV; zero where none is known."""
        return reference_array(self.atomic_energies, self.descriptor)

    def forces(self, gradient: Tensor, edges: Edges, species: IntArray) -> Tensor:
        """Forces, (n_atoms, 3), eV/Å, float64, differentiable in ``gradient``.

        Args:
            gradient: ∂E_norm/∂(normalised feature) of the atoms, (n_atoms, n_features).
        """
        scale, _ = self.normalization.scale_and_offset(self.descriptor.n_features)
        g = gradient.double() * torch.from_numpy(scale).to(gradient.device)
        return descriptor_gradient(self.descriptor, edges, species, g) * (-1.0 / self.normalization.E_scaling)


def reference_array(atomic_energies: Mapping[str, float], descriptor: ChebyshevDescriptor) -> FloatArray:
    return np.array([atomic_energies.get(s, 0.0) for s in descriptor.species])
