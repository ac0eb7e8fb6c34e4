"""The splits of a search: every structure is held out once, and every source."""

from __future__ import annotations

import numpy as np
import pytest
from searches import TIO2

from aenet_ray.errors import ConfigError
from aenet_ray.structures.readers import read_structures
from aenet_ray.structures.store import StructureStore, write_store
from aenet_ray.training.choose import Split
from aenet_ray.tuning.splits import folds, leave_one_source_out, one_split, unique_names


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """31 structures of three sources; two have no energy."""
    structures = [s for s, _ in zip(read_structures(TIO2), range(31), strict=False)]
    for i, s in enumerate(structures):
        s.source = f"/data/{'rutile' if i < 12 else 'anatase' if i < 25 else 'md.extxyz'}"
        s.source += f"/{i:03d}.xsf" if i < 25 else ""
    structures[3].energy = structures[30].energy = None
    path = tmp_path_factory.mktemp("splits") / "structures.h5"
    return StructureStore(write_store(structures, path).path)


def test_folds(store, tmp_path):
    made = folds(store, tmp_path, 4, seed=5)
    parts = [split.load(store) for split in made]
    held_out = np.concatenate([p.test_ids for p in parts])
    labelled = np.setdiff1d(np.arange(31), [3, 30])
    assert sorted(held_out) == labelled.tolist(), "each with an energy once"
    assert sorted(len(p.test_ids) for p in parts) == [7, 7, 7, 8]
    for part in parts:
        assert sorted([*part.train_ids, *part.test_ids]) == labelled.tolist()
    assert folds(store, tmp_path, 4, seed=5)[2].hash == made[2].hash
    assert folds(store, tmp_path, 4, seed=6)[2].hash != made[2].hash


def test_sources(store, tmp_path):
    made = leave_one_source_out(store, tmp_path, None)
    assert [s.name for s in made] == ["anatase", "md.extxyz", "rutile"]
    assert made[2].load(store).test_ids.tolist() == [i for i in range(12) if i != 3]
    assert made[1].load(store).test_ids.tolist() == list(range(25, 30))
    made = leave_one_source_out(store, tmp_path, r"rutile|md|anatase")
    assert [s.name for s in made] == ["anatase", "md", "rutile"]
    with pytest.raises(ConfigError, match=r"of 1 sources \(data\)"):
        leave_one_source_out(store, tmp_path, "data")


def test_a_split_that_is_given_is_kept(store, tmp_path):
    given = Split(np.arange(20), np.array([22, 24]))
    (kept,) = one_split(store, tmp_path, 50, 1, given)
    assert kept.load(store).train_ids.tolist() == list(range(20))
    assert kept.load(store).test_ids.tolist() == [22, 24]
    parts = [s.load(store) for s in folds(store, tmp_path, 3, 1, given)]
    labelled = [i for i in (*range(20), 22, 24) if i != 3]
    assert sorted(np.concatenate([p.test_ids for p in parts])) == labelled


def test_names_that_tell_sources_apart():
    assert unique_names(["/a/x/t.xyz", "/a/y/t.xyz"]) == {"/a/x/t.xyz": "x/t.xyz", "/a/y/t.xyz": "y/t.xyz"}
