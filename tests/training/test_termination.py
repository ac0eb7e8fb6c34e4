"""What a batch system leaves of a run that it ends: real processes, and SIGTERM."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from runs import ATOMIC_ENERGIES, TIO2, config, final_weights, prepare, small_features

from aenet_ray.training import engine
from aenet_ray.training.checkpoint import numbered
from aenet_ray.training.comm import Solo
from aenet_ray.training.config import RunConfig
from aenet_ray.training.driver import train_run
from aenet_ray.training.engine import run_training
from aenet_ray.training.termination import CODE, between_epochs

SCRIPT = f"""
from aenet_ray import ChebyshevDescriptor, RunConfig, TorchANNPotential, TorchTrainingConfig
descriptor = ChebyshevDescriptor(["Ti", "O"], 3, 4.0, 1, 3.0)
potential = TorchANNPotential({{s: [(4, "tanh")] for s in ("Ti", "O")}}, descriptor)
settings = TorchTrainingConfig(100000, seed=1, atomic_energies={ATOMIC_ENERGIES}, checkpoint_interval=0)
potential.train({str(TIO2)!r}, config=settings, run=RunConfig("long", "runs", resume="auto"))
"""


def started(folder: Path, *command: str) -> subprocess.Popen[str]:
    pipes = dict.fromkeys(("stdout", "stderr"), subprocess.PIPE)
    return subprocess.Popen([sys.executable, *command], text=True, cwd=folder, **pipes)


def epochs_in(run_dir: Path) -> int:
    history = run_dir / "history.csv"
    return len(history.read_text().splitlines()) - 1 if history.exists() else 0


def terminated(process: subprocess.Popen[str], run_dir: Path, after: int) -> str:
    """Send SIGTERM once the run has so many epochs; what it wrote on standard error."""
    deadline = time.monotonic() + 100
    while epochs_in(run_dir) < after:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    return process.communicate(timeout=60)[1]


def newest_epochs(run_dir: Path) -> int:
    return numbered(run_dir / "checkpoints")[-1][0] + 1


@pytest.mark.timeout(240)
def test_a_script_ends_with_a_checkpoint_and_goes_on(tmp_path):
    (tmp_path / "train.py").write_text(SCRIPT)
    run_dir = tmp_path / "runs" / "long"
    first = started(tmp_path, "train.py")
    said = terminated(first, run_dir, 3)
    assert first.returncode == CODE
    assert "SIGTERM: the run ends after this epoch; a second one ends it at once\n" in said
    assert said.endswith(
        "terminated; the same call with run=RunConfig(name='long', storage_path='runs', resume='auto') goes on\n"
    )
    done = epochs_in(run_dir)
    assert newest_epochs(run_dir) == done, "no epoch is lost, with no checkpoint due before the end"
    assert not (run_dir / "model.pt").exists()
    again = started(tmp_path, "train.py")
    said = terminated(again, run_dir, done + 2)
    assert f"going on after epoch {done} of 100000" in said
    assert newest_epochs(run_dir) == epochs_in(run_dir) > done


@pytest.mark.timeout(240)
def test_the_command_says_how_to_go_on(tmp_path):
    values = {
        "data": {"files": str(TIO2)},
        "descriptor": {"species": ["Ti", "O"], "rad_order": 3, "rad_cutoff": 4.0, "ang_order": 1, "ang_cutoff": 3.0},
        "network": [[4, "tanh"]],
        "training": {"iterations": 100000, "seed": 1, "atomic_energies": ATOMIC_ENERGIES},
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(values))
    process = started(tmp_path, "-m", "aenet_ray.cli", "train", "run.yaml")
    while not list(tmp_path.glob("runs/*/history.csv")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    (history,) = tmp_path.glob("runs/*/history.csv")
    run_dir = history.parent
    said = terminated(process, run_dir, 2)
    assert process.returncode == 130
    again = f"run.name={run_dir.name} run.resume=auto"  # the name was the time: the command alone would begin anew
    assert said.endswith(f"interrupted; the same command with {again} goes on in {run_dir}\n")
    assert newest_epochs(run_dir) == epochs_in(run_dir)


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    return small_features(tmp_path_factory.mktemp("features"), 32)


@pytest.mark.parametrize("epochs", [1, 4])
def test_the_epoch_is_finished_and_the_run_goes_on_as_if_nothing_had_been(features, tmp_path, monkeypatch, epochs):
    """Also where it comes in the last epoch."""
    settings = config(iterations=4, checkpoint_interval=0, device="cpu")
    one, two = (prepare(features, tmp_path / name, settings) for name in ("one", "two"))
    run_training(one, Solo(), torch.device("cpu"))
    epoch = engine.run_epoch

    def struck(state, comm):
        if state.epoch + 1 == epochs:
            os.kill(os.getpid(), signal.SIGTERM)
        return epoch(state, comm)

    with monkeypatch.context() as m:
        m.setattr(engine, "run_epoch", struck)
        with pytest.raises(SystemExit) as ended:
            train_run(two, None, RunConfig(), show_progress=False)
    assert ended.value.code == CODE
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert newest_epochs(two) == epochs_in(two) == epochs
    train_run(two, None, RunConfig(), show_progress=False)
    assert torch.equal(final_weights(one), final_weights(two))


def test_a_second_one_ends_at_once():
    came = []

    def struck_twice():
        with between_epochs() as ending:
            os.kill(os.getpid(), signal.SIGTERM)
            came.append(ending())
            os.kill(os.getpid(), signal.SIGTERM)
            came.append("it went on")

    with pytest.raises(SystemExit):
        struck_twice()
    assert came == [True]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_another_handler_is_left_alone(monkeypatch):
    seen = []
    before = signal.signal(signal.SIGTERM, lambda *_: seen.append(1))
    try:
        with between_epochs() as ending:
            os.kill(os.getpid(), signal.SIGTERM)
            assert not ending()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert seen == [1]


def test_in_another_thread_nothing_is_installed():
    found = []

    def enter():
        with between_epochs() as ending:
            found.append((ending(), signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert found == [(False, signal.SIG_DFL)]


def test_nobody_reads_any_more(features, tmp_path, monkeypatch):
    """`| tee log`, of which tee was terminated first: the checkpoint is written all the same."""
    run_dir = prepare(features, tmp_path / "one", config(iterations=4, checkpoint_interval=0, device="cpu"))

    def gone(*_: object) -> None:
        raise BrokenPipeError

    def struck(*_: object) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return epoch(*_)

    epoch = engine.run_epoch
    monkeypatch.setattr(engine, "run_epoch", struck)
    monkeypatch.setattr(os, "write", gone)
    monkeypatch.setattr("aenet_ray.training.driver.epoch_printer", lambda *_, **__: nullcontext(gone))
    with pytest.raises(BrokenPipeError):
        train_run(run_dir, None, RunConfig(), show_progress=False)
    assert newest_epochs(run_dir) == epochs_in(run_dir) == 1


def test_without_checkpoints_nothing_is_put_off(features, tmp_path, monkeypatch):
    run_dir = prepare(features, tmp_path / "one", config(iterations=1, checkpoint_dir=None, device="cpu"))
    epoch, handlers = engine.run_epoch, []

    def asked(*_: object) -> Any:
        handlers.append(signal.getsignal(signal.SIGTERM))
        return epoch(*_)

    monkeypatch.setattr(engine, "run_epoch", asked)
    train_run(run_dir, None, RunConfig(), show_progress=False)
    assert handlers == [signal.SIG_DFL]
