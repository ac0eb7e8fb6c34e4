"""Searches of settings: how the metric fell over time, what settings were good, and which of them mattered."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from aenet_ray.errors import PlotError
from aenet_ray.plots.style import BLUE, FAINT, INK, QUIET, figure_style, new_figure, save_figure, three_digits

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class TrialCurve:
    """A trial as it is drawn.

    Args:
        name: Such as 'trial 3'.
        seconds: Since the search began, (n_epochs,).
        metric: After each epoch, (n_epochs,).
        finished: Not stopped early.
        values: Sampled settings.
    """

    name: str
    seconds: FloatArray
    metric: FloatArray
    finished: bool
    values: Mapping[str, Any] = field(default_factory=dict)

    @property
    def best(self) -> float:
        """Lowest finite value; inf if there is none."""
        finite = self.metric[np.isfinite(self.metric)]
        return float(finite.min()) if len(finite) else np.inf


def search_curves(trials: Sequence[TrialCurve], label: str, outfile: str | Path | None = None) -> Figure:
    """The metric of every trial against time, and the best of all so far.

    Args:
        trials: Less of the metric is better.
        label: Of the metric, with its unit.

    Raises:
        PlotError: No trial has a value.
    """
    shown = _with_values(trials)
    best = min(shown, key=lambda t: t.best)
    positive = all((t.metric[np.isfinite(t.metric)] > 0).all() for t in shown)
    with figure_style():
        figure = new_figure(7.6, 3.8)
        axes = figure.subplots()
        axes.grid(axis="y")
        for trial in sorted(shown, key=lambda t: -t.best):
            _draw_trial(axes, trial, best)
        times = np.concatenate([t.seconds for t in shown])
        values = np.concatenate([t.metric for t in shown])
        order = np.argsort(times, kind="stable")
        lowest = np.fmin.accumulate(values[order])
        axes.plot(times[order], lowest, color=INK, lw=1.8, drawstyle="steps-post", zorder=5, label="best so far")
        axes.plot([], [], color=FAINT, lw=1.2, marker="o", ms=3.5, mfc="white", mec=QUIET, label="stopped early")
        axes.plot([], [], color=BLUE, lw=1.2, label=f"{best.name}, {three_digits(best.best)} at best")
        if positive:
            axes.set_yscale("log")
            from aenet_ray.plots.learning_curve import plain_log_ticks

            plain_log_ticks(axes)
        axes.set_xlabel("Time (s)")
        axes.set_title(label)
        axes.legend(loc="lower right", bbox_to_anchor=(1.01, 0.99), ncols=3, borderaxespad=0.2, columnspacing=1.2)
        save_figure(figure, outfile)
    return figure


def _with_values(trials: Sequence[TrialCurve]) -> list[TrialCurve]:
    shown = [t for t in trials if np.isfinite(t.best)]
    if not shown:
        raise PlotError(f"none of {len(trials)} trials has a finite value of the metric; nothing to draw.")
    return shown


def _draw_trial(axes: Axes, trial: TrialCurve, best: TrialCurve) -> None:
    color = BLUE if trial is best else "#BBBBBB"
    axes.plot(
        trial.seconds, trial.metric, color=color, lw=1.4 if trial is best else 0.9, zorder=4 if trial is best else 2
    )
    if not trial.finished:
        axes.plot(trial.seconds[-1], trial.metric[-1], "o", ms=3.5, mfc="white", mec=QUIET, mew=0.9, zorder=3)


def parallel_coordinates(
    trials: Sequence[TrialCurve], log: Sequence[str], label: str, outfile: str | Path | None = None
) -> Figure:
    """A line for each trial through its settings to its best value; good ones are dark.

    Args:
        log: Settings that are drawn on a logarithmic axis.

    Raises:
        PlotError: No trial has a value, or nothing was searched.
    """
    shown = sorted(_with_values(trials), key=lambda t: -t.best)
    names = list(shown[0].values)
    if not names:
        raise PlotError("no settings were searched; nothing to draw.")
    scales = [_Axis.of(name, [t.values[name] for t in shown], log=name in log) for name in names]
    bests = np.array([t.best for t in shown])
    last = _Axis.of_range(label, bests.tolist(), log=bool((bests > 0).all()) and bests.max() > 5 * bests.min())
    with figure_style():
        from matplotlib import colormaps

        figure = new_figure(1.45 * len(names) + 2.4, 3.8)
        axes = figure.subplots()
        shades = colormaps["viridis_r"](np.linspace(0.05, 1.0, len(shown)))
        for k, trial in enumerate(shown):
            heights = [scale.height(trial.values[scale.name]) for scale in scales] + [last.height(trial.best)]
            x, y = _smooth(heights)
            axes.plot(x, y, color=shades[k], lw=2.2 if k == len(shown) - 1 else 1.1, alpha=0.9, zorder=2 + k / 1000)
        for i, scale in enumerate([*scales, last]):
            _draw_axis(axes, i, scale)
        axes.set_xlim(-0.35, len(names) + 0.35)
        axes.set_ylim(-0.06, 1.2)
        axes.axis("off")
        save_figure(figure, outfile)
    return figure


@dataclass(frozen=True, slots=True)
class _Axis:
    name: str
    ticks: list[tuple[float, str]]
    low: float
    high: float
    log: bool
    places: dict[str, float] | None

    @classmethod
    def of(cls, name: str, values: Sequence[Any], *, log: bool) -> _Axis:
        numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)
        n = len(set(map(str, values)))  # few values that come again are a choice, not a range
        if not numbers or (n <= 6 and (n < len(values) or all(isinstance(v, int) for v in values))):
            texts = sorted({str(v) for v in values}, key=lambda t: (_number(t), t))
            places = {t: (i + 0.5) / len(texts) for i, t in enumerate(texts)}
            return cls(name, [(h, _short(t)) for t, h in places.items()], 0, 1, False, places)
        return cls.of_range(name, values, log=log)

    @classmethod
    def of_range(cls, name: str, values: Sequence[float], *, log: bool) -> _Axis:
        low, high = float(min(values)), float(max(values))
        span = np.geomspace(low, high, 4) if log else np.linspace(low, high, 4)
        axis = cls(name, [], low, high, log, None)
        axis.ticks.extend((axis.height(v), _tick(v)) for v in span)
        return axis

    def height(self, value: Any) -> float:
        if self.places is not None:
            return self.places[str(value)]
        if self.high == self.low:
            return 0.5
        if self.log:
            return float(np.log(value / self.low) / np.log(self.high / self.low))
        return float((value - self.low) / (self.high - self.low))


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return np.inf


def _tick(value: float) -> str:
    return three_digits(value) if 0.01 <= abs(value) < 1e5 or value == 0 else f"{value:.1e}".replace("e-0", "e-")


def _short(text: str) -> str:
    return text if len(text) <= 22 else text[:20] + " …"


def _smooth(heights: Sequence[float]) -> tuple[FloatArray, FloatArray]:
    """A line that leaves and meets every axis at right angles, so that crossings can be followed."""
    t = np.linspace(0, 1, 25)
    ease = t * t * (3 - 2 * t)
    x = np.concatenate([i + t for i in range(len(heights) - 1)])
    y = np.concatenate([a + (b - a) * ease for a, b in pairwise(heights)])
    return x, y


def _draw_axis(axes: Axes, x: int, scale: _Axis) -> None:
    axes.plot([x, x], [0, 1], color=INK, lw=1.0, zorder=6)
    name = "\n".join(textwrap.wrap(scale.name, 18, break_long_words=False))
    axes.text(x, 1.06, name, ha="center", va="bottom", fontsize=8.5, fontweight="bold")
    for height, text in scale.ticks:
        axes.plot([x - 0.02, x], [height, height], color=INK, lw=0.8, zorder=6)
        box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.8}
        axes.text(x - 0.04, height, text, ha="right", va="center", fontsize=7.5, color=QUIET, zorder=7, bbox=box)


def importance_bars(importance: Mapping[str, float], outfile: str | Path | None = None) -> Figure:
    """How much of the spread between trials each setting explains, largest on top.

    Args:
        importance: Setting to its share, 0 to 1.

    Raises:
        PlotError: There is none.
    """
    if not importance:
        raise PlotError("no importance to show; there were too few trials.")
    ordered = sorted(importance.items(), key=lambda item: item[1])
    with figure_style():
        figure = new_figure(5.4, 0.9 + 0.34 * len(ordered))
        axes = figure.subplots()
        axes.grid(axis="x")
        axes.barh([name for name, _ in ordered], [value for _, value in ordered], color=BLUE, height=0.62)
        for i, (_, value) in enumerate(ordered):
            axes.text(value + 0.012, i, f"{100 * value:.0f} %", va="center", fontsize=8.5, color=QUIET)
        axes.set_xlim(0, 1.1)
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1.0], ["0", "25", "50", "75", "100 %"])
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.spines["left"].set_visible(False)
        axes.set_title("Rank variance explained by each alone")
        save_figure(figure, outfile)
    return figure
