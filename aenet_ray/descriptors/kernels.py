"""Compiled CPU kernels over CSR edges: features, J^T g and J v in one pass over the neighbours each."""
# mypy: disallow-untyped-defs=False

from __future__ import annotations

import math

import numpy as np
from numba import njit

from aenet_ray.descriptors.coefficients import COS_PI, SIN_PI

FAST = {"reassoc", "contract", "arcp", "nsz"}


@njit(nogil=True, cache=True, fastmath=FAST)
def cutoff_pair(d, cutoff):
    """f_c(d) and its derivative."""
    if d >= cutoff:
        return 0.0, 0.0
    y = d / cutoff - 0.5
    q = y * y
    s = SIN_PI[7]
    for k in range(6, -1, -1):
        s = s * q + SIN_PI[k]
    c = COS_PI[8]
    for k in range(7, -1, -1):
        c = c * q + COS_PI[k]
    return 0.5 - 0.5 * y * s, -0.5 * math.pi / cutoff * c


@njit(nogil=True, cache=True, fastmath=FAST)
def harmonics(x, y, z, na, tables, q, c, s):
    """Q_lm(z) by row, and Re, Im of (x + i y)^m."""
    _, start, alpha, beta, _, _ = tables
    c[0] = 1.0
    s[0] = 0.0
    k = 0
    for m in range(na + 1):
        if m > 0:
            c[m] = c[m - 1] * x - s[m - 1] * y
            s[m] = s[m - 1] * x + c[m - 1] * y
        for l in range(m, na + 1):  # noqa: E741
            if l == m:
                q[k] = start[m]
            elif l == m + 1:
                q[k] = alpha[k] * z * q[k - 1]
            else:
                q[k] = alpha[k] * z * q[k - 1] - beta[k] * q[k - 2]
            k += 1


@njit(nogil=True, cache=True, fastmath=FAST)
def moments_of(begin, end, neighbor, vectors, weight, ra, na, tables, q, c, s, mom, own):
    """Moments of a centre: mom[0:2] plain cos, sin; mom[2:4] weighted; own = sums of f^2, w^2 f^2. Count."""
    mom[:] = 0.0
    own[:] = 0.0
    count = 0
    for e in range(begin, end):
        x, y, z = vectors[e, 0], vectors[e, 1], vectors[e, 2]
        d = math.sqrt(x * x + y * y + z * z)
        if d >= ra:
            continue
        count += 1
        w = weight[neighbor[e]]
        f, _ = cutoff_pair(d, ra)
        harmonics(x / d, y / d, z / d, na, tables, q, c, s)
        own[0] += f * f
        own[1] += w * w * f * f
        k = 0
        for m in range(na + 1):
            fc, fs = f * c[m], f * s[m]
            for _ in range(m, na + 1):
                mom[0, k] += fc * q[k]
                mom[1, k] += fs * q[k]
                mom[2, k] += w * fc * q[k]
                mom[3, k] += w * fs * q[k]
                k += 1
    return count


@njit(nogil=True, cache=True, fastmath=FAST)
def features_kernel(ptr, neighbor, vectors, weight, multi, rr, nr, ra, na, a, tables, out):
    """Features of every centre into ``out``, (n_atoms, F)."""
    n_rows = len(tables[0])
    q, c, s = np.empty(n_rows), np.empty(na + 1), np.empty(na + 1)
    mom, own = np.empty((4, n_rows)), np.empty(2)
    half = nr + na + 2
    for i in range(len(ptr) - 1):
        out[i] = 0.0
        for e in range(ptr[i], ptr[i + 1]):
            x, y, z = vectors[e, 0], vectors[e, 1], vectors[e, 2]
            d = math.sqrt(x * x + y * y + z * z)
            if d >= rr:
                continue
            w = weight[neighbor[e]]
            f, _ = cutoff_pair(d, rr)
            u = 2.0 * d / rr - 1.0
            t0, t1 = f, f * u
            for n in range(nr + 1):
                out[i, n] += t0
                if multi:
                    out[i, half + n] += w * t0
                t0, t1 = t1, 2.0 * u * t1 - t0
        count = moments_of(ptr[i], ptr[i + 1], neighbor, vectors, weight, ra, na, tables, q, c, s, mom, own)
        if count < 2:
            continue
        for k in range(n_rows):
            plain = 0.5 * (mom[0, k] ** 2 + mom[1, k] ** 2)
            weighted = 0.5 * (mom[2, k] ** 2 + mom[3, k] ** 2)
            l = tables[0][k]  # noqa: E741
            for n in range(l, na + 1):
                out[i, nr + 1 + n] += a[n, l] * plain
                if multi:
                    out[i, half + nr + 1 + n] += a[n, l] * weighted
        for n in range(na + 1):
            out[i, nr + 1 + n] -= 0.5 * own[0]
            if multi:
                out[i, half + nr + 1 + n] -= 0.5 * own[1]


@njit(nogil=True, cache=True, fastmath=FAST)
def vjp_kernel(ptr, neighbor, vectors, weight, multi, rr, nr, ra, na, a, tables, g, offsets, want_virial, grad, virial):
    """J^T g: adds to ``grad`` (n_atoms, 3) and ``virial`` (n_structures, 3, 3)."""
    degree, _, _, _, gamma, up = tables
    n_rows = len(degree)
    q, c, s = np.empty(n_rows), np.empty(na + 1), np.empty(na + 1)
    mom, own = np.empty((4, n_rows)), np.empty(2)
    half = nr + na + 2
    structure = 0
    for i in range(len(ptr) - 1):
        while want_virial and i >= offsets[structure + 1]:
            structure += 1
        count = moments_of(ptr[i], ptr[i + 1], neighbor, vectors, weight, ra, na, tables, q, c, s, mom, own)
        own0 = own1 = 0.0
        for n in range(na + 1):
            own0 += g[i, nr + 1 + n]
            if multi:
                own1 += g[i, half + nr + 1 + n]
        for k in range(n_rows):
            h0 = h1 = 0.0
            for n in range(degree[k], na + 1):
                h0 += a[n, degree[k]] * g[i, nr + 1 + n]
                if multi:
                    h1 += a[n, degree[k]] * g[i, half + nr + 1 + n]
            mom[0, k] *= h0
            mom[1, k] *= h0
            mom[2, k] *= h1
            mom[3, k] *= h1
        for e in range(ptr[i], ptr[i + 1]):
            x, y, z = vectors[e, 0], vectors[e, 1], vectors[e, 2]
            d = math.sqrt(x * x + y * y + z * z)
            ux, uy, uz = x / d, y / d, z / d
            j = neighbor[e]
            w = weight[j]
            along = 0.0
            if d < rr:
                f, df = cutoff_pair(d, rr)
                u = 2.0 * d / rr - 1.0
                t0, t1 = 1.0, u
                u0, u1 = 0.0, 1.0
                p = dp = 0.0
                for n in range(nr + 1):
                    h = g[i, n]
                    if multi:
                        h += w * g[i, half + n]
                    p += h * t0
                    dp += h * n * u0
                    t0, t1 = t1, 2.0 * u * t1 - t0
                    u0, u1 = u1, 2.0 * u * u1 - u0
                along = df * p + f * dp * 2.0 / rr
            gx = gy = gz = 0.0
            if d < ra and count > 1:
                f, df = cutoff_pair(d, ra)
                harmonics(ux, uy, uz, na, tables, q, c, s)
                value = -f * (own0 + w * w * own1)
                k = 0
                for m in range(na + 1):
                    sc = ss = dc = ds = 0.0
                    for _ in range(m, na + 1):
                        hc = mom[0, k] + w * mom[2, k]
                        hs = mom[1, k] + w * mom[3, k]
                        sc += hc * q[k]
                        ss += hs * q[k]
                        dc += hc * gamma[k] * q[up[k]]
                        ds += hs * gamma[k] * q[up[k]]
                        k += 1
                    value += c[m] * sc + s[m] * ss
                    gz += c[m] * dc + s[m] * ds
                    if m > 0:
                        gx += m * (c[m - 1] * sc + s[m - 1] * ss)
                        gy += m * (c[m - 1] * ss - s[m - 1] * sc)
                tangent = f / d
                gx, gy, gz = gx * tangent, gy * tangent, gz * tangent
                along += df * value - (gx * ux + gy * uy + gz * uz)
            gx += along * ux
            gy += along * uy
            gz += along * uz
            grad[j, 0] += gx
            grad[j, 1] += gy
            grad[j, 2] += gz
            grad[i, 0] -= gx
            grad[i, 1] -= gy
            grad[i, 2] -= gz
            if want_virial:
                v = (x, y, z)
                for b in range(3):
                    virial[structure, b, 0] += v[b] * gx
                    virial[structure, b, 1] += v[b] * gy
                    virial[structure, b, 2] += v[b] * gz


@njit(nogil=True, cache=True, fastmath=FAST)
def jvp_kernel(ptr, neighbor, vectors, weight, multi, rr, nr, ra, na, a, tables, v, offsets, use_strain, strain, out):
    """J v of every centre into ``out``, (n_atoms, F)."""
    degree, _, _, _, gamma, up = tables
    n_rows = len(degree)
    q, c, s = np.empty(n_rows), np.empty(na + 1), np.empty(na + 1)
    mom, own, tan, town = np.empty((4, n_rows)), np.empty(2), np.empty((4, n_rows)), np.empty(2)
    half = nr + na + 2
    structure = 0
    for i in range(len(ptr) - 1):
        while use_strain and i >= offsets[structure + 1]:
            structure += 1
        out[i] = 0.0
        count = moments_of(ptr[i], ptr[i + 1], neighbor, vectors, weight, ra, na, tables, q, c, s, mom, own)
        tan[:] = 0.0
        town[:] = 0.0
        for e in range(ptr[i], ptr[i + 1]):
            x, y, z = vectors[e, 0], vectors[e, 1], vectors[e, 2]
            j = neighbor[e]
            tx, ty, tz = v[j, 0] - v[i, 0], v[j, 1] - v[i, 1], v[j, 2] - v[i, 2]
            if use_strain:
                st = strain[structure]
                tx += x * st[0, 0] + y * st[1, 0] + z * st[2, 0]
                ty += x * st[0, 1] + y * st[1, 1] + z * st[2, 1]
                tz += x * st[0, 2] + y * st[1, 2] + z * st[2, 2]
            d = math.sqrt(x * x + y * y + z * z)
            ux, uy, uz = x / d, y / d, z / d
            w = weight[j]
            along = ux * tx + uy * ty + uz * tz
            if d < rr:
                f, df = cutoff_pair(d, rr)
                u = 2.0 * d / rr - 1.0
                du = 2.0 / rr * along
                t0, t1 = f, f * u
                d0, d1 = df * along, df * along * u + f * du
                for n in range(nr + 1):
                    out[i, n] += d0
                    if multi:
                        out[i, half + n] += w * d0
                    d0, d1 = d1, 2.0 * (u * d1 + du * t1) - d0
                    t0, t1 = t1, 2.0 * u * t1 - t0
            if d < ra and count > 1:
                f, df = cutoff_pair(d, ra)
                harmonics(ux, uy, uz, na, tables, q, c, s)
                df *= along
                tx, ty, tz = (tx - along * ux) / d, (ty - along * uy) / d, (tz - along * uz) / d
                town[0] += f * df
                town[1] += w * w * f * df
                k = 0
                for m in range(na + 1):
                    dc, ds = df * c[m], df * s[m]
                    if m > 0:
                        dc += f * m * (c[m - 1] * tx - s[m - 1] * ty)
                        ds += f * m * (s[m - 1] * tx + c[m - 1] * ty)
                    for _ in range(m, na + 1):
                        dq = gamma[k] * q[up[k]] * tz * f
                        vc = q[k] * dc + dq * c[m]
                        vs = q[k] * ds + dq * s[m]
                        tan[0, k] += vc
                        tan[1, k] += vs
                        tan[2, k] += w * vc
                        tan[3, k] += w * vs
                        k += 1
        if count < 2:
            continue
        for k in range(n_rows):
            plain = mom[0, k] * tan[0, k] + mom[1, k] * tan[1, k]
            weighted = mom[2, k] * tan[2, k] + mom[3, k] * tan[3, k]
            l = degree[k]  # noqa: E741
            for n in range(l, na + 1):
                out[i, nr + 1 + n] += a[n, l] * plain
                if multi:
                    out[i, half + nr + 1 + n] += a[n, l] * weighted
        for n in range(na + 1):
            out[i, nr + 1 + n] -= town[0]
            if multi:
                out[i, half + nr + 1 + n] -= town[1]
