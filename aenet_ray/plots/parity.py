"""Reference against prediction: energies per atom, or components of forces."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aenet_ray.errors import PlotError
from aenet_ray.plots.style import (
    INK,
    QUIET,
    figure_style,
    new_figure,
    note,
    save_figure,
    split_color,
    three_digits,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Kind = Literal["energy", "forces"]
UNITS = {"energy": ("energy", "eV/atom", "meV/atom"), "forces": ("force component", "eV/Å", "meV/Å")}
MANY_POINTS = 3000  # from here on single points would hide each other
# A model's few wild errors must not squeeze the histogram of all others into one bar.
SHOWN_RESIDUALS = 99.0  # percent


@dataclass(frozen=True, slots=True)
class _Split:
    name: str
    color: str
    reference: NDArray[np.float64]
    prediction: NDArray[np.float64]
    n_lost: int  # predictions that are not finite

    @property
    def residuals(self) -> NDArray[np.float64]:
        """Prediction - reference, meV/atom or meV/Å."""
        return 1000.0 * (self.prediction - self.reference)


def parity_plot(
    reference: ArrayLike | Mapping[str, ArrayLike],
    prediction: ArrayLike | Mapping[str, ArrayLike],
    *,
    kind: Kind = "energy",
    outfile: str | Path | None = None,
    label: str = "test",
    title: str | None = None,
    relative: bool = False,
) -> Figure:
    """Predictions against references, a panel for each split, and a histogram of the residuals.

    Points that are many are drawn as their density. MAE and RMSE stand in each panel in meV.

    Args:
        reference: Energies per atom, (n,), eV/atom, or forces of any shape, eV/Å. A mapping from the
            split's name to such an array gives one panel a split. NaN marks an absent label.
        prediction: The same of the model. Values that are not finite are left out and counted in
            the panel.
        kind: ``"energy"`` or ``"forces"``; decides on names and units.
        outfile: Where to write the figure; the ending decides on the format.
        label: Name of the split where arrays are given.
        title: Above the figure.
        relative: Energies are given less those of the atoms, and the axes say so.

    Returns:
        The figure, also where it was written.

    Raises:
        PlotError: Shapes or splits differ, or a split has nothing to show.
    """
    if kind not in UNITS:
        raise PlotError(f"kind is {kind!r}, expected one of {list(UNITS)}.")
    splits = _splits(reference, prediction, label)
    low, high = _limits(splits)
    with figure_style():
        figure = new_figure(3.15 * len(splits) + 2.6, 3.35 + 0.25 * (title is not None))
        widths = [1.0] * len(splits) + [0.72]
        panels = figure.subplots(1, len(splits) + 1, squeeze=False, width_ratios=widths)[0]
        for axes, split in zip(panels, splits, strict=False):
            _draw_parity(axes, split, kind, low, high, relative=relative)
        _draw_residuals(panels[-1], splits, kind)
        for axes in panels[1:-1]:
            axes.set_ylabel("")
            axes.tick_params(labelleft=False)
        if title:
            figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
        save_figure(figure, outfile)
    return figure


def _splits(reference: Any, prediction: Any, label: str) -> list[_Split]:
    if not isinstance(reference, Mapping):
        reference, prediction = {label: reference}, {label: prediction}
    if not isinstance(prediction, Mapping) or list(reference) != list(prediction):
        names = list(prediction) if isinstance(prediction, Mapping) else "one array"
        raise PlotError(f"predictions are of {names}, expected those of splits {list(reference)}.")
    splits, others = [], 0
    for name in reference:
        expected, found = np.asarray(reference[name], float), np.asarray(prediction[name], float)
        if expected.shape != found.shape:
            raise PlotError(f"{name}: predictions have shape {found.shape}, references {expected.shape}.")
        labelled = np.isfinite(expected)
        shown = labelled & np.isfinite(found)
        if not shown.any():
            raise PlotError(f"{name}: none of {expected.size} values has a finite reference and prediction.")
        color = split_color(name, others)
        others += color == split_color("", others)
        splits.append(_Split(name, color, expected[shown], found[shown], int((labelled & ~shown).sum())))
    return splits


def _limits(splits: list[_Split]) -> tuple[float, float]:
    values = np.concatenate([array for s in splits for array in (s.reference, s.prediction)])
    low, high = float(values.min()), float(values.max())
    margin = 0.04 * (high - low) or 0.5
    return low - margin, high + margin


def _draw_parity(axes: Axes, split: _Split, kind: Kind, low: float, high: float, *, relative: bool) -> None:
    name, unit, error_unit = UNITS[kind]
    what = ", relative to atoms" if relative else f" {name}"
    axes.plot([low, high], [low, high], color=INK, lw=0.8, zorder=3, alpha=0.7)
    if len(split.reference) < MANY_POINTS:
        few = len(split.reference) < 300
        axes.scatter(
            split.reference,
            split.prediction,
            s=16 if few else 9,
            color=split.color,
            alpha=0.75 if few else 0.45,
            linewidths=0,
            zorder=4,
        )
    else:
        _draw_density(axes, split, low, high)
    axes.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    axes.set_xlabel(f"Reference{what} ({unit})")
    axes.set_ylabel(f"Predicted{what} ({unit})")
    axes.set_title(f"{split.name} (n = {len(split.reference):,})")
    axes.xaxis.set_major_locator(_locator())
    axes.yaxis.set_major_locator(_locator())
    residuals = split.residuals
    lines = [
        f"MAE {three_digits(np.abs(residuals).mean())} {error_unit}",
        f"RMSE {three_digits(np.sqrt((residuals**2).mean()))} {error_unit}",
    ]
    if split.n_lost:
        lines.append(f"{split.n_lost} not finite, left out")
    note(axes, "\n".join(lines))


def _draw_density(axes: Axes, split: _Split, low: float, high: float) -> None:
    """Hexagons coloured by the number of points in them, on a logarithmic scale."""
    from matplotlib.colors import LinearSegmentedColormap, LogNorm, to_rgb

    base = np.array(to_rgb(split.color))
    ramp = [0.62 + 0.38 * base, base, 0.35 * base]  # starts well above white: outliers must show
    cells = axes.hexbin(
        split.reference,
        split.prediction,
        gridsize=90,
        extent=(low, high, low, high),
        mincnt=1,
        linewidths=0.15,
        norm=LogNorm(),
        cmap=LinearSegmentedColormap.from_list(split.name, ramp),
        zorder=4,
    )
    inset = axes.inset_axes((0.62, 0.09, 0.33, 0.028))
    bar = axes.figure.colorbar(cells, cax=inset, orientation="horizontal")
    bar.outline.set_visible(False)
    bar.ax.xaxis.set_major_formatter("{x:g}")
    bar.ax.tick_params(labelsize=7, length=2, pad=1)
    bar.ax.minorticks_off()
    bar.ax.set_title("points in cell", fontsize=7, fontweight="normal", loc="center", pad=2)


def _draw_residuals(axes: Axes, splits: list[_Split], kind: Kind) -> None:
    everything = np.concatenate([s.residuals for s in splits])
    reach = float(np.percentile(np.abs(everything), SHOWN_RESIDUALS)) or 1.0
    fewest = min(len(s.residuals) for s in splits)
    bins = np.linspace(-reach, reach, int(np.clip(2 * np.sqrt(fewest), 11, 61)) | 1)
    for split in splits:
        weights = np.full(len(split.residuals), 100.0 / len(split.residuals))
        look: dict[str, Any] = {"bins": bins, "weights": weights, "color": split.color}
        axes.hist(split.residuals, histtype="stepfilled", alpha=0.22, **look)
        axes.hist(split.residuals, histtype="step", lw=1.4, label=split.name, **look)
    axes.set_ylim(top=1.2 * axes.get_ylim()[1])  # room for the words above
    outside = 100.0 * float((np.abs(everything) > reach).mean())
    axes.axvline(0.0, color=INK, lw=0.8, alpha=0.7)
    axes.set(xlim=(-reach, reach), xlabel=f"Residual ({UNITS[kind][2]})", ylabel="Share (%)")
    axes.set_title("Prediction − reference")
    axes.xaxis.set_major_locator(_locator(4))
    if len(splits) > 1:
        axes.legend(loc="upper left", handlelength=1.2, borderaxespad=0.2)
    if outside:
        axes.text(
            0.98,
            0.98,
            f"{outside:.1g} % lie outside",
            transform=axes.transAxes,
            ha="right",
            va="top",
            fontsize=7,
            color=QUIET,
        )


def _locator(n: int = 5) -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(n, min_n_ticks=3)
