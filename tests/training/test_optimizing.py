"""L-BFGS, gradient clipping and early stopping: what they promise beyond resuming and worker counts."""

from __future__ import annotations

import logging
import math

import numpy as np
import pytest
import torch
from runs import config, final_weights, prepare, small_features

from aenet_ray.errors import ConfigError, TrainingError
from aenet_ray.models.model_file import read_model_file
from aenet_ray.training import engine, lbfgs
from aenet_ray.training.comm import Solo
from aenet_ray.training.config import LBFGS, SGD, Adam, NaturalGradient, TorchTrainingConfig
from aenet_ray.training.early_stopping import EarlyStopping
from aenet_ray.training.engine import run_training
from aenet_ray.training.flat import FlatParameters


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    return small_features(tmp_path_factory.mktemp("features"), 40)


def train(features, run_dir, **changes):
    """The history of a run, column by column."""
    prepare(features, run_dir, config(**changes))
    run_training(run_dir, Solo(), torch.device("cpu"))
    return {k: v.numpy() for k, v in read_model_file(run_dir / "model.pt")["training_history"].items()}


FULL = {"force_resample_num_epochs": 0, "force_fraction": 1.0}


def test_lbfgs_lowers_the_loss_in_every_epoch_and_beats_adam(features, tmp_path):
    history = train(features, tmp_path / "lbfgs", method=LBFGS(max_iter=4), iterations=12, **FULL)
    assert (np.diff(history["train_loss"]) <= 1e-12).all()
    adam = train(features, tmp_path / "adam", method=Adam(mu=0.01, batchsize=8), iterations=12, **FULL)
    assert history["train_loss"][-1] < 0.7 * adam["train_loss"][-1]


def test_lbfgs_first_values_are_those_of_the_first_weights(features, tmp_path):
    """One structure held at a time, or all at once: the same loss, gradient and steps."""
    one = train(features, tmp_path / "one", method=LBFGS(max_iter=2, batchsize=1), iterations=3, **FULL)
    all_ = train(features, tmp_path / "all", method=LBFGS(max_iter=2, batchsize=99), iterations=3, **FULL)
    sgd = train(features, tmp_path / "sgd", method=SGD(lr=1e-12, batchsize=99), iterations=1, **FULL)
    for column in ("train_energy_rmse", "train_energy_mae", "train_force_rmse", "train_loss"):
        np.testing.assert_allclose(one[column], all_[column], rtol=1e-8, err_msg=column)
        assert all_[column][0] == pytest.approx(sgd[column][0], rel=1e-6)


def test_lbfgs_gradient_is_that_of_its_loss(features, tmp_path, monkeypatch):
    """By differences along a direction, forces included."""
    seen = []

    class Checked(lbfgs.FullBatchLoss):
        def __call__(self):
            loss = super().__call__()
            if not seen:
                vector, gradient = self.state.flat.vector.data, self.state.flat.gradient.clone()
                direction = torch.randn(len(vector), dtype=vector.dtype, generator=torch.Generator().manual_seed(0))
                step, losses = 1e-5, []
                for sign in (1, -1):
                    vector.add_(direction, alpha=sign * step)
                    losses.append(super().__call__())
                    vector.sub_(direction, alpha=sign * step)
                seen.append(((losses[0] - losses[1]) / (2 * step), float(gradient @ direction)))
                self.state.flat.gradient.copy_(gradient)
            return loss

    monkeypatch.setattr(lbfgs, "FullBatchLoss", Checked)
    train(features, tmp_path / "run", method=LBFGS(max_iter=1), iterations=1, force_weight=0.4, **FULL)
    assert seen[0][0] == pytest.approx(seen[0][1], rel=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sampling_policy": "error_weighted"}, "sampling_policy 'error_weighted' cannot be used with it"),
        ({"force_weight": 0.1, "force_fraction": 0.5, "force_resample_num_epochs": 2}, "force_resample_num_epochs 2"),
        ({"use_scheduler": True}, "use_scheduler cannot be used"),
        ({"max_grad_norm": 1.0}, "max_grad_norm does not go with method lbfgs"),
    ],
)
def test_lbfgs_needs_a_loss_that_stays(changes, message):
    with pytest.raises(ConfigError, match=message):
        TorchTrainingConfig(method=LBFGS(), **changes)


def test_natural_gradient_is_not_clipped():
    with pytest.raises(ConfigError, match="max_grad_norm does not go with method natural_gradient"):
        TorchTrainingConfig(method=NaturalGradient(), max_grad_norm=1.0)


def test_a_gradient_is_shortened_to_its_longest():
    module = torch.nn.Linear(3, 2)
    flat = FlatParameters(module, n_extra=1)
    flat.message.copy_(torch.arange(len(flat.message), dtype=torch.float32))
    before, norm = flat.gradient.clone(), flat.gradient.norm()
    flat.clip(2 * float(norm))
    assert torch.equal(flat.gradient, before)
    flat.clip(1.5)
    torch.testing.assert_close(flat.gradient, before * 1.5 / norm)
    assert flat.extra[0] == 8, "what travels behind the gradient is none of it"
    flat.zero_grad()
    flat.clip(1.0)
    assert not flat.gradient.any()


def test_clipped_steps_are_as_long_as_allowed(features, tmp_path):
    """Plain gradient descent moves the weights by lr · max_grad_norm at most; without clipping by more."""

    def moved(name: str, **changes) -> float:
        run_dir = tmp_path / name
        train(features, run_dir, method=SGD(lr=0.01, batchsize=99), iterations=1, **changes)
        first = torch.cat([v.reshape(-1) for v in torch.load(run_dir / "initial.pt", weights_only=True).values()])
        return float((final_weights(run_dir) - first).norm())

    free = moved("free")
    assert moved("clipped", max_grad_norm=0.02) == pytest.approx(0.01 * 0.02, rel=1e-6)
    assert free > 3 * 0.01 * 0.02
    assert moved("loose", max_grad_norm=1e3) == free


def test_early_stopping_counts_what_is_not_lower():
    stopping = EarlyStopping(3, 0.1)
    for loss, waited in ((1.0, 0), (0.95, 1), (0.85, 0), (math.nan, 1), (0.8, 2), (0.7, 0), (0.7, 1)):
        stopping.observe(loss)
        assert stopping.waited == waited, loss
    assert not stopping.stopped
    stopping.observe(0.69)
    stopping.observe(9.0)
    assert stopping.stopped
    again = EarlyStopping(None, 0.1)
    again.restore(stopping.state())
    assert (again.best, again.waited, again.stopped) == (0.7, 3, False)


STOPPING = {"method": SGD(lr=1e-9, batchsize=16), "early_stopping_min_delta": 0.01, "force_weight": 0.0}


def test_a_run_ends_early_and_goes_on_with_more_patience(features, tmp_path, caplog):
    run_dir = prepare(features, tmp_path / "run", config(**STOPPING, early_stopping_patience=3))
    rows = []
    with caplog.at_level(logging.INFO):
        run_training(run_dir, Solo(), torch.device("cpu"), lambda row, last: rows.append((int(row["epoch"]), last)))
    assert rows == [(0, False), (1, False), (2, False), (3, True)]
    assert "stopped early after epoch 4 of 10: no lower validation loss than" in caplog.text
    model = read_model_file(run_dir / "model.pt")
    assert model["training_history"]["epochs_without_improvement"].tolist() == [0, 1, 2, 3]
    assert model["early_stopping"]["waited"] == 3
    rows.clear()
    run_training(run_dir, Solo(), torch.device("cpu"), lambda row, last: rows.append(int(row["epoch"])))
    assert rows == [], "finished, and begun again"
    (run_dir / "run.json").write_text(
        (run_dir / "run.json").read_text().replace('"early_stopping_patience": 3', '"early_stopping_patience": 5')
    )
    run_training(run_dir, Solo(), torch.device("cpu"), lambda row, last: rows.append(int(row["epoch"])))
    assert rows == [4, 5]


def test_early_stopping_needs_something_to_watch(features, tmp_path):
    with pytest.raises(ConfigError, match=r"early_stopping_patience=3 watches the validation loss, and there are no"):
        prepare(features, tmp_path / "run", config(**STOPPING, early_stopping_patience=3, testpercent=0))


def test_divergence_of_a_line_search_is_said(features, tmp_path, monkeypatch):
    prepare(features, tmp_path / "run", config(method=LBFGS(), **FULL))
    monkeypatch.setattr(lbfgs, "loss_scale", lambda *_: engine.LossScale(1.0, 1.0, math.inf, 1.0, 1.0))
    with pytest.raises(TrainingError, match="epoch 1: training has diverged, the loss of a trial step of lbfgs is inf"):
        run_training(tmp_path / "run", Solo(), torch.device("cpu"))
