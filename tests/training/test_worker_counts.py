"""The number of workers changes the time, not the weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from runs import config, difference, final_weights, prepare, small_features, train_with

from aenet_ray.models.model_file import read_model_file
from aenet_ray.training.comm import Solo
from aenet_ray.training.engine import run_training
from aenet_ray.training.plan import share

FIXED_LOSS = {"force_resample_num_epochs": 0}
CASES = {
    "uniform": {"sampling_policy": "uniform"},
    "energy_weighted": {"sampling_policy": "energy_weighted"},
    "error_weighted": {"sampling_policy": "error_weighted"},
    "energies_only": {"force_weight": 0.0, "sampling_policy": "error_weighted"},
    "unbiased": {"force_scale_unbiased": True, "use_scheduler": True, "scheduler_patience": 1},
    # One structure a batch: the second worker has nothing to do, every time.
    "single": {"method": {"name": "sgd", "lr": 0.001, "batchsize": 1, "momentum": 0.9}, "iterations": 2},
    "natural_gradient": {
        "method": {"name": "natural_gradient", "batchsize": 16},
        "force_weight": 0.0,
        "sampling_policy": "error_weighted",
    },
    "lbfgs": {"method": {"name": "lbfgs", "max_iter": 3, "batchsize": 9}, "iterations": 4, **FIXED_LOSS},
    "lbfgs_energies": {"method": {"name": "lbfgs", "max_iter": 3}, "iterations": 4, "force_weight": 0.0},
    "clipped": {"max_grad_norm": 0.05, "method": {"name": "sgd", "lr": 0.3, "batchsize": 16}},
    "forces_only": {"force_weight": 1.0, "force_fraction": 1.0},
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Every case trained without a group, by two workers and by three; and by two the usual, wrong way."""
    folder = tmp_path_factory.mktemp("worker_counts")
    features = small_features(folder)
    runs = {}
    for kind in ("one", "two", "three", "naive"):
        names = CASES if kind != "naive" else ["uniform"]
        runs[kind] = {n: prepare(features, folder / kind / n, config(**CASES[n])) for n in names}
    for run_dir in runs["one"].values():
        run_training(run_dir, Solo(), torch.device("cpu"))
    train_with(2, list(runs["two"].values()), folder / "meet2")
    train_with(3, list(runs["three"].values()), folder / "meet3")
    train_with(2, list(runs["naive"].values()), folder / "meet_naive", naive=True)
    return runs


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("kind", ["two", "three"])
def test_same_weights(trained, kind, name):
    one, more = final_weights(trained["one"][name]), final_weights(trained[kind][name])
    assert difference(one, more) < 1e-9


@pytest.mark.parametrize("name", CASES)
def test_same_history(trained, name):
    one, two = (read_model_file(trained[k][name] / "model.pt")["training_history"] for k in ("one", "two"))
    for column in one:
        if "_time" not in column:
            np.testing.assert_allclose(one[column], two[column], rtol=1e-9, err_msg=column)


def test_naive_mean_of_losses_would_fail(trained):
    one, naive = final_weights(trained["one"]["uniform"]), final_weights(trained["naive"]["uniform"])
    assert difference(one, naive) > 1e-4


def test_training_moved_the_weights(trained):
    model = read_model_file(trained["one"]["uniform"] / "model.pt")
    first, last = model["training_history"]["train_loss"][0], model["training_history"]["train_loss"][-1]
    assert last < 0.9 * first


@pytest.mark.parametrize("n_workers", [1, 2, 3, 8])
def test_shares_are_a_partition_and_balanced(n_workers):
    costs = np.random.default_rng(0).integers(6, 96, 64).astype(float)
    shares = [share(costs, n_workers, w) for w in range(n_workers)]
    np.testing.assert_array_equal(np.sort(np.concatenate(shares)), np.arange(64))
    loads = [costs[s].sum() for s in shares]
    assert max(loads) < 1.05 * np.mean(loads)
