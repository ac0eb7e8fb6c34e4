"""Training ænet machine-learning potentials on Ray, from a laptop to a cluster."""

__version__ = "0.1.0"
