"""Jacobian products of several g or v on the same neighbours, by compiled kernels that take eight at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from aenet_ray.descriptors.gradient_kernel import vjp_kernel
from aenet_ray.descriptors.members_kernel import members_vjp_kernel
from aenet_ray.descriptors.members_tangent_kernel import members_jvp_kernel
from aenet_ray.descriptors.neighbors import Edges, read_only
from aenet_ray.descriptors.parameters import checked_offsets, checked_rows
from aenet_ray.descriptors.simd import WIDTH as LANES
from aenet_ray.structures.structure import FloatArray, IntArray

if TYPE_CHECKING:
    from aenet_ray.descriptors.chebyshev import ChebyshevDescriptor

FEW = 2
"""Up to so many go one by one and get the very bits that each gets alone; more share lanes, and agree to rounding."""


def vjp_of_each(
    descriptor: ChebyshevDescriptor, edges: Edges, species_index: IntArray, g: FloatArray, offsets: IntArray, n: int
) -> tuple[FloatArray, FloatArray]:
    """J^T g, (k, n_atoms, 3), and virials, (k, n, 3, 3), of every g, (k, n_atoms, F)."""
    grad, virial = np.zeros((len(g), edges.n_atoms, 3)), np.zeros((len(g), n, 3, 3))
    settings = descriptor.kernel_input(edges, species_index)
    for k in range(0, len(g), LANES):
        part = slice(k, k + LANES)
        if len(g[part]) <= FEW:
            vjp_kernel(*settings, g[part], offsets, n > 0, grad[part], virial[part])
        else:
            members = *settings, *_species(descriptor, species_index)
            grad[part], virial[part] = _members_vjp(members, g[part], False, len(g[part]), offsets, n)
    return grad, virial


def vjp_in_lanes(
    descriptor: ChebyshevDescriptor,
    edges: Edges,
    species_index: IntArray,
    g: FloatArray,
    n_used: int,
    structure_offsets: IntArray | None = None,
) -> tuple[FloatArray, FloatArray | None]:
    """As ``ChebyshevDescriptor.vjp`` of several g, which lie as (n_atoms, F, 8); of these, ``n_used`` count."""
    g = checked_rows("g", g, (edges.n_atoms, descriptor.n_features, LANES))
    offsets, n = checked_offsets(structure_offsets, edges.n_atoms)
    members = *descriptor.kernel_input(edges, species_index), *_species(descriptor, species_index)
    grad, virial = _members_vjp(members, g, True, n_used, offsets, n)
    return grad, None if structure_offsets is None else virial


def jvp_of_each(descriptor: ChebyshevDescriptor, edges: Edges, species_index: IntArray, v: FloatArray) -> FloatArray:
    """J v, (k, n_atoms, F), of every v, (k, n_atoms, 3)."""
    v, n_features = checked_rows("v", v, (len(v), edges.n_atoms, 3)), descriptor.n_features
    members = *descriptor.kernel_input(edges, species_index), *_species(descriptor, species_index)
    result = np.empty((len(v), edges.n_atoms, n_features))
    lanes, out = np.zeros((edges.n_atoms, 3, LANES)), np.empty((edges.n_atoms, n_features, LANES))
    for k in range(0, len(v), LANES):
        part = v[k : k + LANES]
        lanes[..., : len(part)] = np.moveaxis(part, 0, -1)
        members_jvp_kernel(*members, lanes, out)
        result[k : k + LANES] = np.moveaxis(out[..., : len(part)], -1, 0)
    return result


def _species(descriptor: ChebyshevDescriptor, species_index: IntArray) -> tuple[IntArray, FloatArray]:
    """What the kernels of members take besides: species of the atoms, and the weight of each species."""
    return read_only(species_index, np.int64), read_only(descriptor.typespin, np.float64)


def _members_vjp(
    members: tuple[Any, ...], g: FloatArray, in_lanes: bool, n_used: int, offsets: IntArray, n: int
) -> tuple[FloatArray, FloatArray]:
    n_atoms = g.shape[0] if in_lanes else g.shape[1]
    grad, virial = np.zeros((n_atoms, 3, LANES)), np.zeros((n, 3, 3, LANES))
    members_vjp_kernel(*members, g, in_lanes, offsets, n > 0, grad, virial)
    return np.moveaxis(grad, -1, 0)[:n_used], np.moveaxis(virial, -1, 0)[:n_used]
