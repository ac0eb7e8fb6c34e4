"""Trials as lines of a table, for the terminal."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aenet_ray.plots.style import three_digits

if TYPE_CHECKING:
    from rich.table import Table

SHOWN = 20
ORDER = {"running": 0, "waiting": 1, "finished": 2, "stopped": 3, "failed": 4}


@dataclass
class TrialLine:
    """What is known of a trial while the search runs.

    Args:
        state: waiting, running, finished, stopped (early) or failed.
        epoch: Epochs done.
        last: The metric after them.
        best: Its best value so far, times the sign that makes less better.
    """

    name: str
    values: dict[str, Any] = field(default_factory=dict)
    state: str = "waiting"
    epoch: int = 0
    last: float = math.nan
    best: float = math.inf
    failed: bool = False


def metric_text(metric: str, value: float) -> str:
    """The value with its unit, errors in thousandths."""
    if not math.isfinite(value):
        return "–"
    if "loss" in metric:
        return f"{value:.4g}"
    return f"{three_digits(1000 * value)} {'meV/atom' if 'energy' in metric else 'meV/Å'}"


def values_text(values: Mapping[str, Any]) -> str:
    """Settings by the last part of their names."""
    short = (f"{path.rpartition('.')[2]} {v:.3g}" if isinstance(v, float) else f"{path.rpartition('.')[2]} {v}"
             for path, v in values.items())  # fmt: skip
    return ", ".join(short)


def trial_text(line: TrialLine, metric: str, sign: float) -> str:
    """One line for a trial that ended."""
    best = metric_text(metric, sign * line.best)
    settings = f"  ({values_text(line.values)})" if line.values else ""
    return f"{line.name} {line.state} after epoch {line.epoch}: {metric} {best} at best{settings}"


def status_line(lines: Sequence[TrialLine], metric: str, sign: float) -> str:
    """All trials in one line."""
    counts = Counter(line.state for line in lines)
    text = ", ".join(f"{counts[state]} {state}" for state in ORDER if counts[state])
    leading = min(lines, key=lambda line: line.best, default=None)
    if leading is None or not math.isfinite(leading.best):
        return f"trials: {text or 'none yet'}"
    return f"trials: {text}; best {metric} {metric_text(metric, sign * leading.best)} ({leading.name})"


def progress_table(lines: Sequence[TrialLine], metric: str, sign: float) -> Table:
    """Running trials first, then the best of the others."""
    from rich.table import Table

    table = Table(title=status_line(lines, metric, sign), title_justify="left", header_style="bold")
    for name, side in (("trial", "left"), ("", "left"), ("epoch", "right"), (metric, "right"), ("settings", "left")):
        table.add_column(name, justify=side, no_wrap=name != "settings")  # type: ignore[arg-type]
    ordered = sorted(lines, key=lambda line: (ORDER[line.state] > 0, line.best))
    for line in ordered[:SHOWN]:
        best = metric_text(metric, sign * line.best)
        table.add_row(line.name, line.state, str(line.epoch), best, values_text(line.values))
    if len(ordered) > SHOWN:
        table.add_row(f"and {len(ordered) - SHOWN} more", "", "", "", "")
    return table
