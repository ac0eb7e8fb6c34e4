from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from aenet_ray.errors import PlotError
from aenet_ray.plots import learning_curve
from aenet_ray.plots.learning_curve import round_numbers


@pytest.fixture
def history() -> dict[str, list[float]]:
    error = 0.1 * np.exp(-np.arange(30) / 5.0) + 0.002
    return {
        "train_energy_rmse": error.tolist(),
        "test_energy_rmse": (1.2 * error).tolist(),
        "train_force_rmse": (10.0 * error).tolist(),
        "test_force_rmse": (12.0 * error).tolist(),
        "learning_rate": [1e-3] * 20 + [5e-4] * 10,
        "epoch_time": [1.0] * 30,
    }


def lines(axes) -> dict[str, np.ndarray]:
    return {
        line.get_label(): np.column_stack(line.get_data())
        for line in axes.get_lines()
        if not str(line.get_label()).startswith("_")
    }


@pytest.mark.parametrize("kind", [dict, pd.DataFrame])
def test_panels_for_energy_force_and_rate(history, tmp_path, kind):
    figure = learning_curve(kind(history), tmp_path / "curve.png", title="TiO2")
    energy, force, rate, _ = figure.axes
    shown = lines(energy)
    label = next(label for label in shown if label.startswith("validation"))
    assert label == f"validation, {1200 * history['train_energy_rmse'][-1]:.3g} at best (epoch 30)"
    np.testing.assert_allclose(shown[label][:, 1], 1000.0 * np.array(history["test_energy_rmse"]))
    np.testing.assert_array_equal(shown[label][:, 0], np.arange(1, 31))
    assert energy.get_yscale() == "log"
    assert [a.get_title(loc="left") for a in (energy, force)] == ["Energy RMSE (meV/atom)", "Force RMSE (meV/Å)"]
    np.testing.assert_array_equal(rate.get_lines()[0].get_ydata(), history["learning_rate"])
    assert (tmp_path / "curve.png").stat().st_size > 10_000


def test_no_force_panel_without_forces(history):
    nothing = [float("nan")] * 30
    figure = learning_curve(history | {"train_force_rmse": nothing, "test_force_rmse": nothing})
    assert [a.get_title(loc="left") for a in figure.axes] == ["Energy RMSE (meV/atom)", ""]


def test_gaps_zeros_and_epochs_of_a_resumed_run(history):
    history["test_energy_rmse"][::2] = [float("nan")] * 15
    history["test_energy_rmse"][29] = 0.0  # has no place on a logarithmic axis
    del history["learning_rate"]
    (energy, _) = learning_curve(history | {"epoch": np.arange(100, 130)}).axes
    test = next(data for label, data in lines(energy).items() if label.startswith("validation, "))
    assert np.isfinite(test[:, 1]).sum() == 14
    assert test[0, 0] == 100


def test_one_epoch():
    figure = learning_curve({"train_energy_rmse": [0.01], "learning_rate": [1e-3]})
    assert figure.axes[0].get_lines()[0].get_marker() == "o"


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({}, "no finite error"),
        ({"train_energy_rmse": []}, "no finite error"),
        ({"train_energy_rmse": [float("nan")] * 3, "learning_rate": [1e-3] * 3}, "no finite error"),
        ({"train_energy_rmse": [0.1, 0.2], "test_energy_rmse": [0.1]}, "different lengths"),
    ],
)
def test_nothing_to_show_is_refused(bad, message):
    with pytest.raises(PlotError, match=message):
        learning_curve(bad)


@pytest.mark.parametrize(
    ("low", "high", "most", "expected"),
    [
        (145, 1480, 7, [150, 200, 300, 500, 700, 1000]),
        (3.5, 450, 7, [5, 10, 20, 50, 100, 200]),
        (7.85e-6, 0.0101, 3, [1e-4, 1e-2]),
        (5e-4 / 1.01, 1.01e-3, 3, [5e-4, 7e-4, 1e-3]),
        (7.3e-3, 7.9e-3, 3, []),
    ],
)
def test_ticks_are_round_and_few(low, high, most, expected):
    assert round_numbers(low, high, most) == pytest.approx(expected)
