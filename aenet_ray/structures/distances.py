"""Shortest distances within structures, periodic images included, for many structures at once.

Not a neighbour list: only the closest pair of each structure is wanted, and mostly whether it lies below
some small radius. So everything is flat numpy, without a loop over structures.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aenet_ray.structures.block import StructureBlock
from aenet_ray.structures.structure import FloatArray, IntArray

_SWEEP = np.array([0.836, 0.457, 0.303])  # along no lattice plane, so that few atoms share a coordinate
_SWEEP /= np.linalg.norm(_SWEEP)


def cell_heights(cell: FloatArray) -> FloatArray:
    """Distance of opposite faces, (n, 3), Å, of cells (n, 3, 3) with a volume."""
    return 1.0 / np.linalg.norm(np.linalg.inv(cell), axis=1)


def closest_within(block: StructureBlock, radius: float) -> FloatArray:
    """Distance of the closest pair of each structure, (n,), Å, exact; inf where none is within the radius.

    Costs about n_atoms · log n_atoms and the number of atoms that share a slab of this thickness; right for
    every cell with a volume, however small or skewed, and for atoms outside it.

    Args:
        block: Structures with finite positions and cells. Cells need a volume where periodic.
        radius: Å.
    """
    structure, points = _with_images(block, radius)
    return _closest_of_points(structure, points, radius, block.n_structures)


def _with_images(block: StructureBlock, radius: float) -> tuple[IntArray, FloatArray]:
    """Wrapped atoms, and those images that may lie within the radius of one: (n_points,), (n_points, 3).

    Images are added on the upper side of each axis only: of a pair across a face, one of the two is
    always below it.
    """
    structure, points = block.structure_index, block.positions
    periodic = np.any(block.pbc, axis=1)
    if not periodic.any():
        return structure, points
    cell = np.where(periodic[:, None, None], block.cell, np.eye(3))
    inverse, heights = np.linalg.inv(cell), cell_heights(cell)
    fractional = np.einsum("ni,nij->nj", points, inverse[structure])
    shift = np.where(block.pbc[structure], np.floor(fractional), 0.0)
    fractional -= shift
    points = points - np.einsum("ni,nij->nj", shift, cell[structure])
    for axis in range(3):
        reach = radius / heights[structure, axis] + 1e-9
        count = np.maximum(np.ceil(reach - fractional[:, axis]), 0).astype(np.int64)
        count *= block.pbc[structure, axis]
        copies = np.repeat(np.arange(len(points)), count + 1)
        first = np.cumsum(count + 1) - count - 1
        image = np.arange(len(copies)) - first[copies]
        structure, fractional = structure[copies], fractional[copies]
        points = points[copies] + image[:, None] * cell[structure, axis]
    return structure, points


def _closest_of_points(structure: IntArray, points: FloatArray, radius: float, n: int) -> FloatArray:
    """Sweep: sort along one direction, compare with the next ones until they are too far ahead."""
    along = points @ _SWEEP
    order = np.lexsort((along, structure))
    structure, points, along = structure[order], points[order], along[order]
    closest = np.full(n, np.inf)
    first, step = np.arange(len(points)), 0
    limit = radius * (1 + 1e-9) + 1e-12
    while len(first):
        step += 1
        first = first[first + step < len(points)]
        second = first + step
        ahead = (structure[second] == structure[first]) & (along[second] - along[first] <= limit)
        first = first[ahead]
        distances = np.linalg.norm(points[first + step] - points[first], axis=1)
        near = distances <= radius
        np.minimum.at(closest, structure[first[near]], distances[near])
    return closest


def closest_distances(block: StructureBlock, start: float = 1.0, stop: float = 16.0) -> FloatArray:
    """Distance of the closest pair of each structure, (n,), Å; inf where there is none within ``stop``."""
    closest = np.full(block.n_structures, np.inf)
    open_: NDArray[np.int64] = np.arange(block.n_structures)
    radius = start
    while len(open_) and radius <= stop:
        found = closest_within(block.select(open_), radius)
        closest[open_] = found
        open_ = open_[np.isinf(found)]
        radius *= 1.6
    return closest
