"""Evaluations of any part of a store: the right structures, and few others read."""

from __future__ import annotations

import numpy as np
import pytest

from aenet_ray.inference.evaluate import BLOCK, SPARSE, _blocks
from aenet_ray.structures.store import StructureStore, write_store
from aenet_ray.structures.structure import Structure

N = 5000


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Structures of one to three atoms, each told apart by its energy."""
    path = tmp_path_factory.mktemp("store") / "many.h5"
    return StructureStore(
        write_store((Structure(np.eye(3)[: 1 + i % 3], ["O"] * (1 + i % 3), float(i)) for i in range(N)), path).path
    )


IDS = {
    "all": np.arange(N),
    "sparse": np.arange(0, N, 97),
    "random": np.sort(np.random.default_rng(0).choice(N, 500, replace=False)),
    "two ends": np.array([0, 1, 2, N - 2, N - 1]),
    "repeated": np.array([3, 3, 5, 4000, 4000]),
    "one": np.array([77]),
    "dense, then far": np.concatenate([np.arange(63), [N - 1], np.arange(N)[-1:]]),
}


@pytest.mark.parametrize("ids", IDS.values(), ids=IDS)
def test_wanted_structures_come_in_order_and_little_else_is_read(store, monkeypatch, ids):
    read = []
    original = StructureStore.read
    monkeypatch.setattr(
        StructureStore, "read", lambda self, a, b, **k: (read.append(b - a), original(self, a, b, **k))[1]
    )
    blocks = list(_blocks(store, ids))
    energies = np.concatenate([b.energy for b in blocks])
    np.testing.assert_array_equal(energies, ids)
    np.testing.assert_array_equal(np.concatenate([np.diff(b.offsets) for b in blocks]), 1 + ids % 3)
    assert max(b.n_structures for b in blocks) <= BLOCK
    assert max(read) <= SPARSE * BLOCK
    assert sum(read) <= SPARSE * len(ids)


def test_a_range_is_read_at_once(store, monkeypatch):
    """Half of the structures: one read for all, not one for each."""
    read = []
    original = StructureStore.read
    monkeypatch.setattr(
        StructureStore, "read", lambda self, a, b, **k: (read.append(b - a), original(self, a, b, **k))[1]
    )
    list(_blocks(store, np.arange(0, 2 * BLOCK, 2)))
    assert read == [2 * BLOCK - 1]
