"""Whether a committee knows what it does not know: spread against error, and what is left when the uncertain go."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aenet_ray.errors import PlotError
from aenet_ray.plots.style import (
    BLUE,
    GREEN,
    INK,
    QUIET,
    VERMILLION,
    figure_style,
    new_figure,
    note,
    save_figure,
    three_digits,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FloatArray = NDArray[np.float64]
FEWEST = 5


def uncertainty_plot(
    spread: ArrayLike,
    error: ArrayLike,
    *,
    quantity: str = "energy",
    unit: str = "meV/atom",
    outfile: str | Path | None = None,
    title: str | None = None,
) -> Figure:
    """Errors against the spread of the committee, on logarithmic scales, and the error of what one still trusts.

    Left: a point a structure, and the root mean square error of groups of equal size; on the diagonal, spread is error.
    Right: the error left when the least certain structures are set aside, beside setting aside at random and by the
    true error, which no spread can beat.

    Args:
        spread: Standard deviations of the committee, (n,), such as ``1000 * result.energy_std_per_atom``.
        error: Prediction less reference, (n,), in the same unit; NaN where there is no reference.
        quantity, unit: For the labels.
        outfile: Where to write the figure; the ending decides on the format.
        title: Above the figure.

    Raises:
        PlotError: Shapes differ, a spread is negative, or fewer than five structures have both.
    """
    sigma, errors = _both(spread, error)
    with figure_style():
        figure = new_figure(7.2, 3.35 + 0.25 * (title is not None))
        left, right = figure.subplots(1, 2, width_ratios=[1.0, 1.0])
        _draw_points(left, sigma, errors, quantity, unit)
        _draw_left_over(right, sigma, errors, unit)
        if title:
            figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
        save_figure(figure, outfile)
    return figure


def _both(spread: ArrayLike, error: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Spread and magnitude of error where both are known."""
    sigma, errors = np.asarray(spread, dtype=float), np.abs(np.asarray(error, dtype=float))
    if sigma.shape != errors.shape or sigma.ndim != 1:
        raise PlotError(f"spread has shape {sigma.shape}, error {errors.shape}; expected (n,) for both.")
    known = np.isfinite(sigma) & np.isfinite(errors)
    if known.sum() < FEWEST:
        raise PlotError(f"{known.sum()} structures have a spread and an error; at least {FEWEST} make a plot.")
    if (sigma[known] < 0).any():
        raise PlotError("spread: standard deviations cannot be negative.")
    return sigma[known], errors[known]


def _draw_points(axes: Axes, sigma: FloatArray, errors: FloatArray, quantity: str, unit: str) -> None:
    shown = (sigma > 0) & (errors > 0)
    values = np.concatenate([sigma[shown], errors[shown]]) if shown.any() else np.ones(1)
    low, high = np.percentile(values, 0.5) / 1.5, values.max() * 1.7
    axes.plot([low, high], [low, high], color=INK, lw=0.8, alpha=0.7, zorder=3)
    few = len(sigma) < 300
    axes.scatter(sigma, errors, s=16 if few else 9, color=BLUE, alpha=0.55 if few else 0.3, linewidths=0, zorder=2)
    groups = np.array_split(np.argsort(sigma), min(10, max(2, len(sigma) // 10)))
    x, y = (np.array([_rms(values[g]) for g in groups]) for values in (sigma, errors))
    axes.plot(x, y, "o-", color=VERMILLION, ms=5.5, mec="white", mew=0.8, lw=1.4, zorder=4, label="RMS of a group")
    axes.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high), aspect="equal")
    axes.set_xlabel(f"Spread of {quantity} ({unit})")
    axes.set_ylabel(f"|Error| of {quantity} ({unit})")
    axes.set_title(f"Spread and error (n = {len(sigma):,})")
    lines = [f"rank correlation {_rank_correlation(sigma, errors):.2f}"]
    if (ratio := _rms(sigma)) > 0:
        lines.append(f"RMS error {three_digits(_rms(errors) / ratio)} × spread")
    note(axes, "\n".join(lines))
    axes.legend(loc="lower right", handlelength=1.4, borderaxespad=0.2)


def _draw_left_over(axes: Axes, sigma: FloatArray, errors: FloatArray, unit: str) -> None:
    percent = 100.0 * np.arange(len(errors)) / len(errors)
    shown = percent <= 95
    by_spread, by_error = (_rms_of_rest(errors[np.argsort(-by, kind="stable")]) for by in (sigma, errors))
    axes.axhline(by_spread[0], color=QUIET, lw=1.2, ls=(0, (4, 3)), label="at random")
    axes.plot(percent[shown], by_spread[shown], color=VERMILLION, lw=1.8, label="least certain first")
    axes.plot(percent[shown], by_error[shown], color=GREEN, lw=1.2, label="largest error first")
    axes.set(xlim=(0, 95), xlabel="Set aside (%)", ylabel=f"RMSE of the rest ({unit})")
    low, high = by_spread[shown].min(), by_spread[0]
    if 0 < low < 0.2 * high:  # a few errors far above all others
        axes.set(yscale="log", ylim=(0.4 * low, 2.5 * high))
    else:
        axes.set_ylim(0, 1.3 * high or 1.0)  # room for the legend
    axes.set_title("What one still trusts")
    axes.legend(loc="upper right", handlelength=1.6, borderaxespad=0.2)


def _rms(values: FloatArray) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def _rms_of_rest(errors: FloatArray) -> FloatArray:
    """Root mean square of the errors from each place to the end."""
    sums = np.cumsum(np.square(errors)[::-1])[::-1]
    return np.sqrt(sums / np.arange(len(errors), 0, -1))


def _rank_correlation(a: FloatArray, b: FloatArray) -> float:
    """Spearman's coefficient; 0 where one of them is constant."""
    first, second = (np.argsort(np.argsort(v, kind="stable"), kind="stable").astype(float) for v in (a, b))
    return 0.0 if np.ptp(a) == 0 or np.ptp(b) == 0 else float(np.corrcoef(first, second)[0, 1])
