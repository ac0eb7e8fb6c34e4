"""A centre's neighbours as columns in a small scratch array that stays in the first-level cache.

Those inside the angular cutoff are packed into columns of their own. Padding entries lie beyond every cutoff.
All sums are float64, over eight lanes first and across the lanes once a centre.
"""
# mypy: disallow-untyped-defs=False

from __future__ import annotations

import math

import numpy as np

from aenet_ray.descriptors import simd
from aenet_ray.descriptors.cached import helper
from aenet_ray.descriptors.coefficients import COS_PI, SIN_PI
from aenet_ray.descriptors.simd import load, splat, store

# All neighbours, those inside the angular cutoff, and edge gradients or tangents of both.
X, Y, Z, W, D, AX, AY, AZ, AW, AD, GX, GY, GZ, HX, HY, HZ = range(16)
COLUMNS = 16


@helper
def aligned(n):
    """Zeros that start at a cache line, so that no vector of eight lies across two."""
    space = np.zeros(n + 8)
    skip = (64 - space.ctypes.data % 64) % 64 // 8
    return space[skip : skip + n]


@helper
def scratch_for(ptr):
    """Scratch columns for the longest row, and their length."""
    longest = 0
    for i in range(len(ptr) - 1):
        longest = max(longest, ptr[i + 1] - ptr[i])
    cap = (longest + 15) // 16 * 16 + 16
    if cap % 128 == 0:  # columns at multiples of 4 kB would evict each other
        cap += 16
    return aligned(COLUMNS * cap + 8), cap


@helper
def place(s, cap, e, count, ra, x, y, z, w):
    """Write eight neighbours to the columns, and those inside the angular cutoff behind the ``count`` packed."""
    d = simd.root(x * x + y * y + z * z)
    inside = simd.below(d, ra)
    store(s, X * cap + e, x)
    store(s, Y * cap + e, y)
    store(s, Z * cap + e, z)
    store(s, W * cap + e, w)
    store(s, D * cap + e, d)
    simd.store_packed(s, AX * cap + count, x, inside)
    simd.store_packed(s, AY * cap + count, y, inside)
    simd.store_packed(s, AZ * cap + count, z, inside)
    simd.store_packed(s, AW * cap + count, w, inside)
    simd.store_packed(s, AD * cap + count, d, inside)
    return count + simd.count_true(inside)


@helper
def load_center(begin, end, far, ra, neighbor, vectors, weight, s, cap):
    """Copy a centre's neighbours into columns x, y, z, weight, distance, and those inside ``ra`` into others.

    Returns the padded number of the first and the number of the second, whose columns are padded too.
    """
    n = end - begin
    full = n // 8 * 8
    padded = (n + 15) // 16 * 16
    count = 0
    for e in range(0, full, 8):
        x, y, z = simd.load_triples(vectors, begin + e)
        count = place(s, cap, e, count, ra, x, y, z, simd.gather(weight, 1, 0, neighbor, begin + e))
    for e in range(full, padded):
        s[X * cap + e] = vectors[begin + e, 0] if e < n else far
        s[Y * cap + e] = vectors[begin + e, 1] if e < n else 0.0
        s[Z * cap + e] = vectors[begin + e, 2] if e < n else 0.0
        s[W * cap + e] = weight[neighbor[begin + e]] if e < n else 0.0
    for e in range(full, padded, 8):
        x, y, z = load(s, X * cap + e), load(s, Y * cap + e), load(s, Z * cap + e)
        count = place(s, cap, e, count, ra, x, y, z, load(s, W * cap + e))
    for e in range(count, (count + 15) // 16 * 16):
        s[AX * cap + e] = s[AD * cap + e] = ra
        s[AY * cap + e] = s[AZ * cap + e] = s[AW * cap + e] = 0.0
    return padded, count


@helper
def unit_vector(s, cap, e):
    """Unit vectors of eight packed neighbours, in place of their vectors."""
    inverse = 1.0 / load(s, AD * cap + e)
    x, y, z = load(s, AX * cap + e), load(s, AY * cap + e), load(s, AZ * cap + e)
    x, y, z = inverse * x, inverse * y, inverse * z
    store(s, AX * cap + e, x)
    store(s, AY * cap + e, y)
    store(s, AZ * cap + e, z)
    return x, y, z


@helper
def cutoff_value(d, cutoff):
    """f_c, zero from the cutoff on."""
    y = d * (1.0 / cutoff) - 0.5
    q = y * y
    p = splat(SIN_PI[7])
    p = p * q + SIN_PI[6]
    p = p * q + SIN_PI[5]
    p = p * q + SIN_PI[4]
    p = p * q + SIN_PI[3]
    p = p * q + SIN_PI[2]
    p = p * q + SIN_PI[1]
    p = p * q + SIN_PI[0]
    return simd.keep(simd.below(d, cutoff), 0.5 - 0.5 * (y * p))


@helper
def cutoff_slope(d, cutoff):
    """Derivative of f_c."""
    y = d * (1.0 / cutoff) - 0.5
    q = y * y
    p = splat(COS_PI[8])
    p = p * q + COS_PI[7]
    p = p * q + COS_PI[6]
    p = p * q + COS_PI[5]
    p = p * q + COS_PI[4]
    p = p * q + COS_PI[3]
    p = p * q + COS_PI[2]
    p = p * q + COS_PI[1]
    p = p * q + COS_PI[0]
    return simd.keep(simd.below(d, cutoff), (-0.5 * math.pi / cutoff) * p)


@helper
def clear(buffer, n_rows):
    """Zero so many vectors (a slice assignment would compile for seconds)."""
    for row in range(n_rows):
        store(buffer, 8 * row, splat(0.0))


@helper
def add_to(buffer, row, value):
    store(buffer, 8 * row, load(buffer, 8 * row) + value)


@helper
def sum_lanes(buffer, n_rows, out):
    """Sum each of the vectors in ``buffer`` over its lanes. Both are padded to multiples of eight rows."""
    for k in range(0, n_rows, 8):
        store(out, k, simd.sum_of_eight(buffer, 8 * k))
