from __future__ import annotations

import subprocess
import sys

import matplotlib
import numpy as np
import pytest
from matplotlib.collections import PathCollection, PolyCollection

from aenet_ray.errors import PlotError
from aenet_ray.plots import parity_plot


def texts(axes) -> str:
    return "\n".join(text.get_text() for text in axes.texts)


def test_energy_panel_shows_points_and_errors(tmp_path):
    reference = np.linspace(-3.0, -1.0, 40)
    prediction = reference + np.where(np.arange(40) % 2, 0.003, -0.001)
    figure = parity_plot(reference, prediction, outfile=tmp_path / "new" / "parity.png", title="TiO2")
    panel, residuals = figure.axes
    assert "MAE 2 meV/atom" in texts(panel)
    assert "RMSE 2.24 meV/atom" in texts(panel)
    assert panel.get_title(loc="left") == "test (n = 40)"
    assert panel.get_xlabel() == "Reference energy (eV/atom)"
    assert panel.get_xlim() == panel.get_ylim()
    drawn = next(c for c in panel.collections if isinstance(c, PathCollection)).get_offsets()
    np.testing.assert_allclose(drawn, np.column_stack([reference, prediction]))
    assert residuals.get_xlabel() == "Residual (meV/atom)"
    assert (tmp_path / "new" / "parity.png").read_bytes().startswith(b"\x89PNG")


def test_many_force_components_become_a_density():
    rng = np.random.default_rng(0)
    forces = rng.normal(size=(2000, 3))
    figure = parity_plot(
        {"train": forces, "test": forces[:900]}, {"train": forces + 0.05, "test": forces[:900]}, kind="forces"
    )
    train, test, residuals = figure.axes[:3]
    counts = next(c for c in train.collections if isinstance(c, PolyCollection)).get_array()
    assert counts.sum() == forces.size
    assert "MAE 50 meV/Å" in texts(train)
    assert any(isinstance(c, PathCollection) for c in test.collections)
    assert test.get_title(loc="left") == "test (n = 2,700)"
    assert [t.get_text() for t in residuals.get_legend().get_texts()] == ["train", "test"]


def test_absent_labels_are_left_out_and_lost_predictions_are_counted():
    reference = np.array([1.0, np.nan, 3.0, 4.0])
    prediction = np.array([1.001, 2.0, np.nan, 3.997])
    panel = parity_plot(reference, prediction).axes[0]
    assert "MAE 2 meV/atom" in texts(panel)
    assert "1 not finite, left out" in texts(panel)


def test_wild_errors_do_not_squeeze_the_histogram():
    reference = np.zeros(1000)
    prediction = np.r_[np.linspace(-0.01, 0.01, 996), 5.0, 5.0, -5.0, -5.0]
    panel, residuals = parity_plot(reference, prediction).axes
    assert residuals.get_xlim()[1] < 11.0
    assert "% lie outside" in texts(residuals)
    assert "RMSE 316 meV/atom" in texts(panel)


@pytest.mark.parametrize("n", [1, 2])
def test_hardly_any_points(n, tmp_path):
    parity_plot(np.ones(n), np.ones(n), outfile=tmp_path / "p.pdf")
    assert (tmp_path / "p.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize(
    ("reference", "prediction", "options", "message"),
    [
        ([1.0, 2.0], [1.0], {}, r"test: predictions have shape \(1,\), references \(2,\)"),
        ([np.nan], [1.0], {"label": "train"}, "train: none of 1 values"),
        ([], [], {}, "none of 0 values"),
        ({"train": [1.0]}, {"test": [1.0]}, {}, r"of \['test'\], expected those of splits \['train'\]"),
        ({"train": [1.0]}, [1.0], {}, "of one array, expected"),
        ([1.0], [1.0], {"kind": "stress"}, "kind is 'stress'"),
    ],
)
def test_what_does_not_match_is_refused(reference, prediction, options, message):
    with pytest.raises(PlotError, match=message):
        parity_plot(reference, prediction, **options)


def test_settings_of_the_caller_stay():
    before = dict(matplotlib.rcParams)
    parity_plot([1.0, 2.0], [1.0, 2.0])
    assert dict(matplotlib.rcParams) == before


def test_importing_plots_does_not_import_matplotlib():
    code = "import sys, aenet_ray.plots; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_axes_say_that_energies_are_relative_to_atoms():
    panel = parity_plot([-7.0, -6.0], [-7.1, -6.1], relative=True).axes[0]
    assert panel.get_xlabel() == "Reference, relative to atoms (eV/atom)"
    assert panel.get_ylabel() == "Predicted, relative to atoms (eV/atom)"
