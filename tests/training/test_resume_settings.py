"""Going on from a checkpoint: what is given now holds, what is not stays, what contradicts is refused."""

from __future__ import annotations

import logging
import math

import numpy as np
import pytest
import torch
from runs import (
    ATOMIC_ENERGIES,
    TIO2,
    config,
    difference,
    final_weights,
    prepare,
    small_descriptor,
    small_features,
    train_with,
)

from aenet_ray.errors import CheckpointError, ConfigError, TrainingError
from aenet_ray.models.model_file import read_model_file, write_model_file
from aenet_ray.potential import TorchANNPotential
from aenet_ray.structures.readers import read_structures
from aenet_ray.training import engine, keeper
from aenet_ray.training.comm import Solo
from aenet_ray.training.config import SGD, Adam, RunConfig, TorchTrainingConfig
from aenet_ray.training.engine import run_training
from aenet_ray.training.resume import settings_on_resume
from aenet_ray.training.spec import RunSpec

QUIET = {"show_progress": False, "device": "cpu"}


@pytest.fixture(scope="module")
def structures():
    return [s for s, _ in zip(read_structures(TIO2), range(24), strict=False)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


def potential() -> TorchANNPotential:
    return TorchANNPotential({s: [(6, "tanh"), (5, "tanh")] for s in ("Ti", "O")}, small_descriptor())


def run(structures, folder, name, resume_from=None, **settings):
    given = TorchTrainingConfig(**(QUIET | settings))
    where = RunConfig(name=name, storage_path=str(folder))
    return potential().train(structures, config=given, resume_from=resume_from, run=where)


FIRST = {
    "iterations": 6, "seed": 7, "testpercent": 20, "atomic_energies": ATOMIC_ENERGIES, "max_energy": 5.0,
    "method": Adam(mu=0.004, batchsize=8, beta1=0.8),
}  # fmt: skip


@pytest.fixture(scope="module")
def first(structures, folder):
    """An energy-only run of six epochs; its checkpoint."""
    return run(structures, folder, "first", **FIRST).run_dir / "checkpoints" / "checkpoint_epoch_0005.pt"


def test_what_is_not_given_stays(structures, folder, first):
    """Only ``iterations`` is given: everything else goes on as it was, and the end is that of one long run."""
    out = run(structures, folder, "more", first, iterations=3)
    whole = run(structures, folder, "whole", **(FIRST | {"iterations": 9}))
    assert torch.equal(final_weights(out.run_dir), final_weights(whole.run_dir))
    one, two = (RunSpec.load(o.run_dir) for o in (out, whole))
    np.testing.assert_array_equal(one.test_ids, two.test_ids)
    assert one.config.method == two.config.method == FIRST["method"]
    assert one.atomic_energies == ATOMIC_ENERGIES


def test_another_seed_draws_no_other_split(structures, folder, first):
    out = run(structures, folder, "seeded", first, iterations=1, seed=99)
    np.testing.assert_array_equal(RunSpec.load(out.run_dir).test_ids, RunSpec.load(first.parents[1]).test_ids)


def test_given_settings_are_taken_and_said(structures, folder, first, caplog):
    with caplog.at_level(logging.INFO):
        out = run(structures, folder, "slower", first, iterations=1, method=Adam(mu=1e-4))
    spec = RunSpec.load(out.run_dir)
    assert (spec.config.method.mu, spec.config.method.beta1, spec.config.batch_size) == (1e-4, 0.8, 8)
    assert "going on with other settings: method.mu 0.004 -> 0.0001" in caplog.text
    assert out.learning_rate[-2:] == [0.004, 1e-4]


def test_forces_after_energies(structures, folder, first, caplog):
    """The features of the first run serve; what is best begins anew, for the loss is another one."""
    with caplog.at_level(logging.INFO):
        out = run(structures, folder, "forces", first, iterations=4, force_weight=0.5)
    assert "the best validation loss counts anew" in caplog.text
    assert np.isnan(out.history["test_force_rmse"][:6]).all()
    assert np.isfinite(out.history["test_force_rmse"][6:]).all()
    best = read_model_file(out.run_dir / "checkpoints" / "best_model.pt")
    assert best["epoch"] >= 6
    assert best["best_val_loss"] == min(
        out.history["test_loss"][6:9] + best["training_history"]["test_loss"][-1:].tolist()
    )


def test_runs_without_feature_normalisation_go_on(structures, folder):
    settings = FIRST | {"normalize_features": False, "normalize_energy": False, "iterations": 2}
    one = run(structures, folder, "raw", **settings)
    two = run(structures, folder, "raw_more", one.run_dir / "model.pt", iterations=2)
    whole = run(structures, folder, "raw_whole", **(settings | {"iterations": 4}))
    assert torch.equal(final_weights(two.run_dir), final_weights(whole.run_dir))
    assert not RunSpec.load(two.run_dir).normalization.normalize_features


def test_precision_stays(structures, folder):
    one = run(structures, folder, "single", **(FIRST | {"precision": "float32", "iterations": 1}))
    two = run(structures, folder, "single_more", one.run_dir / "model.pt", iterations=1)
    assert final_weights(two.run_dir).dtype == torch.float32


CONTRADICTIONS = {
    "optimiser": (
        {"method": SGD()},
        TrainingError,
        "with method 'adam', this run asks for 'sgd', which cannot use its",
    ),
    "references": ({"atomic_energies": {"Ti": -1600.0, "O": -432.5}}, ConfigError, "Ti: -1600.0 is given, -1604.6"),
    "features": ({"normalize_features": False}, ConfigError, "normalize_features: False is given, True was"),
    "energies": ({"normalize_energy": False}, ConfigError, "normalize_energy: False is given, True was"),
    "shift": ({"E_shift": 3.0}, ConfigError, r"E_shift: 3\.0 is given, -"),
    "scaling": ({"E_scaling": 3.0}, ConfigError, r"E_scaling: 3\.0 is given, "),
    "statistics": (
        {"feature_stats": {"mean": [0.0], "std": [1.0]}},
        ConfigError,
        "feature_stats: other values is given",
    ),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_contradictions_are_refused_before_anything_starts(structures, tmp_path, first, name):
    settings, error, message = CONTRADICTIONS[name]
    with pytest.raises(error, match=message):
        run(structures, tmp_path, "refused", first, iterations=1, **settings)
    assert not (tmp_path / "features").exists()


def test_the_same_normalisation_given_again_is_none(first):
    start = read_model_file(first)
    norm = start["normalization"]
    stats = {"mean": norm["feature_mean"], "cov": norm["feature_std"]}
    given = {"E_shift": norm["E_shift"], "E_scaling": norm["E_scaling"], "normalize_energy": True}
    merged = settings_on_resume(TorchTrainingConfig(feature_stats=stats, **given), start, "first")
    assert merged.normalize_energy


def test_total_energies_do_not_become_cohesive_ones(structures, folder):
    with pytest.warns(UserWarning, match="no atomic_energies"):
        one = run(
            structures, folder, "totals", **(FIRST | {"atomic_energies": None, "max_energy": None, "iterations": 1})
        )
    with pytest.raises(ConfigError, match=r"Ti: -1604.6.* is given, 0.0 was trained with"):
        run(structures, folder, "totals_more", one.run_dir / "model.pt", atomic_energies=ATOMIC_ENERGIES)


def test_an_optimiser_state_of_another_shape_is_an_error(tmp_path):
    features = small_features(tmp_path, 12)
    one = prepare(features, tmp_path / "one", config(iterations=1, force_weight=0.0))
    run_training(one, Solo(), torch.device("cpu"))
    payload = read_model_file(one / "model.pt")
    payload["optimizer_state_dict"]["param_groups"] = []
    two = prepare(features, tmp_path / "two", config(iterations=1, force_weight=0.0))
    write_model_file(two / "resume.pt", payload)
    with pytest.raises(CheckpointError, match="the optimiser's state does not fit"):
        run_training(two, Solo(), torch.device("cpu"))


@pytest.mark.parametrize("stop", [4, 5])
def test_an_adaptive_run_resumed_in_a_window_is_the_uninterrupted_one(structures, folder, stop):
    """error_weighted draws, force subsets redrawn every third epoch; from a numbered checkpoint, bit for bit."""
    settings = FIRST | {
        "sampling_policy": "error_weighted", "force_weight": 0.3, "force_fraction": 0.4, "force_resample_num_epochs": 3,
        "max_checkpoints": None,
    }  # fmt: skip
    adaptive = {
        k: settings[k] for k in ("sampling_policy", "force_weight", "force_fraction", "force_resample_num_epochs")
    }
    name = f"adaptive_{stop}"
    whole = run(structures, folder, name, **(settings | {"iterations": 8}))
    at = whole.run_dir / "checkpoints" / f"checkpoint_epoch_{stop - 1:04d}.pt"
    more = run(structures, folder, f"{name}_more", at, iterations=8 - stop, **adaptive)
    assert torch.equal(final_weights(whole.run_dir), final_weights(more.run_dir))
    ends = [read_model_file(o.run_dir / "model.pt")["policy_state"] for o in (whole, more)]
    assert torch.equal(*ends)
    assert more.history["train_loss"] == whole.history["train_loss"]


def bumped(run_dir, epochs: int):
    """The same run, longer."""
    spec = RunSpec.load(run_dir)
    text = (run_dir / "run.json").read_text()
    (run_dir / "run.json").write_text(text.replace(f'"epochs": {spec.epochs}', f'"epochs": {epochs}'))
    return run_dir


def test_two_workers_then_one_and_back(tmp_path):
    features = small_features(tmp_path)
    settings = {"iterations": 4, "sampling_policy": "error_weighted"}
    whole = prepare(features, tmp_path / "whole", config(**(settings | {"iterations": 8})))
    one_two, two_one = (prepare(features, tmp_path / n, config(**settings)) for n in ("one_two", "two_one"))
    for run_dir in (whole, one_two):
        run_training(run_dir, Solo(), torch.device("cpu"))
    train_with(2, [bumped(one_two, 8), two_one], tmp_path / "meet")
    run_training(bumped(two_one, 8), Solo(), torch.device("cpu"))
    for run_dir in (one_two, two_one):
        assert difference(final_weights(whole), final_weights(run_dir)) < 1e-9
        assert len(read_model_file(run_dir / "model.pt")["training_history"]["epoch"]) == 8


def test_a_first_validation_loss_of_nan_does_not_stick(tmp_path, monkeypatch):
    run_dir = prepare(small_features(tmp_path, 30), tmp_path / "run", config(iterations=3, force_weight=0.0))
    validate, calls = engine.validate, []

    def nan_at_first(state, comm):
        row = validate(state, comm)
        calls.append([math.nan, row["test_loss"], row["test_loss"] + 1][len(calls)])
        return row | {"test_loss": calls[-1]}

    monkeypatch.setattr(engine, "validate", nan_at_first)
    run_training(run_dir, Solo(), torch.device("cpu"))
    best = read_model_file(run_dir / "checkpoints" / "best_model.pt")
    assert best["best_val_loss"] == calls[1]
    assert best["epoch"] == 1


def test_a_checkpoint_that_cannot_be_written_does_not_end_a_run(tmp_path, monkeypatch, caplog):
    def full(*_):
        raise CheckpointError("checkpoints/x.pt: cannot be written: disk full.")

    run_dir = prepare(small_features(tmp_path, 12), tmp_path / "run", config(iterations=2, force_weight=0.0))
    monkeypatch.setattr(keeper.checkpoint, "save", full)
    run_training(run_dir, Solo(), torch.device("cpu"))
    assert "epoch 1: checkpoints/x.pt: cannot be written: disk full. Training goes on without" in caplog.text
    assert (run_dir / "model.pt").exists()


def test_the_bar_counts_the_epochs_that_are_added(structures, folder, first, monkeypatch):
    from contextlib import nullcontext

    from aenet_ray.training import driver

    totals, steps = [], []
    bar = lambda title, total, unit, show: totals.append(total) or nullcontext(steps.append)  # noqa: E731
    monkeypatch.setattr(driver, "progress_bar", bar)
    run(structures, folder, "counted", first, iterations=3)
    assert (totals, sum(steps)) == ([3], 3)


def test_a_species_that_is_new_needs_its_reference(structures, folder):
    """A checkpoint's zero for a species that its data did not have is no energy to train with."""
    few = [s for s in structures if s.n_atoms <= 24][:12]
    descriptor = type(small_descriptor())(["Ti", "O", "Si"], 5, 4.5, 3, 3.5)

    def train(data, name, **more):
        potential = TorchANNPotential({s: [(4, "tanh")] for s in descriptor.species}, descriptor)
        given = {"iterations": 1, "method": Adam(batchsize=4)} | more.pop("config", {})
        settings = TorchTrainingConfig(**(QUIET | given))
        return potential.train(data, config=settings, run=RunConfig(name=name, storage_path=str(folder)), **more)

    first = train(few, "without", config={"atomic_energies": ATOMIC_ENERGIES})
    silicon = [type(s)(s.positions, ["Si" if a == "Ti" else a for a in s.species], s.energy, cell=s.cell) for s in few]
    with pytest.raises(ConfigError, match="atomic_energies: none for Si; given are Ti, O"):
        train(silicon, "with", resume_from=first.run_dir / "model.pt")
    given = ATOMIC_ENERGIES | {"Si": -100.0}
    with pytest.warns(UserWarning, match="the training structures are not those of the checkpoint"):
        out = train(silicon, "with", resume_from=first.run_dir / "model.pt", config={"atomic_energies": given})
    assert RunSpec.load(out.run_dir).atomic_energies == given
