"""The descriptor by its definition, slowly: all pairs, triplets and images. The fast code is tested against it."""

from __future__ import annotations

import itertools
import math

import numpy as np
from numpy.typing import NDArray

from aenet_ray.descriptors.chebyshev import ChebyshevDescriptor

Array = NDArray[np.float64]


def lattice_translations(positions: Array, cell: Array, pbc: Array, cutoff: float) -> Array:
    """All translations that can bring two of the atoms within the cutoff, and more, (n, 3)."""
    ranges = [range(1)] * 3
    periodic = np.flatnonzero(pbc)
    if len(periodic):
        dual = np.linalg.pinv(cell[periodic])
        spread = np.ptp(positions @ dual, axis=0)
        for column, k in enumerate(periodic):
            n = math.ceil(cutoff * np.linalg.norm(dual[:, column]) + spread[column]) + 1
            ranges[k] = range(-n, n + 1)
    return np.array(list(itertools.product(*ranges)), dtype=float) @ np.where(pbc[:, None], cell, 0.0)


def direct_neighbors(
    positions: Array, cell: Array, pbc: Array, cutoff: float, min_cutoff: float
) -> list[tuple[list[int], Array]]:
    """Neighbour atoms and vectors of every atom."""
    moves = lattice_translations(positions, cell, pbc, cutoff)
    out = []
    for i in range(len(positions)):
        indices: list[int] = []
        rows = [np.empty((0, 3))]
        for j in range(len(positions)):
            vectors = (positions[j] - positions[i]) + moves
            d = np.sqrt((vectors**2).sum(1))
            inside = (d > min_cutoff) & (d <= cutoff)
            indices += [j] * int(inside.sum())
            rows.append(vectors[inside])
        out.append((indices, np.concatenate(rows)))
    return out


def cutoff_function(d: Array, cutoff: float) -> Array:
    return np.where(d < cutoff, 0.5 * (np.cos(np.pi * d / cutoff) + 1.0), 0.0)


def direct_features(
    descriptor: ChebyshevDescriptor, positions: Array, species: list[str], cell: Array, pbc: Array
) -> Array:
    """Features by the sums over neighbours and unordered pairs of neighbours, (n_atoms, F)."""
    d = descriptor
    spin = d.typespin[[d.species.index(s) for s in species]]
    features = []
    for indices, vectors in direct_neighbors(positions, cell, pbc, d.max_cutoff, d.min_cutoff):
        distance = np.sqrt((vectors**2).sum(1))
        weight = spin[indices]
        near = distance <= d.rad_cutoff
        x = np.arccos(np.clip(2 * distance[near] / d.rad_cutoff - 1, -1, 1))
        radial = np.cos(np.outer(np.arange(d.rad_order + 1), x)) * cutoff_function(distance[near], d.rad_cutoff)
        near_angular = np.flatnonzero(distance <= d.ang_cutoff)
        angular = np.zeros((2, d.ang_order + 1))
        for a, b in itertools.combinations(near_angular, 2):
            cosine = np.clip(vectors[a] @ vectors[b] / (distance[a] * distance[b]), -1, 1)
            f = cutoff_function(distance[[a, b]], d.ang_cutoff).prod()
            values = np.cos(np.arange(d.ang_order + 1) * np.arccos(cosine)) * f
            angular += np.array([values, weight[a] * weight[b] * values])
        parts = [radial.sum(1), angular[0], radial @ weight[near], angular[1]]
        features.append(np.concatenate(parts if d.multi else parts[:2]))
    return np.array(features)
