"""Batches made ahead, by any number of threads: the same training, bit by bit; errors come out, threads end."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from runs import config, final_weights, prepare, small_features

from aenet_ray.errors import StoreError
from aenet_ray.models.model_file import read_model_file
from aenet_ray.training.batch import BatchMaker
from aenet_ray.training.comm import Solo
from aenet_ray.training.engine import run_training


def trained(features, run_dir, **changes):
    run_training(prepare(features, run_dir, config(iterations=4, **changes)), Solo(), torch.device("cpu"))
    return final_weights(run_dir), read_model_file(run_dir / "model.pt")["training_history"]


def threads() -> int:
    return sum(t.name.startswith("aenet_ray-background") for t in threading.enumerate())


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    return small_features(tmp_path_factory.mktemp("features"), 32)


@pytest.mark.parametrize("case", [{}, {"force_weight": 0.0, "sampling_policy": "error_weighted"}])
def test_no_number_of_threads_changes_a_result(features, tmp_path, case):
    weights, history = trained(features, tmp_path / "none", **case)
    for k, (number, ahead, stay) in enumerate([(1, 1, True), (3, 2, True), (2, 4, False)]):
        settings = {"num_workers": number, "prefetch_factor": ahead, "persistent_workers": stay}
        again, other = trained(features, tmp_path / str(k), **case, **settings)
        assert torch.equal(weights, again), settings
        for column in history:
            if "_time" not in column:
                np.testing.assert_array_equal(history[column], other[column], err_msg=column)
    assert threads() == 0


def test_threads_make_the_batches(features, tmp_path, monkeypatch):
    made, make = set(), BatchMaker.make

    def noted(self, *arguments):
        made.add(threading.current_thread().name)
        return make(self, *arguments)

    monkeypatch.setattr(BatchMaker, "make", noted)
    trained(features, tmp_path / "run", num_workers=2)
    assert made
    assert all(name.startswith("aenet_ray-background") for name in made)


def test_errors_come_out_of_the_threads_and_end_them(features, tmp_path, monkeypatch):
    def broken(self, *arguments):
        raise StoreError("shard_000000: cannot be read")

    monkeypatch.setattr(BatchMaker, "make", broken)
    with pytest.raises(StoreError, match="shard_000000: cannot be read"):
        trained(features, tmp_path / "run", num_workers=2)
    assert threads() == 0
