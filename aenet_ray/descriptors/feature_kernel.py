"""Features: sums of the radial functions, squares of the angular moments."""
# mypy: disallow-untyped-defs=False

from __future__ import annotations

from aenet_ray.descriptors import simd
from aenet_ray.descriptors.cached import cached_kernel, helper
from aenet_ray.descriptors.columns import (
    AD,
    AW,
    D,
    W,
    add_to,
    aligned,
    clear,
    cutoff_value,
    load_center,
    scratch_for,
    sum_lanes,
    unit_vector,
)
from aenet_ray.descriptors.simd import at, load, splat, store


@helper
def radial_sums(n, rr, nr, multi, s, cap, buffer):
    """Sums of T_k f_c (rows 0..nr), and of w T_k f_c (rows nr + 1..)."""
    clear(buffer, 2 * (nr + 1))
    for e in range(0, n, 16):
        da, db = load(s, D * cap + e), load(s, D * cap + e + 8)
        wa, wb = load(s, W * cap + e), load(s, W * cap + e + 8)
        ua, ub = da * (4.0 / rr) - 2.0, db * (4.0 / rr) - 2.0
        a0, b0 = cutoff_value(da, rr), cutoff_value(db, rr)
        a1, b1 = a0 * ua * 0.5, b0 * ub * 0.5
        for k in range(nr + 1):
            add_to(buffer, k, a0 + b0)
            if multi:
                add_to(buffer, nr + 1 + k, wa * a0 + wb * b0)
            a0, a1 = a1, ua * a1 - a0
            b0, b1 = b1, ub * b1 - b0


@helper
def moment_sums(count, ra, na, multi, beta, s, cap, buffer):
    """Moments of the monic harmonics in 4 n_rows rows: plain cosine, sine, weighted cosine, sine.

    Two more rows: the sums of f^2 and of w^2 f^2.
    """
    rows = len(beta)
    clear(buffer, 4 * rows + 2)
    for e in range(0, count, 16):
        xa, ya, za = unit_vector(s, cap, e)
        xb, yb, zb = unit_vector(s, cap, e + 8)
        wa, wb = load(s, AW * cap + e), load(s, AW * cap + e + 8)
        ca = cutoff_value(load(s, AD * cap + e), ra)
        cb = cutoff_value(load(s, AD * cap + e + 8), ra)
        va, vb = wa * ca, wb * cb
        add_to(buffer, 4 * rows, ca * ca + cb * cb)
        add_to(buffer, 4 * rows + 1, va * va + vb * vb)
        qa, qb = splat(1.0), splat(1.0)
        pa, pb = splat(0.0), splat(0.0)
        for k in range(na + 1):
            add_to(buffer, k, qa * ca + qb * cb)
            if multi:
                add_to(buffer, 2 * rows + k, qa * va + qb * vb)
            if k < na:
                qa, pa = za * qa - at(beta, k + 1) * pa, qa
                qb, pb = zb * qb - at(beta, k + 1) * pb, qb
        sa, sb = splat(0.0), splat(0.0)
        k = na + 1
        for m in range(1, na + 1):
            ca, sa = xa * ca - ya * sa, xa * sa + ya * ca
            cb, sb = xb * cb - yb * sb, xb * sb + yb * cb
            va, vb, ta, tb = wa * ca, wb * cb, wa * sa, wb * sb
            qa, qb = splat(1.0), splat(1.0)
            pa, pb = splat(0.0), splat(0.0)
            for _ in range(m, na + 1):
                add_to(buffer, k, qa * ca + qb * cb)
                add_to(buffer, rows + k, qa * sa + qb * sb)
                if multi:
                    add_to(buffer, 2 * rows + k, qa * va + qb * vb)
                    add_to(buffer, 3 * rows + k, qa * ta + qb * tb)
                k += 1
                if k < rows:
                    qa, pa = za * qa - at(beta, k) * pa, qa
                    qb, pb = zb * qb - at(beta, k) * pb, qb


@helper
def angular_output(sums, first, other, factor, own, expand, na, buffer, out, i, column):
    """factor (sum_k expand[k, n] (c_k c'_k + s_k s'_k) - own) for n = 0..na into ``out``.

    The c and s start at row ``first`` of the sums, the c' and s' at ``other``. Rows of ``expand`` are padded.
    """
    rows, width = expand.shape
    for k in range(0, rows, 8):
        cosine = load(sums, first + k) * load(sums, other + k)
        store(buffer, k, factor * (cosine + load(sums, first + rows + k) * load(sums, other + rows + k)))
    for block in range(0, na + 1, 8):
        result = splat(-factor * own)
        for k in range(rows):
            result += buffer[k] * load(expand, k * width + block)
        store(buffer, rows + 8, result)
        for n in range(block, min(block + 8, na + 1)):
            out[i, column + n] = buffer[rows + 8 + n - block]


@cached_kernel
def features_kernel(ptr, neighbor, vectors, weight, multi, rr, nr, ra, na, beta, expand, out):
    """Features of every centre into ``out``, (n_atoms, F)."""
    rows = len(beta)
    columns, cap = scratch_for(ptr)
    half = nr + na + 2
    size = max(2 * (nr + 1), 4 * rows + 2) + 16
    scratch = aligned(8 * size), aligned(size), columns
    buffer, sums, s = simd.borrowed(scratch)
    neighbor, vectors, weight = simd.borrowed((neighbor, vectors, weight))
    beta, expand, out = simd.borrowed((beta, expand, out))
    far = 2.0 * max(rr, ra)
    for i in range(len(ptr) - 1):
        n, count = load_center(ptr[i], ptr[i + 1], far, ra, neighbor, vectors, weight, s, cap)
        radial_sums(n, rr, nr, multi, s, cap, buffer)
        sum_lanes(buffer, 2 * (nr + 1), sums)
        for k in range(nr + 1):
            out[i, k] = sums[k]
            if multi:
                out[i, half + k] = sums[nr + 1 + k]
        if count < 2:  # no angle: exactly zero, not the rounding noise of two equal terms
            for k in range(nr + 1, half):
                out[i, k] = 0.0
                if multi:
                    out[i, half + k] = 0.0
            continue
        moment_sums(count, ra, na, multi, beta, s, cap, buffer)
        sum_lanes(buffer, 4 * rows + 2, sums)
        angular_output(sums, 0, 0, 0.5, sums[4 * rows], expand, na, buffer, out, i, nr + 1)
        if multi:
            own, row = sums[4 * rows + 1], 2 * rows
            angular_output(sums, row, row, 0.5, own, expand, na, buffer, out, i, half + nr + 1)
    simd.alive(scratch)
