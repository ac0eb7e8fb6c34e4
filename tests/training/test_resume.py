"""A resumed run is an uninterrupted run; what cannot be resumed says why."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from runs import TIO2, config, difference, final_weights, prepare, small_descriptor, small_features

from aenet_ray.errors import CheckpointError, TrainingError
from aenet_ray.models.model_file import read_model_file, write_model_file
from aenet_ray.potential import TorchANNPotential
from aenet_ray.structures.readers import read_structures
from aenet_ray.training import checkpoint
from aenet_ray.training.comm import Solo
from aenet_ray.training.config import LBFGS, SGD, Adam, AdamW, RunConfig
from aenet_ray.training.driver import train_run
from aenet_ray.training.engine import run_training
from aenet_ray.training.history import History
from aenet_ray.training.state import changed_settings

EPOCHS = 8
CASES = {
    "uniform": {"sampling_policy": "uniform"},
    "energy_weighted": {"sampling_policy": "energy_weighted"},
    "error_weighted": {"sampling_policy": "error_weighted"},
    "energies_only": {"force_weight": 0.0, "sampling_policy": "error_weighted"},
    "momentum": {"method": SGD(lr=0.003, momentum=0.9, batchsize=16)},
    "adamw": {"method": AdamW(mu=0.01, weight_decay=0.1, batchsize=16)},
    "plateau": {"use_scheduler": True, "scheduler_patience": 0, "scheduler_factor": 0.6, "method": Adam(mu=0.05)},
    "cosine": {"use_scheduler": True, "scheduler": "cosine"},
    "lbfgs": {"method": LBFGS(max_iter=2, history_size=3, batchsize=7), "force_resample_num_epochs": 0},
    "clipped": {"method": SGD(lr=0.3, batchsize=16), "max_grad_norm": 0.05},
    "float32": {"precision": "float32"},
    # Epochs after the newest checkpoint are lost and made again.
    "every_third": {"checkpoint_interval": 3, "force_sampling": "fixed"},
}


class Interrupted(Exception):
    pass


def train(run_dir: Path, *, stop_after: int | None = None) -> Path:
    def on_epoch(row, last):
        if stop_after is not None and row["epoch"] + 1 == stop_after:
            raise Interrupted

    run_training(run_dir, Solo(), torch.device("cpu"), on_epoch)
    return run_dir


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    return small_features(tmp_path_factory.mktemp("features"), 32)


def settings(**changes):
    return config(**({"iterations": EPOCHS, "checkpoint_seconds": 0.0, "device": "cpu"} | changes))


@pytest.mark.parametrize("name", CASES)
def test_interrupted_and_continued_is_uninterrupted(features, tmp_path, name):
    one = train(prepare(features, tmp_path / "one", settings(**CASES[name])))
    two = prepare(features, tmp_path / "two", settings(**CASES[name]))
    for stop in (2, 5, 6):
        with pytest.raises(Interrupted):
            train(two, stop_after=stop)
        assert not (two / "model.pt").exists()
    train(two)
    assert torch.equal(final_weights(one), final_weights(two))
    histories = [read_model_file(d / "model.pt")["training_history"] for d in (one, two)]
    assert histories[0]["epoch"].tolist() == list(range(EPOCHS))
    for column in histories[0]:
        if "_time" not in column:
            np.testing.assert_array_equal(histories[0][column], histories[1][column], err_msg=column)
    lines = [(d / "history.csv").read_text().splitlines() for d in (one, two)]
    assert len(lines[0]) == len(lines[1]) == EPOCHS + 1
    if name == "plateau":
        assert len(set(histories[0]["learning_rate"].tolist())) > 2, "the schedule did something"


def test_what_is_kept_matters(features, tmp_path):
    """Without the optimiser's moments the run ends elsewhere: the test above can fail."""
    one = train(prepare(features, tmp_path / "one", settings()))
    two = prepare(features, tmp_path / "two", settings())
    with pytest.raises(Interrupted):
        train(two, stop_after=4)
    path = checkpoint.checkpoint_path(two / "checkpoints", 3)
    payload = read_model_file(path)
    for moments in payload["optimizer_state_dict"]["state"].values():
        moments["exp_avg"].zero_()
    write_model_file(path, payload)
    train(two)
    assert difference(final_weights(one), final_weights(two)) > 1e-4


def test_rotation_and_best_model(features, tmp_path):
    run_dir = train(prepare(features, tmp_path / "run", settings(max_checkpoints=2)))
    names = sorted(p.name for p in (run_dir / "checkpoints").iterdir())
    assert names == ["best_model.pt", "checkpoint_epoch_0006.pt", "checkpoint_epoch_0007.pt"]
    best = read_model_file(run_dir / "checkpoints" / "best_model.pt")
    losses = best["training_history"]["test_loss"]
    assert losses[-1] == min(losses) == best["best_val_loss"]
    whole = read_model_file(run_dir / "checkpoints" / "checkpoint_epoch_0007.pt")["training_history"]["test_loss"]
    assert best["epoch"] == int(np.argmin(np.asarray(whole)))

    everything = train(prepare(features, tmp_path / "all", settings(max_checkpoints=None, save_best=False)))
    assert len(list((everything / "checkpoints").iterdir())) == EPOCHS
    every_third = train(prepare(features, tmp_path / "third", settings(checkpoint_interval=3, save_best=False)))
    assert [k for k, _ in checkpoint.numbered(every_third / "checkpoints")] == [2, 5, 7]
    only_last = train(prepare(features, tmp_path / "last", settings(checkpoint_interval=0, save_best=False)))
    assert [k for k, _ in checkpoint.numbered(only_last / "checkpoints")] == [7]
    none = train(prepare(features, tmp_path / "none", settings(checkpoint_dir=None)))
    assert not (none / "checkpoints").exists()
    assert (none / "model.pt").exists()
    rare = train(prepare(features, tmp_path / "rare", settings(checkpoint_seconds=1e6, save_best=False)))
    assert [k for k, _ in checkpoint.numbered(rare / "checkpoints")] == [7]


def test_no_best_model_without_validation(features, tmp_path):
    run_dir = train(prepare(features, tmp_path / "run", settings(testpercent=0, iterations=2)))
    assert not (run_dir / "checkpoints" / "best_model.pt").exists()
    assert read_model_file(run_dir / "model.pt")["training_history"]["test_energy_rmse"].isnan().all()


def interrupted(features, folder: Path, epochs: int = 4) -> Path:
    run_dir = prepare(features, folder, settings())
    with pytest.raises(Interrupted):
        train(run_dir, stop_after=epochs)
    return run_dir


def test_going_on_reads_the_checkpoint_once(features, tmp_path, monkeypatch):
    run_dir = interrupted(features, tmp_path / "run")
    reads, told, newest = [], [], checkpoint.newest
    monkeypatch.setattr(checkpoint, "newest", lambda folder: reads.append(folder) or newest(folder))
    begun = {"show_progress": False, "on_start": lambda spec, first: told.append((spec.epochs, first))}
    train_run(run_dir, None, RunConfig(), **begun)
    assert (len(reads), told) == (1, [(EPOCHS, 4)])


def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(features, tmp_path):
    one = train(prepare(features, tmp_path / "one", settings()))
    two = interrupted(features, tmp_path / "two")
    newest = checkpoint.checkpoint_path(two / "checkpoints", 3)
    newest.write_bytes(newest.read_bytes()[:1000])
    said = r"checkpoint_epoch_0003\.pt: cannot be read .* Going on after epoch 3, from checkpoint_epoch_0002\.pt"
    with pytest.warns(UserWarning, match=said):
        train(two)
    assert torch.equal(final_weights(one), final_weights(two))


def test_if_all_are_damaged_it_is_said(features, tmp_path):
    run_dir = interrupted(features, tmp_path / "run")
    for _, path in checkpoint.numbered(run_dir / "checkpoints"):
        path.write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"no checkpoint can be read: .*checkpoint_epoch_0003\.pt"):
        train(run_dir)


def test_another_policy_begins_with_its_own_scores(features, tmp_path):
    """A checkpoint of another sampling policy gives weights and optimiser; scores begin anew."""
    payload = read_model_file(train(prepare(features, tmp_path / "one", settings(iterations=2))) / "model.pt")
    two = prepare(features, tmp_path / "two", settings(sampling_policy="error_weighted"))
    write_model_file(two / "resume.pt", payload)
    train(two)
    assert read_model_file(two / "model.pt")["policy_state"].min() > 0


# through the public class


@pytest.fixture(scope="module")
def structures():
    return [s for s, _ in zip(read_structures(TIO2), range(24), strict=False)]


def potential(nodes: int = 6, activation: str = "tanh", **descriptor) -> TorchANNPotential:
    chosen = small_descriptor()
    if descriptor:
        chosen = type(chosen).from_config(chosen.config() | descriptor)
    return TorchANNPotential({s: [(nodes, activation), (5, "tanh")] for s in ("Ti", "O")}, chosen)


def run_config(folder: Path, name: str, resume: str = "never") -> RunConfig:
    return RunConfig(name=name, storage_path=str(folder), resume=resume)


@pytest.fixture(scope="module")
def half(structures, tmp_path_factory):
    """A run of four epochs, and the folder of all runs."""
    folder = tmp_path_factory.mktemp("half")
    out = potential().train(structures, config=settings(iterations=4), run=run_config(folder, "half"))
    return folder, out


def test_additional_epochs(structures, half):
    folder, _ = half
    whole, more = potential(), potential()
    expected = whole.train(structures, config=settings(iterations=9), run=run_config(folder, "whole"))
    out = more.train(
        structures,
        config=settings(iterations=5),
        resume_from=folder / "half" / "checkpoints" / "checkpoint_epoch_0003.pt",
        run=run_config(folder, "more"),
    )
    assert torch.equal(final_weights(folder / "whole"), final_weights(folder / "more"))
    assert whole.history["epoch"] == more.history["epoch"] == list(range(9))
    assert len(out.errors) == len(expected.errors) == 9


def test_additional_epochs_with_changes(structures, half):
    """No seed, no references, other settings: the checkpoint's hold, and the new rate is taken."""
    folder, _ = half
    before = read_model_file(folder / "half" / "model.pt")
    more = potential()
    with pytest.warns(UserWarning, match="the training structures are not those of the checkpoint"):
        out = more.train(
            structures[:-2],  # other data have other statistics; the weights were made for the old ones
            config=settings(
                iterations=2, seed=None, atomic_energies=None, method=Adam(mu=1e-5, batchsize=16), force_weight=0.0
            ),
            resume_from=folder / "half" / "model.pt",
            run=run_config(folder, "changed"),
        )
    after = read_model_file(out.run_dir / "model.pt")
    assert after["normalization"] == before["normalization"]
    assert after["atomic_energies"] == before["atomic_energies"]
    assert after["seed"] == before["seed"]
    assert out.learning_rate[-1] == 1e-5
    assert len(out.errors) == 6
    assert difference(final_weights(folder / "half"), final_weights(out.run_dir)) < 1e-3
    assert out.errors["RMSE_train"].iloc[-1] < 1.5 * out.errors["RMSE_train"].iloc[3]


def test_zero_more_epochs_change_nothing(structures, half):
    folder, _ = half
    again = potential()
    best = folder / "half" / "checkpoints" / "best_model.pt"
    zero = again.train(structures, config=settings(iterations=0), resume_from=best, run=run_config(folder, "zero"))
    assert len(zero.errors) == read_model_file(best)["epoch"] + 1
    assert torch.equal(final_weights(folder / "zero"), final_weights_of(best))


def final_weights_of(path: Path) -> torch.Tensor:
    return torch.cat([v.reshape(-1) for v in read_model_file(path)["model_state_dict"].values()])


def test_a_potential_read_from_a_file_goes_on(structures, half):
    folder, _ = half
    read = TorchANNPotential.from_file(folder / "half" / "model.pt")
    read.save(folder / "copy.pt")
    out = read.train(
        structures, config=settings(iterations=5), resume_from=folder / "copy.pt", run=run_config(folder, "copied")
    )
    assert len(out.errors) == 9


@pytest.mark.parametrize(
    ("make", "changes", "error", "message"),
    [
        (lambda: potential(nodes=7), {}, CheckpointError, r"Linear_Sp1_F1.bias has shape \(6,\), expected \(7,\)"),
        (lambda: potential(activation="sigmoid"), {}, CheckpointError, r"was trained with arch .*tanh.*sigmoid"),
        (lambda: potential(rad_cutoff=4.6), {}, CheckpointError, r"was trained on the descriptor .*4\.5.*4\.6"),
        (potential, {"method": SGD()}, TrainingError, "trained with method 'adam', this run asks for 'sgd'"),
    ],
)
def test_what_does_not_fit_is_refused(structures, half, tmp_path, make, changes, error, message):
    folder, _ = half
    with pytest.raises(error, match=message):
        make().train(
            structures,
            config=settings(**changes),
            resume_from=folder / "half" / "model.pt",
            run=run_config(tmp_path, "refused"),
        )


def test_files_that_hold_no_training(structures, tmp_path):
    potential().save(tmp_path / "fresh.pt")
    for name, error, message in (
        ("fresh.pt", CheckpointError, r"no training to go on with \(epoch, optimizer_state_dict"),
        ("none.pt", FileNotFoundError, "no such model file or checkpoint"),
    ):
        with pytest.raises(error, match=message):
            potential().train(
                structures, config=settings(), resume_from=tmp_path / name, run=run_config(tmp_path, "run")
            )


def test_run_resume(structures, half):
    """The same call again: refused, continued, or only ever continued, as ``RunConfig.resume`` says."""
    folder, _ = half
    before = (folder / "half" / "structures.h5").stat().st_mtime_ns
    with pytest.raises(TrainingError, match="holds a run already"):
        potential().train(structures[:5], config=settings(iterations=4), run=run_config(folder, "half"))
    assert (folder / "half" / "structures.h5").stat().st_mtime_ns == before, "refused, and yet written to"
    shutil.copytree(folder / "half", folder / "again")
    (folder / "again" / "model.pt").unlink()
    out = potential().train(structures, config=settings(iterations=4), run=run_config(folder, "again", "auto"))
    assert len(out.errors) == 4
    assert torch.equal(final_weights(folder / "half"), final_weights(folder / "again"))
    with pytest.raises(TrainingError, match=r"began with other settings \(iterations: 4 -> 3\)"):
        potential().train(structures, config=settings(iterations=3), run=run_config(folder, "again", "auto"))
    longer = settings(iterations=7, max_checkpoints=5, show_progress=True)  # what changes no number is free
    out = potential().train(structures, config=longer, run=run_config(folder, "again", "auto"))
    whole = potential().train(structures, config=settings(iterations=7), run=run_config(folder, "all_seven"))
    assert len(out.errors) == 7
    assert torch.equal(final_weights(whole.run_dir), final_weights(folder / "again"))
    with pytest.raises(TrainingError, match="nothing to resume"):
        potential().train(structures, config=settings(), run=run_config(folder, "never_seen", "must"))


def test_history_file_is_what_the_rows_say(tmp_path):
    history = History(tmp_path / "history.csv")
    for epoch in range(3):
        history.append({"epoch": epoch, "train_energy_rmse": 0.1 / (epoch + 1), "epoch_time": 1.0})
    text = (tmp_path / "history.csv").read_text()
    assert text.splitlines()[3].startswith("2,0.0333333333,")
    again = History(tmp_path / "history.csv", {k: v[:2] for k, v in history.columns().items()})
    assert (tmp_path / "history.csv").read_text().splitlines() == text.splitlines()[:3]
    again.write_json(tmp_path / "history.json")
    assert "NaN" not in (tmp_path / "history.json").read_text()


def test_checkpoints_of_another_run_are_refused(features, tmp_path):
    shared = str(tmp_path / "shared")
    train(prepare(features, tmp_path / "one", settings(iterations=1, checkpoint_dir=shared)))
    with pytest.raises(TrainingError, match="holds checkpoints of another run"):
        prepare(features, tmp_path / "two", settings(iterations=1, checkpoint_dir=shared, seed=5))


def test_a_finished_run_without_checkpoints_is_finished(features, tmp_path):
    run_dir = train(prepare(features, tmp_path / "run", settings(iterations=2, checkpoint_dir=None)))
    before = final_weights(run_dir)
    rows = []
    run_training(run_dir, Solo(), torch.device("cpu"), lambda row, last: rows.append(row))
    assert not rows
    assert torch.equal(before, final_weights(run_dir))


def test_divergence_is_said_and_never_kept(features, tmp_path):
    method = SGD(lr=1e200, batchsize=16)
    run_dir = prepare(features, tmp_path / "run", settings(force_weight=0.0, method=method))
    with pytest.raises(TrainingError, match=r"epoch \d: training has diverged, the loss is .* Lower the learning rate"):
        train(run_dir)
    assert not (run_dir / "model.pt").exists()
    for _, path in checkpoint.numbered(run_dir / "checkpoints"):
        assert all(v.isfinite().all() for v in read_model_file(path)["model_state_dict"].values())


def test_only_changed_settings_are_taken_on_resume(features, tmp_path):
    """The rate that the plateau schedule had reached stays, if only the batch size changes."""
    changes = {"use_scheduler": True, "scheduler_patience": 0, "iterations": 12, "method": Adam(mu=0.05, batchsize=16)}
    run_dir = train(prepare(features, tmp_path / "run", settings(**changes)))
    reached = read_model_file(run_dir / "model.pt")["optimizer_state_dict"]["param_groups"][0]["lr"]
    payload = read_model_file(run_dir / "model.pt")
    config = settings(**(changes | {"method": Adam(mu=0.05, batchsize=8, beta1=0.8)}))
    assert reached < 0.05
    assert changed_settings(payload["training_config"]["method"], config) == {"betas"}
