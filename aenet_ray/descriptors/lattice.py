"""The lattice of a structure in the frame in which it is lower triangular, and the translations that can matter.

There the periodic atoms can be wrapped into a box with edges along the axes, and translations are nested ranges of
integers.
"""
# mypy: disallow-untyped-defs=False

from __future__ import annotations

import math

import numpy as np

from aenet_ray.descriptors.cached import exact_helper

FAR = 1e30
# Columns of the atoms' scratch: wrapped positions, and the same in the lattice frame.
PX, PY, PZ, QX, QY, QZ = range(6)


@exact_helper
def lattice_frame(cell, pbc, basis, frame, lower):
    """Sort and orthogonalise the lattice: ``basis`` = ``lower`` @ ``frame``, the last orthonormal.

    Periodic vectors come first, the shortest first; others become zero translations along axes orthogonal to
    them. Returns the number of periodic vectors, or -1 where they do not span.
    """
    n = 0
    for k in range(3):
        if pbc[k]:
            a = n  # insert by length; plain loops here and below: array expressions take seconds to compile
            while a > 0 and dot(cell[k], cell[k]) < dot(basis[a - 1], basis[a - 1]):
                basis[a, 0], basis[a, 1], basis[a, 2] = basis[a - 1, 0], basis[a - 1, 1], basis[a - 1, 2]
                a -= 1
            basis[a, 0], basis[a, 1], basis[a, 2] = cell[k, 0], cell[k, 1], cell[k, 2]
            n += 1
    for a in range(n):
        size = math.sqrt(dot(basis[a], basis[a]))
        height = orthogonalize(basis[a, 0], basis[a, 1], basis[a, 2], frame, a)
        if not (height > 1e-7 * size and size < FAR):
            return -1
    for a in range(n, 3):
        best, axis = -1.0, 0
        for k in range(3):
            height = orthogonalize_axis(k, frame, a)
            if height > best:
                best, axis = height, k
        orthogonalize_axis(axis, frame, a)
        basis[a, 0] = basis[a, 1] = basis[a, 2] = 0.0
    for a in range(3):
        for b in range(3):
            lower[a, b] = dot(basis[a], frame[b]) if b <= a else 0.0
    return n


@exact_helper
def dot(a, b):
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@exact_helper
def orthogonalize(x, y, z, frame, a):
    """Row ``a`` of the frame: the part of a vector orthogonal to the rows above, of unit length."""
    for _ in range(2):  # the second time for rounding
        for b in range(a):
            along = x * frame[b, 0] + y * frame[b, 1] + z * frame[b, 2]
            x, y, z = x - along * frame[b, 0], y - along * frame[b, 1], z - along * frame[b, 2]
    height = math.sqrt(x * x + y * y + z * z)
    scale = 1.0 / height if height > 0.0 else 0.0
    frame[a, 0], frame[a, 1], frame[a, 2] = scale * x, scale * y, scale * z
    return height


@exact_helper
def orthogonalize_axis(k, frame, a):
    return orthogonalize(1.0 if k == 0 else 0.0, 1.0 if k == 1 else 0.0, 1.0 if k == 2 else 0.0, frame, a)


@exact_helper
def wrap_atoms(positions, first, size, basis, frame, lower, atoms, cap, low, high, extent):
    """Fill the atoms' scratch and the box around it in the frame. False where a position is not finite."""
    for k in range(3):
        low[k], high[k] = FAR, -FAR
    shift = np.empty(3)
    for i in range(size):
        p = positions[first + i]
        for k in range(2, -1, -1):
            y = p[0] * frame[k, 0] + p[1] * frame[k, 1] + p[2] * frame[k, 2]
            if not abs(y) < FAR:
                return False
            for b in range(k + 1, 3):
                y -= shift[b] * lower[b, k]
            shift[k] = math.floor(y / lower[k, k]) if lower[k, k] > 0.0 else 0.0
        for c in range(3):
            moved = shift[0] * basis[0, c] + shift[1] * basis[1, c] + shift[2] * basis[2, c]
            atoms[(PX + c) * cap + i] = p[c] - moved
        for k in range(3):
            y = 0.0
            for c in range(3):
                y += atoms[(PX + c) * cap + i] * frame[k, c]
            atoms[(QX + k) * cap + i] = y
            low[k] = min(low[k], y)
            high[k] = max(high[k], y)
    for k in range(3):
        extent[k] = high[k] - low[k]
    for i in range(size, (size + 7) // 8 * 8):
        for c in range(6):
            atoms[c * cap + i] = FAR
    return True


@exact_helper
def first_and_last(shift, spacing, reach):
    """Range of n with |shift + n spacing| <= reach; 0 to 0 without a spacing."""
    if spacing == 0.0:
        return 0, 0
    return math.ceil((-reach - shift) / spacing), math.floor((reach - shift) / spacing)


@exact_helper
def translations(basis, lower, extent, cutoff):
    """Lattice translations that bring the box within the cutoff of itself: Cartesian and frame, (n, 6)."""
    found = np.empty((64, 6))
    n = 0
    a3, b3 = first_and_last(0.0, lower[2, 2], extent[2] + cutoff)
    for n3 in range(a3, b3 + 1):
        s2, s1 = n3 * lower[2, 1], n3 * lower[2, 0]
        a2, b2 = first_and_last(s2, lower[1, 1], extent[1] + cutoff)
        for n2 in range(a2, b2 + 1):
            t1 = s1 + n2 * lower[1, 0]
            a1, b1 = first_and_last(t1, lower[0, 0], extent[0] + cutoff)
            for n1 in range(a1, b1 + 1):
                gap = 0.0
                place = (t1 + n1 * lower[0, 0], s2 + n2 * lower[1, 1], n3 * lower[2, 2])
                for k in range(3):
                    gap += max(0.0, abs(place[k]) - extent[k]) ** 2
                if gap > cutoff * cutoff:
                    continue
                if n == len(found):
                    larger = np.empty((2 * n, 6))
                    for row in range(n):
                        for c in range(6):
                            larger[row, c] = found[row, c]
                    found = larger
                for c in range(3):
                    found[n, c] = n3 * basis[2, c] + n2 * basis[1, c] + n1 * basis[0, c]
                    found[n, 3 + c] = place[c]
                n += 1
    return found[:n]
