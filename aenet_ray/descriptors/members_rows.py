"""Rows for several g or v at once: what of the derivatives of a neighbour's part does not depend on them.

Recurrences and cutoffs for eight neighbours at a time, into rows of a small buffer, a neighbour a lane.
"""
# mypy: disallow-untyped-defs=False

from __future__ import annotations

import numpy as np

from aenet_ray.descriptors import simd
from aenet_ray.descriptors.cached import helper
from aenet_ray.descriptors.columns import (
    AD,
    AW,
    AX,
    AY,
    AZ,
    D,
    X,
    Y,
    Z,
    cutoff_slope,
    cutoff_value,
    sum_lanes,
    unit_vector,
)
from aenet_ray.descriptors.feature_kernel import moment_sums
from aenet_ray.descriptors.simd import at, load, splat, store


@helper
def load_groups(begin, end, far, ra, neighbor, vectors, weight, s, cap, index):
    """A centre's neighbours in two groups: inside ``ra`` in columns AX to AD, the others in X to D.

    ``index`` gets the atoms of the first from 0 on, of the others from ``cap`` on. Returns how many there are of each.
    Behind both, columns are padded.
    """
    count = rest = 0
    full = begin + (end - begin) // 8 * 8
    for e in range(begin, full, 8):
        x, y, z = simd.load_triples(vectors, e)
        d = simd.root(x * x + y * y + z * z)
        inside = simd.below(d, ra)
        outside = simd.opposite(inside)
        simd.store_packed(s, AX * cap + count, x, inside)
        simd.store_packed(s, AY * cap + count, y, inside)
        simd.store_packed(s, AZ * cap + count, z, inside)
        simd.store_packed(s, AD * cap + count, d, inside)
        simd.store_packed(s, AW * cap + count, simd.gather(weight, 1, 0, neighbor, e), inside)
        simd.copy_packed_ints(neighbor, e, index, count, inside)
        simd.store_packed(s, X * cap + rest, x, outside)
        simd.store_packed(s, Y * cap + rest, y, outside)
        simd.store_packed(s, Z * cap + rest, z, outside)
        simd.store_packed(s, D * cap + rest, d, outside)
        simd.copy_packed_ints(neighbor, e, index, cap + rest, outside)
        count += simd.count_true(inside)
        rest += simd.count_true(outside)
    for e in range(full, end):
        x, y, z = vectors[e, 0], vectors[e, 1], vectors[e, 2]
        d = np.sqrt(x * x + y * y + z * z)
        if d < ra:
            s[AX * cap + count], s[AY * cap + count], s[AZ * cap + count] = x, y, z
            s[AD * cap + count], s[AW * cap + count] = d, weight[neighbor[e]]
            index[count] = neighbor[e]
            count += 1
        else:
            s[X * cap + rest], s[Y * cap + rest], s[Z * cap + rest], s[D * cap + rest] = x, y, z, d
            index[cap + rest] = neighbor[e]
            rest += 1
    for e in range(count, (count + 15) // 16 * 16):
        s[AX * cap + e] = s[AD * cap + e] = ra
        s[AY * cap + e] = s[AZ * cap + e] = s[AW * cap + e] = 0.0
    for e in range(rest, (rest + 7) // 8 * 8):
        s[X * cap + e] = s[D * cap + e] = far
        s[Y * cap + e] = s[Z * cap + e] = 0.0
    return count, rest


@helper
def moments_of(count, ra, na, multi, beta, s, cap, buffer, moments):
    """``moment_sums`` of a centre's angular neighbours, summed over the lanes, and their vectors made unit vectors."""
    if count > 1:
        moment_sums(count, ra, na, multi, beta, s, cap, buffer)
        sum_lanes(buffer, 4 * len(beta) + 2, moments)
    elif count == 1:  # else the moments' sums make them unit vectors
        unit_vector(s, cap, 0)


@helper
def radial_rows(d, rr, nr, b):
    """Derivatives of f_c T_k by the distance of eight neighbours."""
    u, du = d * (4.0 / rr) - 2.0, 4.0 / rr
    t0, d0 = cutoff_value(d, rr), cutoff_slope(d, rr)
    t1, d1 = 0.5 * (t0 * u), 0.5 * (d0 * u + du * t0)
    for k in range(nr + 1):
        store(b, 8 * k, d0)
        d0, d1 = d1, u * d1 + (du * t1 - d0)
        t0, t1 = t1, u * t1 - t0


@helper
def angular_rows(x, y, z, d, ra, na, beta, b, row):
    """What the derivative of a neighbour's angular part is made of, for eight.

    Along the edge: f_c' q of order 0, and that of the neighbour's own term. Of each order m above zero:
    f_c / d times cosine and sine of order m - 1, f_c' / m times those of order m. And q of these orders.
    """
    f, slope = cutoff_value(d, ra), cutoff_slope(d, ra)
    q, p = slope, splat(0.0)
    for k in range(na + 1):
        store(b, 8 * (row + k), q)
        if k < na:
            q, p = z * q - at(beta, k + 1) * p, q
    store(b, 8 * (row + na + 1), -1.0 * f * slope)
    row += na + 2
    tangent = f / d
    c, t = splat(1.0), splat(0.0)
    for m in range(1, na + 1):
        store(b, 8 * row, tangent * c)
        store(b, 8 * (row + 1), tangent * t)
        c, t = x * c - y * t, x * t + y * c
        store(b, 8 * (row + 2), slope * c * (1.0 / m))
        store(b, 8 * (row + 3), slope * t * (1.0 / m))
        row += 4
    k = na + 1
    for m in range(1, na + 1):
        q, p = splat(1.0), splat(0.0)
        for _ in range(m, na + 1):
            store(b, 8 * row, q)
            row += 1
            k += 1
            if k < len(beta):
                q, p = z * q - at(beta, k) * p, q


@helper
def angular_block(s, cap, e, rr, nr, ra, na, beta, b, unit):
    """All rows of eight neighbours inside ``ra``; their unit vectors and distances from ``unit`` on."""
    x, y, z, d = load(s, AX * cap + e), load(s, AY * cap + e), load(s, AZ * cap + e), load(s, AD * cap + e)
    radial_rows(d, rr, nr, b)
    angular_rows(x, y, z, d, ra, na, beta, b, nr + 1)
    store(b, unit, x)
    store(b, unit + 8, y)
    store(b, unit + 16, z)
    store(b, unit + 24, d)


@helper
def radial_block(s, cap, e, rr, nr, b, unit):
    """The same of eight of the others, which have radial rows only."""
    x, y, z, d = load(s, X * cap + e), load(s, Y * cap + e), load(s, Z * cap + e), load(s, D * cap + e)
    radial_rows(d, rr, nr, b)
    inverse = 1.0 / d
    store(b, unit, inverse * x)
    store(b, unit + 8, inverse * y)
    store(b, unit + 16, inverse * z)
    store(b, unit + 24, d)
