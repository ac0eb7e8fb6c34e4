"""What ``train`` returns, from a history alone."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from aenet_ray.errors import TrainingError
from aenet_ray.train_out import TrainOut
from aenet_ray.training.config import TorchTrainingConfig
from aenet_ray.training.history import COLUMNS


def trained(n: int, *, forces: bool, validation: bool = True) -> TrainOut:
    """n epochs with errors that fall, and rise again at the end of the validation's."""
    fall = 0.1 * 0.9 ** np.arange(n)
    history = {name: [math.nan] * n for name in COLUMNS}
    history |= {"epoch": list(range(n)), "learning_rate": [0.01] * n, "epoch_time": [0.5] * n}
    history |= {"train_energy_rmse": fall.tolist(), "train_energy_mae": (0.8 * fall).tolist()}
    if validation:
        history["test_energy_rmse"] = np.where(np.arange(n) > n - 3, 1.0, 1.5 * fall).tolist()
    if forces:
        history |= {"train_force_rmse": (10 * fall).tolist(), "test_force_rmse": (12 * fall).tolist()}
    return TrainOut(history, TorchTrainingConfig(force_weight=0.1 if forces else 0.0), Path("runs/one"))


def test_tables_and_statistics():
    out = trained(10, forces=True)
    assert list(out.errors) == [
        "MAE_train",
        "RMSE_train",
        "MAE_test",
        "RMSE_test",
        "RMSE_force_train",
        "RMSE_force_test",
    ]
    assert len(out.errors) == len(out.timing) == len(out.learning_rate) == 10
    assert out.timing["epoch_time"].sum() == pytest.approx(5)
    assert out.stats["final_RMSE_train"] == pytest.approx(0.1 * 0.9**9)
    assert out.stats["epoch_min_RMSE_test"] == 8
    assert out.stats["min_RMSE_test"] == pytest.approx(0.15 * 0.9**7)
    assert out.stats["epoch_min_RMSE_force_test"] == 10
    assert out.has_force_data


def test_without_forces_validation_or_epochs():
    out = trained(5, forces=False, validation=False)
    assert not out.has_force_data
    assert math.isnan(out.stats["min_RMSE_test"])
    assert math.isnan(trained(0, forces=False).stats["final_RMSE_train"])


def test_figures(tmp_path):
    out = trained(10, forces=True)

    def titles(figure):
        return [t for axes in figure.axes if (t := axes.get_title(loc="left"))]

    energy, force = "Energy RMSE (meV/atom)", "Force RMSE (meV/Å)"
    assert titles(out.plot_training_summary(tmp_path / "summary.png")) == [energy, force]
    assert titles(out.plot_training_errors(outfile=str(tmp_path / "errors.pdf"))) == [energy]
    assert titles(out.plot_force_errors()) == [force]
    assert (tmp_path / "summary.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "errors.pdf").read_bytes().startswith(b"%PDF")
    x = out.plot_force_errors().axes[0].get_lines()[0].get_xdata()
    np.testing.assert_array_equal(x, np.arange(1, 11))


def test_nothing_to_draw_is_said():
    out = trained(10, forces=False)
    with pytest.raises(ValueError, match=r"runs/one: no force errors to plot: force_weight was 0\.0"):
        out.plot_force_errors()
    assert len(out.plot_training_summary().axes) == 2  # errors and learning rate
    with pytest.raises(ValueError, match="no finite error"):
        trained(0, forces=False).plot_training_errors()


LOG = """
 Training process.

 epoch             MAE          <RMSE>             MAE          <RMSE>
     0    1.500000E-01    2.000000E-01    1.600000E-01    2.100000E-01 <
     1    5.000000E-02    6.000000E-02    7.000000E-02    8.000000D-02 <
 1 line that is none
"""


def test_the_log_of_aenet(tmp_path):
    (tmp_path / "train.out").write_text(LOG)
    out = TrainOut.from_log(tmp_path / "train.out")
    assert out.errors["MAE_train"].tolist() == [0.15, 0.05]
    assert out.errors["RMSE_test"].tolist() == [0.21, 0.08]
    assert math.isnan(out.errors["RMSE_force_train"].iloc[0])
    assert (out.stats["epoch_min_RMSE_test"], out.has_force_data, len(out.timing)) == (2, False, 0)
    assert out.plot_training_errors(tmp_path / "log.png") is not None
    (tmp_path / "other").write_text("nothing\n")
    with pytest.raises(TrainingError, match=r"no line with an epoch's errors; expected lines of ænet's train\.x"):
        TrainOut.from_log(tmp_path / "other")
    with pytest.raises(FileNotFoundError, match="expected the output of ænet's"):
        TrainOut.from_log(tmp_path / "none")


def test_early_stopping_is_in_the_statistics():
    out = trained(4, forces=False)
    assert out.stats["stopped_early"] == 0
    stopped = TrainOut(
        out.history | {"epochs_without_improvement": [0, 1, 2, 3]}, TorchTrainingConfig(early_stopping_patience=3), "x"
    )
    assert stopped.stats["stopped_early"] == 1


def test_an_older_history_has_what_it_has():
    history = {"epoch": [0, 1], "train_energy_rmse": [0.2, 0.1], "test_energy_rmse": [None, None]}  # as JSON has it
    short = TrainOut(history, TorchTrainingConfig(), Path("x"))
    assert short.stats["final_RMSE_train"] == 0.1
    assert math.isnan(short.stats["final_RMSE_test"])
    assert short.errors.shape == (2, 6)


def test_printed_as_a_short_table_of_final_errors():
    out = trained(10, forces=True)
    assert repr(out) == "TrainOut('runs/one': 10 epochs)"
    first, *errors = str(out).splitlines()
    assert first == "training in runs/one: 10 epochs"
    assert errors[0].split() == ["final_MAE_train", f"{0.08 * 0.9**9:.5f}", "eV/atom"]
    assert errors[-1].split()[::2] == ["final_RMSE_force_test", "eV/Å"]
    assert "test" not in str(trained(5, forces=False, validation=False))
    assert str(TrainOut({}, None, "runs/two")) == "training in runs/two: 0 epochs"
