"""Whether error bars hold what they promise: expected against observed coverage."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from aenet_ray.errors import PlotError
from aenet_ray.plots.style import BLUE, INK, VERMILLION, figure_style, new_figure, note, save_figure, three_digits

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Curve = tuple[ArrayLike, ArrayLike, float, int]
"""Observed coverage before and after scaling, (n_levels,) each, the scale, and the number of values."""


def reliability_plot(
    expected: ArrayLike,
    curves: Mapping[str, Curve],
    *,
    outfile: str | Path | None = None,
    title: str | None = None,
) -> Figure:
    """A panel for each quantity: of 100 errors, how many lie within the bounds that should hold so many.

    On the diagonal, error bars say the truth; below it they are too small.

    Args:
        expected: Coverage that the bounds are made for, (n_levels,), between 0 and 1.
        curves: By quantity.
        outfile: Where to write the figure; the ending decides on the format.
        title: Above the figure.

    Raises:
        PlotError: There is no quantity, or shapes differ.
    """
    levels = np.asarray(expected, dtype=float)
    if not curves:
        raise PlotError("no calibrated quantity to draw; expected energies, forces or both.")
    for name, (raw, scaled, _, _) in curves.items():
        if np.shape(raw) != levels.shape or np.shape(scaled) != levels.shape:
            raise PlotError(f"{name}: {np.shape(raw)} and {np.shape(scaled)} values for {levels.shape} levels.")
    with figure_style():
        figure = new_figure(0.6 + 2.8 * len(curves), 3.25 + 0.3 * (title is not None))
        panels = np.atleast_1d(figure.subplots(1, len(curves), sharey=True))
        for axes, (name, curve) in zip(panels, curves.items(), strict=True):
            _draw(axes, levels, name, curve)
        panels[0].set_ylabel("Observed: errors within (%)")
        if title:
            figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
        save_figure(figure, outfile)
    return figure


def _draw(axes: Axes, levels: np.ndarray, name: str, curve: Curve) -> None:
    raw, scaled = (np.concatenate([[0.0], np.asarray(c, dtype=float), [1.0]]) for c in curve[:2])
    x = np.concatenate([[0.0], levels, [1.0]])
    axes.plot([0, 100], [0, 100], color=INK, lw=0.8, alpha=0.7, zorder=1)
    for values, color, label in ((raw, VERMILLION, "spread"), (scaled, BLUE, "spread, scaled")):
        axes.fill_between(100 * x, 100 * x, 100 * values, color=color, alpha=0.12, linewidth=0)
        axes.plot(100 * x, 100 * values, color=color, lw=1.8, label=label)
    axes.set(xlim=(0, 100), ylim=(0, 100), aspect="equal", xlabel="Expected (%)", xticks=range(0, 101, 20))
    axes.set_title(f"{name[0].upper()}{name[1:]} (n = {curve[3]:,})")
    note(axes, f"scale {three_digits(curve[2])}")
    axes.legend(loc="lower right", handlelength=1.4, borderaxespad=0.2)
