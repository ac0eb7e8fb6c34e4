"""Trackers get what the history gets."""

from __future__ import annotations

import shutil
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
from runs import config, small_descriptor, small_features

from aenet_ray.errors import ConfigError, TrainingError
from aenet_ray.models.ann import ANNModel
from aenet_ray.training import members
from aenet_ray.training.comm import Solo
from aenet_ray.training.engine import run_training
from aenet_ray.training.loggers import MLflow
from aenet_ray.training.prepare import prepare_run


def prepared(folder, loggers):
    model = ANNModel({s: [(4, "tanh")] for s in ("Ti", "O")}, small_descriptor())
    settings = config(iterations=2, force_weight=0.0)
    prepare_run(folder / "run", small_features(folder, 12), model, settings, loggers=loggers)
    return folder / "run"


def test_every_epoch_reaches_the_trackers(tmp_path, monkeypatch):
    """Stand-ins with the calls that MLflow, Weights & Biases and TensorBoard document."""
    seen: list[tuple[str, int]] = []
    mlflow, wandb, board = ModuleType("mlflow"), ModuleType("wandb"), ModuleType("torch.utils.tensorboard")
    mlflow.active_run = lambda: None
    mlflow.start_run = lambda run_name, nested: SimpleNamespace(info=SimpleNamespace(run_id=run_name))
    mlflow.end_run = lambda: None
    mlflow.MlflowClient = lambda: SimpleNamespace(
        update_run=lambda run_id, status: None,
        set_terminated=lambda run_id, status: seen.append(("mlflow", {"FINISHED": "end"}[status])),
    )
    mlflow.log_metrics = lambda metrics, step, run_id: seen.append(("mlflow", step, metrics["train_energy_rmse"]))
    run = SimpleNamespace(
        log=lambda metrics, step: seen.append(("wandb", step, metrics["train_energy_rmse"])),
        finish=lambda exit_code: seen.append(("wandb", exit_code or "end")),
    )
    wandb.init = lambda name, dir, reinit: run

    class SummaryWriter:
        def __init__(self, folder):
            assert folder.endswith("tensorboard")

        def add_scalar(self, name, value, epoch):
            if name == "train_energy_rmse":
                seen.append(("board", epoch, value))

        def close(self):
            seen.append(("board", "end"))

    board.SummaryWriter = SummaryWriter
    for name, module in (("mlflow", mlflow), ("wandb", wandb), ("torch.utils.tensorboard", board)):
        monkeypatch.setitem(sys.modules, name, module)
    run_dir = prepared(tmp_path, ("mlflow", "wandb", "tensorboard"))
    rows = []
    run_training(run_dir, Solo(), torch.device("cpu"), lambda row, last: rows.append(dict(row)))
    for name in ("mlflow", "wandb", "board"):
        own = [entry[1:] for entry in seen if entry[0] == name]
        assert own == [(0, rows[0]["train_energy_rmse"]), (1, rows[1]["train_energy_rmse"]), ("end",)]


@pytest.fixture
def ends(monkeypatch):
    """How MLflow was told that runs ended, by the names of their folders."""
    found: list[tuple[str, str]] = []
    mlflow = ModuleType("mlflow")
    mlflow.active_run = mlflow.end_run = lambda: None
    mlflow.start_run = lambda run_name, nested: SimpleNamespace(info=SimpleNamespace(run_id=run_name))
    mlflow.log_metrics = lambda metrics, step, run_id: None
    mlflow.MlflowClient = lambda: SimpleNamespace(
        update_run=lambda run_id, status: None, set_terminated=lambda run_id, status: found.append((run_id, status))
    )
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    return found


@pytest.mark.parametrize(
    ("error", "status"), [(TrainingError, "FAILED"), (RuntimeError, "FAILED"), (KeyboardInterrupt, "KILLED")]
)
def test_a_run_that_does_not_end_well_is_ended_in_its_tracker(tmp_path, ends, error, status):
    """It would be shown as running for ever."""

    def stops(row, last):
        raise error("stop")

    run_dir = prepared(tmp_path, ("mlflow",))
    with pytest.raises(error):
        run_training(run_dir, Solo(), torch.device("cpu"), stops)
    assert ends == [("run", status)]


def test_members_that_fail_are_ended_in_their_trackers(tmp_path, ends, monkeypatch):
    """One diverges, the other comes to its end."""
    run_dir = prepared(tmp_path, ("mlflow",))
    shutil.copytree(run_dir, tmp_path / "other")
    epoch = members.run_members_epoch

    def diverges(together):
        rows = epoch(together)
        return [TrainingError("diverged"), *rows[1:]] if len(rows) == 2 else rows

    monkeypatch.setattr(members, "run_members_epoch", diverges)
    members.run_members([run_dir, tmp_path / "other"], torch.device("cpu"))
    assert ends == [("run", "FAILED"), ("other", "FINISHED")]


def test_a_tracker_that_is_gone_hides_no_error(tmp_path, ends, monkeypatch, caplog):
    def gone(self, error=None):
        raise ConnectionError("no server")

    monkeypatch.setattr(MLflow, "close", gone)
    with pytest.raises(KeyboardInterrupt):
        run_training(prepared(tmp_path, ("mlflow",)), Solo(), torch.device("cpu"), interrupted)
    assert "MLflow: the tracker was not told of the run's end: no server" in caplog.text


def interrupted(row, last):
    raise KeyboardInterrupt


def test_missing_package_is_said_before_training(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ConfigError, match="'wandb' is not installed here; pip install wandb"):
        prepared(tmp_path, ("wandb",))
