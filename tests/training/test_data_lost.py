"""Stores deleted while a run is going: what is open is read on, what is missing is named, and the run goes on later."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
import yaml
from runs import TIO2, config, difference, final_weights, prepare, small_features
from test_faults import experiment, gone, processes_of, start, wait_for_checkpoint

from aenet_ray.cli.main import main
from aenet_ray.errors import StoreError
from aenet_ray.structures.readers import read_structures
from aenet_ray.structures.store import write_store
from aenet_ray.training.comm import Solo
from aenet_ray.training.engine import run_training
from aenet_ray.training.keeper import Keeper


class Stopped(Exception):
    pass


def after_epoch(monkeypatch, epoch: int, what) -> None:
    """Have something done after an epoch, once its checkpoint is written."""
    known = Keeper.after_epoch

    def called(self, row):
        known(self, row)
        if int(row["epoch"]) == epoch:
            what()

    monkeypatch.setattr(Keeper, "after_epoch", called)


def train(run_dir: Path) -> torch.Tensor:
    run_training(run_dir, Solo(), torch.device("cpu"))
    return final_weights(run_dir)


def test_features_deleted_between_epochs(tmp_path, monkeypatch):
    """Pages that are mapped stay readable: the run ends as if nothing had happened. Not so one that starts again."""
    features = small_features(tmp_path)
    expected = train(prepare(features, tmp_path / "undisturbed", config(iterations=4)))
    run_dir = prepare(features, tmp_path / "run", config(iterations=4))
    with monkeypatch.context() as m:
        after_epoch(m, 1, lambda: shutil.rmtree(features.path))
        assert difference(expected, train(run_dir)) == 0
    other = tmp_path / "other"
    shutil.copytree(run_dir, other)
    (other / "model.pt").unlink()
    with pytest.raises(StoreError) as raised:
        run_training(other, Solo(), torch.device("cpu"))
    said = str(raised.value)
    assert said.startswith(f"{features.path}: no feature store here (no index.json); run featurize first")
    assert "start the run again with run.resume=auto, which makes it" in said


@pytest.fixture
def store(tmp_path) -> Path:
    return Path(write_store(list(read_structures(TIO2)), tmp_path / "structures.h5").path)


def command(folder: Path, name: str, store: Path) -> list[str]:
    values = experiment(folder, name)
    values["data"]["files"] = str(store)
    values["training"] |= {"iterations": 6, "save_energies": True, "force_weight": 0.0, "show_progress": False}
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(values))
    return ["train", str(file)]


@pytest.mark.parametrize("what", ["features", "structures"])
def test_deleted_and_stopped_it_goes_on(tmp_path, monkeypatch, capsys, store, what):
    """Features are made again; structures have to come back, and are asked for by name."""
    assert main(command(tmp_path, "undisturbed", store)) == 0
    away = tmp_path / "away.h5"

    def lose() -> None:
        shutil.rmtree(tmp_path / "features") if what == "features" else store.rename(away)
        raise Stopped

    arguments = command(tmp_path, "run", store)
    with monkeypatch.context() as m:
        after_epoch(m, 2, lose)
        with pytest.raises(Stopped):
            main(arguments)
    if what == "structures":
        assert main(arguments) == 2
        assert f"no such file: {store}" in capsys.readouterr().err
        away.rename(store)
    assert main(arguments) == 0
    weights = [final_weights(tmp_path / name) for name in ("undisturbed", "run")]
    assert difference(*weights) == 0
    energies = [(tmp_path / name / "energies.train.0").read_text() for name in ("undisturbed", "run")]
    assert energies[0] == energies[1]


def test_structures_deleted_before_the_report(tmp_path, monkeypatch, capsys, store):
    """The potential is there by then; the same command writes the rest when they are back."""
    arguments, away = command(tmp_path, "run", store), tmp_path / "away.h5"
    with monkeypatch.context() as m:
        after_epoch(m, 2, lambda: store.rename(away))
        m.setattr("aenet_ray.structures.store.StructureStore.file", property(closed))
        assert main(arguments) == 2
    assert f"{store}: no such file. Build a structure store" in capsys.readouterr().err
    assert (tmp_path / "run" / "model.pt").exists()
    trained = final_weights(tmp_path / "run")
    away.rename(store)
    assert main(arguments) == 0
    assert (tmp_path / "run" / "energies.train.0").exists()
    assert difference(trained, final_weights(tmp_path / "run")) == 0


def closed(self):
    """The file opened anew at each look, as in another process."""
    from aenet_ray.structures.store import _open

    return _open(self.path)


@pytest.mark.ray
@pytest.mark.fault
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_workers_started_again_without_features(tmp_path):
    """Deleted under two workers, they go on; killed, the new ones name what is missing, and nobody waits."""
    process = start(tmp_path, experiment(tmp_path, "run", num_workers=2), "first.log")
    run_dir, entry = tmp_path / "run", next_entry(tmp_path, process)
    newest, _ = wait_for_checkpoint(run_dir, 10, process)
    shutil.move(entry, tmp_path / "away")
    newest, before = wait_for_checkpoint(run_dir, newest + 10, process)
    workers = processes_of(tmp_path, "RayTrainWorker")
    os.kill(workers[0], signal.SIGKILL)
    began = time.monotonic()
    assert process.wait(timeout=200) == 2
    assert time.monotonic() - began < 200
    said = (tmp_path / "first.log").read_text()
    assert f"{entry}: no feature store here (no index.json)" in said
    assert gone(tmp_path, "ray")

    again = start(tmp_path, experiment(tmp_path, "run", num_workers=2), "second.log")
    assert again.wait(timeout=400) == 0, (tmp_path / "second.log").read_text()
    lines = (run_dir / "history.csv").read_text().splitlines()
    assert lines[: len(before)] == before
    assert (entry / "index.json").exists()


def next_entry(folder: Path, process) -> Path:
    deadline = time.monotonic() + 90
    while not (found := list(folder.glob("features/*/index.json"))):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found[0].parent
