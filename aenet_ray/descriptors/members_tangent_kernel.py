"""J v of up to eight v at once, a v a lane: the transpose of ``members_kernel``, on the same rows.

Each edge adds to the sums that J^T g multiplies its coefficients with, of each species of the neighbour.
"""
# mypy: disallow-untyped-defs=False

from __future__ import annotations

import numpy as np

from aenet_ray.descriptors import simd
from aenet_ray.descriptors.cached import cached_kernel, helper
from aenet_ray.descriptors.columns import aligned, clear, scratch_for
from aenet_ray.descriptors.members_rows import angular_block, load_groups, moments_of, radial_block
from aenet_ray.descriptors.simd import at, load, splat, store


@helper
def difference(v, j, cx, cy, cz):
    """v_j - v_i."""
    return load(v, 24 * j) - cx, load(v, 24 * j + 8) - cy, load(v, 24 * j + 16) - cz


@helper
def add_along(b, lane, n, along, sums, start):
    """The first n rows times the change of the distance."""
    for k in range(n):
        place = start + 8 * k
        store(sums, place, load(sums, place) + at(b, 8 * k + lane) * along)


@helper
def add_across(b, lane, row, na, dx, dy, dz, along, sums, start):
    """The four sums of each order above zero and degree; (dx, dy, dz) is the change across the edge."""
    place, q = 8 * row + lane, 8 * (row + 4 * na) + lane
    for m in range(1, na + 1):
        cosine, sine = at(b, place), at(b, place + 8)
        hc = cosine * dx - sine * dy + at(b, place + 16) * along
        hs = cosine * dy + sine * dx + at(b, place + 24) * along
        dc, ds = cosine * dz, sine * dz
        for _ in range(m, na + 1):
            factor = at(b, q)
            store(sums, start, load(sums, start) + factor * hc)
            store(sums, start + 8, load(sums, start + 8) + factor * hs)
            store(sums, start + 16, load(sums, start + 16) + factor * dc)
            store(sums, start + 24, load(sums, start + 24) + factor * ds)
            q += 8
            start += 32
        place += 32


@helper
def over_species(sums, size, own, spins, weighted, total):
    """Sums over the species of the neighbours, plain or weighted."""
    for k in range(0, 8 * size, 8):
        value = splat(0.0)
        for species in range(len(spins)):
            w = spins[species] if weighted else 1.0
            if k == 8 * own:
                w *= w
            value += w * load(sums, 8 * size * species + k)
        store(total, k, value)


@helper
def tangents(total, first, nr, na, angular, expand, moments, row, out):
    """One half of the features' changes from the sums over edges: the transpose of ``coefficients``."""
    rows = len(expand)
    for n in range(nr + 1):
        store(out, first + 8 * n, load(total, 8 * n))
    first += 8 * (nr + 1)
    own = load(total, 8 * (nr + na + 2)) if angular else splat(0.0)
    for n in range(na + 1):
        store(out, first + 8 * n, own)
    if not angular:
        return
    table = 8 * (nr + na + 3) - 32 * (na + 1)
    k = 0
    for m in range(na + 1):
        for deg in range(m, na + 1):
            if m == 0:
                cosine, sine = load(total, 8 * (nr + 1 + k)), splat(0.0)
            else:
                cosine, sine = float(m) * load(total, table + 32 * k), float(m) * load(total, table + 32 * k + 8)
            if deg > m:
                up = table + 32 * (k + na - m)
                cosine += float(deg - m) * load(total, up + 16)
                sine += float(deg - m) * load(total, up + 24)
            change = at(moments, row + k) * cosine + at(moments, row + rows + k) * sine
            for n in range(deg, na + 1):
                place = first + 8 * n
                store(out, place, load(out, place) + expand[k, n] * change)
            k += 1


@cached_kernel
def members_jvp_kernel(
    ptr, neighbor, vectors, weight, multi, rr, nr, ra, na, beta, expand, species, spins, v, out
):  # fmt: skip
    """J v of each v, (n_atoms, 3, 8), into ``out``, (n_atoms, F, 8)."""
    rows = len(beta)
    columns, cap = scratch_for(ptr)
    numbers = np.empty(2 * cap + 8, np.int32)
    half, own = nr + na + 2, nr + na + 2
    size = own + 1 + 4 * (rows - na - 1)
    padded, unit = 4 * rows + 18, 8 * (own + 1 + 4 * na + rows)
    space = aligned(9 * padded + 8 * size * (len(spins) + 1) + unit + 64)
    s, index, free = simd.borrowed((columns, numbers, space))
    buffer, free = free[: 8 * padded], free[8 * padded :]
    b, free = free[: unit + 32], free[unit + 32 :]
    sums, free = free[: 8 * size * len(spins)], free[8 * size * len(spins) :]
    total, moments = free[: 8 * size], free[8 * size :]
    neighbor, vectors, weight, species, spins = simd.borrowed((neighbor, vectors, weight, species, spins))
    beta, expand, v, out = simd.borrowed((beta, expand, v, out))
    for i in range(len(ptr) - 1):
        count, rest = load_groups(ptr[i], ptr[i + 1], 2.0 * max(rr, ra), ra, neighbor, vectors, weight, s, cap, index)
        moments_of(count, ra, na, multi, beta, s, cap, buffer, moments)
        clear(sums, size * len(spins))
        cx, cy, cz = load(v, 24 * i), load(v, 24 * i + 8), load(v, 24 * i + 16)
        for e in range(0, count, 8):
            angular_block(s, cap, e, rr, nr, ra, na, beta, b, unit)
            for lane in range(min(8, count - e)):
                j = index[e + lane]
                start = 8 * size * species[j]
                dx, dy, dz = difference(v, j, cx, cy, cz)
                ux, uy, uz = at(b, unit + lane), at(b, unit + 8 + lane), at(b, unit + 16 + lane)
                along = ux * dx + uy * dy + uz * dz
                add_along(b, lane, own + 1, along, sums, start)
                dx, dy, dz = dx - ux * along, dy - uy * along, dz - uz * along
                add_across(b, lane, own + 1, na, dx, dy, dz, along, sums, start + 8 * (own + 1))
        for e in range(0, rest, 8):
            radial_block(s, cap, e, rr, nr, b, unit)
            for lane in range(min(8, rest - e)):
                j = index[cap + e + lane]
                dx, dy, dz = difference(v, j, cx, cy, cz)
                along = at(b, unit + lane) * dx + at(b, unit + 8 + lane) * dy + at(b, unit + 16 + lane) * dz
                add_along(b, lane, nr + 1, along, sums, 8 * size * species[j])
        over_species(sums, size, own, spins, False, total)
        place = 8 * half * (2 if multi else 1) * i
        tangents(total, place, nr, na, count > 1, expand, moments, 0, out)
        if multi:
            over_species(sums, size, own, spins, True, total)
            tangents(total, place + 8 * half, nr, na, count > 1, expand, moments, 2 * rows, out)
    simd.alive((columns, numbers, space))
