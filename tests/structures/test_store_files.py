"""A run's own store is not taken away from it."""

from __future__ import annotations

import numpy as np
import pytest

from aenet_ray.errors import StructureError, TrainingError
from aenet_ray.structures.store import StructureStore, write_store
from aenet_ray.structures.store_files import replace_store
from aenet_ray.structures.structure import Structure


def some(n: int) -> list[Structure]:
    return [Structure(np.array([[0.0, 0, 0], [0, 0, 1 + i]]), ["O", "O"], float(i)) for i in range(n)]


def writes(structures):
    return lambda path: write_store(structures, path)


@pytest.fixture
def path(tmp_path):
    replace_store(writes(some(3)), tmp_path / "structures.h5", keep=True)
    return tmp_path / "structures.h5"


def state(path) -> list[tuple[str, int, bytes]]:
    return sorted((p.name, p.stat().st_mtime_ns, p.read_bytes()) for p in path.parent.iterdir())


def test_other_structures_are_refused_and_nothing_changes(path):
    before = state(path)
    with pytest.raises(TrainingError, match=r"began with other structures \(3 .*now 4 .*choose another run\.name"):
        replace_store(writes(some(4)), path, keep=True)
    with pytest.raises(StructureError):
        replace_store(writes([]), path, keep=True)
    assert state(path) == before


def test_the_same_structures_leave_the_old_file(path):
    before = state(path)
    assert len(replace_store(writes(some(3)), path, keep=True)) == 3
    assert state(path) == before


def test_without_a_run_it_is_replaced(path):
    assert len(replace_store(writes(some(4)), path, keep=False)) == 4
    assert len(StructureStore(path)) == 4


def test_a_damaged_store_is_replaced(path):
    path.write_bytes(path.read_bytes()[:100])
    assert len(replace_store(writes(some(3)), path, keep=True)) == 3


def test_the_report_of_what_was_left_out_goes_with_it(path):
    bad = Structure(np.zeros((2, 3)), ["O", "O"], 0.0)
    store = replace_store(lambda p: write_store([*some(3), bad], p, on_error="skip"), path, keep=True)
    assert len(store) == 3
    assert "apart" in (path.parent / "structures.h5.skipped.csv").read_text()
    assert len(list(path.parent.iterdir())) == 2
