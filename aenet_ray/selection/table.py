"""The few candidates that are kept of many: addresses, uncertainties, and where they lie in feature space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aenet_ray.committee.predict_result import METRICS
from aenet_ray.structures.structure import FloatArray, IntArray

BINS = np.logspace(-9, 6, 1501)
"""Edges of the histogram's bins, eV, eV/atom or eV/Å; what lies outside counts in the first and last one."""


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """n candidates.

    Args:
        place: Source, chunk and index in the chunk, (n, 3).
        values: ``METRICS``, (n, 4); NaN where not computed.
        n_atoms: (n,).
        vectors: Mean features of each species, (n, n_dimensions); no columns where they are not needed.
    """

    place: IntArray
    values: FloatArray
    n_atoms: IntArray
    vectors: FloatArray

    def __len__(self) -> int:
        return len(self.place)

    @classmethod
    def empty(cls, n_dimensions: int) -> Kept:
        integers = np.empty((0, 3), dtype=np.int64)
        return cls(integers, np.empty((0, len(METRICS))), integers[:, 0], np.empty((0, n_dimensions)))

    @classmethod
    def joined(cls, parts: Sequence[Kept]) -> Kept:
        return cls(
            np.concatenate([p.place for p in parts]),
            np.concatenate([p.values for p in parts]),
            np.concatenate([p.n_atoms for p in parts]),
            np.concatenate([p.vectors for p in parts]),
        )

    def take(self, rows: IntArray) -> Kept:
        return Kept(self.place[rows], self.values[rows], self.n_atoms[rows], self.vectors[rows])

    def best(self, n: int, metric: str) -> Kept:
        """The n least certain, the least certain first; of equal ones those that come first among the candidates."""
        value = self.values[:, METRICS.index(metric)]
        order = np.lexsort((*self.place.T[::-1], -value))
        return self.take(order[:n])


def count(values: FloatArray) -> IntArray:
    """Histogram over ``BINS``, (n_bins,)."""
    bins = np.searchsorted(BINS, values, side="right") - 1
    return np.bincount(np.clip(bins, 0, len(BINS) - 2), minlength=len(BINS) - 1)


def farthest_points(vectors: FloatArray, n: int) -> tuple[IntArray, FloatArray]:
    """Rows that cover the space: the first one, then again and again the one farthest from all before.

    Args:
        vectors: (n_rows, n_dimensions); of equally far ones the first is taken.
        n: How many; all where there are fewer.

    Returns:
        Rows in the order they were taken, (n,), and the distance of each to those before, (n,), NaN for the first.

    Source:
        Gonzalez, Theor. Comput. Sci. 38, 293 (1985).
    """
    n = min(n, len(vectors))
    rows, distances = np.empty(n, dtype=np.int64), np.full(n, np.nan)
    nearest = np.full(len(vectors), np.inf)
    for k in range(n):
        rows[k] = 0 if k == 0 else int(np.argmax(nearest))
        if k:
            distances[k] = nearest[rows[k]]
        nearest = np.minimum(nearest, np.sqrt(((vectors - vectors[rows[k]]) ** 2).sum(axis=1)))
        nearest[rows[: k + 1]] = -1.0  # taken
    return rows, distances
