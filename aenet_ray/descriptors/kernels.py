"""Compiled CPU kernels over CSR edges: features, J^T g and J v, eight neighbours at a time.

A centre's neighbours are copied to columns in a small scratch array that stays in the first-level cache;
those inside the angular cutoff are packed behind them. Padding entries lie beyond every cutoff. All sums are
float64, over lanes first and across lanes once a centre.
"""
# mypy: disallow-untyped-defs=False

from __future__ import annotations

import math

import numpy as np
from numba import njit

from aenet_ray.descriptors import simd
from aenet_ray.descriptors.coefficients import COS_PI, SIN_PI
from aenet_ray.descriptors.simd import at, load, splat, store

FAST = {"reassoc", "contract", "arcp", "nsz"}
# Columns of the scratch array: all neighbours, those inside the angular cutoff, edge gradients or tangents
# of both.
X, Y, Z, W, D, AX, AY, AZ, AW, AD, GX, GY, GZ, HX, HY, HZ = range(16)
COLUMNS = 16


@njit(nogil=True, cache=True)
def aligned(n):
    """Zeros that start at a cache line, so that no vector of eight lies across two."""
    space = np.zeros(n + 8)
    skip = (64 - space.ctypes.data % 64) % 64 // 8
    return space[skip : skip + n]


@njit(nogil=True, cache=True)
def scratch_for(ptr):
    """Scratch columns for the longest row, and their length."""
    longest = 0
    for i in range(len(ptr) - 1):
        longest = max(longest, ptr[i + 1] - ptr[i])
    cap = (longest + 15) // 16 * 16 + 16
    if cap % 128 == 0:  # columns at multiples of 4 kB would evict each other
        cap += 16
    return aligned(COLUMNS * cap + 8), cap


@njit(nogil=True, cache=True, fastmath=FAST)
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


@njit(nogil=True, cache=True, fastmath=FAST)
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


@njit(nogil=True, cache=True, fastmath=FAST)
def unit_vector(s, cap, e):
    """Unit vectors of eight packed neighbours, in place of their vectors."""
    inverse = 1.0 / load(s, AD * cap + e)
    x, y, z = load(s, AX * cap + e), load(s, AY * cap + e), load(s, AZ * cap + e)
    x, y, z = inverse * x, inverse * y, inverse * z
    store(s, AX * cap + e, x)
    store(s, AY * cap + e, y)
    store(s, AZ * cap + e, z)
    return x, y, z


@njit(nogil=True, cache=True, fastmath=FAST)
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


@njit(nogil=True, cache=True, fastmath=FAST)
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


@njit(nogil=True, cache=True)
def clear(buffer, n_rows):
    """Zero so many vectors (a slice assignment would compile for seconds)."""
    for row in range(n_rows):
        store(buffer, 8 * row, splat(0.0))


@njit(nogil=True, cache=True, fastmath=FAST)
def add_to(buffer, row, value):
    store(buffer, 8 * row, load(buffer, 8 * row) + value)


@njit(nogil=True, cache=True, fastmath=FAST)
def sum_lanes(buffer, n_rows, out):
    """Sum each of the vectors in ``buffer`` over its lanes. Both are padded to multiples of eight rows."""
    for k in range(0, n_rows, 8):
        store(out, k, simd.sum_of_eight(buffer, 8 * k))


@njit(nogil=True, cache=True, fastmath=FAST)
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


@njit(nogil=True, cache=True, fastmath=FAST)
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


@njit(nogil=True, cache=True, fastmath=FAST)
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


@njit(nogil=True, cache=True, fastmath=FAST)
def features_kernel(ptr, neighbor, vectors, weight, multi, rr, nr, ra, na, beta, expand, out):
    """Features of every centre into ``out``, (n_atoms, F)."""
    rows = len(beta)
    s, cap = scratch_for(ptr)
    half = nr + na + 2
    size = max(2 * (nr + 1), 4 * rows + 2) + 16
    buffer, sums = aligned(8 * size), aligned(size)
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


@njit(nogil=True, cache=True, fastmath=FAST)
def radial_coefficients(g, i, first, nr, rr, coefficients, column):
    """sum_n g_n T_n and (2 / R) times its derivative as sums over Chebyshev polynomials of the second kind.

    Into two of the four columns of ``coefficients``.
    """
    for k in range(nr + 1):
        above = g[i, first + k + 2] if k + 2 <= nr else 0.0
        coefficients[4 * k + column] = (g[i, first + k] if k == 0 else 0.5 * g[i, first + k]) - 0.5 * above
        slope = (k + 1) * g[i, first + k + 1] if k < nr else 0.0
        coefficients[4 * k + column + 1] = 2.0 / rr * slope


@njit(nogil=True, cache=True, fastmath=FAST)
def angular_coefficients(g, i, column, na, expand, sums, first, slopes):
    """Turn moments into dE/d(moment), and their share of the z-derivative (one order m higher). Returns sum g."""
    rows = len(expand)
    own = 0.0
    for n in range(na + 1):
        own += g[i, column + n]
    k = 0
    for m in range(na + 1):
        for deg in range(m, na + 1):
            h = 0.0
            for n in range(deg, na + 1):
                h += expand[k, n] * g[i, column + n]
            sums[first + k] *= h
            sums[first + rows + k] *= h
            if deg > m:
                up = k + na - m
                slopes[first + up] = (deg - m) * sums[first + k]
                slopes[first + rows + up] = (deg - m) * sums[first + rows + k]
            k += 1
    return own


@njit(nogil=True, cache=True, fastmath=FAST)
def angular_gradient(count, ra, na, multi, beta, h, slope, own, weighted_own, s, cap):
    """dE/d(edge vector) of the angular part into packed columns GX, GY, GZ."""
    rows = len(beta)
    for e in range(0, count, 8):
        x, y, z = load(s, AX * cap + e), load(s, AY * cap + e), load(s, AZ * cap + e)
        w, d = load(s, AW * cap + e), load(s, AD * cap + e)
        f = cutoff_value(d, ra)
        value = -1.0 * f * (own + w * w * weighted_own)
        q, p = splat(1.0), splat(0.0)
        for k in range(na + 1):
            value += (at(h, k) + w * at(h, 2 * rows + k)) * q
            if k < na:
                q, p = z * q - at(beta, k + 1) * p, q
        gx, gy, gz = splat(0.0), splat(0.0), splat(0.0)
        c, t = splat(1.0), splat(0.0)
        k = na + 1
        for m in range(1, na + 1):
            hc, hs, dc, ds = splat(0.0), splat(0.0), splat(0.0), splat(0.0)
            q, p = splat(1.0), splat(0.0)
            for _ in range(m, na + 1):
                if multi:
                    hc += (at(h, k) + w * at(h, 2 * rows + k)) * q
                    hs += (at(h, rows + k) + w * at(h, 3 * rows + k)) * q
                    dc += (at(slope, k) + w * at(slope, 2 * rows + k)) * q
                    ds += (at(slope, rows + k) + w * at(slope, 3 * rows + k)) * q
                else:
                    hc += at(h, k) * q
                    hs += at(h, rows + k) * q
                    dc += at(slope, k) * q
                    ds += at(slope, rows + k) * q
                k += 1
                if k < rows:
                    q, p = z * q - at(beta, k) * p, q
            gx += float(m) * (c * hc + t * hs)
            gy += float(m) * (c * hs - t * hc)
            gz += c * dc + t * ds
            c, t = x * c - y * t, x * t + y * c
            value += c * hc + t * hs
        tangent = f / d
        along = cutoff_slope(d, ra) * value - tangent * (gx * x + gy * y + gz * z)
        store(s, GX * cap + e, tangent * gx + along * x)
        store(s, GY * cap + e, tangent * gy + along * y)
        store(s, GZ * cap + e, tangent * gz + along * z)


@njit(nogil=True, cache=True, fastmath=FAST)
def edge_gradient(n, count, rr, nr, ra, c, s, cap):
    """Radial part plus the packed angular part into columns HX, HY, HZ."""
    packed = 0
    for e in range(0, n, 16):
        da, db = load(s, D * cap + e), load(s, D * cap + e + 8)
        wa, wb = load(s, W * cap + e), load(s, W * cap + e + 8)
        ua = simd.keep(simd.below(da, rr), da * (4.0 / rr) - 2.0)
        ub = simd.keep(simd.below(db, rr), db * (4.0 / rr) - 2.0)
        zero = splat(0.0)
        pa, qa, va, xa, a, a1 = zero, zero, zero, zero, splat(1.0), zero
        pb, qb, vb, xb, b, b1 = zero, zero, zero, zero, splat(1.0), zero
        for k in range(0, 4 * (nr + 1), 4):
            p, r, v, x = at(c, k), at(c, k + 1), at(c, k + 2), at(c, k + 3)
            pa, qa, va, xa = pa + p * a, qa + r * a, va + v * a, xa + x * a
            pb, qb, vb, xb = pb + p * b, qb + r * b, vb + v * b, xb + x * b
            a, a1 = ua * a - a1, a
            b, b1 = ub * b - b1, b
        factor = (cutoff_slope(da, rr) * (pa + wa * va) + cutoff_value(da, rr) * (qa + wa * xa)) / da
        packed = total_gradient(s, cap, e, packed, count, factor, simd.below(da, ra))
        factor = (cutoff_slope(db, rr) * (pb + wb * vb) + cutoff_value(db, rr) * (qb + wb * xb)) / db
        packed = total_gradient(s, cap, e + 8, packed, count, factor, simd.below(db, ra))


@njit(nogil=True, cache=True, fastmath=FAST)
def total_gradient(s, cap, e, packed, count, factor, inside):
    """Radial part, a factor times the vector, plus the next of the packed angular part. How many are used up."""
    for column in range(3):
        value = factor * load(s, (X + column) * cap + e)
        if count > 1:
            value += simd.load_unpacked(s, (GX + column) * cap + packed, inside)
        store(s, (HX + column) * cap + e, value)
    return packed + simd.count_true(inside)


@njit(nogil=True, cache=True, fastmath=FAST)
def scatter(i, begin, end, neighbor, s, cap, grad):
    """Add the edge gradients to the neighbours, and their negative sum to the centre."""
    cx = cy = cz = 0.0
    for e in range(end - begin):
        x, y, z = s[HX * cap + e], s[HY * cap + e], s[HZ * cap + e]
        j = neighbor[begin + e]
        grad[j, 0] += x
        grad[j, 1] += y
        grad[j, 2] += z
        cx += x
        cy += y
        cz += z
    grad[i, 0] -= cx
    grad[i, 1] -= cy
    grad[i, 2] -= cz


@njit(nogil=True, cache=True, fastmath=FAST)
def add_virial(n, s, cap, virial):
    """Sum over the neighbours of r_a (dE/dr)_b."""
    for a in range(3):
        vx, vy, vz = splat(0.0), splat(0.0), splat(0.0)
        for e in range(0, n, 8):
            r = load(s, (X + a) * cap + e)
            vx += r * load(s, HX * cap + e)
            vy += r * load(s, HY * cap + e)
            vz += r * load(s, HZ * cap + e)
        virial[a, 0] += simd.total(vx)
        virial[a, 1] += simd.total(vy)
        virial[a, 2] += simd.total(vz)


@njit(nogil=True, cache=True, fastmath=FAST)
def vjp_kernel(
    ptr, neighbor, vectors, weight, multi, rr, nr, ra, na, beta, expand, g, offsets, want_virial, grad, virial
):
    """J^T g: adds to ``grad`` (n_atoms, 3) and ``virial`` (n_structures, 3, 3)."""
    rows = len(beta)
    s, cap = scratch_for(ptr)
    half = nr + na + 2
    size = 4 * rows + 18
    buffer, sums, slopes = aligned(8 * size), aligned(size), aligned(4 * rows)
    coefficients = np.zeros(4 * (nr + 1))
    structure = 0
    for i in range(len(ptr) - 1):
        while want_virial and i >= offsets[structure + 1]:
            structure += 1
        n, count = load_center(ptr[i], ptr[i + 1], 2.0 * max(rr, ra), ra, neighbor, vectors, weight, s, cap)
        if count > 1:
            moment_sums(count, ra, na, multi, beta, s, cap, buffer)
            sum_lanes(buffer, 4 * rows + 2, sums)
            own = angular_coefficients(g, i, nr + 1, na, expand, sums, 0, slopes)
            weighted_own = 0.0
            if multi:
                weighted_own = angular_coefficients(g, i, half + nr + 1, na, expand, sums, 2 * rows, slopes)
            angular_gradient(count, ra, na, multi, beta, sums, slopes, own, weighted_own, s, cap)
        radial_coefficients(g, i, 0, nr, rr, coefficients, 0)
        if multi:
            radial_coefficients(g, i, half, nr, rr, coefficients, 2)
        edge_gradient(n, count, rr, nr, ra, coefficients, s, cap)
        scatter(i, ptr[i], ptr[i + 1], neighbor, s, cap, grad)
        if want_virial:
            add_virial(n, s, cap, virial[structure])


@njit(nogil=True, cache=True, fastmath=FAST)
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


@njit(nogil=True, cache=True, fastmath=FAST)
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


@njit(nogil=True, cache=True, fastmath=FAST)
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


@njit(nogil=True, cache=True, fastmath=FAST)
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


@njit(nogil=True, cache=True, fastmath=FAST)
def jvp_kernel(
    ptr, neighbor, vectors, weight, multi, rr, nr, ra, na, beta, expand, v, offsets, use_strain, strain, out
):
    """J v of every centre into ``out``, (n_atoms, F)."""
    rows = len(beta)
    s, cap = scratch_for(ptr)
    half = nr + na + 2
    size = max(2 * (nr + 1), 8 * rows + 2) + 16
    buffer, sums = aligned(8 * size), aligned(size)
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
