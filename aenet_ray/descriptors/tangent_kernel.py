"""J v: every sum of the features with its derivative along given changes of positions and cells."""
# mypy: disallow-untyped-defs=False

from __future__ import annotations

import numpy as np

from aenet_ray.descriptors import simd
from aenet_ray.descriptors.cached import cached_kernel, helper
from aenet_ray.descriptors.columns import (
    AD,
    AW,
    GX,
    GY,
    GZ,
    HX,
    HY,
    HZ,
    D,
    W,
    X,
    Y,
    Z,
    add_to,
    aligned,
    clear,
    cutoff_slope,
    cutoff_value,
    load_center,
    scratch_for,
    sum_lanes,
    unit_vector,
)
from aenet_ray.descriptors.feature_kernel import angular_output
from aenet_ray.descriptors.simd import at, load, splat, store


@helper
def load_tangents(i, begin, end, n, neighbor, v, use_strain, strain, s, cap):
    """Tangents of the edge vectors into columns GX, GY, GZ: v_j - v_i + r strain."""
    size = end - begin
    full = size // 8 * 8
    for c in range(3):
        for e in range(0, full, 8):
            store(s, (GX + c) * cap + e, simd.gather(v, 3, c, neighbor, begin + e) - v[i, c])
        for e in range(full, n):
            s[(GX + c) * cap + e] = v[neighbor[begin + e], c] - v[i, c] if e < size else 0.0
        if use_strain:
            for e in range(0, n, 8):
                moved = load(s, (GX + c) * cap + e)
                for a in range(3):
                    moved += strain[a, c] * load(s, (X + a) * cap + e)
                store(s, (GX + c) * cap + e, moved)


@helper
def pack_tangents(n, ra, s, cap):
    """Those of the angular neighbours into columns HX, HY, HZ, in the order of ``load_center``."""
    count = 0
    for e in range(0, n, 8):
        inside = simd.below(load(s, D * cap + e), ra)
        for c in range(3):
            simd.store_packed(s, (HX + c) * cap + count, load(s, (GX + c) * cap + e), inside)
        count += simd.count_true(inside)
    for e in range(count, (count + 7) // 8 * 8):
        s[HX * cap + e] = s[HY * cap + e] = s[HZ * cap + e] = 0.0


@helper
def radial_tangents(n, rr, nr, multi, s, cap, buffer):
    """Tangents of ``radial_sums``, by the recurrence and its derivative."""
    clear(buffer, 2 * (nr + 1))
    for e in range(0, n, 8):
        d, w = load(s, D * cap + e), load(s, W * cap + e)
        moved = load(s, X * cap + e) * load(s, GX * cap + e)
        moved += load(s, Y * cap + e) * load(s, GY * cap + e)
        moved += load(s, Z * cap + e) * load(s, GZ * cap + e)
        moved = moved / d
        u, du = d * (4.0 / rr) - 2.0, moved * (4.0 / rr)
        t0, d0 = cutoff_value(d, rr), cutoff_slope(d, rr) * moved
        t1, d1 = 0.5 * (t0 * u), 0.5 * (d0 * u + t0 * du)
        for k in range(nr + 1):
            add_to(buffer, k, d0)
            if multi:
                add_to(buffer, nr + 1 + k, w * d0)
            d0, d1 = d1, u * d1 + (du * t1 - d0)
            t0, t1 = t1, u * t1 - t0


@helper
def moment_tangents(count, ra, na, multi, beta, s, cap, buffer):
    """Moments as in ``moment_sums`` (4 n_rows), their tangents (4 n_rows), and half those of f^2, w^2 f^2."""
    rows = len(beta)
    clear(buffer, 8 * rows + 2)
    for e in range(0, count, 8):
        x, y, z = unit_vector(s, cap, e)
        dx, dy, dz = load(s, HX * cap + e), load(s, HY * cap + e), load(s, HZ * cap + e)
        w, d = load(s, AW * cap + e), load(s, AD * cap + e)
        moved = x * dx + y * dy + z * dz
        dx, dy, dz = (dx - moved * x) / d, (dy - moved * y) / d, (dz - moved * z) / d
        c, dc = cutoff_value(d, ra), cutoff_slope(d, ra) * moved
        t, dt = splat(0.0), splat(0.0)
        add_to(buffer, 8 * rows, c * dc)
        add_to(buffer, 8 * rows + 1, w * w * (c * dc))
        k = 0
        for m in range(na + 1):
            if m > 0:
                dc, dt = x * dc - y * dt + (dx * c - dy * t), x * dt + y * dc + (dx * t + dy * c)
                c, t = x * c - y * t, x * t + y * c
            q, p, dq, dp = splat(1.0), splat(0.0), splat(0.0), splat(0.0)
            for _ in range(m, na + 1):
                a, da = q * c, q * dc + dq * c
                add_to(buffer, k, a)
                add_to(buffer, 4 * rows + k, da)
                if multi:
                    add_to(buffer, 2 * rows + k, w * a)
                    add_to(buffer, 6 * rows + k, w * da)
                if m > 0:
                    a, da = q * t, q * dt + dq * t
                    add_to(buffer, rows + k, a)
                    add_to(buffer, 5 * rows + k, da)
                    if multi:
                        add_to(buffer, 3 * rows + k, w * a)
                        add_to(buffer, 7 * rows + k, w * da)
                k += 1
                if k < rows:
                    dq, dp = z * dq + (dz * q - at(beta, k) * dp), dq
                    q, p = z * q - at(beta, k) * p, q


@cached_kernel
def jvp_kernel(
    ptr, neighbor, vectors, weight, multi, rr, nr, ra, na, beta, expand, v, offsets, use_strain, strain, out
):
    """J v of every centre into ``out``, (n_atoms, F)."""
    rows = len(beta)
    columns, cap = scratch_for(ptr)
    half = nr + na + 2
    size = max(2 * (nr + 1), 8 * rows + 2) + 16
    scratch = aligned(8 * size), aligned(size), columns
    buffer, sums, s = simd.borrowed(scratch)
    neighbor, vectors, weight = simd.borrowed((neighbor, vectors, weight))
    beta, expand, v, out = simd.borrowed((beta, expand, v, out))
    none = np.zeros((3, 3))
    structure = 0
    for i in range(len(ptr) - 1):
        while use_strain and i >= offsets[structure + 1]:
            structure += 1
        n, count = load_center(ptr[i], ptr[i + 1], 2.0 * max(rr, ra), ra, neighbor, vectors, weight, s, cap)
        tensor = strain[structure] if use_strain else none
        load_tangents(i, ptr[i], ptr[i + 1], n, neighbor, v, use_strain, tensor, s, cap)
        radial_tangents(n, rr, nr, multi, s, cap, buffer)
        sum_lanes(buffer, 2 * (nr + 1), sums)
        for k in range(nr + 1):
            out[i, k] = sums[k]
            if multi:
                out[i, half + k] = sums[nr + 1 + k]
        if count < 2:
            for k in range(nr + 1, half):
                out[i, k] = 0.0
                if multi:
                    out[i, half + k] = 0.0
            continue
        pack_tangents(n, ra, s, cap)
        moment_tangents(count, ra, na, multi, beta, s, cap, buffer)
        sum_lanes(buffer, 8 * rows + 2, sums)
        angular_output(sums, 0, 4 * rows, 1.0, sums[8 * rows], expand, na, buffer, out, i, nr + 1)
        if multi:
            own, row = sums[8 * rows + 1], 2 * rows
            angular_output(sums, row, row + 4 * rows, 1.0, own, expand, na, buffer, out, i, half + nr + 1)
    simd.alive(scratch)
