"""Checkpoints under the names that scripts of aenet-python have for them: relative to the working directory."""

from __future__ import annotations

import os

import pytest

from aenet_ray import Adam, ChebyshevDescriptor, RunConfig, Structure, TorchANNPotential, TorchTrainingConfig
from aenet_ray.errors import MissingCheckpointError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def train(iterations=2, run=None, **arguments):
    structures = [Structure([[0, 0, 0], [0, 0, 1.5 + 0.02 * i]], ["Ti", "O"], -3.0 + 0.1 * i) for i in range(24)]
    potential = TorchANNPotential(
        {s: [(3, "tanh")] for s in ("Ti", "O")}, ChebyshevDescriptor(["Ti", "O"], 2, 3.0, 1, 3.0)
    )
    config = TorchTrainingConfig(
        iterations=iterations, method=Adam(mu=0.01), seed=1, testpercent=50, atomic_energies={"Ti": 0.0, "O": 0.0},
        show_progress=False, max_checkpoints=1,
    )  # fmt: skip
    return potential.train(structures, config=config, run=run, **arguments)


def test_that_of_the_newest_run_is_taken_and_said(folder):
    train(run=RunConfig(name="a"))
    train(iterations=3, run=RunConfig(name="b"))
    with pytest.warns(UserWarning, match=r"that of the newest run is taken, runs/b/checkpoints/best_model\.pt") as said:
        train(resume_from="checkpoints/best_model.pt")
    assert said[0].filename == __file__, "a warning shows the line that asked for it"
    with pytest.warns(UserWarning, match=r"runs/b/checkpoints/checkpoint_epoch_0002\.pt"):
        out = train(resume_from="checkpoints/checkpoint_epoch_0002.pt")
    assert len(out.errors) == 5
    with pytest.warns(UserWarning, match=r"runs/.*/checkpoints/best_model\.pt"):
        TorchANNPotential.from_file("checkpoints/best_model.pt")


def test_the_working_directory_comes_first(folder):
    train(run=RunConfig(name="a"))
    os.makedirs("checkpoints")
    os.rename("runs/a/checkpoints/checkpoint_epoch_0001.pt", "checkpoints/checkpoint_epoch_0001.pt")
    assert len(train(resume_from="checkpoints/checkpoint_epoch_0001.pt").errors) == 4


def test_only_checkpoints_are_looked_for_and_what_is_kept_is_said(folder):
    train(run=RunConfig(name="a"))
    with pytest.raises(MissingCheckpointError, match=r"Kept is, for instance, .*_0001\.pt \(see max_checkpoints"):
        train(resume_from="checkpoints/checkpoint_epoch_0000.pt")
    for name in ("model.pt", folder / "checkpoints" / "best_model.pt"):
        with pytest.raises(MissingCheckpointError, match="no such model file or checkpoint"):
            train(resume_from=name)
        with pytest.raises(FileNotFoundError, match="no such model file or checkpoint"):
            TorchANNPotential.from_file(name)
