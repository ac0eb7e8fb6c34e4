"""What a run's numbers mean: exact errors and means of batches, all labelled forces, the final full pass, warnings."""

from __future__ import annotations

import csv
import json
import math
import warnings

import numpy as np
import pytest
import torch
from runs import config, prepare, small_descriptor, small_features

from aenet_ray.models.ann import ANNModel
from aenet_ray.models.model_file import read_model_file
from aenet_ray.potential import TorchANNPotential
from aenet_ray.training import engine
from aenet_ray.training.clock import StageClock
from aenet_ray.training.comm import Comm, Solo
from aenet_ray.training.config import Adam
from aenet_ray.training.engine import run_training
from aenet_ray.training.evaluation import evaluate, predict_errors
from aenet_ray.training.prepare import prepare_run
from aenet_ray.training.spec import RunSpec
from aenet_ray.training.state import TrainState

BATCH = 7


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    return small_features(tmp_path_factory.mktemp("features"), 40)


@pytest.fixture(scope="module")
def finished(features, tmp_path_factory):
    """A run that supervises a third of the forces; its folder."""
    run_dir = tmp_path_factory.mktemp("run") / "run"
    changes = {"iterations": 3, "testpercent": 30, "force_fraction": 0.3, "method": Adam(mu=0.01, batchsize=BATCH)}
    prepare(features, run_dir, config(**changes, force_scale_unbiased=True))
    run_training(run_dir, Solo(), torch.device("cpu"))
    return run_dir


def final_state(run_dir):
    state = TrainState.create(RunSpec.load(run_dir), torch.device("cpu"))
    state.restore(read_model_file(run_dir / "model.pt"), "model.pt")
    return state


def errors_of(state, ids):
    """Energy errors of each structure, eV/atom, and force errors of each labelled one, eV/Å."""
    energy, forces = np.empty(len(ids)), {}
    for k, i in enumerate(ids):
        ((_, e, f),) = predict_errors(state.model, state.maker, np.array([i]), forces=True)
        energy[k] = e[0]
        if len(f):
            forces[k] = f
    return energy, forces


@pytest.mark.parametrize("part", ["train", "test"])
def test_the_last_row_is_a_full_pass_with_the_final_weights(finished, part):
    """Exact over all structures and all labelled forces, supervised or not; and means over batches beside it."""
    state = final_state(finished)
    ids = state.spec.train_ids if part == "train" else state.spec.test_ids
    energy, forces = errors_of(state, ids)
    assert 0 < len(forces) < len(ids)
    row = state.history.last
    every = np.concatenate(list(forces.values()))
    rmse = math.sqrt(np.square(energy).mean()), math.sqrt(np.square(every).mean())
    assert row[f"{part}_energy_rmse"] == pytest.approx(rmse[0], rel=1e-10)
    assert row[f"{part}_energy_mae"] == pytest.approx(np.abs(energy).mean(), rel=1e-10)
    assert row[f"{part}_force_rmse"] == pytest.approx(rmse[1], rel=1e-10)
    assert row[f"{part}_force_mae"] == pytest.approx(np.abs(every).mean(), rel=1e-10)
    assert row[f"{part}_loss"] == pytest.approx(0.7 * rmse[0] + 0.3 * rmse[1], rel=1e-10)

    starts = range(0, len(ids), BATCH)
    parts = [energy[s : s + BATCH] for s in starts]
    of_batches = [[f for k, f in forces.items() if s <= k < s + BATCH] for s in starts]
    force_rmse = [math.sqrt(np.square(np.concatenate(f)).mean()) for f in of_batches if f]
    mean = np.mean([math.sqrt(np.square(p).mean()) for p in parts])
    assert row[f"{part}_energy_rmse_batch_mean"] == pytest.approx(mean, rel=1e-10)
    assert row[f"{part}_energy_mae_batch_mean"] == pytest.approx(np.mean([np.abs(p).mean() for p in parts]), rel=1e-10)
    assert row[f"{part}_force_rmse_batch_mean"] == pytest.approx(np.mean(force_rmse), rel=1e-10)
    assert abs(mean - rmse[0]) > 1e-6, "the two definitions differ here, or nothing was tested"


def test_running_values_of_an_epoch(features, tmp_path, monkeypatch):
    """Exact over the draws, and means over steps, of the values before each step."""
    seen = []
    step = engine.train_step

    def watched(*arguments):
        found = step(*arguments)
        seen.append((found[0], found[1].numpy(), arguments[4].n_structures))
        return found

    monkeypatch.setattr(engine, "train_step", watched)
    run_dir = prepare(features, tmp_path / "run", config(iterations=2, method=Adam(mu=0.01, batchsize=BATCH)))
    run_training(run_dir, Solo(), torch.device("cpu"))
    history = read_model_file(run_dir / "model.pt")["training_history"]
    first = seen[: len(seen) // 2]
    assert len({n for _, _, n in first}) == 2, "the last batch is smaller"
    every = np.concatenate([own for _, own, _ in first])
    assert history["train_energy_rmse"][0] == pytest.approx(math.sqrt(np.square(every).mean()), rel=1e-10)
    assert history["train_energy_mae"][0] == pytest.approx(np.abs(every).mean(), rel=1e-10)
    scales = [s for s, _, _ in first]
    assert history["train_energy_rmse_batch_mean"][0] == pytest.approx(np.mean([s.energy_rmse for s in scales]))
    mae = np.mean([np.abs(own).mean() for _, own, _ in first])
    assert history["train_energy_mae_batch_mean"][0] == pytest.approx(mae)
    force = [s.force_rmse for s in scales if math.isfinite(s.force_rmse)]
    assert history["train_force_rmse_batch_mean"][0] == pytest.approx(np.mean(force))


class Half(Comm):
    """One of two workers; the sums of both are what the two made together."""

    def __init__(self, rank: int, others: list) -> None:
        self.rank, self.size, self.others = rank, 2, others

    def sum_(self, values):
        self.others.append(values.clone())
        return values


def test_batches_of_an_evaluation_do_not_depend_on_workers(finished):
    state = final_state(finished)
    arguments = {"forces": True, "batch_size": BATCH}
    whole = []
    evaluate(state.model, state.maker, state.spec.train_ids, Half(0, shares := []), **arguments)
    evaluate(state.model, state.maker, state.spec.train_ids, Half(1, shares), **arguments)
    one = type("Watch", (Solo,), {"sum_": lambda self, v: whole.append(v.clone()) or v})
    evaluate(state.model, state.maker, state.spec.train_ids, one(), **arguments)
    torch.testing.assert_close(shares[0] + shares[1], whole[0], rtol=1e-12, atol=0)


def test_no_validation_set_has_no_figures(features, tmp_path):
    run_dir = prepare(features, tmp_path / "run", config(iterations=2, testpercent=0))
    run_training(run_dir, Solo(), torch.device("cpu"))
    model = read_model_file(run_dir / "model.pt")
    for name, values in model["training_history"].items():
        if name.startswith("test_"):
            assert values.isnan().all(), name
    assert model["best_val_loss"] == math.inf
    assert not (run_dir / "checkpoints" / "best_model.pt").exists()


def test_files_of_the_history_are_valid_and_filled(finished):
    values = json.loads((finished / "history.json").read_text(), parse_constant=lambda c: pytest.fail(f"{c} in JSON"))
    rows = list(csv.DictReader((finished / "history.csv").open()))
    assert len(rows) == len(values["epoch"]) == 3
    for column in ("learning_rate", "epoch_time", "forward_time", "backward_time", "test_force_rmse"):
        assert all(float(row[column]) > 0 for row in rows), column
    assert "NaN" not in (finished / "history.json").read_text()


def test_times_are_those_of_training(features, tmp_path):
    """Also with a validation set, whose pass has no backward; the stages make up the steps."""
    run_dir = prepare(features, tmp_path / "run", config(iterations=2, testpercent=50, timing=True))
    run_training(run_dir, Solo(), torch.device("cpu"))
    h = {k: v.numpy() for k, v in read_model_file(run_dir / "model.pt")["training_history"].items()}
    assert (h["backward_time"] > 0).all()
    steps = h["forward_time"] + h["backward_time"] + h["epoch_loss_time_train"] + h["epoch_optimizer_time_train"]
    np.testing.assert_allclose(steps, h["step_time"], rtol=1e-9)
    np.testing.assert_allclose(h["epoch_train_time"], h["step_time"] + h["data_time"], rtol=1e-9)
    assert (h["epoch_val_time"] >= h["epoch_data_loading_time_val"] + h["epoch_loss_time_val"]).all()
    assert (h["epoch_time"] >= h["epoch_train_time"] + h["epoch_val_time"]).all()


def test_exact_times_wait_for_the_device(monkeypatch):
    waits = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: waits.append(1))
    for exact, device, expected in ((True, "cuda", 1), (False, "cuda", 0), (True, "cpu", 0)):
        waits.clear()
        StageClock(torch.device(device), exact=exact).lap("forward")
        assert len(waits) == expected


def model():
    return ANNModel({s: [(4, "tanh")] for s in ("Ti", "O")}, small_descriptor())


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"testpercent": 10}, ["4 validation structures: best_model"]),
        (
            {"testpercent": 10, "use_scheduler": True},
            ["4 validation structures: the scheduler", "4 validation structures: best_model"],
        ),
        ({"testpercent": 10, "use_scheduler": True, "save_best": False}, ["4 validation structures: the scheduler"]),
        ({"testpercent": 10, "checkpoint_dir": None}, []),
        ({"testpercent": 10, "scheduler": "cosine", "save_best": False}, []),
        ({"testpercent": 30}, []),
        ({"testpercent": 0}, []),
        ({"testpercent": 0, "use_scheduler": True}, ["use_scheduler: without validation structures"]),
        ({"testpercent": 30, "atomic_energies": None}, ["no atomic_energies: training on total energies"]),
    ],
)
def test_warnings_come_once(features, tmp_path, changes, expected):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        prepare_run(tmp_path / "run", features, model(), config(**changes))
    assert len(caught) == len(expected)
    for warning, text in zip(caught, expected, strict=True):
        assert text in str(warning.message)
        assert issubclass(warning.category, UserWarning)


def test_an_energy_only_run_has_no_force_figures(features, tmp_path):
    run_dir = prepare(features, tmp_path / "run", config(iterations=1, force_weight=0.0))
    run_training(run_dir, Solo(), torch.device("cpu"))
    history = read_model_file(run_dir / "model.pt")["training_history"]
    for name in history:
        if "_force_" in name:
            assert history[name].isnan().all(), name


def test_a_seeded_run_is_reproducible(features, tmp_path):
    ends = []
    for name in ("one", "two"):
        run_dir = prepare(features, tmp_path / name, config(iterations=2))
        run_training(run_dir, Solo(), torch.device("cpu"))
        ends.append(TorchANNPotential.from_file(run_dir / "model.pt"))
    for a, b in zip(ends[0].model.parameters(), ends[1].model.parameters(), strict=True):
        assert torch.equal(a, b)
    assert ends[0].history["train_loss"] == ends[1].history["train_loss"]


def test_the_plateau_schedule_is_torchs(features, tmp_path):
    """Stepped with the validation loss once an epoch, before the learning rate of that epoch is written down."""
    changes = {"use_scheduler": True, "scheduler_patience": 1, "scheduler_factor": 0.3, "scheduler_min_lr": 2e-3}
    run_dir = prepare(features, tmp_path / "run", config(iterations=12, method=Adam(mu=0.08, batchsize=9), **changes))
    run_training(run_dir, Solo(), torch.device("cpu"))
    history = {k: v.tolist() for k, v in read_model_file(run_dir / "model.pt")["training_history"].items()}
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=0.08)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, mode="min", factor=0.3, patience=1, min_lr=2e-3, threshold=1e-4, cooldown=0, eps=1e-8
    )
    expected = []
    for loss in history["test_loss"]:
        schedule.step(loss)
        expected.append(optimizer.param_groups[0]["lr"])
    assert history["learning_rate"] == pytest.approx(expected, rel=1e-12)
    assert len(set(expected)) > 2, "nothing was reduced, nothing tested"
