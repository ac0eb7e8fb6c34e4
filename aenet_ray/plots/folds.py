"""Cross-validation: how the metric fell in each fold, and how far its folds are apart at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aenet_ray.errors import PlotError
from aenet_ray.plots.learning_curve import plain_log_ticks
from aenet_ray.plots.style import (
    BLUE,
    FAINT,
    GREEN,
    INK,
    QUIET,
    VERMILLION,
    figure_style,
    new_figure,
    save_figure,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from aenet_ray.plots.search import FloatArray

COLORS = (BLUE, VERMILLION, GREEN)
"""Of the best configurations; the others are grey."""
SHOWN = 20


@dataclass(frozen=True, slots=True)
class Configuration:
    """A configuration of a cross-validation as it is drawn, with the folds that came to their end.

    Args:
        name: Its settings; empty where there are no others.
        text: Mean and spread over its folds, with unit.
        folds: What each held out.
        metric: Of each fold, after each of its epochs, (n_epochs,) each; less is better.
        values: Its settings.
    """

    name: str
    text: str
    folds: Sequence[str]
    metric: Sequence[FloatArray]
    values: Mapping[str, Any] = field(default_factory=dict)

    @property
    def last(self) -> FloatArray:
        """After the last epoch of each fold, (n_folds,)."""
        return np.array([m[-1] for m in self.metric])

    @property
    def mean(self) -> float:
        return float(self.last.mean())

    @property
    def spread(self) -> float:
        """Standard deviation of single folds; 0 of one fold, which has none."""
        return float(self.last.std(ddof=1)) if len(self.last) > 1 else 0.0


def _best_first(configurations: Sequence[Configuration]) -> list[Configuration]:
    shown = [c for c in configurations if len(c.last) and np.isfinite(c.last).all()]
    if not shown:
        raise PlotError(f"none of {len(configurations)} configurations has a finished fold; nothing to draw.")
    return sorted(shown, key=lambda c: c.mean)


def fold_curves(configurations: Sequence[Configuration], label: str, outfile: str | Path | None = None) -> Figure:
    """The metric of every fold against epochs, thin, and the mean of each configuration's folds.

    Folds of one configuration have one colour, those of all but the best few are grey.

    Args:
        label: Of the metric, with its unit.

    Raises:
        PlotError: No fold came to its end.
    """
    shown = _best_first(configurations)
    values = np.concatenate([m for c in shown for m in c.metric])
    with figure_style():
        figure = new_figure(7.6, 4.2)
        axes = figure.subplots()
        axes.grid(axis="y")
        for k, configuration in reversed(list(enumerate(shown))):
            _draw_folds(axes, configuration, k)
        if (values[np.isfinite(values)] > 0).all():
            axes.set_yscale("log")
            plain_log_ticks(axes)
        axes.set_xlabel("Epoch")
        axes.set_title(label)
        handles, labels = axes.get_legend_handles_labels()
        title = "Thin: folds; thick: their mean, with the standard deviation after the last epoch"
        n = 1 if max(map(len, labels)) > 50 else 2
        figure.legend(handles[::-1], labels[::-1], title=title, alignment="left", loc="outside lower left", ncols=n)
        save_figure(figure, outfile)
    return figure


def _draw_folds(axes: Axes, configuration: Configuration, rank: int) -> None:
    known = rank < len(COLORS)
    color, depth = (COLORS[rank], 5) if known else ("#BBBBBB", 2)
    for metric in configuration.metric:
        axes.plot(np.arange(1, len(metric) + 1), metric, color=color, lw=0.7, alpha=0.6, zorder=depth)
    n = min(map(len, configuration.metric))  # folds may end early
    mean = np.mean([m[:n] for m in configuration.metric], axis=0)
    name = f"{configuration.name}: " if configuration.name else ""
    text = f"{name}{configuration.text}" if known else "others" if rank == len(COLORS) else None
    axes.plot(np.arange(1, n + 1), mean, color=color, lw=2.2 if known else 1.2, zorder=depth + 1, label=text)


def fold_spread(configurations: Sequence[Configuration], label: str, outfile: str | Path | None = None) -> Figure:
    """Mean and standard deviation of each configuration over its folds, and every fold; the best on top.

    A single configuration has a row for each fold, and a band for mean and standard deviation.

    Args:
        label: Of the metric, with its unit.

    Raises:
        PlotError: No fold came to its end.
    """
    shown = _best_first(configurations)
    rows = shown[:SHOWN]
    with figure_style():
        n = len(rows) if len(shown) > 1 else len(rows[0].folds)
        figure = new_figure(6.4, 1.2 + (0.36 if len(shown) > 1 else 0.26) * n)
        axes = figure.subplots()
        axes.grid(axis="x")
        (_draw_rows if len(shown) > 1 else _draw_only)(axes, rows)
        axes.set_ylim(n - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        left_out = f"; the best {len(rows)} of {len(shown)}" if len(rows) < len(shown) else ""
        only = f"\n{rows[0].name}" if len(shown) == 1 and rows[0].name else ""
        axes.set_title(f"{label}, after the last epoch{left_out}{only}")
        figure.legend(loc="outside lower right", ncols=2)
        save_figure(figure, outfile)
    return figure


def _draw_rows(axes: Axes, rows: Sequence[Configuration]) -> None:
    means, spreads = [c.mean for c in rows], [c.spread for c in rows]
    every = np.concatenate([c.last for c in rows])
    row = np.repeat(np.arange(len(rows)), [len(c.last) for c in rows])
    axes.plot(every, row, "o", ms=4, mfc="white", mec=QUIET, mew=0.9, zorder=4, label="a fold")
    bars = {"fmt": "D", "ms": 5, "color": BLUE, "lw": 1.8, "capsize": 3, "label": "mean ± standard deviation"}
    axes.errorbar(means, range(len(rows)), xerr=spreads, zorder=3, **bars)  # type: ignore[arg-type]
    axes.set_yticks(range(len(rows)), [f"{c.name}\n{c.text}" for c in rows], fontsize=7.5)


def _draw_only(axes: Axes, rows: Sequence[Configuration]) -> None:
    (only,) = rows
    axes.axvspan(only.mean - only.spread, only.mean + only.spread, color=FAINT, alpha=0.6, lw=0)
    axes.axvline(only.mean, color=INK, lw=1.2, label=f"mean ± standard deviation: {only.text}")
    axes.plot(only.last, range(len(only.folds)), "o", ms=6, color=BLUE, zorder=3)
    axes.set_yticks(range(len(only.folds)), only.folds)
