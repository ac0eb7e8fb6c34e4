"""J^T g of up to eight g at once: one g to a lane, one neighbour after the other.

Recurrences and cutoffs are the same for all g, and made once (``members_rows``). Left to each g are sums of these over
its coefficients, which lie lane by lane, folded for each species of the neighbour.
"""
# mypy: disallow-untyped-defs=False

from __future__ import annotations

import numpy as np

from aenet_ray.descriptors import simd
from aenet_ray.descriptors.cached import cached_kernel, helper
from aenet_ray.descriptors.columns import aligned, scratch_for
from aenet_ray.descriptors.members_rows import angular_block, load_groups, moments_of, radial_block
from aenet_ray.descriptors.simd import at, load, splat, store


@helper
def load_lanes(g, i, in_lanes, starts, lanes):
    """g of one atom as F vectors with a member a lane."""
    if in_lanes:
        for f in range(g.shape[1]):
            store(lanes, 8 * f, load(g, 8 * (g.shape[1] * i + f)))
        return
    size = g.shape[2]
    if size < 8:
        for f in range(size):
            for lane in range(8):
                lanes[8 * f + lane] = g[min(lane, len(g) - 1), i, f]
        return
    for k in range(0, size, 8):
        f = min(k, size - 8)  # the last block may overlap the one before
        simd.transposed(g, starts, size * i + f, lanes, 8 * f)


@helper
def coefficients(lanes, first, nr, na, angular, expand, moments, row, c):
    """What multiplies the rows of ``members_rows`` in dE/d(edge vector), from one half of g.

    Of the rows of each order m above zero and degree four: of (x, y) with cosine and sine, of z with both.
    """
    rows = len(expand)
    for n in range(nr + 1):
        store(c, 8 * n, load(lanes, 8 * (first + n)))
    if not angular:
        for k in range(nr + 1, nr + na + 3 + 4 * (rows - na - 1)):
            store(c, 8 * k, splat(0.0))
        return
    first += nr + 1
    own = splat(0.0)
    for n in range(na + 1):
        own += load(lanes, 8 * (first + n))
    store(c, 8 * (nr + na + 2), own)
    table = 8 * (nr + na + 3) - 32 * (na + 1)
    k = 0
    for m in range(na + 1):
        for deg in range(m, na + 1):
            h = splat(0.0)
            for n in range(deg, na + 1):
                h += expand[k, n] * load(lanes, 8 * (first + n))
            cosine, sine = at(moments, row + k) * h, at(moments, row + rows + k) * h
            if m == 0:
                store(c, 8 * (nr + 1 + k), cosine)
            else:
                store(c, table + 32 * k, float(m) * cosine)
                store(c, table + 32 * k + 8, float(m) * sine)
            if deg > m:
                up = table + 32 * (k + na - m)
                store(c, up + 16, float(deg - m) * cosine)
                store(c, up + 24, float(deg - m) * sine)
            k += 1


@helper
def fold(c, size, own, spins, multi, folded):
    """Coefficients for each species of the neighbour: plain ones + weight times weighted ones."""
    for species in range(len(spins)):
        w, start = spins[species], 8 * size * species
        for k in range(0, 8 * size, 8):
            value = load(c, k)
            if multi:
                value += w * load(c, 8 * size + k)
            store(folded, start + k, value)
        if multi:
            store(folded, start + 8 * own, load(c, 8 * own) + w * w * load(c, 8 * (size + own)))


@helper
def along_edge(b, lane, c, start, n):
    """Sum of the first n rows over coefficients: two sums, as each waits for itself."""
    even, odd = splat(0.0), splat(0.0)
    for k in range(0, n - 1, 2):
        even += at(b, 8 * k + lane) * load(c, start + 8 * k)
        odd += at(b, 8 * k + 8 + lane) * load(c, start + 8 * k + 8)
    if n % 2:
        even += at(b, 8 * n - 8 + lane) * load(c, start + 8 * n - 8)
    return even + odd


@helper
def across_edge(b, lane, c, start, row, na):
    """The sums over orders above zero: x, y, z and the part along the edge."""
    gx, gy, gz, value = splat(0.0), splat(0.0), splat(0.0), splat(0.0)
    place, q = 8 * row + lane, 8 * (row + 4 * na) + lane
    for m in range(1, na + 1):
        hc, hs, dc, ds = splat(0.0), splat(0.0), splat(0.0), splat(0.0)
        for _ in range(m, na + 1):
            factor = at(b, q)
            hc += factor * load(c, start)
            hs += factor * load(c, start + 8)
            dc += factor * load(c, start + 16)
            ds += factor * load(c, start + 24)
            q += 8
            start += 32
        cosine, sine = at(b, place), at(b, place + 8)
        gx += cosine * hc + sine * hs
        gy += cosine * hs - sine * hc
        gz += cosine * dc + sine * ds
        value += at(b, place + 16) * hc + at(b, place + 24) * hs
        place += 32
    return gx, gy, gz, value


@helper
def add_edge(b, unit, lane, j, gx, gy, gz, along, grad):
    """Add an edge's gradient to its neighbour. Returned as well."""
    x, y, z = at(b, unit + lane), at(b, unit + 8 + lane), at(b, unit + 16 + lane)
    gx, gy, gz = gx + along * x, gy + along * y, gz + along * z
    store(grad, 24 * j, load(grad, 24 * j) + gx)
    store(grad, 24 * j + 8, load(grad, 24 * j + 8) + gy)
    store(grad, 24 * j + 16, load(grad, 24 * j + 16) + gz)
    return gx, gy, gz


@helper
def add_virial(b, unit, lane, gx, gy, gz, structure, virial):
    """r_a (dE/dr)_b of an edge."""
    d = at(b, unit + 24 + lane)
    for a in range(3):
        r, start = d * at(b, unit + 8 * a + lane), 72 * structure + 24 * a
        store(virial, start, load(virial, start) + r * gx)
        store(virial, start + 8, load(virial, start + 8) + r * gy)
        store(virial, start + 16, load(virial, start + 16) + r * gz)


@cached_kernel
def members_vjp_kernel(
    ptr, neighbor, vectors, weight, multi, rr, nr, ra, na, beta, expand,
    species, spins, g, in_lanes, offsets, want_virial, grad, virial,
):  # fmt: skip
    """J^T g of each g: adds to ``grad`` (n_atoms, 3, 8) and ``virial`` (n_structures, 3, 3, 8).

    Args:
        g: (k <= 8, n_atoms, F), where lanes from k on hold the last g's again; or with ``in_lanes`` (n_atoms, F, 8).
    """
    n_features = g.shape[1] if in_lanes else g.shape[2]
    rows = len(beta)
    columns, cap = scratch_for(ptr)
    numbers, first_values = np.empty(2 * cap + 8, np.int32), np.empty(8, np.int64)
    half, own = nr + na + 2, nr + na + 2
    size = own + 1 + 4 * (rows - na - 1)
    padded, unit = 4 * rows + 18, 8 * (own + 1 + 4 * na + rows)
    space = aligned(9 * padded + 8 * n_features + 16 * size + 8 * size * len(spins) + unit + 64)
    s, index, starts, free = simd.borrowed((columns, numbers, first_values, space))
    buffer, free = free[: 8 * padded], free[8 * padded :]
    b, free = free[: unit + 32], free[unit + 32 :]
    c, free = free[: 16 * size], free[16 * size :]
    folded, free = free[: 8 * size * len(spins)], free[8 * size * len(spins) :]
    lanes, moments = free[: 8 * n_features], free[8 * n_features :]
    neighbor, vectors, weight, species, spins = simd.borrowed((neighbor, vectors, weight, species, spins))
    beta, expand, g, grad, virial = simd.borrowed((beta, expand, g, grad, virial))
    for lane in range(8):
        starts[lane] = 0 if in_lanes else min(lane, len(g) - 1) * g.shape[1] * g.shape[2]
    structure = 0
    for i in range(len(ptr) - 1):
        while want_virial and i >= offsets[structure + 1]:
            structure += 1
        count, rest = load_groups(ptr[i], ptr[i + 1], 2.0 * max(rr, ra), ra, neighbor, vectors, weight, s, cap, index)
        moments_of(count, ra, na, multi, beta, s, cap, buffer, moments)
        load_lanes(g, i, in_lanes, starts, lanes)
        coefficients(lanes, 0, nr, na, count > 1, expand, moments, 0, c)
        if multi:
            coefficients(lanes, half, nr, na, count > 1, expand, moments, 2 * rows, c[8 * size :])
        fold(c, size, own, spins, multi, folded)
        cx, cy, cz = splat(0.0), splat(0.0), splat(0.0)
        for e in range(0, count, 8):
            angular_block(s, cap, e, rr, nr, ra, na, beta, b, unit)
            for lane in range(min(8, count - e)):
                j = index[e + lane]
                start = 8 * size * species[j]
                along = along_edge(b, lane, folded, start, own + 1)
                gx, gy, gz, value = across_edge(b, lane, folded, start + 8 * (own + 1), own + 1, na)
                x, y, z = at(b, unit + lane), at(b, unit + 8 + lane), at(b, unit + 16 + lane)
                along += value - (gx * x + gy * y + gz * z)
                gx, gy, gz = add_edge(b, unit, lane, j, gx, gy, gz, along, grad)
                cx, cy, cz = cx + gx, cy + gy, cz + gz
                if want_virial:
                    add_virial(b, unit, lane, gx, gy, gz, structure, virial)
        for e in range(0, rest, 8):
            radial_block(s, cap, e, rr, nr, b, unit)
            for lane in range(min(8, rest - e)):
                j = index[cap + e + lane]
                along = along_edge(b, lane, folded, 8 * size * species[j], nr + 1)
                zero = splat(0.0)
                gx, gy, gz = add_edge(b, unit, lane, j, zero, zero, zero, along, grad)
                cx, cy, cz = cx + gx, cy + gy, cz + gz
                if want_virial:
                    add_virial(b, unit, lane, gx, gy, gz, structure, virial)
        store(grad, 24 * i, load(grad, 24 * i) - cx)
        store(grad, 24 * i + 8, load(grad, 24 * i + 8) - cy)
        store(grad, 24 * i + 16, load(grad, 24 * i + 16) - cz)
    simd.alive((columns, numbers, first_values, space))
