"""What a selection gives."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from aenet_ray.committee.predict_result import METRICS
from aenet_ray.selection.table import Kept
from aenet_ray.structures.structure import FloatArray, IntArray, Structure

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """What was selected.

    Args:
        structures: The first one is the least certain of all.
        kept: Their uncertainties.
        metric: What they were ranked by.
        distances: Of each to those before it in feature space, (n,), in standard deviations of the features; None if
            not spread out.
        counts: Histogram of the metric of all candidates over ``table.BINS``.
        n_candidates, n_atoms: Scored.
        n_skipped: Candidates that cannot be used.
        skipped_report: Where these are listed, if there are any and an output was given.
        scales: What energy and force spreads were multiplied by.
    """

    structures: list[Structure]
    kept: Kept
    metric: str
    distances: FloatArray | None
    counts: IntArray
    n_candidates: int
    n_atoms: int
    n_skipped: int
    skipped_report: Path | None
    scales: tuple[float, float]

    def __len__(self) -> int:
        return len(self.structures)

    @property
    def values(self) -> FloatArray:
        """``METRICS`` of each, (n, 4), scaled."""
        return self.kept.values * np.repeat(self.scales, 2)

    @property
    def uncertainty(self) -> FloatArray:
        """The metric of each, (n,), eV, eV/atom or eV/Å."""
        return self.values[:, METRICS.index(self.metric)]

    def to_dataframe(self) -> pd.DataFrame:
        """One row a structure: rank, where it came from, its uncertainties."""
        import pandas as pd

        table = pd.DataFrame({"rank": np.arange(1, len(self) + 1)})
        table["source"] = [s.source for s in self.structures]
        table["frame"] = [s.frame for s in self.structures]
        table["name"] = [s.name or "" for s in self.structures]
        table["n_atoms"] = self.kept.n_atoms
        table["uncertainty"] = self.uncertainty
        for k, name in enumerate(METRICS):
            table[name] = self.values[:, k]
        if self.distances is not None:
            table["distance"] = self.distances
        return table
