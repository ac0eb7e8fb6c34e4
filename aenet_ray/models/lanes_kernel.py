"""Networks of up to eight members at once, a member a lane: energies of atoms and their derivatives by the features.

Four atoms and two nodes at a time, so that a weight is read once for four products. Products of one member stay in its
lane, so that none depends on the others.
"""
# mypy: disallow-untyped-defs=False

from __future__ import annotations

import numpy as np

from aenet_ray.descriptors import simd
from aenet_ray.descriptors.cached import cached_kernel, helper
from aenet_ray.descriptors.columns import aligned
from aenet_ray.descriptors.simd import at, load, splat, store

LINEAR, TANH, SIGMOID, MTANH, TWIST = range(5)
KINDS = {"linear": LINEAR, "tanh": TANH, "sigmoid": SIGMOID, "mtanh": MTANH, "twist": TWIST}
"""Of activations by their names. Compiled in: a change of numbers from another file would go unnoticed."""
SATURATED = 40.0
"""Beyond it, 1 / (exp(x) + 1) does not change in float64 beside 1."""


@helper
def activated(kind, z):
    """An activation and its slope. All that are not linear come from 1 / (exp(s z) + 1)."""
    if kind == LINEAR:
        return z, splat(1.0)
    if kind == SIGMOID:
        r = 1.0 / (simd.exponential(simd.clamped(-1.0 * z, SATURATED)) + 1.0)
        return r, r * (1.0 - r)
    steep = 2.0 if kind == TANH else 4.0 / 3.0
    r = 1.0 / (simd.exponential(simd.clamped(steep * z, SATURATED)) + 1.0)
    value, slope = 1.0 - 2.0 * r, 4.0 * r * (1.0 - r)
    if kind == TANH:
        return value, slope
    # mtanh, and twist, which adds a line to it
    value, slope = 1.7159 * value, (1.7159 * 2.0 / 3.0) * slope
    if kind == TWIST:
        value, slope = value + 0.1 * z, slope + 0.1
    return value, slope


@helper
def products(table, first, second, step, n, s, start):
    """Sums over n of two rows of weights times the values of four atoms, from ``start`` on: eight sums.

    ``first`` and ``second`` are the places of the rows' first weights, ``step`` leads to the next.
    """
    a0, a1, a2, a3 = splat(0.0), splat(0.0), splat(0.0), splat(0.0)
    b0, b1, b2, b3 = splat(0.0), splat(0.0), splat(0.0), splat(0.0)
    for _ in range(n):
        a, b = load(table, first), load(table, second)
        h = load(s, start)
        a0, b0 = a0 + a * h, b0 + b * h
        h = load(s, start + 8)
        a1, b1 = a1 + a * h, b1 + b * h
        h = load(s, start + 16)
        a2, b2 = a2 + a * h, b2 + b * h
        h = load(s, start + 24)
        a3, b3 = a3 + a * h, b3 + b * h
        first, second, start = first + step, second + step, start + 32
    return a0, a1, a2, a3, b0, b1, b2, b3


@helper
def put(kind, bias, sums, s, place, slopes):
    """Values and slopes of a node for four atoms."""
    for j in range(4):
        value, slope = activated(kind, sums[j] + bias)
        store(s, place + 8 * j, value)
        store(s, slopes + 8 * j, slope)


@helper
def forward(table, weights, n_in, n_out, kind, s, start, place, slopes):
    """A layer: from the values at ``start`` to values at ``place`` and slopes at ``slopes``."""
    biases = weights + 8 * n_in * n_out
    for o in range(0, n_out, 2):
        p = min(o + 1, n_out - 1)
        sums = products(table, weights + 8 * n_in * o, weights + 8 * n_in * p, 8, n_in, s, start)
        put(kind, load(table, biases + 8 * o), sums[:4], s, place + 32 * o, slopes + 32 * o)
        put(kind, load(table, biases + 8 * p), sums[4:], s, place + 32 * p, slopes + 32 * p)


@helper
def backward(table, weights, n_in, n_out, s, start, place, slopes):
    """From derivatives by a layer's sums at ``start`` to those by the sums of the layer before, at ``place``."""
    for i in range(0, n_in, 2):
        k = min(i + 1, n_in - 1)
        sums = products(table, weights + 8 * i, weights + 8 * k, 8 * n_in, n_out, s, start)
        for j in range(4):
            store(s, place + 32 * i + 8 * j, sums[j] * load(s, slopes + 32 * i + 8 * j))
            store(s, place + 32 * k + 8 * j, sums[4 + j] * load(s, slopes + 32 * k + 8 * j))


@cached_kernel
def lanes_kernel(features, order, counts, scale, offset, factors, plan, table, want_gradient, energies, gradient):
    """Energies of atoms, (n_atoms, 8), and with ``want_gradient`` their derivatives by the features, (n_atoms, F, 8).

    Args:
        features: (n_atoms, F); the networks see (feature - offset) scale, both (F, 8).
        order: Atoms sorted by species; counts: of each species.
        factors: What derivatives by what the networks see are multiplied with, (F, 8).
        plan: Inputs, outputs, activation and first row in the table of each layer of each species,
            (n_species, n_layers, 4); no outputs behind the last.
        table: Weights, (n_out, n_in) of a layer, and its biases, (n_rows, 8).
    """
    n_features = features.shape[1]
    nodes = 0
    for k in range(plan.shape[0]):
        nodes = max(nodes, plan[k, :, 1].sum())
    widest = max(n_features, nodes)
    space = aligned(32 * (n_features + 2 * nodes + 2 * widest) + 8)
    hidden = 32 * n_features
    (s,) = simd.borrowed((space,))
    features, scale, offset, factors = simd.borrowed((features, scale, offset, factors))
    table, energies, gradient = simd.borrowed((table, energies, gradient))
    atoms = np.empty(4, np.int64)
    begin = 0
    for k in range(len(counts)):
        end = begin + counts[k]
        for b in range(begin, end, 4):
            for j in range(4):  # the last atom again where there are fewer
                atoms[j] = order[min(b + j, end - 1)]
            for f in range(n_features):
                factor, shift = load(scale, 8 * f), load(offset, 8 * f)
                for j in range(4):
                    store(s, 32 * f + 8 * j, factor * (at(features, atoms[j] * n_features + f) - shift))
            start, place, slopes = 0, hidden, hidden + 32 * nodes
            layers = 0
            while layers < plan.shape[1] and plan[k, layers, 1] > 0:
                n_in, n_out, kind, first = plan[k, layers]
                forward(table, 8 * first, n_in, n_out, kind, s, start, place, slopes)
                start, place, slopes = place, place + 32 * n_out, slopes + 32 * n_out
                layers += 1
            for j in range(4):
                store(energies, 8 * atoms[j], load(s, start + 8 * j))
            if not want_gradient:
                continue
            here, there = hidden + 64 * nodes, hidden + 64 * nodes + 32 * widest
            for j in range(4):
                store(s, here + 8 * j, splat(1.0))
            slopes -= 32
            for layer in range(layers - 1, 0, -1):
                n_in, n_out, kind, first = plan[k, layer]
                slopes -= 32 * n_in
                backward(table, 8 * first, n_in, n_out, s, here, there, slopes)
                here, there = there, here
            n_in, n_out, kind, first = plan[k, 0]
            for f in range(0, n_in, 2):
                g = min(f + 1, n_in - 1)
                sums = products(table, 8 * (first + f), 8 * (first + g), 8 * n_in, n_out, s, here)
                for j in range(4):
                    store(gradient, 8 * (atoms[j] * n_in + f), sums[j] * load(factors, 8 * f))
                    store(gradient, 8 * (atoms[j] * n_in + g), sums[4 + j] * load(factors, 8 * g))
        begin = end
    simd.alive((space,))
