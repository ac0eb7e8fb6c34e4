"""One look for every figure: clean axes, readable type, colours that all eyes tell apart.

Figures are made without pyplot: no window, no global state, nothing to close. Matplotlib itself is
imported on first use, since importing it takes longer than most commands need.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette, which stays distinct under the common colour blindnesses.
BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
)
INK, QUIET, FAINT = "#222222", "#6B6B6B", "#DDDDDD"
SPLIT_COLORS = {"train": BLUE, "training": BLUE, "test": VERMILLION, "validation": GREEN, "val": GREEN}
OTHER_COLORS = (PURPLE, ORANGE, SKY)

# Any: some versions of matplotlib type their keys, others do not.
_SETTINGS: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["Arial", "Helvetica", "DejaVu Sans"],
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9.0,
    "axes.labelcolor": INK,
    "axes.edgecolor": QUIET,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "axes.formatter.use_mathtext": True,
    "text.color": INK,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "legend.facecolor": "white",
    "legend.edgecolor": "none",
    "legend.framealpha": 0.85,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.6,
    "figure.facecolor": "white",
    "figure.dpi": 110,
    "savefig.dpi": 220,
    "savefig.facecolor": "white",
    "pdf.fonttype": 42,  # text stays text in a journal's editor
    "svg.fonttype": "none",
}


@contextmanager
def figure_style() -> Iterator[None]:
    """Matplotlib's settings for our figures, put back on leaving."""
    import logging

    import matplotlib

    # Fonts are tried in order; without this each one missing is a line in the log.
    fonts = logging.getLogger("matplotlib.font_manager")
    level = fonts.level
    fonts.setLevel(logging.ERROR)
    try:
        with matplotlib.rc_context(_SETTINGS):
            yield
    finally:
        fonts.setLevel(level)


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of this size in inches that lays out its own panels and draws without a display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, outfile: str | Path | None) -> None:
    """Write ``figure`` in the format that the name ends in (png, pdf, svg, ...); None writes nothing."""
    if outfile is None:
        return
    path = Path(outfile)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def split_color(split: str, index: int = 0) -> str:
    """The colour of a split, the same in every figure."""
    return SPLIT_COLORS.get(split.lower(), OTHER_COLORS[index % len(OTHER_COLORS)])


def note(axes: Axes, text: str, *, x: float = 0.04, y: float = 0.96) -> None:
    """A few lines of text in the upper left of a panel, readable on top of points."""
    axes.text(
        x,
        y,
        text,
        transform=axes.transAxes,
        va="top",
        ha="left",
        fontsize=8.5,
        linespacing=1.4,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 2.0},
    )


def three_digits(value: float) -> str:
    """A number as it is read aloud: 1.23, 12.3, 1234; never 1.23e+03."""
    return f"{value:.0f}" if value >= 99.95 else f"{value:.3g}"
