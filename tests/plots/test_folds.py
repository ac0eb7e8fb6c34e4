"""Figures of a cross-validation: folds of a configuration belong together, and only means are compared."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.colors import to_hex

from aenet_ray.errors import PlotError
from aenet_ray.plots.folds import COLORS, SHOWN, Configuration, fold_curves, fold_spread


def configuration(name: str, *last: float, epochs: int = 4) -> Configuration:
    """Folds that fall to these values."""
    metric = [np.linspace(10 * v, v, epochs) for v in last]
    return Configuration(name, f"text of {name}", [f"fold_{i + 1}" for i in range(len(last))], metric)


def curves(figure):
    """(colour, width, values) of each line."""
    (axes,) = figure.axes
    return [(to_hex(x.get_color()).upper(), x.get_linewidth(), x.get_ydata()) for x in axes.get_lines()]


def legend(figure) -> list[str]:
    (found,) = figure.legends
    return [t.get_text() for t in found.get_texts()]


def test_curves_of_a_configuration_have_one_colour_and_a_mean():
    made = [configuration(f"mu {v}", v, 2 * v, 3 * v) for v in (5.0, 1.0, 3.0, 2.0, 4.0)]
    figure = fold_curves(made, "RMSE")
    found = curves(figure)
    assert len(found) == 5 * (3 + 1)
    for rank, last in enumerate((1.0, 2.0, 3.0)):
        own = [(width, values) for color, width, values in found if color == COLORS[rank]]
        assert sorted(values[-1] for width, values in own if width < 1) == [last, 2 * last, 3 * last]
        ((_, mean),) = [pair for pair in own if pair[0] > 1]
        assert mean.tolist() == (2 * np.linspace(10 * last, last, 4)).tolist()
    assert legend(figure) == [f"mu {v}: text of mu {v}" for v in (1.0, 2.0, 3.0)] + ["others"]
    assert figure.axes[0].get_yscale() == "log"


def test_the_mean_ends_where_the_first_fold_does():
    early = Configuration("", "text", ["a", "b"], [np.array([4.0, 2.0]), np.array([6.0, 4.0, 3.0])])
    figure = fold_curves([early], "RMSE")
    (mean,) = [values for _, width, values in curves(figure) if width > 1]
    assert mean.tolist() == [5.0, 3.0]
    assert legend(figure) == ["text"], "settings of the only one are those of the run"


def test_spread_of_configurations():
    made = [configuration("worse", 4.0, 5.0, 9.0), configuration("better", 1.0, 2.0, 3.0), configuration("one", 7.0)]
    figure = fold_spread(made, "RMSE")
    (axes,) = figure.axes
    assert [t.get_text().split("\n")[0] for t in axes.get_yticklabels()] == ["better", "worse", "one"]
    assert axes.get_ylim()[0] > axes.get_ylim()[1], "the best on top"
    folds = next(x for x in axes.get_lines() if len(x.get_xdata()) == 7)
    assert folds.get_xdata().tolist() == [1.0, 2.0, 3.0, 4.0, 5.0, 9.0, 7.0]
    assert folds.get_ydata().tolist() == [0, 0, 0, 1, 1, 1, 2]
    (bars,) = axes.containers
    assert bars.lines[0].get_xdata().tolist() == pytest.approx([2.0, 6.0, 7.0])
    segments = [s[:, 0].tolist() for s in bars.lines[2][0].get_segments()]
    assert segments == [[1.0, 3.0], [6 - 7**0.5, 6 + 7**0.5], [7.0, 7.0]]


def test_folds_of_a_single_configuration_are_named():
    only = Configuration("", "12 ± 3 meV/atom", ["bulk", "slab", "md"], [np.array([v]) for v in (1.0, 5.0, 3.0)])
    figure = fold_spread([only], "RMSE")
    (axes,) = figure.axes
    assert [t.get_text() for t in axes.get_yticklabels()] == ["bulk", "slab", "md"]
    assert any(np.array_equal(x.get_xdata(), [1.0, 5.0, 3.0]) for x in axes.get_lines())
    assert legend(figure) == ["mean ± standard deviation: 12 ± 3 meV/atom"]


def test_of_very_many_the_best_are_shown(tmp_path):
    made = [configuration(f"c{k}", float(k), k + 1.0) for k in range(SHOWN + 5, 0, -1)]
    (axes,) = fold_spread(made, "RMSE", tmp_path / "folds.png").axes
    names = [t.get_text().split("\n")[0] for t in axes.get_yticklabels()]
    assert names == [f"c{k + 1}" for k in range(SHOWN)]
    assert "the best 20 of 25" in axes.get_title(loc="left")
    assert (tmp_path / "folds.png").stat().st_size > 10_000


@pytest.mark.parametrize("draw", [fold_curves, fold_spread])
@pytest.mark.parametrize("nothing", [[], [configuration("diverged", np.nan, 1.0)]])
def test_nothing_to_draw(draw, nothing):
    with pytest.raises(PlotError, match=f"none of {len(nothing)} configurations has a finished fold"):
        draw(nothing, "RMSE")
