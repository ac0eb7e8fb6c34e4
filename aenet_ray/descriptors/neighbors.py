"""Neighbours within a cutoff, exact for any cell, for many structures at once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aenet_ray.descriptors.neighbor_kernels import search_blocks
from aenet_ray.errors import DescriptorError
from aenet_ray.structures.structure import FloatArray, IntArray

SORT_FROM = 64  # atoms; where the two ways to search cost the same


@dataclass(slots=True)
class Edges:
    """Ordered pairs (centre, neighbour image), grouped by centre; atoms index one flat block.

    Args:
        ptr: First edge of every centre and the end of the last one, int64, (n_atoms + 1,).
        neighbor: Atom whose image is the neighbour, int32, (n_edges,).
        vectors: From the centre to the neighbour image, Å, (n_edges, 3).
    """

    ptr: IntArray
    neighbor: NDArray[np.int32]
    vectors: FloatArray

    @property
    def n_atoms(self) -> int:
        return len(self.ptr) - 1

    @property
    def n_edges(self) -> int:
        return len(self.neighbor)

    def center(self) -> IntArray:
        """Centre of every edge, (n_edges,)."""
        return np.repeat(np.arange(self.n_atoms), np.diff(self.ptr))


def find_neighbors(
    positions: ArrayLike,
    offsets: ArrayLike,
    cell: ArrayLike,
    pbc: ArrayLike,
    cutoff: float,
    min_cutoff: float = 0.0,
    *,
    sort_from: int = SORT_FROM,
) -> Edges:
    """All neighbours with min_cutoff < distance <= cutoff, images of the atom itself included.

    Exact for small and skewed cells, atoms outside the cell, cutoffs over several cells and cells
    periodic along some vectors only: nothing is wrapped, and every pair is tested on
    ``positions[j] + n @ cell - positions[i]``. Releases the GIL.

    Args:
        positions: Atoms of all structures, Å, (n_atoms, 3).
        offsets: First atom of every structure and the end of the last one, (n_structures + 1,).
        cell: Lattice vectors as rows, Å, (n_structures, 3, 3). Those not periodic are ignored.
        pbc: Periodic along each lattice vector, (n_structures, 3).
        cutoff: Å.
        min_cutoff: Å.
        sort_from: Structures of so many atoms and more sort their images first; the result is the same set.

    Raises:
        DescriptorError: The periodic lattice vectors of a structure are linearly dependent, or a position is
            not finite.
    """
    points, starts = read_only(positions, np.float64), read_only(offsets, np.int64)
    lattices = read_only(np.reshape(cell, (-1, 3, 3)), np.float64)
    periodic = read_only(np.reshape(pbc, (-1, 3)), np.bool_)
    _check_shapes(points, starts, lattices, periodic)

    squares = largest_square(cutoff), largest_square(min_cutoff)
    status, ptr, neighbor, vectors = search_blocks(points, starts, lattices, periodic, *squares, sort_from)
    if status >= 0:
        structure, problem = divmod(status, 2)
        if problem:
            raise DescriptorError(f"Structure {structure}: a position is not finite; expected numbers in Å.")
        flat = lattices[structure][periodic[structure]].tolist()
        raise DescriptorError(
            f"Structure {structure}: its periodic lattice vectors {flat} are linearly dependent or not "
            "finite; expected vectors that span a volume."
        )
    return Edges(ptr, neighbor, vectors)


def read_only(values: ArrayLike, dtype: Any) -> Any:
    """A contiguous read-only view: memory-mapped and fresh arrays then share one compiled function."""
    view = np.ascontiguousarray(values, dtype=dtype).view()
    view.flags.writeable = False
    return view


def _check_shapes(positions: FloatArray, offsets: IntArray, cell: FloatArray, pbc: NDArray[np.bool_]) -> None:
    """The compiled search checks no bounds."""
    if positions.ndim != 2 or positions.shape[1] != 3:
        raise DescriptorError(f"positions have shape {positions.shape}, expected (n_atoms, 3).")
    rising = offsets.ndim == 1 and len(offsets) > 0 and offsets[0] == 0 and not (np.diff(offsets) < 0).any()
    if not rising or offsets[-1] != len(positions):
        raise DescriptorError(f"offsets are {offsets}, expected a rising list from 0 to {len(positions)}.")
    if not len(cell) == len(pbc) == len(offsets) - 1:
        raise DescriptorError(f"{len(cell)} cells and {len(pbc)} pbc for {len(offsets) - 1} structures.")


def largest_square(distance: float) -> float:
    """The largest float whose root is not above ``distance``: d2 <= it exactly where sqrt(d2) <= distance."""
    square = distance * distance
    while math.sqrt(square) > distance:
        square = math.nextafter(square, 0.0)
    while math.sqrt(math.nextafter(square, math.inf)) <= distance:
        square = math.nextafter(square, math.inf)
    return square
