"""The descriptor in plain torch: the reference of the other backends, on any device, differentiable twice."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from aenet_ray.descriptors.coefficients import angular_tables, powers_to_features
from aenet_ray.descriptors.segments import segment_sum


@dataclass(frozen=True)
class BasisSettings:
    """What the formulas need: orders, cutoffs (Å), species weights and whether they are used at all."""

    rad_order: int
    rad_cutoff: float
    ang_order: int
    ang_cutoff: float
    typespin: tuple[float, ...]
    multi: bool


def cutoff_function(distance: Tensor, cutoff: float) -> Tensor:
    """(cos(pi d / R) + 1) / 2 below the cutoff, zero from it on, (n_edges,)."""
    value = 0.5 * (torch.cos(math.pi / cutoff * distance) + 1.0)
    return torch.where(distance < cutoff, value, torch.zeros_like(value))


def chebyshev_rows(x: Tensor, order: int) -> Tensor:
    """T_0 .. T_order of x by recurrence, (n, order + 1)."""
    rows = [torch.ones_like(x), x]
    for _ in range(order - 1):
        rows.append(2.0 * x * rows[-1] - rows[-2])
    return torch.stack(rows[: order + 1], dim=1)


def real_harmonics(unit: Tensor, order: int) -> Tensor:
    """Real harmonics of unit vectors, monic in z, (n, 2 rows): cosine rows (m, l), then sine rows."""
    beta = angular_tables(order).beta.tolist()
    x, y, z = unit.unbind(1)
    c, s = torch.ones_like(z), torch.zeros_like(z)
    cos_rows, sin_rows, k = [], [], 0
    for m in range(order + 1):
        if m > 0:
            c, s = c * x - s * y, s * x + c * y
        before, here = torch.zeros_like(z), torch.ones_like(z)
        for deg in range(m, order + 1):
            if deg > m:
                before, here = here, z * here - beta[k] * before
            cos_rows.append(here * c)
            sin_rows.append(here * s)
            k += 1
    return torch.stack(cos_rows + sin_rows, dim=1)


def features_from_edges(
    settings: BasisSettings, vectors: Tensor, center: Tensor, species_of_neighbor: Tensor, n_atoms: int
) -> Tensor:
    """Features of every centre.

    Args:
        settings: Orders, cutoffs, weights.
        vectors: From centre to neighbour, Å, (n_edges, 3); differentiable, twice.
        center: Centre of each edge, int64, (n_edges,).
        species_of_neighbor: Species index of each neighbour, int64, (n_edges,).
        n_atoms: Number of centres.

    Returns:
        (n_atoms, F), in the type of ``vectors``.
    """
    weights = torch.as_tensor(settings.typespin, dtype=vectors.dtype, device=vectors.device)
    weight = weights[species_of_neighbor]
    distance = vectors.square().sum(1).sqrt()
    radial = _radial(settings, distance, weight, center, n_atoms)
    inside = (distance < settings.ang_cutoff).nonzero().squeeze(1)
    angular = _angular(settings, vectors[inside], distance[inside], weight[inside], center[inside], n_atoms)
    return torch.cat([part for pair in zip(radial, angular, strict=True) for part in pair], dim=1)


def _radial(settings: BasisSettings, distance: Tensor, weight: Tensor, center: Tensor, n_atoms: int) -> list[Tensor]:
    inside = (distance <= settings.rad_cutoff).nonzero().squeeze(1)
    distance, weight, center = distance[inside], weight[inside], center[inside]
    rows = chebyshev_rows(2.0 / settings.rad_cutoff * distance - 1.0, settings.rad_order)
    rows = rows * cutoff_function(distance, settings.rad_cutoff)[:, None]
    copies = [rows, rows * weight[:, None]] if settings.multi else [rows]
    return [segment_sum(copy, center, n_atoms) for copy in copies]


def _angular(
    settings: BasisSettings, vectors: Tensor, distance: Tensor, weight: Tensor, center: Tensor, n_atoms: int
) -> list[Tensor]:
    f = cutoff_function(distance, settings.ang_cutoff)
    harmonics = real_harmonics(vectors / distance[:, None], settings.ang_order)
    matrix = np.tile(powers_to_features(settings.ang_order), 2).T  # the same for cosine and sine moments
    basis = torch.as_tensor(matrix, dtype=vectors.dtype, device=vectors.device)
    # A single neighbour has no angle: exactly zero, not the rounding noise of two equal terms.
    paired = torch.bincount(center, minlength=n_atoms) > 1
    out = []
    for factor in (f, f * weight) if settings.multi else (f,):
        moments = segment_sum(harmonics * factor[:, None], center, n_atoms)
        own = segment_sum(factor.square()[:, None], center, n_atoms)
        out.append(torch.where(paired[:, None], 0.5 * (moments.square() @ basis - own), 0.0))
    return out
