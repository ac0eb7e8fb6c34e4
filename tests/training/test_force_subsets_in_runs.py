"""Runs under every way to choose whose forces are learned: figures where there are some, scores of energies alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from runs import config, prepare, small_features

from aenet_ray.models.model_file import read_model_file
from aenet_ray.training.comm import Solo
from aenet_ray.training.config import SGD
from aenet_ray.training.engine import run_training
from aenet_ray.training.evaluation import predict_errors
from aenet_ray.training.spec import RunSpec
from aenet_ray.training.state import TrainState


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    return small_features(tmp_path_factory.mktemp("features"), n=24)


CASES = {
    "all": {"force_fraction": 1.0},
    "random": {"force_fraction": 0.5},
    "redrawn in every epoch": {"force_fraction": 0.5, "force_resample_num_epochs": 1},
    "fixed": {"force_fraction": 0.5, "force_sampling": "fixed"},
    "one structure": {"force_fraction": 0.0},
    "very few": {"force_fraction": 0.01, "force_resample_num_epochs": 1, "testpercent": 25},
    "forces alone": {"force_fraction": 0.5, "force_weight": 1.0},
    "cached": {"force_fraction": 0.5, "cache_features": True, "cache_neighbors": True, "cache_force_triplets": True},
    "none": {"force_fraction": 0.0, "force_min_structures_per_epoch": None},
}


def trained(features, folder, settings):
    run_dir = prepare(features, folder, config(**({"iterations": 2, "testpercent": 25} | settings)))
    run_training(run_dir, Solo(), torch.device("cpu"))
    return run_dir


@pytest.mark.parametrize("case", CASES)
def test_force_figures_are_finite(features, tmp_path, case):
    settings = {"force_weight": 0.3, "force_resample_num_epochs": 0} | CASES[case]
    run_dir = trained(features, tmp_path / "run", settings)
    history = read_model_file(run_dir / "model.pt")["training_history"]
    assert np.isfinite(history["test_force_rmse"].numpy()).all(), "validation uses all forces"
    assert math.isfinite(history["train_force_rmse"][-1]), "the last row is a full pass over all forces"
    assert math.isfinite(history["train_force_rmse"][0]) == (case != "none")
    assert np.isfinite(history["train_loss"].numpy()).all()


@pytest.mark.parametrize("force_weight", [0.0, 0.9])
def test_scores_are_of_energies_alone(features, tmp_path, force_weight):
    """With steps too small to move the weights, a score is |ΔE|/N of the first weights, whatever the forces."""
    settings = {
        "iterations": 1, "sampling_policy": "error_weighted", "force_weight": force_weight, "force_fraction": 1.0,
        "method": SGD(lr=1e-30, batchsize=8),
    }  # fmt: skip
    run_dir = trained(features, tmp_path / "run", settings)
    scores = read_model_file(run_dir / "checkpoints" / "checkpoint_epoch_0000.pt")["policy_state"].numpy()
    state = TrainState.create(RunSpec.load(run_dir), torch.device("cpu"))
    found = predict_errors(state.model, state.maker, state.spec.train_ids, forces=False)
    expected = np.abs(np.concatenate([energy for _, energy, _ in found]))
    drawn = scores != 1.0
    assert 3 < drawn.sum() < len(scores), "what was not drawn keeps its first score"
    np.testing.assert_allclose(scores[drawn], expected[drawn], rtol=1e-10)
