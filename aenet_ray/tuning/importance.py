"""Which of the searched settings made a difference.

For each setting alone: how much of the variance of the trials' ranks lies between groups of alike values (η², the
correlation ratio), corrected for what as many groups of random values would explain. Ranks, since errors of bad trials
are ten times those of good ones and would decide everything. It sees no interplay of two settings, and a search that
learned has sampled good values more often; it is a hint, not a proof.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from aenet_ray.structures.structure import FloatArray

FEWEST = 5
"""Trials without which there is nothing to say."""


def setting_importance(values: Sequence[Mapping[str, Any]], metric: Sequence[float]) -> dict[str, float]:
    """Share of the metric's rank variance that each setting explains, 0 to 1; empty for fewer than five trials.

    Args:
        values: Settings of each trial.
        metric: Best value of each; not finite for those that failed, which rank last.
    """
    if len(values) < FEWEST:
        return {}
    ranks = _ranks(np.asarray(metric, dtype=np.float64))
    return {name: _explained(_groups([v[name] for v in values]), ranks) for name in values[0]}


def _ranks(metric: FloatArray) -> FloatArray:
    """Equal values share their mean rank."""
    _, inverse, counts = np.unique(
        np.where(np.isfinite(metric), metric, np.inf), return_inverse=True, return_counts=True
    )
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse]


def _groups(column: Sequence[Any]) -> Any:
    """Group of each value: its own for few distinct ones, else one of about √n equally filled ranges."""
    texts = [json.dumps(v, sort_keys=True) for v in column]
    distinct, n = sorted(set(texts)), len(column)
    wanted = max(2, round(np.sqrt(n)))
    numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in column)
    if not numbers or len(distinct) <= wanted:
        return np.array([distinct.index(t) for t in texts])
    order = np.argsort(np.argsort(np.asarray(column, dtype=np.float64), kind="stable"))
    return order * wanted // n


def _explained(groups: Any, ranks: FloatArray) -> float:
    total, n = float(((ranks - ranks.mean()) ** 2).sum()), len(ranks)
    k = len(np.unique(groups))
    if total == 0 or k < 2 or n <= k:
        return 0.0
    between = sum(
        float((groups == g).sum() * (ranks[groups == g].mean() - ranks.mean()) ** 2) for g in np.unique(groups)
    )
    unbiased = 1 - (1 - between / total) * (n - 1) / (n - k)
    return float(min(max(unbiased, 0.0), 1.0))
