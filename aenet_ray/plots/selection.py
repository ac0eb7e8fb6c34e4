"""Where the selected candidates stand among all of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from aenet_ray.errors import PlotError
from aenet_ray.plots.style import QUIET, VERMILLION, figure_style, new_figure, note, save_figure, three_digits

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHOWN_BINS = 60


def selection_plot(
    edges: ArrayLike,
    counts: ArrayLike,
    selected: ArrayLike,
    *,
    quantity: str = "energy std per atom",
    unit: str = "eV/atom",
    outfile: str | Path | None = None,
    title: str | None = None,
) -> Figure:
    """Histograms of the uncertainty of all candidates and of the selected ones, on logarithmic scales.

    Args:
        edges: Of the bins, evenly spaced on a logarithmic scale, (n_bins + 1,).
        counts: Candidates in each, (n_bins,).
        selected: Uncertainty of the selected ones, (n,).
        quantity, unit: For the labels.
        outfile: Where to write the figure; the ending decides on the format.
        title: Above the figure.

    Raises:
        PlotError: Shapes do not fit, or there are no candidates.
    """
    x, n, chosen = np.asarray(edges, float), np.asarray(counts), np.asarray(selected, float)
    if x.shape != (len(n) + 1,):
        raise PlotError(f"{len(x)} edges for {len(n)} bins, expected {len(n) + 1}.")
    if not n.sum() or not len(chosen):
        raise PlotError("no candidates to draw.")
    filled = np.flatnonzero(n)
    step = max(1, -(-(filled[-1] - filled[0] + 1) // SHOWN_BINS))
    starts = np.arange(filled[0], filled[-1] + 1, step)
    bounds = np.append(x[starts], x[min(starts[-1] + step, len(n))])
    of_all = np.add.reduceat(n[: filled[-1] + 1], starts)
    of_chosen = np.histogram(np.clip(chosen, bounds[0], bounds[-1]), bounds)[0]
    with figure_style():
        figure = new_figure(5.2, 3.2 + 0.25 * (title is not None))
        axes = figure.subplots()
        axes.stairs(of_all, bounds, fill=True, color=QUIET, alpha=0.45, label=f"all {n.sum():,}")
        axes.stairs(of_chosen, bounds, fill=True, color=VERMILLION, alpha=0.9, label=f"selected {len(chosen):,}")
        axes.set(xscale="log", yscale="log", ylim=(0.7, 30.0 * of_all.max()))  # room for the words
        axes.set(xlabel=f"{quantity[0].upper()}{quantity[1:]} ({unit})", ylabel="Structures")
        _plain_ticks(axes, bounds)
        note(axes, f"selected from {three_digits(chosen.min())} to {three_digits(chosen.max())} {unit}")
        axes.legend(loc="upper right", handlelength=1.2, borderaxespad=0.2)
        if title:
            axes.set_title(title)
        save_figure(figure, outfile)
    return figure


def _plain_ticks(axes: Axes, bounds: np.ndarray) -> None:
    """Few numbers as they are read aloud where less than a decade is shown: those of a logarithmic axis collide."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

    if bounds[-1] < 10 * bounds[0]:
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
