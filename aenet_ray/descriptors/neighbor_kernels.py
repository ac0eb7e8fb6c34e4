"""Compiled neighbour search: the images around a structure once, then eight of them at a time for every atom.

Images are listed if they lie within the cutoff of the box around the atoms. Small structures test all of them;
larger ones sort them into columns along the longest axis and test the window within reach.
"""
# mypy: disallow-untyped-defs=False

from __future__ import annotations

import math

import numpy as np

from aenet_ray.descriptors import simd
from aenet_ray.descriptors.cached import cached_search, exact_helper
from aenet_ray.descriptors.lattice import FAR, PX, PY, PZ, QX, lattice_frame, translations, wrap_atoms
from aenet_ray.descriptors.simd import load, splat, store

# Everything but the test on the vector itself is widened by this much, Å.
MARGIN = 1e-6
# Columns of the images' scratch: atom's position, translation, place along the frame's axes.
GX, GY, GZ, TX, TY, TZ, FX, FY, FZ = range(9)
IMAGE_COLUMNS = 9


@exact_helper
def list_images(first, n_atoms, atoms, cap, moves, low, high, cutoff, numbers, images, limit, index):
    """Images within the cutoff of the box into columns of length ``limit``, padded far away. Their number."""
    n = 0
    square = cutoff * cutoff
    zero = splat(0.0)
    for t in range(len(moves)):
        for e in range(0, n_atoms, 8):
            gap = splat(0.0)
            for k in range(3):
                y = load(atoms, (QX + k) * cap + e) + moves[t, 3 + k]
                store(images, (FX + k) * limit + n, y)  # packed below, once the mask is known
                outside = simd.larger(simd.larger(low[k] - y, y - high[k]), zero)
                gap = gap + outside * outside
            inside = simd.below(gap, square)
            for k in range(3):
                simd.store_packed(images, (FX + k) * limit + n, load(images, (FX + k) * limit + n), inside)
                simd.store_packed(images, (GX + k) * limit + n, load(atoms, (PX + k) * cap + e), inside)
                store(images, (TX + k) * limit + n, splat(moves[t, k]))
            simd.copy_packed_ints(numbers, first + e, index, n, inside)
            n += simd.count_true(inside)
    for e in range(n, n + 8):
        for c in range(IMAGE_COLUMNS):
            images[c * limit + e] = FAR
    return n


@exact_helper
def sort_images(n, images, limit, index, low, high, cutoff, buffer, numbers):
    """Sort images into columns of bins: by two axes, then along the longest. Bin starts and the bins' layout."""
    c = 0
    for k in range(1, 3):
        if high[k] - low[k] > high[c] - low[c]:
            c = k
    a, b = (c + 1) % 3, (c + 2) % 3
    bins, size, order = np.empty(3, np.int64), np.empty(3), np.empty(3, np.int64)
    order[0], order[1], order[2] = a, b, c
    for k in range(3):
        span = high[k] - low[k] + 2.0 * cutoff
        bins[k] = min(1024, max(1, int(span / (0.5 * cutoff if k != c else 1.0))))
    while bins[0] * bins[1] * bins[2] > 4 * n + 64:  # few atoms far apart
        most = 0
        for k in range(1, 3):
            if bins[k] > bins[most]:
                most = k
        bins[most] = (bins[most] + 1) // 2
    for k in range(3):
        size[k] = (high[k] - low[k] + 2.0 * cutoff) / bins[k]
    starts = np.zeros(bins[a] * bins[b] * bins[c] + 1, np.int64)
    where = np.empty(n, np.int64)
    for e in range(n):
        place = 0
        for k in (a, b, c):
            at = int((images[(FX + k) * limit + e] - low[k] + cutoff) / size[k])
            place = place * bins[k] + min(max(at, 0), bins[k] - 1)
        where[e] = place
        starts[place + 1] += 1
    for k in range(1, len(starts)):
        starts[k] += starts[k - 1]
    free = np.empty(len(starts), np.int64)
    for k in range(len(starts)):
        free[k] = starts[k]
    for e in range(n):
        to = free[where[e]]
        free[where[e]] += 1
        numbers[to] = index[e]
        for col in range(TZ + 1):
            buffer[col * limit + to] = images[col * limit + e]
    for e in range(n):
        index[e] = numbers[e]
    for col in range(TZ + 1):
        for e in range(col * limit, col * limit + n):
            images[e] = buffer[e]
    return starts, order, bins, size


@exact_helper
def windows(q, starts, order, bins, size, low, cutoff, found):
    """Contiguous runs of sorted images within reach of a place in the frame, into ``found``. Their number."""
    a, b, c = order[0], order[1], order[2]
    n = 0
    reach = cutoff * cutoff
    for ka in range(bins[a]):
        edge = low[a] - cutoff + ka * size[a]
        da = max(0.0, edge - q[a], q[a] - edge - size[a])
        if da * da > reach:
            continue
        for kb in range(bins[b]):
            edge = low[b] - cutoff + kb * size[b]
            db = max(0.0, edge - q[b], q[b] - edge - size[b])
            left = reach - da * da - db * db
            if left < 0.0:
                continue
            half = math.sqrt(left)
            first = max(0, int((q[c] - half - low[c] + cutoff) / size[c]))
            last = min(bins[c] - 1, int((q[c] + half - low[c] + cutoff) / size[c]))
            row = (ka * bins[b] + kb) * bins[c]
            if starts[row + last + 1] > starts[row + first]:
                found[n, 0] = starts[row + first]
                found[n, 1] = starts[row + last + 1]
                n += 1
    return n


@exact_helper
def test_images(start, stop, x, y, z, images, limit, index, min_square, square, neighbor, vectors, n):
    """Append the edges to images [start, stop). Returns the number of edges."""
    for e in range(start, stop, 8):
        dx = simd.displacement(load(images, GX * limit + e), x, load(images, TX * limit + e))
        dy = simd.displacement(load(images, GY * limit + e), y, load(images, TY * limit + e))
        dz = simd.displacement(load(images, GZ * limit + e), z, load(images, TZ * limit + e))
        inside = simd.within(simd.norm_squared(dx, dy, dz), min_square, square)
        if stop - e < 8:
            inside = simd.both(inside, simd.first_lanes(stop - e))
        simd.store_packed_triples(vectors, n, dx, dy, dz, inside)
        simd.copy_packed_ints(index, e, neighbor, n, inside)
        n += simd.count_true(inside)
    return n


@exact_helper
def expected_edges(offsets, cell, pbc, cutoff):
    """About how many edges there will be, to allocate once."""
    total = 1024.0
    sphere = 4.0 / 3.0 * math.pi * cutoff**3
    for s in range(len(offsets) - 1):
        n = offsets[s + 1] - offsets[s]
        if pbc[s, 0] and pbc[s, 1] and pbc[s, 2]:
            u, v, w = cell[s, 0], cell[s, 1], cell[s, 2]
            volume = abs(
                u[0] * (v[1] * w[2] - v[2] * w[1])
                + u[1] * (v[2] * w[0] - v[0] * w[2])
                + u[2] * (v[0] * w[1] - v[1] * w[0])
            )
            total += 1.1 * n * min(1e4, n * sphere / max(volume, 1e-6))
        else:
            total += n * min(n, 64)
    return int(total)


@exact_helper
def grown(neighbor, vectors, used, size):
    """Copies of the output with room for ``size`` edges."""
    a = np.empty(size, np.int32)
    b = np.empty((size, 3), np.float64)
    for e in range(used):
        a[e] = neighbor[e]
        b[e, 0], b[e, 1], b[e, 2] = vectors[e, 0], vectors[e, 1], vectors[e, 2]
    return a, b


@cached_search
def search_blocks(positions, offsets, cell, pbc, square, min_square, sort_from):
    """CSR edges of all structures; those of ``sort_from`` atoms and more sort their images.

    Returns a status first: -1, or twice the index of a structure with a singular lattice, or that plus one
    where a position is not finite.
    """
    n_atoms = offsets[-1]
    cutoff = math.sqrt(square) + MARGIN
    ptr = np.zeros(n_atoms + 1, np.int64)
    room = expected_edges(offsets, cell, pbc, cutoff)
    neighbor, vectors = np.empty(room, np.int32), np.empty((room, 3), np.float64)
    cap = np.int64(16)  # a plain literal would be compiled twice
    for s in range(len(offsets) - 1):
        cap = max(cap, offsets[s + 1] - offsets[s] + 16)
    atoms = np.empty(6 * cap)
    numbers = np.empty(n_atoms + 16, np.int32)
    for i in range(len(numbers)):
        numbers[i] = i
    basis, frame, lower = np.empty((3, 3)), np.empty((3, 3)), np.empty((3, 3))
    low, high, extent = np.empty(3), np.empty(3), np.empty(3)
    limit = 0
    images, index = np.empty(0), np.empty(0, np.int32)
    buffer, spare, found = np.empty(0), np.empty(0, np.int32), np.empty((1, 2), np.int64)
    q = np.empty(3)
    n = np.int64(0)
    for s in range(len(offsets) - 1):
        first, size = offsets[s], offsets[s + 1] - offsets[s]
        if size == 0:
            continue
        if lattice_frame(cell[s], pbc[s], basis, frame, lower) < 0:
            return 2 * s, ptr, neighbor, vectors
        if not wrap_atoms(positions, first, size, basis, frame, lower, atoms, cap, low, high, extent):
            return 2 * s + 1, ptr, neighbor, vectors
        moves = translations(basis, lower, extent, cutoff)
        if len(moves) * size + 16 > limit:
            limit = len(moves) * size + 16 + limit // 2
            images, index = np.empty(IMAGE_COLUMNS * limit + 8), np.empty(limit, np.int32)
        n_images = list_images(first, size, atoms, cap, moves, low, high, cutoff, numbers, images, limit, index)
        ordered = size >= sort_from
        if ordered:
            if len(spare) < limit:
                buffer, spare = np.empty((TZ + 1) * limit), np.empty(limit, np.int32)
            starts, order, bins, width = sort_images(n_images, images, limit, index, low, high, cutoff, buffer, spare)
            if len(found) < bins[order[0]] * bins[order[1]]:
                found = np.empty((bins[order[0]] * bins[order[1]], 2), np.int64)
        for i in range(size):
            if n + n_images + 16 > len(neighbor):
                neighbor, vectors = grown(neighbor, vectors, n, 2 * (n + n_images + 16))
            x, y, z = atoms[PX * cap + i], atoms[PY * cap + i], atoms[PZ * cap + i]
            runs = 1
            found[0, 0], found[0, 1] = 0, n_images
            if ordered:
                for k in range(3):
                    q[k] = atoms[(QX + k) * cap + i]
                runs = windows(q, starts, order, bins, width, low, cutoff, found)
            for r in range(runs):
                n = test_images(
                    found[r, 0], found[r, 1], x, y, z, images, limit, index, min_square, square,
                    neighbor, vectors, n,
                )  # fmt: skip
            ptr[first + i + 1] = n
    return -1, ptr, neighbor[:n], vectors[:n]
