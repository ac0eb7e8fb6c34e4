"""Laws of nature: symmetries of the features, forces and stress as derivatives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from aenet_ray.descriptors.chebyshev import ChebyshevDescriptor
from aenet_ray.descriptors.neighbors import Edges, find_neighbors

Array = NDArray[np.float64]
FEW = settings(max_examples=15, deadline=None)
seeds = st.integers(0, 10**6)
BACKENDS = ["compiled", "torch"]  # hypothesis takes no fixtures


@dataclass
class Crystal:
    """A random structure, partly periodic, at a distance from every jump at ``min_cutoff``."""

    positions: Array
    cell: Array
    pbc: NDArray[np.bool_]
    index: NDArray[np.int64]

    @classmethod
    def random(cls, seed: int) -> Crystal:
        rng = np.random.default_rng(seed)
        cell = np.diag(rng.uniform(2.5, 4.0, 3)) + 0.6 * rng.normal(size=(3, 3))
        n = int(rng.integers(1, 5))
        return cls(rng.uniform(-1, 2, (n, 3)) @ cell, cell, rng.random(3) < 0.7, rng.integers(0, 3, n))

    def edges(self, positions: Array | None = None, cell: Array | None = None) -> Edges:
        x = self.positions if positions is None else positions
        return find_neighbors(x, [0, len(x)], self.cell if cell is None else cell, self.pbc, 5.0, 0.0)


def descriptor(backend: str) -> ChebyshevDescriptor:
    return ChebyshevDescriptor(["Ti", "O", "H"], 5, 5.0, 4, 4.0, 0.0, backend=backend)


def features(d: ChebyshevDescriptor, crystal: Crystal, **changes: Array) -> Array:
    return d.features(crystal.edges(**changes), crystal.index)


@FEW
@given(seeds)
def test_rotation_and_reflection(seed: int) -> None:
    crystal, d = Crystal.random(seed), descriptor("compiled")
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    turned = features(d, crystal, positions=crystal.positions @ q, cell=crystal.cell @ q)
    np.testing.assert_allclose(turned, features(d, crystal), rtol=1e-10, atol=1e-9)


@FEW
@given(seeds)
def test_translation_and_lattice_shifts(seed: int) -> None:
    crystal, d = Crystal.random(seed), descriptor("compiled")
    rng = np.random.default_rng(seed)
    shifts = rng.integers(-5, 6, (len(crystal.positions), 3)) * crystal.pbc @ crystal.cell
    moved = features(d, crystal, positions=crystal.positions + shifts + rng.normal(size=3))
    np.testing.assert_allclose(moved, features(d, crystal), rtol=1e-10, atol=1e-9)


@FEW
@given(seeds)
def test_permutation(seed: int) -> None:
    crystal, d = Crystal.random(seed), descriptor("compiled")
    order = np.random.default_rng(seed).permutation(len(crystal.positions))
    permuted = Crystal(crystal.positions[order], crystal.cell, crystal.pbc, crystal.index[order])
    np.testing.assert_allclose(features(d, permuted), features(d, crystal)[order], rtol=1e-11, atol=1e-10)


@FEW
@given(seeds)
def test_another_cell_of_the_same_crystal(seed: int) -> None:
    """Adding one lattice vector to another describes the same crystal."""
    crystal, d = Crystal.random(seed), descriptor("compiled")
    crystal.pbc[:] = True
    skewed = np.array([[1, 0, 0], [3, 1, 0], [-2, 1, 1]]) @ crystal.cell
    np.testing.assert_allclose(features(d, crystal, cell=skewed), features(d, crystal), rtol=1e-10, atol=1e-9)


@pytest.mark.parametrize("backend", BACKENDS)
@FEW
@given(seed=seeds)
def test_gradient_is_the_derivative(backend: str, seed: int) -> None:
    """J^T g and J v against central differences of g . features."""
    crystal, d = Crystal.random(seed), descriptor(backend)
    rng = np.random.default_rng(seed)
    g, v = rng.normal(size=(len(crystal.index), d.n_features)), rng.normal(size=crystal.positions.shape)
    edges, h = crystal.edges(), 1e-5
    ahead, behind = (features(d, crystal, positions=crystal.positions + s * h * v) for s in (1, -1))
    numeric = (ahead - behind) / (2 * h)
    scale = 1.0 + np.abs(numeric).max()
    tangent = d.jvp(edges, crystal.index, v)
    assert np.abs(tangent - numeric).max() < 2e-5 * scale
    gradient, virial = d.vjp(edges, crystal.index, g)
    assert virial is None
    np.testing.assert_allclose((gradient * v).sum(), (tangent * g).sum(), rtol=1e-9, atol=1e-9 * scale)
    assert np.abs(gradient.sum(0)).max() < 1e-9 * scale  # Newton's third law


@pytest.mark.parametrize("backend", BACKENDS)
@FEW
@given(seed=seeds)
def test_virial_is_the_derivative_by_strain(backend: str, seed: int) -> None:
    crystal, d = Crystal.random(seed), descriptor(backend)
    rng = np.random.default_rng(seed)
    g, strain = rng.normal(size=(len(crystal.index), d.n_features)), rng.normal(size=(3, 3))
    offsets, h = np.array([0, len(crystal.index)]), 1e-5

    def strained(size: float) -> Array:
        matrix = np.eye(3) + size * strain
        return features(d, crystal, positions=crystal.positions @ matrix, cell=crystal.cell @ matrix)

    numeric = (strained(h) - strained(-h)) / (2 * h)
    scale = 1.0 + np.abs(numeric).max()
    zero = np.zeros_like(crystal.positions)
    tangent = d.jvp(crystal.edges(), crystal.index, zero, strain=strain[None], structure_offsets=offsets)
    assert np.abs(tangent - numeric).max() < 2e-5 * scale
    _, virial = d.vjp(crystal.edges(), crystal.index, g, structure_offsets=offsets)
    assert virial is not None
    np.testing.assert_allclose((virial[0] * strain).sum(), (tangent * g).sum(), rtol=1e-9, atol=1e-9 * scale)
    np.testing.assert_allclose(virial, virial.transpose(0, 2, 1), atol=1e-8 * scale)  # no torque


@FEW
@given(seed=seeds, orders=st.tuples(st.integers(0, 9), st.integers(0, 9)), swap=st.booleans())
def test_backends_agree(seed: int, orders: tuple[int, int], swap: bool) -> None:
    crystal, rng = Crystal.random(seed), np.random.default_rng(seed)
    cutoffs = (3.0, 5.0) if swap else (5.0, 3.0)
    both = [
        ChebyshevDescriptor(["Ti", "O", "H"], orders[0], cutoffs[0], orders[1], cutoffs[1], backend=b)
        for b in ("compiled", "torch")
    ]
    edges, offsets = crystal.edges(), np.array([0, len(crystal.index)])
    g, v = rng.normal(size=(len(crystal.index), both[0].n_features)), rng.normal(size=crystal.positions.shape)
    strain = rng.normal(size=(1, 3, 3))
    results = [
        (
            d.features(edges, crystal.index),
            *d.vjp(edges, crystal.index, g, structure_offsets=offsets),
            d.jvp(edges, crystal.index, v, strain=strain, structure_offsets=offsets),
        )
        for d in both
    ]
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-8 * (1.0 + np.abs(other).max()))


def test_each_structure_has_its_own_virial(backend: str) -> None:
    a, b, d = Crystal.random(1), Crystal.random(2), descriptor(backend)
    n, m = len(a.index), len(b.index)
    edges = find_neighbors(
        np.concatenate([a.positions, b.positions]),
        [0, n, n, n + m],
        [a.cell, a.cell, b.cell],
        [a.pbc, a.pbc, b.pbc],
        5.0,
    )
    g = np.random.default_rng(0).normal(size=(n + m, d.n_features))
    index = np.concatenate([a.index, b.index])
    _, virial = d.vjp(edges, index, g, structure_offsets=np.array([0, n, n, n + m]))
    _, first = d.vjp(a.edges(), a.index, g[:n], structure_offsets=np.array([0, n]))
    _, last = d.vjp(b.edges(), b.index, g[n:], structure_offsets=np.array([0, m]))
    assert virial is not None
    assert first is not None
    assert last is not None
    np.testing.assert_allclose(virial, np.concatenate([first, np.zeros((1, 3, 3)), last]), rtol=1e-10, atol=1e-8)


@pytest.mark.parametrize("positions", [[[0.0, 0.0, 0.0]], [[0.0, 0.0, 0.0], [0.0, 0.0, 1.2]]])
def test_derivatives_without_angles(backend: str, positions: list[list[float]]) -> None:
    """No neighbour, or a single one: the radial part only, nothing undefined."""
    d, x = descriptor(backend), np.array(positions)
    edges = find_neighbors(x, [0, len(x)], np.zeros((3, 3)), [False] * 3, 5.0)
    index = np.zeros(len(x), np.int64)
    gradient, _ = d.vjp(edges, index, np.random.default_rng(0).normal(size=(len(x), d.n_features)))
    tangent = d.jvp(edges, index, np.ones_like(x))
    assert np.isfinite(gradient).all()
    assert np.abs(tangent).max() < 1e-12  # all atoms move together
    assert (np.abs(gradient[:, 2]) > 0.01).all() == (len(x) > 1)


@pytest.mark.parametrize("backend", BACKENDS)
def test_several_gradients_at_once_are_each_of_them_alone(backend: str) -> None:
    """They share neighbours and moments; two of them to the last bit."""
    crystal, d = Crystal.random(3), descriptor(backend)
    edges, offsets = crystal.edges(), np.array([0, len(crystal.index)])
    g = np.random.default_rng(1).normal(size=(2, len(crystal.index), d.n_features))
    together = d.vjp(edges, crystal.index, g, structure_offsets=offsets)
    alone = [d.vjp(edges, crystal.index, each, structure_offsets=offsets) for each in g]
    for k in (0, 1):
        assert np.array_equal(np.asarray(together[k]), np.array([pair[k] for pair in alone]))
    assert d.vjp(edges, crystal.index, g)[1] is None
