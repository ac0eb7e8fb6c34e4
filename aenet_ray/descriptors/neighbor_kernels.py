"""Compiled neighbour search: nested ranges of lattice translations for every pair of atoms."""
# mypy: disallow-untyped-defs=False

from __future__ import annotations

import math

import numpy as np
from numba import njit

# Ranges of translations are widened by about this much; the exact test on the vector follows.
TOLERANCE = 1e-9


@njit(nogil=True, cache=True)
def lattice_frame(cell, pbc, basis, frame):
    """Sort and orthogonalise the lattice: rows of ``basis`` (translations) = lower @ rows of ``frame``.

    Periodic vectors come first, the shortest first, so that the innermost range is the longest; the
    others are replaced by zero translations. Returns the number of periodic vectors, or -1 where they do
    not span.
    """
    order = np.empty(3, np.int64)
    n = 0
    for k in range(3):
        if pbc[k]:
            order[n] = k
            n += 1
    for a in range(n):
        for b in range(a + 1, n):
            if (cell[order[b]] ** 2).sum() < (cell[order[a]] ** 2).sum():
                order[a], order[b] = order[b], order[a]
    basis[:] = 0.0
    frame[:] = 0.0
    for a in range(n):
        v = cell[order[a]].copy()
        basis[a] = v
        size = math.sqrt((v * v).sum())
        for _ in range(2):
            for b in range(a):
                v -= (v * frame[b]).sum() * frame[b]
        height = math.sqrt((v * v).sum())
        if not (height > 1e-7 * size and size < 1e300):
            return -1
        frame[a] = v / height
    for a in range(n, 3):
        best = -1.0
        for k in range(3):
            v = np.zeros(3)
            v[k] = 1.0
            for _ in range(2):
                for b in range(a):
                    v -= (v * frame[b]).sum() * frame[b]
            height = math.sqrt((v * v).sum())
            if height > best:
                best = height
                frame[a] = v / height
    return n


@njit(nogil=True, cache=True)
def grow(neighbor, vectors, size):
    """Copies of the buffers with room for ``size`` edges."""
    a = np.empty(size, np.int32)
    b = np.empty((size, 3), np.float64)
    a[: len(neighbor)] = neighbor
    b[: len(vectors)] = vectors
    return a, b


@njit(nogil=True, cache=True)
def reach(square, used):
    """Half width left inside the sphere. The margin sits under the root, where rounding is magnified."""
    return math.sqrt(max(0.0, square - used + TOLERANCE * (1.0 + square)))


@njit(nogil=True, cache=True)
def translations(y, spacing, half_width):
    """First and last n with |y + n spacing| <= half_width, a little widened. Without a spacing: 0 to 0 or none."""
    if spacing == 0.0:
        return 0, (0 if abs(y) <= half_width + TOLERANCE else -1)
    first = math.ceil((-half_width - y) / spacing - TOLERANCE)
    return first, math.floor((half_width - y) / spacing + TOLERANCE)


@njit(nogil=True, cache=True)
def search_blocks(positions, offsets, cell, pbc, square, min_square):
    """CSR edges of all structures. Status is -1, or the first structure whose lattice is singular."""
    n_atoms = offsets[-1]
    ptr = np.zeros(n_atoms + 1, np.int64)
    neighbor = np.empty(max(1024, 64 * n_atoms), np.int32)
    vectors = np.empty((len(neighbor), 3), np.float64)
    basis = np.empty((3, 3))
    frame = np.empty((3, 3))
    n = 0
    for s in range(len(offsets) - 1):
        if lattice_frame(cell[s], pbc[s], basis, frame) < 0:
            return s, ptr, neighbor, vectors
        l11 = (basis[0] * frame[0]).sum()
        l21 = (basis[1] * frame[0]).sum()
        l22 = (basis[1] * frame[1]).sum()
        l31 = (basis[2] * frame[0]).sum()
        l32 = (basis[2] * frame[1]).sum()
        l33 = (basis[2] * frame[2]).sum()
        for i in range(offsets[s], offsets[s + 1]):
            for j in range(offsets[s], offsets[s + 1]):
                dx = positions[j, 0] - positions[i, 0]
                dy = positions[j, 1] - positions[i, 1]
                dz = positions[j, 2] - positions[i, 2]
                y1 = dx * frame[0, 0] + dy * frame[0, 1] + dz * frame[0, 2]
                y2 = dx * frame[1, 0] + dy * frame[1, 1] + dz * frame[1, 2]
                y3 = dx * frame[2, 0] + dy * frame[2, 1] + dz * frame[2, 2]
                lo3, hi3 = translations(y3, l33, reach(square, 0.0))
                for n3 in range(lo3, hi3 + 1):
                    z3 = y3 + n3 * l33
                    z2 = y2 + n3 * l32
                    lo2, hi2 = translations(z2, l22, reach(square, z3 * z3))
                    for n2 in range(lo2, hi2 + 1):
                        w2 = z2 + n2 * l22
                        w1 = y1 + n3 * l31 + n2 * l21
                        lo1, hi1 = translations(w1, l11, reach(square, z3 * z3 + w2 * w2))
                        if n + hi1 - lo1 + 1 > len(neighbor):
                            neighbor, vectors = grow(neighbor, vectors, 2 * (n + hi1 - lo1 + 1))
                        for n1 in range(lo1, hi1 + 1):
                            x = dx + (n3 * basis[2, 0] + n2 * basis[1, 0] + n1 * basis[0, 0])
                            y = dy + (n3 * basis[2, 1] + n2 * basis[1, 1] + n1 * basis[0, 1])
                            z = dz + (n3 * basis[2, 2] + n2 * basis[1, 2] + n1 * basis[0, 2])
                            d2 = x * x + y * y + z * z
                            if d2 <= square and d2 > min_square and (i != j or n1 != 0 or n2 != 0 or n3 != 0):
                                neighbor[n] = j
                                vectors[n, 0] = x
                                vectors[n, 1] = y
                                vectors[n, 2] = z
                                n += 1
            ptr[i + 1] = n
    return -1, ptr, neighbor[:n], vectors[:n]
