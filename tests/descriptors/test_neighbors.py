"""Neighbour search against all pairs of all images, on both of its ways to search."""

from __future__ import annotations

import numpy as np
import pytest
from direct_descriptor import direct_neighbors
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from aenet_ray.descriptors.neighbors import Edges, find_neighbors, largest_square
from aenet_ray.errors import DescriptorError

ALL, SORTED = 10**9, 0  # sort_from: test every image; sort the images of every structure


def assert_same(edges: Edges, first: int, expected: list[tuple[list[int], NDArray[np.float64]]]) -> None:
    """Same edges in any order; the atoms of the structure start at ``first``."""
    for i, (indices, vectors) in enumerate(expected):
        row = slice(edges.ptr[first + i], edges.ptr[first + i + 1])
        found = np.column_stack([edges.neighbor[row] - first, edges.vectors[row]])
        wanted = np.column_stack([np.array(indices, dtype=float), vectors])
        assert len(found) == len(wanted)
        if len(wanted) == 0:
            continue
        gaps = np.abs(found[:, None] - wanted[None]).max(2)
        nearest = gaps.argmin(1)
        assert len(set(nearest.tolist())) == len(wanted)
        assert gaps.min(1).max() < 1e-9


def random_structure(seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Skewed, partly periodic, atoms far outside the cell, missing vectors where not periodic."""
    rng = np.random.default_rng(seed)
    pbc = rng.random(3) < 0.7
    while True:
        cell = rng.normal(size=(3, 3)) * rng.uniform(1.5, 5.0)
        if abs(np.linalg.det(cell)) > 8.0:
            break
    if rng.random() < 0.5:
        cell[~pbc] = 0.0
    return rng.normal(size=(rng.integers(1, 8), 3)) * rng.uniform(1.0, 6.0), cell, pbc


@pytest.mark.parametrize("sort_from", [ALL, SORTED])
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), cutoff=st.floats(0.7, 5.0))
def test_random_cells(sort_from: int, seed: int, cutoff: float) -> None:
    positions, cell, pbc = random_structure(seed)
    edges = find_neighbors(positions, [0, len(positions)], cell, pbc, cutoff, 0.6, sort_from=sort_from)
    assert_same(edges, 0, direct_neighbors(positions, cell, pbc, cutoff, 0.6))


@pytest.mark.parametrize("sort_from", [ALL, SORTED])
def test_many_structures_at_once(sort_from: int) -> None:
    made = [random_structure(seed) for seed in range(12)]
    offsets = np.concatenate([[0], np.cumsum([len(p) for p, _, _ in made])])
    edges = find_neighbors(
        np.concatenate([p for p, _, _ in made]), offsets, [c for _, c, _ in made], [b for _, _, b in made], 4.5, 0.5,
        sort_from=sort_from,
    )  # fmt: skip
    assert edges.ptr.dtype == np.int64
    assert edges.neighbor.dtype == np.int32
    assert edges.vectors.shape == (edges.n_edges, 3)
    for k, (positions, cell, pbc) in enumerate(made):
        assert_same(edges, offsets[k], direct_neighbors(positions, cell, pbc, 4.5, 0.5))


@pytest.mark.parametrize("pbc", [(True, True, True), (True, False, True), (False, False, False)])
def test_both_ways_agree_on_a_large_structure(pbc: tuple[bool, bool, bool]) -> None:
    rng = np.random.default_rng(5)
    cell = np.array([[14.0, 0.0, 0.0], [5.0, 13.0, 0.0], [-3.0, 4.0, 15.0]])
    positions = rng.uniform(-1.0, 2.0, size=(280, 3)) @ cell
    one, other = (find_neighbors(positions, [0, 280], cell, pbc, 5.0, 0.5, sort_from=n) for n in (ALL, SORTED))
    rows = [np.column_stack([e.center(), e.neighbor, e.vectors.round(6) + 0.0]) for e in (one, other)]
    assert one.n_edges > 300
    np.testing.assert_array_equal(*(np.unique(r, axis=0) for r in rows))
    np.testing.assert_array_equal(one.ptr, other.ptr)


def test_scattered_atoms_need_little_memory() -> None:
    positions = np.random.default_rng(0).uniform(0.0, 1e5, size=(300, 3))
    positions[1] = positions[0] + [1.0, 0.0, 0.0]
    edges = find_neighbors(positions, [0, 300], np.zeros((3, 3)), [False] * 3, 3.0)
    assert edges.n_edges == 2


def test_self_images_over_several_cells() -> None:
    edges = find_neighbors([[0.3, 0.1, -7.0]], [0, 1], np.eye(3) * 2.0, [True] * 3, 6.0)
    shells = [x for x in np.ndindex(9, 9, 9) if 0 < sum((2 * (k - 4)) ** 2 for k in x) <= 36]
    assert edges.n_edges == len(shells)
    assert set(edges.neighbor.tolist()) == {0}


def test_limits_are_exact() -> None:
    """d = min_cutoff is dropped, d = cutoff is kept, and both directions agree."""
    positions = np.array([[0.0, 0.0, 0.0], [1.2, 1.6, 0.0], [3.0, 4.0, 0.0], [3.0, 4.0, np.nextafter(5.0, 6.0)]])
    edges = find_neighbors(positions, [0, 4], np.zeros((3, 3)), [False] * 3, 5.0, 2.0)
    assert edges.neighbor[: edges.ptr[1]].tolist() == [2]
    assert set(zip(edges.center().tolist(), edges.neighbor.tolist(), strict=True)) == {(0, 2), (2, 0), (1, 2), (2, 1)}


@settings(max_examples=200, deadline=None)
@given(st.floats(1e-3, 1e3))
def test_largest_square(distance: float) -> None:
    square = largest_square(distance)
    assert np.sqrt(square) <= distance < np.sqrt(np.nextafter(square, np.inf))


def test_vectors_come_in_opposite_pairs() -> None:
    positions, cell, _ = random_structure(1)
    edges = find_neighbors(positions, [0, len(positions)], cell, [True] * 3, 6.0)
    forth = np.column_stack([edges.center(), edges.neighbor, edges.vectors])
    back = np.column_stack([edges.neighbor, edges.center(), -edges.vectors]) + 0.0
    np.testing.assert_array_equal(np.unique(forth + 0.0, axis=0), np.unique(back, axis=0))


def test_no_atoms_and_no_structures() -> None:
    assert find_neighbors(np.empty((0, 3)), [0], np.empty((0, 3, 3)), np.empty((0, 3)), 5.0).n_edges == 0
    edges = find_neighbors([[0.0, 0.0, 0.0]], [0, 0, 1], np.zeros((2, 3, 3)), np.zeros((2, 3)), 5.0)
    assert edges.ptr.tolist() == [0, 0]


def test_flat_lattice_is_refused() -> None:
    with pytest.raises(DescriptorError, match=r"Structure 1: .*linearly dependent"):
        find_neighbors(
            np.zeros((2, 3)), [0, 1, 2], [np.eye(3), [[1, 0, 0], [2, 0, 0], [0, 0, 1]]], np.ones((2, 3)), 3.0
        )


def test_positions_must_be_finite() -> None:
    with pytest.raises(DescriptorError, match="Structure 0: a position is not finite"):
        find_neighbors([[0.0, np.nan, 0.0]], [0, 1], np.eye(3), np.ones(3), 3.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"positions": np.zeros((2, 2))}, r"positions have shape \(2, 2\), expected \(n_atoms, 3\)"),
        ({"offsets": [0, 3]}, r"offsets are \[0 3\], expected a rising list from 0 to 2"),
        ({"offsets": [0, 2, 1, 2]}, "expected a rising list"),
        ({"cell": np.zeros((2, 3, 3))}, "2 cells and 1 pbc for 1 structures"),
    ],
)
def test_shapes_are_checked(changes: dict[str, object], message: str) -> None:
    valid = {"positions": np.zeros((2, 3)), "offsets": [0, 2], "cell": np.zeros((3, 3)), "pbc": [False] * 3}
    with pytest.raises(DescriptorError, match=message):
        find_neighbors(**{**valid, **changes}, cutoff=3.0)  # type: ignore[arg-type]


def test_read_only_input_is_taken() -> None:
    """Memory-mapped shards are read-only, and need no second compiled version."""
    from aenet_ray.descriptors.neighbor_kernels import search_blocks

    positions, cell, pbc = random_structure(3)
    frozen = positions.copy()
    frozen.flags.writeable = False
    arguments = ([0, len(positions)], cell, pbc, 4.0)
    np.testing.assert_array_equal(
        find_neighbors(frozen, *arguments).vectors, find_neighbors(positions, *arguments).vectors
    )
    assert len(search_blocks.signatures) == 1
