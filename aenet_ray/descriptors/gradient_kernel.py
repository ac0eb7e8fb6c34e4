"""J^T g: moments first, then the gradient of every edge, added to its two atoms and to the virial."""
# mypy: disallow-untyped-defs=False

from __future__ import annotations

from aenet_ray.descriptors import simd
from aenet_ray.descriptors.cached import cached_kernel, helper
from aenet_ray.descriptors.columns import (
    AD,
    AW,
    AX,
    AY,
    AZ,
    GX,
    GY,
    GZ,
    HX,
    HY,
    HZ,
    D,
    W,
    X,
    aligned,
    cutoff_slope,
    cutoff_value,
    load_center,
    scratch_for,
    sum_lanes,
)
from aenet_ray.descriptors.feature_kernel import moment_sums
from aenet_ray.descriptors.simd import at, load, splat, store


@helper
def radial_coefficients(g, i, first, nr, rr, coefficients, column):
    """sum_n g_n T_n and (2 / R) times its derivative as sums over Chebyshev polynomials of the second kind.

    Into two of the four columns of ``coefficients``.
    """
    for k in range(nr + 1):
        above = g[i, first + k + 2] if k + 2 <= nr else 0.0
        coefficients[4 * k + column] = (g[i, first + k] if k == 0 else 0.5 * g[i, first + k]) - 0.5 * above
        slope = (k + 1) * g[i, first + k + 1] if k < nr else 0.0
        coefficients[4 * k + column + 1] = 2.0 / rr * slope


@helper
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


@helper
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


@helper
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


@helper
def total_gradient(s, cap, e, packed, count, factor, inside):
    """Radial part, a factor times the vector, plus the next of the packed angular part. How many are used up."""
    for column in range(3):
        value = factor * load(s, (X + column) * cap + e)
        if count > 1:
            value += simd.load_unpacked(s, (GX + column) * cap + packed, inside)
        store(s, (HX + column) * cap + e, value)
    return packed + simd.count_true(inside)


@helper
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


@helper
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


@cached_kernel
def vjp_kernel(
    ptr, neighbor, vectors, weight, multi, rr, nr, ra, na, beta, expand, g, offsets, want_virial, grad, virial
):
    """J^T g of every g, (k, n_atoms, F): adds to ``grad`` (k, n_atoms, 3) and ``virial`` (k, n_structures, 3, 3).

    What does not depend on g, neighbours and moments, is made once for all.
    """
    rows = len(beta)
    columns, cap = scratch_for(ptr)
    half = nr + na + 2
    size = 4 * rows + 18
    scratch = aligned(8 * size), aligned(size), aligned(size), aligned(4 * rows), aligned(4 * (nr + 1)), columns
    buffer, moments, sums, slopes, coefficients, s = simd.borrowed(scratch)
    neighbor, vectors, weight, beta, expand = simd.borrowed((neighbor, vectors, weight, beta, expand))
    g, grad, virial = simd.borrowed((g, grad, virial))
    structure = 0
    for i in range(len(ptr) - 1):
        while want_virial and i >= offsets[structure + 1]:
            structure += 1
        n, count = load_center(ptr[i], ptr[i + 1], 2.0 * max(rr, ra), ra, neighbor, vectors, weight, s, cap)
        if count > 1:
            moment_sums(count, ra, na, multi, beta, s, cap, buffer)
            sum_lanes(buffer, 4 * rows + 2, moments)
        for k in range(len(g)):
            if count > 1:
                for c in range(4 * rows + 2):
                    sums[c] = moments[c]
                own = angular_coefficients(g[k], i, nr + 1, na, expand, sums, 0, slopes)
                weighted_own = 0.0
                if multi:
                    weighted_own = angular_coefficients(g[k], i, half + nr + 1, na, expand, sums, 2 * rows, slopes)
                angular_gradient(count, ra, na, multi, beta, sums, slopes, own, weighted_own, s, cap)
            radial_coefficients(g[k], i, 0, nr, rr, coefficients, 0)
            if multi:
                radial_coefficients(g[k], i, half, nr, rr, coefficients, 2)
            edge_gradient(n, count, rr, nr, ra, coefficients, s, cap)
            scatter(i, ptr[i], ptr[i + 1], neighbor, s, cap, grad[k])
            if want_virial:
                add_virial(n, s, cap, virial[k, structure])
    simd.alive(scratch)
