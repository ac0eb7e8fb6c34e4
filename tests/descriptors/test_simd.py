"""Eight lanes at a time give what numpy gives; kernels notice changed helpers."""

from __future__ import annotations

import sys

import numpy as np
from numba import njit

from aenet_ray.descriptors import cached, simd
from aenet_ray.descriptors.neighbor_kernels import search_blocks
from aenet_ray.descriptors.simd import load, store

RNG = np.random.default_rng(0)
A, ROWS, TABLE = RNG.random(64), RNG.random((12, 3)), RNG.random(5)
INDEX = RNG.integers(0, 5, 20).astype(np.int32)
X, Y = A[:8], A[8:16]
INSIDE = X < 0.5


def test_arithmetic() -> None:
    @njit
    def run(a: np.ndarray, out: np.ndarray) -> None:
        x, y = load(a, 0), load(a, 8)
        x += 1.0
        store(out, 0, x * y + 2.0 * x - y / x)
        store(out, 8, simd.keep(simd.below(y, 0.5), simd.root(x)))
        store(out, 16, simd.larger(x, y))
        out[24] = simd.total(x)

    out = np.zeros(25)
    run(A, out)
    x = X + 1.0
    np.testing.assert_allclose(out[:8], x * Y + 2.0 * x - Y / x, rtol=1e-15)
    np.testing.assert_array_equal(out[8:16], np.where(Y < 0.5, np.sqrt(x), 0.0))
    np.testing.assert_array_equal(out[16:24], np.maximum(x, Y))
    np.testing.assert_allclose(out[24], x.sum(), rtol=1e-15)


def test_exponential() -> None:
    """Also where the compiler may change the order of sums."""

    @cached.helper
    def shifted(x: object) -> object:
        return simd.exponential(simd.clamped(2.0 * x, 300.0)) + 1.0

    @njit
    def run(a: np.ndarray, out: np.ndarray, clamped: np.ndarray) -> None:
        for i in range(0, len(a), 8):
            store(out, i, simd.exponential(load(a, i)))
            store(clamped, i, shifted(load(a, i)))

    a = np.concatenate([np.linspace(-700.0, 700.0, 4000), [0.0, -0.0, np.nan, 1e-300, 1.0, -1.0, np.log(2.0), 300.0]])
    out, clamped = np.zeros_like(a), np.zeros_like(a)
    run(a, out, clamped)
    np.testing.assert_allclose(out, np.exp(a), rtol=1e-15)
    np.testing.assert_allclose(clamped, np.exp(np.clip(2.0 * a, -300.0, 300.0)) + 1.0, rtol=2e-13)


def test_memory() -> None:
    @njit
    def run(a: np.ndarray, rows: np.ndarray, table: np.ndarray, index: np.ndarray, out: np.ndarray) -> None:
        x, y, z = simd.load_triples(rows, 2)
        store(out, 0, x)
        store(out, 8, y)
        store(out, 16, z)
        store(out, 24, simd.gather(table, 1, 0, index, 3))
        store(out, 32, simd.gather(rows, 3, 1, index, 3))
        store(out, 40, simd.sum_of_eight(a, 0))
        out[48] = simd.at(a, 5)

    out = np.zeros(49)
    run(A, ROWS, TABLE, INDEX, out)
    np.testing.assert_array_equal(out[:24].reshape(3, 8), ROWS[2:10].T)
    np.testing.assert_array_equal(out[24:32], TABLE[INDEX[3:11]])
    np.testing.assert_array_equal(out[32:40], ROWS[INDEX[3:11], 1])
    np.testing.assert_allclose(out[40:48], A.reshape(8, 8).sum(1), rtol=1e-15)
    assert out[48] == A[5]


def test_transposed() -> None:
    @njit
    def run(rows: np.ndarray, starts: np.ndarray, out: np.ndarray) -> None:
        simd.transposed(rows, starts, 3, out, 8)

    rows, starts, out = RNG.random((4, 20)), np.array([0, 20, 40, 5, 9, 9, 60, 1]), np.zeros(80)
    run(rows, starts, out)
    expected = np.array([rows.ravel()[k + 3 : k + 11] for k in starts])
    np.testing.assert_array_equal(out[8:72].reshape(8, 8), expected.T)
    assert not out[:8].any()
    assert not out[72:].any()


def test_borrowed_arrays_are_not_counted() -> None:
    """Neither kept alive nor let go of; ``alive`` keeps their owners."""

    @njit
    def run(given: np.ndarray, n: int) -> np.ndarray:
        owners = np.zeros(n), given
        own, lent = simd.borrowed(owners)
        other = np.ones(n)  # would be in the place of the first if that had been let go of
        for k in range(n):
            own[k] += lent[k] + k
        result = own + other
        simd.alive(owners)
        return result

    given = A.copy()
    before = sys.getrefcount(given)
    np.testing.assert_array_equal(run(given, 64), given + np.arange(64) + 1.0)
    assert sys.getrefcount(given) == before


def test_masks_and_packing() -> None:
    @njit
    def run(a: np.ndarray, index: np.ndarray, out: np.ndarray, rows: np.ndarray, ints: np.ndarray) -> None:
        x, y = load(a, 0), load(a, 8)
        inside = simd.below(x, 0.5)
        simd.store_packed(out, 0, x, inside)
        store(out, 8, simd.load_unpacked(out, 0, inside))
        simd.store_packed_triples(rows, 0, x, y, x + y, inside)
        simd.copy_packed_ints(index, 0, ints, 0, inside)
        out[16] = simd.count_true(inside)
        out[17] = simd.count_true(simd.both(inside, simd.first_lanes(3)))
        out[18] = simd.count_true(simd.within(x, x_limit, 1.0))
        out[19] = simd.count_true(simd.both(simd.opposite(inside), simd.first_lanes(5)))

    x_limit = float(X[0])
    out, rows, ints = np.zeros(20), np.zeros((8, 3)), np.zeros(8, np.int32)
    run(A, INDEX, out, rows, ints)
    n = int(INSIDE.sum())
    assert 0 < n < 8
    np.testing.assert_array_equal(out[:n], X[INSIDE])
    np.testing.assert_array_equal(out[8:16], np.where(INSIDE, X, 0.0))
    np.testing.assert_array_equal(rows[:n], np.column_stack([X, Y, X + Y])[INSIDE])
    np.testing.assert_array_equal(ints[:n], INDEX[:8][INSIDE])
    assert out[16:].tolist() == [n, INSIDE[:3].sum(), (X[0] < X).sum(), (~INSIDE[:5]).sum()]


def test_a_changed_helper_is_noticed() -> None:
    """The stamp that numba compares before it uses a compiled file holds the hash of all files of the folder."""
    assert cached._sources() in search_blocks._cache._cache_file._source_stamp
