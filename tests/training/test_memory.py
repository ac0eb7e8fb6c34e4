"""Copies kept in memory, of process or device, however many: the same training, bit by bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from runs import config, final_weights, prepare, small_descriptor, small_features

from aenet_ray.models.model_file import read_model_file
from aenet_ray.models.normalization import Normalization
from aenet_ray.training import memory
from aenet_ray.training.batch import BatchMaker
from aenet_ray.training.comm import Solo
from aenet_ray.training.engine import run_training
from aenet_ray.training.kept import KeptFeatures
from aenet_ray.training.memory import keep_in_memory

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    return small_features(tmp_path_factory.mktemp("features"), 32)


@pytest.fixture
def maker(features) -> BatchMaker:
    rng = np.random.default_rng(1)
    mean, std = rng.normal(size=features.n_features), rng.uniform(1, 2, features.n_features)
    normalization = Normalization(-1.0, 2.0, mean, std, mean - 5, mean + 5, True)
    return BatchMaker(features, small_descriptor(), normalization, np.zeros(2), CPU)


def trained(features, run_dir, **changes):
    run_training(prepare(features, run_dir, config(iterations=3, **changes)), Solo(), CPU)
    return final_weights(run_dir), read_model_file(run_dir / "model.pt")["training_history"]


def same(first, second) -> None:
    assert torch.equal(first[0], second[0])
    for column, values in first[1].items():
        if not column.endswith("_time") and "_time_" not in column:
            np.testing.assert_array_equal(values, second[1][column], err_msg=column)


@pytest.fixture(scope="module")
def plain(features, tmp_path_factory):
    return trained(features, tmp_path_factory.mktemp("plain") / "run")


CACHES = [
    {"cache_features": True},
    {"cache_features": True, "cache_feature_max_entries": None, "cache_warmup": True},
    {"cache_features": True, "cache_feature_max_entries": 5, "cache_scope": "train"},
    {"cache_features": True, "cache_feature_max_entries": 0, "cache_scope": "val"},
    {"cache_neighbors": True, "cache_force_triplets": True, "cache_neighbor_max_entries": 0, "cache_warmup": True},
    {"cache_features": True, "cache_neighbors": True, "num_workers": 3, "cache_feature_max_entries": 7},
]


@pytest.mark.parametrize("settings", CACHES, ids=lambda s: ",".join(f"{k}={v}" for k, v in s.items()))
def test_no_cache_changes_a_result(features, plain, tmp_path, settings):
    same(plain, trained(features, tmp_path / "run", **settings))


@pytest.mark.parametrize("mode", ["cpu", "gpu", "mixed"])
def test_no_memory_mode_changes_a_result(features, plain, tmp_path, monkeypatch, mode):
    """The CPU stands for a device that has room for everything, for some structures, and for none."""
    row = features.n_features * features.dtype.itemsize
    for k, budget in enumerate((10**12, 300 * row, 0)):
        monkeypatch.setattr(memory, "device_budget", lambda device, budget=budget: budget)
        same(plain, trained(features, tmp_path / f"{mode}{k}", memory_mode=mode, cache_features=bool(k % 2)))


@pytest.mark.parametrize("policy", ["energy_weighted", "error_weighted"])
def test_neither_where_structures_are_drawn_more_than_once(features, tmp_path, monkeypatch, policy):
    reference = trained(features, tmp_path / "plain", sampling_policy=policy)
    monkeypatch.setattr(memory, "device_budget", lambda device: 100_000)
    settings = {"cache_features": True, "cache_feature_max_entries": 3, "cache_neighbors": True, "num_workers": 2}
    same(reference, trained(features, tmp_path / "kept", sampling_policy=policy, **settings))


def test_what_is_on_the_device_is_as_much_as_fits(maker, monkeypatch, caplog):
    store, row = maker.store, maker.store.n_features * maker.store.dtype.itemsize
    train, test = np.arange(0, 32, 2), np.arange(1, 32, 2)
    room = int(store.n_atoms[train[:5]].sum()) * row
    for mode, budget, expected in (
        ("mixed", room, train[:5]),
        ("mixed", room - 1, train[:4]),
        ("gpu", room, train[:5]),
        ("gpu", 10**9, np.arange(32)),
        ("gpu", 0, None),
        ("cpu", 10**9, None),
    ):
        maker.features = maker.from_store
        monkeypatch.setattr(memory, "device_budget", lambda device, budget=budget: budget)
        caplog.clear()
        with caplog.at_level("INFO"):
            keep_in_memory(maker, config(memory_mode=mode), train, test)
        if expected is None:
            assert maker.features == maker.from_store
            continue
        assert isinstance(maker.features, KeptFeatures)
        np.testing.assert_array_equal(maker.features.ids, expected)
        assert maker.features._filled.all(), "filled before the first step"
        told = [r for r in caplog.records if "memory_mode" in r.message]
        assert len(told) == (len(expected) < 32)
        assert all(r.levelname == ("WARNING" if mode == "gpu" else "INFO") for r in told)


def test_the_cpu_has_no_memory_of_its_own(maker):
    assert memory.device_budget(CPU) == 0
    keep_in_memory(maker, config(), np.arange(20), np.arange(20, 32))
    assert maker.features == maker.from_store


def test_bounds_and_scopes(maker):
    train, test = np.arange(20), np.arange(20, 32)
    for scope, expected in (("train", [0, 1, 2]), ("val", [20, 21, 22]), ("all", [0, 1, 2, 20, 21, 22])):
        maker.features = maker.from_store
        settings = config(cache_features=True, cache_feature_max_entries=3, cache_scope=scope, cache_warmup=True)
        keep_in_memory(maker, settings, train, test)
        assert maker.features.ids.tolist() == expected
        assert maker.features._filled.all()


def test_features_are_copied_when_first_used_and_never_again(maker):
    asked = []

    def source(ids):
        asked.append(ids.tolist())
        return maker.from_store(ids)

    kept = KeptFeatures(maker.store, source, np.array([2, 5, 9, 30]), CPU)
    assert asked == []
    kept(np.array([1, 2, 9]))
    assert asked == [[2, 9], [1]]
    kept(np.array([2, 2, 9]))
    assert asked == [[2, 9], [1]]
    kept.warm()
    assert asked == [[2, 9], [1], [5, 30]]


@pytest.mark.parametrize("seed", range(5))
def test_kept_features_are_those_of_the_store(maker, seed):
    rng = np.random.default_rng(seed)
    kept = KeptFeatures(maker.store, maker.from_store, np.sort(rng.choice(32, 12, replace=False)), CPU)
    for n in (1, 3, 20):
        ids = np.sort(rng.integers(0, 32, n))
        found, expected = kept(ids), maker.from_store(ids)
        assert torch.equal(found.x, expected.x)
        assert found.counts == expected.counts
        np.testing.assert_array_equal(found.structure, expected.structure)
        np.testing.assert_array_equal(found.row_of_atom, expected.row_of_atom)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_features_kept_on_a_gpu_are_those_of_the_store(maker):
    device = torch.device("cuda")
    assert memory.device_budget(device) > 0
    maker.device = device
    keep_in_memory(maker, config(memory_mode="gpu"), np.arange(0, 32, 2), np.empty(0, dtype=np.int64))
    ids = np.array([0, 1, 2, 2, 9])
    found = maker.features(ids)
    assert found.x.device.type == "cuda"
    assert torch.equal(found.x.cpu(), maker.from_store(ids).x)
