"""Figures of a search."""

from __future__ import annotations

import numpy as np
import pytest

from aenet_ray.plots.search import TrialCurve, parallel_coordinates


def texts(cutoffs: list[float], bests: list[float]) -> set[str]:
    trials = [
        TrialCurve(f"trial {i}", np.ones(1), np.array([best]), True, {"cutoff": cutoff})
        for i, (cutoff, best) in enumerate(zip(cutoffs, bests, strict=True))
    ]
    (axes,) = parallel_coordinates(trials, [], "RMSE").axes
    return {t.get_text() for t in axes.texts}


@pytest.mark.parametrize(
    ("cutoffs", "shown", "not_shown"),
    [
        pytest.param([5.5, 8.0, 6.5, 8.0], {"5.5", "6.5", "8.0"}, "7.17", id="choice"),
        pytest.param([5.5, 8.0, 6.5, 7.9], {"5.5", "7.17", "8"}, "6.5", id="range"),
    ],
)
def test_values_that_come_again_are_the_ticks(cutoffs: list[float], shown: set[str], not_shown: str) -> None:
    found = texts(cutoffs, [1.0, 2.0, 3.0, 3.0])
    assert shown <= found
    assert not_shown not in found
    assert {"1.67", "2.33"} <= found, "the errors have a scale, though two are equal"
