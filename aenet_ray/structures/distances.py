"""Shortest distances within structures, periodic images included, for many structures at once.

Not a neighbour list: only the closest pair of each structure is wanted, and mostly whether it lies below
some small radius. So everything is flat numpy, without a loop over structures.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from aenet_ray.structures.block import StructureBlock
from aenet_ray.structures.structure import FloatArray, IntArray

_SWEEP = np.array([0.836, 0.457, 0.303])  # along no lattice plane, so that few atoms share a coordinate
_SWEEP /= np.linalg.norm(_SWEEP)


class ClosestPairs(NamedTuple):
    """The closest two atoms of each structure; an atom and its own image count as well.

    Args:
        distances: (n,), Å, inf where no pair is close enough.
        atoms: Their indices in the flat block, (n, 2), -1 where there is no pair.
    """

    distances: FloatArray
    atoms: IntArray


def cell_heights(cell: FloatArray) -> FloatArray:
    """Distance of opposite faces, (n, 3), Å, of cells (n, 3, 3) with a volume."""
    return 1.0 / np.linalg.norm(np.linalg.inv(cell), axis=1)


def closest_within(block: StructureBlock, radius: float) -> ClosestPairs:
    """The closest pair of each structure, exact, if it is within the radius.

    Costs about n_atoms · log n_atoms and the number of atoms that share a slab of this thickness; right for
    every cell with a volume, however small or skewed, and for atoms outside it.

    Args:
        block: Structures with finite positions and cells. Cells need a volume where periodic.
        radius: Å.
    """
    atom, points = _with_images(block, radius)
    structure = block.structure_index[atom]
    along = points @ _SWEEP
    order = np.lexsort((along, structure))
    atom, structure, points, along = atom[order], structure[order], points[order], along[order]
    found: list[tuple[FloatArray, IntArray, IntArray]] = []
    first, step = np.arange(len(points)), 0
    limit = radius * (1 + 1e-9) + 1e-12
    while len(first):  # compare each point with the next one, the second next, ... until it is too far ahead
        step += 1
        first = first[first + step < len(points)]
        second = first + step
        first = first[(structure[second] == structure[first]) & (along[second] - along[first] <= limit)]
        distances = np.linalg.norm(points[first + step] - points[first], axis=1)
        near = distances <= radius
        if near.any():
            found.append((distances[near], atom[first[near]], atom[first[near] + step]))
    return _closest(block, found)


def _closest(block: StructureBlock, found: list[tuple[FloatArray, IntArray, IntArray]]) -> ClosestPairs:
    result = ClosestPairs(np.full(block.n_structures, np.inf), np.full((block.n_structures, 2), -1))
    if found:
        distances, i, j = (np.concatenate(parts) for parts in zip(*found, strict=True))
        structure = block.structure_index[i]
        order = np.lexsort((distances, structure))
        rows, first = np.unique(structure[order], return_index=True)
        best = order[first]
        result.distances[rows] = distances[best]
        result.atoms[rows] = np.column_stack([i[best], j[best]])
    return result


def _with_images(block: StructureBlock, radius: float) -> tuple[IntArray, FloatArray]:
    """Wrapped atoms, and those images that may lie within the radius of one: atom (n,), position (n, 3).

    Images are added on the upper side of each axis only: of a pair across a face, one of the two is
    always below it.
    """
    atom, points, structure = np.arange(block.n_atoms), block.positions, block.structure_index
    periodic = np.any(block.pbc, axis=1)
    if not periodic.any():
        return atom, points
    cell = np.where(periodic[:, None, None], block.cell, np.eye(3))
    inverse, heights = np.linalg.inv(cell), cell_heights(cell)
    fractional = np.einsum("ni,nij->nj", points, inverse[structure])
    shift = np.where(block.pbc[structure], np.floor(fractional), 0.0)
    fractional -= shift
    points = points - np.einsum("ni,nij->nj", shift, cell[structure])
    for axis in range(3):
        reach = radius / heights[structure[atom], axis] + 1e-9
        count = np.maximum(np.ceil(reach - fractional[:, axis]), 0).astype(np.int64)
        count *= block.pbc[structure[atom], axis]
        copies = np.repeat(np.arange(len(points)), count + 1)
        first = np.cumsum(count + 1) - count - 1
        image = np.arange(len(copies)) - first[copies]
        atom, fractional = atom[copies], fractional[copies]
        points = points[copies] + image[:, None] * cell[structure[atom], axis]
    return atom, points


def closest_pairs(block: StructureBlock, start: float = 1.0, stop: float = 12.0) -> ClosestPairs:
    """The closest pair of each structure, however far apart up to ``stop``, Å."""
    result = ClosestPairs(np.full(block.n_structures, np.inf), np.full((block.n_structures, 2), -1))
    remaining, radius = np.arange(block.n_structures), start
    while len(remaining) and radius <= stop:
        part = block.select(remaining)
        found = closest_within(part, radius)
        moved = block.offsets[remaining] - part.offsets[:-1]
        result.distances[remaining] = found.distances
        result.atoms[remaining] = np.where(found.atoms < 0, -1, found.atoms + moved[:, None])
        remaining = remaining[np.isinf(found.distances)]
        radius *= 1.5
    return result
