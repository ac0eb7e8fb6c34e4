"""Figures; matplotlib is imported when the first one is drawn."""

from aenet_ray.plots.learning_curve import learning_curve
from aenet_ray.plots.parity import parity_plot
from aenet_ray.plots.uncertainty import uncertainty_plot

__all__ = ["learning_curve", "parity_plot", "uncertainty_plot"]
