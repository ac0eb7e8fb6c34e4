"""J^T g and J v of eight at a time are what each gives alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aenet_ray.descriptors.chebyshev import ChebyshevDescriptor
from aenet_ray.descriptors.neighbors import Edges, find_neighbors
from aenet_ray.descriptors.several import FEW
from aenet_ray.errors import DescriptorError

SPECIES = ["Ti", "O", "H"]


def structures(seed: int, n_species: int) -> tuple[Edges, np.ndarray, np.ndarray]:
    """Neighbours, species and first atoms of three structures; the last has a single atom, maybe without neighbours."""
    rng = np.random.default_rng(seed)
    sizes = [*rng.integers(1, 9, 2), 1]
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    cells = 3.5 * np.eye(3) + 0.4 * rng.normal(size=(3, 3, 3))
    positions = np.concatenate([rng.uniform(0, 1, (n, 3)) @ cell for n, cell in zip(sizes, cells, strict=True)])
    edges = find_neighbors(positions, offsets, cells, rng.random((3, 3)) < 0.6, 5.0, 0.5)
    return edges, rng.integers(0, n_species, offsets[-1]), offsets


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    orders=st.tuples(st.integers(0, 9), st.integers(0, 9)),
    cutoffs=st.sampled_from([(5.0, 3.0), (3.0, 5.0), (5.0, 1.5)]),
    n_species=st.integers(1, 3),
    k=st.integers(FEW + 1, 19),
)
def test_each_as_alone(
    seed: int, orders: tuple[int, int], cutoffs: tuple[float, float], n_species: int, k: int
) -> None:
    d = ChebyshevDescriptor(SPECIES[:n_species], orders[0], cutoffs[0], orders[1], cutoffs[1], 0.5)
    edges, index, offsets = structures(seed, n_species)
    g = np.random.default_rng(seed).normal(size=(k, len(index), d.n_features))
    together = d.vjp(edges, index, g, structure_offsets=offsets)
    alone = [d.vjp(edges, index, each, structure_offsets=offsets) for each in g]
    for n, found in enumerate(together):
        assert found is not None
        expected = np.array([pair[n] for pair in alone])
        np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-12 * (1.0 + np.abs(expected).max()))
    np.testing.assert_array_equal(d.vjp(edges, index, g)[0], together[0])
    v = np.random.default_rng(seed).normal(size=(k, len(index), 3))
    change, one_by_one = d.jvp(edges, index, v), np.array([d.jvp(edges, index, each) for each in v])
    np.testing.assert_allclose(change, one_by_one, rtol=1e-11, atol=1e-12 * (1.0 + np.abs(one_by_one).max()))
    # Transposes of each other, to the size of what is summed.
    products = np.einsum("knf,knf->k", g, change), np.einsum("kna,kna->k", v, together[0])
    np.testing.assert_allclose(*products, rtol=1e-10, atol=1e-11 * (1.0 + np.abs(g * change).sum()))


@pytest.mark.parametrize("n", [1, 2, 3])
def test_no_angle_gives_nothing_from_angles(n: int) -> None:
    """A sum of rounding errors would be no zero."""
    d = ChebyshevDescriptor(SPECIES, 2, 5.0, 3, 2.0, 0.5)
    positions = np.array([[0.0, 0.0, 0.0], [1.1, 0.3, 0.2], [4.0, 0.1, 0.3]])[:n]
    edges = find_neighbors(positions, [0, n], np.zeros((3, 3)), np.zeros(3, bool), 5.0, 0.5)
    index, angular = np.arange(n), np.zeros(d.n_features, bool)
    angular[[*range(3, 7), *range(10, 14)]] = True
    g = np.random.default_rng(0).normal(size=(8, n, d.n_features))
    np.testing.assert_array_equal(d.vjp(edges, index, np.where(angular, g, 0.0))[0], 0.0)
    np.testing.assert_array_equal(d.vjp(edges, index, np.where(angular, 0.0, g))[0], d.vjp(edges, index, g)[0])
    v = np.random.default_rng(1).normal(size=(8, n, 3))
    np.testing.assert_array_equal(d.jvp(edges, index, v)[..., angular], 0.0)


@pytest.mark.parametrize("k", [1, 4, 5])
def test_negative_species_are_refused(k: int) -> None:
    """The kernels of many would read before the start of their tables."""
    d = ChebyshevDescriptor(SPECIES, 2, 5.0, 2, 3.0)
    edges, index, _ = structures(0, 3)
    index[0] = -1
    with pytest.raises(DescriptorError, match="species index -1, expected 0 to 2"):
        d.vjp(edges, index, np.zeros((k, len(index), d.n_features)))
    with pytest.raises(DescriptorError, match="species index -1, expected 0 to 2"):
        d.jvp(edges, index, np.zeros((k, len(index), 3)))
