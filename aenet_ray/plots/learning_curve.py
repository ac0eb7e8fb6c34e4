"""How errors fell during training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from aenet_ray.errors import PlotError
from aenet_ray.plots.style import QUIET, figure_style, new_figure, save_figure, split_color, three_digits

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame

FloatArray = NDArray[np.float64]

PANELS = (("energy", "Energy RMSE (meV/atom)"), ("force", "Force RMSE (meV/Å)"))


def learning_curve(
    history: DataFrame | Mapping[str, Any], outfile: str | Path | None = None, *, title: str | None = None
) -> Figure:
    """Errors over epochs on a logarithmic scale, with the learning rate below.

    Args:
        history: Columns, or keys to equally long lists: ``train_energy_rmse``, ``test_energy_rmse``
            (eV/atom), ``train_force_rmse``, ``test_force_rmse`` (eV/Å), ``learning_rate``, and ``epoch``
            if epochs are not 1, 2, 3, ... A column may be absent or NaN, as a whole or in places.
        outfile: Where to write the figure; the ending decides on the format.
        title: Above the figure.

    Returns:
        The figure, also where it was written.

    Raises:
        PlotError: There is no finite error to show, or columns differ in length.
    """
    columns = _columns(history)
    panels = [panel for panel in PANELS if any(f"{s}_{panel[0]}_rmse" in columns for s in ("train", "test"))]
    if not panels:
        raise PlotError(f"history has columns {list(history)} and no finite error in them; train first.")
    rate = columns.get("learning_rate")
    with figure_style():
        figure = new_figure(4.1 * len(panels), 3.6 + 0.25 * (title is not None))
        ratios = [1.0, 0.26] if rate is not None else [1.0]
        grid = figure.subplots(len(ratios), len(panels), squeeze=False, sharex=True, height_ratios=ratios)
        for i, (name, label) in enumerate(panels):
            _draw_errors(grid[0, i], columns, name)
            grid[0, i].set_title(label)
            if rate is not None:
                _draw_rate(grid[1, i], columns["epoch"], rate)
            grid[-1, i].set_xlabel("Epoch")
        if rate is not None:
            grid[1, 0].set_ylabel("Learning\nrate")
        if title:
            figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
        save_figure(figure, outfile)
    return figure


def _columns(history: Any) -> dict[str, FloatArray]:
    """Columns with something finite in them, and ``epoch``."""
    names = ("train_energy_rmse", "test_energy_rmse", "train_force_rmse", "test_force_rmse", "learning_rate")
    arrays = {n: np.asarray(history[n], dtype=np.float64) for n in (*names, "epoch") if n in history}
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise PlotError(f"history has columns of different lengths {lengths}, expected one value an epoch.")
    for name in set(names) & set(arrays):
        arrays[name] = np.where(np.isfinite(arrays[name]) & (arrays[name] > 0), arrays[name], np.nan)
    columns = {name: array for name, array in arrays.items() if np.isfinite(array).any()}
    if "epoch" not in columns and columns:
        columns["epoch"] = np.arange(1.0, next(iter(lengths.values())) + 1)
    return columns


# The history calls the part held out for validation ``test``, as aenet-python does.
NAMES = {"train": "train", "test": "validation"}


def _draw_errors(axes: Axes, columns: dict[str, FloatArray], name: str) -> None:
    axes.set_yscale("log")
    axes.grid(axis="y")
    epochs = columns["epoch"]
    for split in ("train", "test"):
        values = columns.get(f"{split}_{name}_rmse")
        if values is None:
            continue
        values = 1000.0 * values
        color = split_color(NAMES[split])
        best = int(np.nanargmin(values))
        label = f"{NAMES[split]}, {three_digits(values[best])} at best (epoch {epochs[best]:.0f})"
        few = np.isfinite(values).sum() <= 20
        axes.plot(epochs, values, color=color, marker="o" if few else None, ms=3.5, label=label, zorder=3)
        axes.plot(epochs[best], values[best], "o", ms=6, mfc="white", mec=color, mew=1.6, zorder=5)
    axes.legend(loc="upper right", handlelength=1.4)
    plain_log_ticks(axes)


def plain_log_ticks(axes: Axes) -> None:
    """10, 20, 50 and not 10¹, 2x10¹: errors are read as numbers."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    low, high = axes.get_ylim()
    axes.set_yticks(round_numbers(low, high, 7))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_ylim(low, high)


STEPS = ((1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0), (1.0, 1.5, 2.0, 3.0, 5.0, 7.0), (1.0, 2.0, 5.0), (1.0,))


def round_numbers(low: float, high: float, most: int) -> list[float]:
    """At most so many round numbers from low to high, evenly spread on a logarithmic scale; maybe none."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in STEPS:
        found = [float(f"{step}e{k}") for k in decades for step in steps]
        found = [value for value in found if low <= value <= high]
        if len(found) <= most:
            return found
    return found[:: -math.ceil(len(found) / most)][::-1]


def _draw_rate(axes: Axes, epochs: FloatArray, rate: FloatArray) -> None:
    low, high = np.nanmin(rate), np.nanmax(rate)
    axes.plot(epochs, rate, color=QUIET, drawstyle="steps-post", lw=1.3)
    axes.set_yscale("log")
    axes.minorticks_off()
    ticks = round_numbers(low / 1.01, high * 1.01, 3)
    axes.set_yticks(ticks if ticks else [high])
    axes.yaxis.set_major_formatter("{x:.3g}")
    axes.set_ylim(low / 1.5, high * 1.5)
