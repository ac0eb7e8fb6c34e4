from __future__ import annotations

import numpy as np
import pytest
from matplotlib.collections import PathCollection
from scipy.stats import spearmanr

from aenet_ray.errors import PlotError
from aenet_ray.plots import uncertainty_plot


@pytest.fixture
def sample():
    """Errors drawn with the spread as their width, 400 of them."""
    rng = np.random.default_rng(0)
    sigma = rng.lognormal(1.0, 0.8, 400)
    return sigma, rng.normal(size=400) * sigma


def texts(axes):
    return "\n".join(t.get_text() for t in axes.texts)


def test_points_and_what_is_left(sample, tmp_path):
    sigma, error = sample
    figure = uncertainty_plot(sigma, error, outfile=tmp_path / "spread.png", title="TiO2")
    assert (tmp_path / "spread.png").stat().st_size > 10_000
    left, right = figure.axes
    drawn = next(c for c in left.collections if isinstance(c, PathCollection)).get_offsets()
    np.testing.assert_allclose(drawn, np.column_stack([sigma, np.abs(error)]))
    assert left.get_title(loc="left") == "Spread and error (n = 400)"
    assert f"rank correlation {spearmanr(sigma, np.abs(error)).statistic:.2f}" in texts(left)
    random, by_spread, by_error = (line.get_ydata() for line in right.lines)
    assert by_spread[0] == by_error[0] == random[0] == pytest.approx(np.sqrt(np.mean(error**2)))
    assert by_spread[200] < 0.6 * by_spread[0], "the certain half is better"
    assert (by_error <= by_spread + 1e-12).all()


def test_absent_references_and_no_spread_are_no_trouble(sample):
    sigma, error = sample
    error = np.where(np.arange(400) < 100, np.nan, error)
    assert "n = 300" in uncertainty_plot(sigma, error).axes[0].get_title(loc="left")
    assert "rank correlation 0.00" in texts(uncertainty_plot(np.zeros(400), error).axes[0])


@pytest.mark.parametrize(
    ("spread", "error", "message"),
    [
        (np.ones(6), np.ones(5), r"spread has shape \(6,\), error \(5,\)"),
        (np.ones((3, 2)), np.ones((3, 2)), r"expected \(n,\) for both"),
        (np.ones(6), np.full(6, np.nan), "0 structures have a spread and an error; at least 5"),
        (-np.ones(6), np.ones(6), "cannot be negative"),
    ],
)
def test_refused(spread, error, message):
    with pytest.raises(PlotError, match=message):
        uncertainty_plot(spread, error)
