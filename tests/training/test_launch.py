"""The same run through the Python interface, and submitted as a job to a running cluster."""

from __future__ import annotations

import json
import logging
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import yaml
from runs import ATOMIC_ENERGIES, TIO2, config, difference, final_weights, prepare, small_descriptor, small_features

from aenet_ray.errors import ConfigError, StoreError
from aenet_ray.models.model_file import read_model_file
from aenet_ray.potential import TorchANNPotential
from aenet_ray.training import launch
from aenet_ray.training.config import RunConfig, ScalingConfig, TorchTrainingConfig
from aenet_ray.training.history import History, Row
from aenet_ray.training.launch import ERROR, Follower, check_resources, train_on_ray
from aenet_ray.training.ray_runtime import ensure_ray

pytestmark = pytest.mark.timeout(240)

SCRIPT = Path(__file__).parents[2] / "cluster_configs" / "local.sh"
LAYERS = {s: [(6, "tanh"), (5, "tanh")] for s in ("Ti", "O")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("launch")


def train(folder: Path, name: str, scaling: ScalingConfig | None, **changes: object) -> TorchANNPotential:
    potential = TorchANNPotential(LAYERS, small_descriptor())
    run = RunConfig(name=name, storage_path=str(folder / name))
    potential.train(str(TIO2), config=config(iterations=3, **changes), scaling=scaling, run=run)
    return potential


@pytest.fixture(scope="module")
def alone(folder):
    """Trained in this process, without Ray."""
    train(folder, "alone", None)
    return folder / "alone" / "alone"


@pytest.mark.ray
def test_two_workers_from_python(folder, alone):
    """Featurized by Ray Data and trained by two Ray workers, the potential is the one made without Ray."""
    potential = train(folder, "two", ScalingConfig(num_workers=2))
    assert difference(final_weights(alone), final_weights(folder / "two" / "two")) < 1e-9
    energies = potential.predict(str(TIO2)).total_energy
    assert len(energies) == 100
    assert potential.history["epoch"] == [0, 1, 2]


@pytest.mark.ray
def test_too_many_workers_are_refused_at_once(folder):
    with (
        pytest.raises(ConfigError, match="500 workers need 1000 CPUs, the cluster has"),
        ensure_ray(2),
    ):
        check_resources(ScalingConfig(num_workers=500, cpus_per_worker=2))


def four_free_ports() -> int:
    """The first of four in a row, outside the range where Ray puts its workers."""

    def is_free(port: int) -> bool:
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", port)) != 0

    return next(p for p in range(21000 + os.getpid() % 1000, 32000, 4) if all(is_free(p + k) for k in range(4)))


@pytest.mark.ray
def test_submitted_as_a_job(folder, alone):
    """``ray job submit -- aenet-ray train run.yaml`` against a running cluster."""
    state = Path(tempfile.mkdtemp(prefix="ar-"))  # short: socket paths end at 107 characters
    first = four_free_ports()
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    environment |= {
        "STATE_DIR": str(state),
        "RAY_PORT": str(first),
        "DASHBOARD_PORT": str(first + 1),
        "RAY_CPUS": "2",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    values = {
        "data": {"files": str(TIO2)},
        "descriptor": {k: v for k, v in small_descriptor().config().items() if k not in ("device", "backend")},
        "network": LAYERS | {s: [list(layer) for layer in layers] for s, layers in LAYERS.items()},
        "training": config(iterations=3).to_dict() | {"show_progress": True, "atomic_energies": ATOMIC_ENERGIES},
        "scaling": {"num_workers": 2},
        "run": {"name": "job", "storage_path": str(folder / "job")},
    }
    file = folder / "job.yaml"
    file.write_text(yaml.safe_dump(values))

    def local(*arguments: str) -> subprocess.CompletedProcess:
        command = ["bash", str(SCRIPT), *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200, cwd=folder)

    started = local("start")
    try:
        assert started.returncode == 0, started.stdout + started.stderr
        done = local("submit", "--", "aenet-ray", "train", str(file))
        assert done.returncode == 0, done.stdout + done.stderr
        bad = local("submit", "--", "aenet-ray", "train", str(file))
        assert bad.returncode != 0
        assert "holds a run already" in bad.stdout + bad.stderr
    finally:
        local("stop")
        shutil.rmtree(state, ignore_errors=True)
    assert "epoch 3/3" in done.stdout + done.stderr
    assert difference(final_weights(alone), final_weights(folder / "job" / "job")) < 1e-9
    assert read_model_file(folder / "job" / "job" / "model.pt")["epoch"] == 2


class Shown:
    """A history that grows as worker 0 lets it, and what a follower shows of it."""

    def __init__(self, path: Path, epochs: int) -> None:
        self.path, self.history = path, History(path)
        self.calls: list[tuple[int, bool]] = []
        self.follower = Follower(path, self.on_epoch, epochs, TorchTrainingConfig())

    def on_epoch(self, row: Row, last: bool) -> None:
        self.calls.append((int(row["epoch"]), last))

    def grow(self, epochs: int) -> None:
        for _ in range(epochs):
            self.history.append({"epoch": float(len(self.history)), "epoch_time": 0.1})

    def restart(self, epochs: int) -> None:
        """As a new worker 0 does, from a checkpoint after so many epochs."""
        self.history = History(self.path, {k: v[:epochs] for k, v in self.history.columns().items()})

    def poll(self) -> list[int]:
        """Epochs shown by one look at the file."""
        before = len(self.calls)
        self.follower.poll()
        return [epoch for epoch, _ in self.calls[before:]]


def test_follower_shows_an_epoch_once(tmp_path):
    """The last one too, whose line is written a second time, with other numbers."""
    shown = Shown(tmp_path / "history.csv", 5)
    assert shown.poll() == []
    shown.grow(2)
    assert shown.poll() == [0, 1]
    assert shown.poll() == []
    shown.history.rewrite()
    assert shown.poll() == []
    shown.grow(3)
    assert shown.poll() == [2, 3, 4]
    shown.history.rewrite()
    assert shown.poll() == []
    assert [last for _, last in shown.calls] == [False] * 4 + [True]


def test_follower_of_a_run_that_ends_early(tmp_path, caplog):
    """Its last epoch is the last, and the final rewrite of the file no restart."""
    shown = Shown(tmp_path / "history.csv", 9)
    shown.follower.config = TorchTrainingConfig(early_stopping_patience=2)
    with caplog.at_level(logging.INFO, "aenet_ray"):
        for waited in range(3):
            row = {"epoch": float(waited), "epoch_time": 0.1, "epochs_without_improvement": float(waited)}
            shown.history.append(row)
            shown.poll()
        shown.history.rewrite()
        assert shown.poll() == []
    assert shown.calls == [(0, False), (1, False), (2, True)]
    assert "started again" not in caplog.text


def test_follower_after_a_restart(tmp_path, caplog):
    shown = Shown(tmp_path / "history.csv", 9)
    shown.grow(5)
    assert shown.poll() == [0, 1, 2, 3, 4]
    shown.restart(3)
    shown.grow(1)
    with caplog.at_level(logging.INFO, "aenet_ray"):
        assert shown.poll() == []
    assert "back at epoch 4/9" in caplog.text
    shown.grow(2)
    assert shown.poll() == [4, 5], "epochs done once more are shown once more"
    shown.restart(2)
    shown.grow(6)
    assert shown.poll() == [6, 7], "and those that came between two looks are not"
    shown.grow(1)
    shown.restart(8)
    assert shown.poll() == []
    shown.grow(1)
    assert shown.poll() == [8]
    shown.restart(8)
    shown.poll()
    shown.grow(1)
    assert shown.poll() == [], "the last one ends the display"
    assert sum(last for _, last in shown.calls) == 1


def test_follower_of_a_resumed_run(tmp_path):
    """What was there before is not shown again, what is done once more is."""
    table = History(tmp_path / "history.csv")
    for epoch in range(4):
        table.append({"epoch": float(epoch), "epoch_time": 0.1})
    shown = Shown.__new__(Shown)
    shown.path, shown.history, shown.calls = tmp_path / "history.csv", table, []
    shown.follower = Follower(shown.path, shown.on_epoch, 6, TorchTrainingConfig())
    assert shown.poll() == []
    shown.restart(3)
    assert shown.poll() == []
    shown.grow(3)
    assert shown.poll() == [3, 4, 5]


@pytest.mark.ray
@pytest.mark.parametrize("failing", [0, 1])
def test_an_error_that_comes_again_is_not_tried_again(tmp_path, monkeypatch, ray_local, failing):
    """One worker of two finds its data gone in the first epoch, while the other waits for it in a sum."""
    run_dir = prepare(small_features(tmp_path), tmp_path / "run", config(iterations=3))
    (run_dir / ERROR).write_text(json.dumps({"class": "ConfigError", "text": "of the run before"}))

    def worker(settings):
        import ray.train

        from aenet_ray.training import engine, launch

        rank = ray.train.get_context().get_world_rank()
        if rank == failing:

            def gone(*args):
                with (Path(settings["run_dir"]) / "tries").open("a") as file:
                    file.write("x")
                raise StoreError("shard_000000: missing. Featurize again.")

            engine.train_step = gone
        launch.train_worker(settings)

    monkeypatch.setattr(launch, "train_worker", worker)
    started = time.monotonic()
    with pytest.raises(StoreError) as raised:
        train_on_ray(run_dir, ScalingConfig(num_workers=2), RunConfig(max_failures=3), show_progress=False)
    assert time.monotonic() - started < 150, "the other worker waited for the time limit of its sum"
    assert str(raised.value) == "shard_000000: missing. Featurize again."
    assert json.loads((run_dir / ERROR).read_text())["class"] == "StoreError"
    assert (run_dir / "tries").read_text() == "x"
